"""What a gateway gives its neighbours: blobs of its releases, over HTTP.

```
GET /v1/blobs/SHA256     200 all of it, 206 one range (RFC 9110, section 14)
```

The same as at the hub, so that the same client asks. Who asks shows the proof of
`skerry.comms.peering` as a bearer token. Statuses: 401 no proof, 404 not here, 405
another method, 416 a range outside it, 503 too many ask at once.
"""

from __future__ import annotations

import contextlib
import hmac
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from skerry.comms.asgi import AsgiReceive, AsgiSend, Scope, serve
from skerry.comms.peering import is_peer_url, prove
from skerry.comms.ranges import read_range
from skerry.comms.shaping import SHAPED_BYTES, Shaper
from skerry.core.clock import Clock
from skerry.core.errors import DataError, UsageError
from skerry.core.release import is_sha256
from skerry.edge.neighbours import Ask, Neighbours
from skerry.edge.vault import CLEAR

BYTES_PER_S = 8e6
"""How much a gateway gives its neighbours: it has other things to do."""

MOST_STREAMS = 8
"""Most neighbours that are served at once."""

_PATH = "/v1/blobs/"


class PeerService:
    """The ASGI application.

    Args:
        find: Where a blob of a release lies, or None; it may block.
        keys: The site's keys of these days.
        clock: What it waits by.
        bytes_per_s: How much it gives in all.
        opens: Opens what was found.

    Attributes:
        given_bytes: How many bytes it gave.
    """

    def __init__(
        self,
        find: Callable[[str], Path | None],
        keys: Callable[[], Awaitable[Sequence[bytes]]],
        *,
        clock: Clock,
        bytes_per_s: float,
        opens: Callable[[Path], io.RawIOBase] = CLEAR.open,
    ) -> None:
        self.given_bytes = 0
        self._find = find
        self._opens = opens
        self._keys = keys
        self._shaper = Shaper(clock, bytes_per_s)
        self._n_streams = 0

    async def __call__(
        self, scope: Scope, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        del receive
        sha256 = scope["path"].removeprefix(_PATH)
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] != "GET":
            await _refuse(send, 405)
        elif not is_sha256(sha256) or scope["path"] != _PATH + sha256:
            await _refuse(send, 404)
        elif not await self._is_proven(sha256, headers.get(b"authorization", "")):
            await _refuse(send, 401)
        elif self._n_streams >= MOST_STREAMS:
            await _refuse(send, 503)
        else:
            self._n_streams += 1
            try:
                await self._give(sha256, headers.get(b"range"), send)
            finally:
                self._n_streams -= 1

    async def _is_proven(self, sha256: str, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.isascii():
            return False
        keys = await self._keys()
        return any(hmac.compare_digest(prove(key, sha256), token) for key in keys)

    async def _give(self, sha256: str, wanted: str | None, send: AsgiSend) -> None:
        path = self._find(sha256)
        try:
            # Once open it stays whole, even if another file takes its place.
            file = self._opens(path) if path else None
        except (OSError, DataError):
            file = None
        if file is None:
            await _refuse(send, 404)
            return
        with file:
            size_bytes = file.seek(0, 2)
            first, last = read_range(wanted, size_bytes) or (0, size_bytes - 1)
            if first > last:
                await _refuse(send, 416)
                return
            is_part = (first, last) != (0, size_bytes - 1)
            headers = [(b"content-length", str(last - first + 1).encode())]
            if is_part:
                of = f"bytes {first}-{last}/{size_bytes}"
                headers.append((b"content-range", of.encode()))
            await _begin(send, 206 if is_part else 200, headers)
            file.seek(first)
            left = last - first + 1
            while left and (piece := file.read(min(left, SHAPED_BYTES))):
                left -= len(piece)
                await self._shaper.take(len(piece))
                self.given_bytes += len(piece)
                body = {"type": "http.response.body", "body": piece}
                await send({**body, "more_body": left > 0})


async def _begin(
    send: AsgiSend, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    kind = (b"content-type", b"application/octet-stream")
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [kind, *headers],
        }
    )


async def _refuse(send: AsgiSend, status: int) -> None:
    await _begin(send, status, [(b"content-length", b"0")])
    await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def open_peers(
    find: Callable[[str], Path | None],
    ask: Ask,
    *,
    host: str,
    port: int,
    clock: Clock,
    rng: np.random.Generator,
    bytes_per_s: float = BYTES_PER_S,
    opens: Callable[[Path], io.RawIOBase] = CLEAR.open,
) -> AsyncIterator[Neighbours]:
    """Give blobs to neighbours for as long as the context is open.

    Args:
        find: Where a blob of a release lies, or None.
        ask: Asks the hub for the neighbours.
        host: Where to listen: an address by which neighbours reach it.
        port: The port, or 0 for any free one.
        clock: What it waits by.
        rng: Spreads whom it asks itself.
        bytes_per_s: How much it gives in all.
        opens: Opens what was found.

    Yields:
        Who may be asked, and where this gateway gives.

    Raises:
        UsageError: Neighbours cannot reach such a host.
        StateError: The port is in use or not permitted.
    """
    if not is_peer_url(f"http://{_bracketed(host)}:{port}"):
        raise UsageError(
            f"neighbours are not sent to {host}: it is no private address",
            hint="Give the number by which neighbours reach this machine, such as "
            "192.168.1.7.",
        )
    neighbours = Neighbours(ask, clock=clock, rng=rng)
    service = PeerService(
        find, neighbours.keys, clock=clock, bytes_per_s=bytes_per_s, opens=opens
    )
    async with serve(
        service, host=host, port=port, most_connections=4 * MOST_STREAMS
    ) as server:
        neighbours.own = server.address
        yield neighbours


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
