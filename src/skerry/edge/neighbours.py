"""Who on the same site may have a blob: the hub says so, and what they give is checked.

A neighbour is only ever a shortcut. Whatever goes wrong with one, it is left alone for
a while and the hub is asked; one that gave a wrong chunk is not asked again until the
gateway starts anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import numpy as np

from skerry.comms.http import HttpBlobs
from skerry.comms.peering import is_peer_url, prove
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import LinkError, SkerryError, TrustError

log = logging.getLogger(__name__)

MOST_ASKED = 4
"""Most neighbours that are asked for one blob."""

MOST_KEYS = 4
PATIENCE_S = 3.0
"""How long a neighbour may be silent, or slow."""

LEAST_BYTES_PER_S = 65_536.0
"""A neighbour that is slower is no help."""

_FRESH_S = 300.0
_AVOID_S = 600.0

Ask = Callable[[], Awaitable[Mapping[str, Json]]]
"""Asks the hub: `{"keys": [HEX, …], "peers": [URL, …]}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbourhood:
    """What the hub says of a gateway's site.

    Attributes:
        keys: The site's key of today and of the day before, the newest first.
        peers: Where its gateways give blobs to each other.
    """

    keys: tuple[bytes, ...] = ()
    peers: tuple[str, ...] = ()


class Neighbours:
    """The neighbours of one gateway.

    Args:
        ask: Asks the hub for them.
        clock: Says how old its answer is.
        rng: Spreads who is asked first.

    Attributes:
        own: Where this gateway gives blobs itself, or empty.
    """

    def __init__(self, ask: Ask, *, clock: Clock, rng: np.random.Generator) -> None:
        self.own = ""
        self._ask = ask
        self._clock = clock
        self._rng = rng
        self._known = Neighbourhood()
        self._stale_at_s = float("-inf")
        self._avoided: dict[str, float] = {}

    async def keys(self) -> tuple[bytes, ...]:
        """What the proofs of neighbours are made with; none if the hub does not say."""
        await self._refresh()
        return self._known.keys

    async def find(self, sha256: str) -> tuple[Neighbour, ...]:
        """Who may be asked for a blob, in the order of asking."""
        await self._refresh()
        now_s = self._clock.wall_s()
        urls = [
            url
            for url in self._known.peers
            if url != self.own and self._avoided.get(url, now_s) <= now_s
        ]
        if not urls or not self._known.keys:
            return ()
        chosen = self._rng.permutation(len(urls))[:MOST_ASKED]
        token = prove(self._known.keys[0], sha256)
        return tuple(Neighbour(urls[int(at)], token, self._avoid) for at in chosen)

    async def _refresh(self) -> None:
        now_s = self._clock.wall_s()
        if now_s < self._stale_at_s:
            return
        # Set first: a hub that does not answer is not asked for each blob anew.
        self._stale_at_s = now_s + _FRESH_S
        try:
            self._known = read_neighbourhood(await self._ask())
        except SkerryError as error:
            log.info("peers.unknown", extra={"why": error.what})
            self._known = Neighbourhood()

    def _avoid(self, url: str, error: SkerryError) -> None:
        is_liar = isinstance(error, TrustError)
        until_s = float("inf") if is_liar else self._clock.wall_s() + _AVOID_S
        self._avoided[url] = until_s
        (log.warning if is_liar else log.info)(
            "peers.avoided", extra={"peer": url, "why": error.what}
        )


class Neighbour:
    """One neighbour, for one blob; a `skerry.comms.download.Peer`."""

    def __init__(
        self, url: str, token: str, avoid: Callable[[str, SkerryError], None]
    ) -> None:
        self._url = url
        self._token = token
        self._avoid = avoid

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Give the blob in pieces, from an offset on and before an end.

        Raises:
            LinkError: It cannot be reached, has it not, or answers nonsense.
        """
        try:
            async with (
                HttpBlobs(
                    self._url,
                    self._token,
                    least_bytes_per_s=LEAST_BYTES_PER_S,
                    patience_s=PATIENCE_S,
                ) as blobs,
                contextlib.aclosing(
                    blobs.open(sha256, offset=offset, end=end)
                ) as pieces,
            ):
                async for piece in pieces:
                    yield piece
        except SkerryError as error:
            raise LinkError(error.what, hint=error.hint) from error

    def give_up(self, error: SkerryError) -> None:
        """Leave it alone: for ever if it lied, else for a while."""
        self._avoid(self._url, error)


def read_neighbourhood(answer: Mapping[str, Json]) -> Neighbourhood:
    """Read what the hub says of a site; what makes no sense is left out."""
    keys, peers = answer.get("keys"), answer.get("peers")
    read = []
    for key in keys[:MOST_KEYS] if isinstance(keys, list) else ():
        with contextlib.suppress(ValueError, TypeError):
            read.append(bytes.fromhex(key))
    return Neighbourhood(
        keys=tuple(key for key in read if len(key) == 32),
        peers=tuple(
            url
            for url in (peers if isinstance(peers, list) else ())
            if isinstance(url, str) and is_peer_url(url)
        ),
    )
