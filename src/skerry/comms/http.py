"""The only door to httpx: the hub's HTTP API, blobs by range, small signed files."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Self

import msgspec

from skerry.comms.pace import LEAST_BYTES_PER_S, WINDOW_S, Pace
from skerry.comms.ranges import read_content_range, write_range
from skerry.core import errors
from skerry.core.clock import Clock
from skerry.core.documents import Json, parse_object
from skerry.core.errors import (
    DataError,
    LinkError,
    MissingExtraError,
    SkerryError,
    StateError,
)

try:
    import httpx
except ImportError as error:
    raise MissingExtraError("httpx", extra="gateway") from error

LARGEST_ANSWER_BYTES = 16 << 20
"""Most bytes of a JSON answer."""

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_PASSING_STATUSES = {429, 502, 503, 504}
_LARGEST_ERROR_BYTES = 64 << 10

_ERRORS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    # One with arguments of its own speaks of the machine that raised it.
    if issubclass(kind, SkerryError) and kind is not MissingExtraError
}


class _Client:
    """One pool of connections to one hub."""

    def __init__(
        self, url: str, token: str | None, *, patience_s: float | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers=_headers(token),
            timeout=patience_s or _TIMEOUT,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        with _link_errors(self.url):
            async with self._client.stream(
                method, path, content=content, headers=headers
            ) as response:
                yield response


class HubHttp(_Client):
    """The hub's HTTP API.

    Args:
        url: The hub's root, such as `http://127.0.0.1:8080`.
        token: Who asks, or None.

    Each method raises the error of our tree that the hub names, `LinkError` when the
    hub cannot be reached or is busy, and `StateError` when its answer makes no sense.
    """

    async def get(self, path: str) -> dict[str, Json]:
        """Ask for a document."""
        return await self._exchange("GET", path, None)

    async def put(self, path: str, body: Json = None) -> dict[str, Json]:
        """Put a document in its place."""
        return await self._exchange("PUT", path, body)

    async def post(self, path: str, body: Json = None) -> dict[str, Json]:
        """Have something made or done."""
        return await self._exchange("POST", path, body)

    async def patch(self, path: str, body: Json = None) -> dict[str, Json]:
        """Change a part of a document."""
        return await self._exchange("PATCH", path, body)

    async def delete(self, path: str) -> dict[str, Json]:
        """Take something away."""
        return await self._exchange("DELETE", path, None)

    async def _exchange(self, method: str, path: str, body: Json) -> dict[str, Json]:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        async with self._ask(method, path, content=content, headers=headers) as answer:
            if not answer.is_success:
                raise await _refusal(answer)
            read = await _read(answer, LARGEST_ANSWER_BYTES)
        if not read:
            return {}
        try:
            return parse_object(
                read, name=f"the answer to {path}", largest_bytes=LARGEST_ANSWER_BYTES
            )
        except DataError as error:
            raise StateError(error.what, hint="Is this a hub of Skerry?") from error


class HttpBlobs(_Client):
    """The hub's blobs; a `skerry.core.seams.BlobStore`.

    Args:
        url: The root of the hub, or of a neighbour that serves blobs as the hub does.
        token: Who asks, or None.
        least_bytes_per_s: A stream that is slower is given up.
        patience_s: How long it may be silent, or slow; None for the defaults.
        clock: Tells how slow it is.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        least_bytes_per_s: float = LEAST_BYTES_PER_S,
        patience_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(url, token, patience_s=patience_s)
        self._least_bytes_per_s = least_bytes_per_s
        self._window_s = patience_s or WINDOW_S
        self._clock = clock

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Give a blob in pieces as they come, from an offset on and before an end.

        A server that knows no ranges sends all of it; what was not asked for is
        dropped here.

        Raises:
            LinkError: The hub cannot be reached, the stream broke, or it is too slow.
            DataError: There is no such blob.
        """
        pace = Pace(self._least_bytes_per_s, window_s=self._window_s, clock=self._clock)
        headers = write_range(offset, end)
        async with self._ask("GET", _blob(sha256), headers=headers) as answer:
            if answer.status_code == 416:
                return
            if answer.status_code == 404:
                raise _no_blob(sha256)
            if not answer.is_success:
                raise await _refusal(answer)
            _check_encoding(answer)
            at = 0
            if answer.status_code == 206:
                at = _check_range(answer, offset, end)
            # Not gathered into larger pieces: those would be lost with the stream, and
            # one that fills drop by drop would never come.
            async for piece in answer.aiter_raw():
                pace.took(len(piece))
                kept = piece[max(0, offset - at) : None if end is None else end - at]
                at += len(piece)
                if kept:
                    yield kept
                if end is not None and at >= end:
                    return

    async def put(self, sha256: str, content: bytes) -> None:
        """Keep a blob; keeping it twice is no fault.

        Raises:
            DataError: The content has another hash.
            StorageError: The hub's disk refused.
            LinkError: The hub cannot be reached.
        """
        async with self._ask("PUT", _blob(sha256), content=content) as answer:
            if not answer.is_success:
                raise await _refusal(answer)

    async def stat(self, sha256: str) -> int | None:
        """The blob's size in bytes, or None where there is none.

        Raises:
            LinkError: The hub cannot be reached.
        """
        async with self._ask("HEAD", _blob(sha256)) as answer:
            if answer.status_code == 404:
                return None
            if not answer.is_success:
                raise await _refusal(answer)
            length = answer.headers.get("Content-Length", "")
            if not (length.isascii() and length.isdigit()):
                raise StateError(
                    f"the hub gave {length[:40]!r} as the size of a blob",
                    hint="Is this a hub of Skerry?",
                )
            return int(length)


def fetch_bytes(
    url: str,
    token: str | None,
    *,
    largest_bytes: int,
    least_bytes_per_s: float = LEAST_BYTES_PER_S,
    clock: Clock | None = None,
) -> bytes | None:
    """Fetch a small file, blocking.

    Args:
        url: All of it.
        token: Who asks, or None.
        largest_bytes: Most bytes it may have.
        least_bytes_per_s: A stream that is slower is given up.
        clock: Tells how slow it is.

    Returns:
        Its content; None where there is no such file.

    Raises:
        LinkError: The hub cannot be reached, is busy, or too slow.
        DataError: It is larger than that.
        SkerryError: What the hub says, or `StateError` where that makes no sense.
    """
    with (
        _link_errors(url),
        httpx.Client(headers=_headers(token), timeout=_TIMEOUT, trust_env=False) as hub,
        hub.stream("GET", url) as answer,
    ):
        if answer.status_code == 404:
            return None
        _check_encoding(answer)
        limit = largest_bytes if answer.is_success else _LARGEST_ERROR_BYTES
        content = bytearray()
        pace = Pace(least_bytes_per_s, clock=clock)
        for piece in answer.iter_raw():
            pace.took(len(piece))
            content += piece
            _check_size(content, limit, url)
        if not answer.is_success:
            raise _error_of(answer.status_code, bytes(content))
        return bytes(content)


@contextmanager
def _link_errors(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.InvalidURL as error:
        raise StateError(
            f"{url[:200]!r} is no URL: {error}", hint="Write http://HOST:PORT."
        ) from error
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise LinkError(
            f"{url} cannot be reached: {reason}",
            hint="Is the hub up? It is tried again.",
        ) from error


async def _read(answer: httpx.Response, largest_bytes: int) -> bytes:
    _check_encoding(answer)
    content = bytearray()
    async for piece in answer.aiter_raw():
        content += piece
        _check_size(content, largest_bytes, str(answer.url))
    return bytes(content)


async def _refusal(answer: httpx.Response) -> SkerryError:
    return _error_of(answer.status_code, await _read(answer, _LARGEST_ERROR_BYTES))


def named_error(document: Mapping[str, object]) -> SkerryError | None:
    """The error that a document names; only those of our tree are believed.

    Args:
        document: `{"error": {"code", "what", "hint"}}`.

    Returns:
        None where it names none.
    """
    said = document.get("error")
    if not isinstance(said, dict) or not isinstance(said.get("what"), str):
        return None
    kind = _ERRORS.get(str(said.get("code")), StateError)
    hint = str(said.get("hint") or "Ask who runs the hub.")
    return kind(said["what"][:2000], hint=hint[:2000])


def _error_of(status: int, content: bytes) -> SkerryError:
    """The error that the hub names, or the one that its status means."""
    try:
        named = named_error(parse_object(content, name="an error"))
    except DataError:
        named = None
    if named is not None:
        return named
    if status in _PASSING_STATUSES:
        return LinkError(f"the hub is busy ({status})", hint="Try again later.")
    return StateError(
        f"the hub answered with status {status}", hint="Look at the hub's log."
    )


def _check_encoding(answer: httpx.Response) -> None:
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise StateError(
            f"the hub answered in the encoding {encoding[:40]!r}, none was asked for",
            hint="Is there a proxy in between?",
        )


def _check_range(answer: httpx.Response, offset: int, end: int | None) -> int:
    """Where the bytes of an answer begin, which must be where they were asked from."""
    got = answer.headers.get("Content-Range", "")
    read = read_content_range(got)
    if read is None or read[0] != offset or (end is not None and read[1] > end):
        raise StateError(
            f"the hub answered with the range {got[:80]!r}, from {offset} was asked",
            hint="Is there a proxy in between?",
        )
    return offset


def _check_size(content: bytearray, largest_bytes: int, url: str) -> None:
    if len(content) > largest_bytes:
        raise DataError(
            f"{url} gives more than {largest_bytes} bytes",
            hint="Is this a hub of Skerry?",
        )


def _blob(sha256: str) -> str:
    return f"/v1/blobs/{sha256}"


def _no_blob(sha256: str) -> DataError:
    return DataError(
        f"the hub has no blob {sha256[:12]}", hint="Publish its release again."
    )


def _headers(token: str | None) -> dict[str, str]:
    identity = {"Accept-Encoding": "identity"}
    return {**identity, "Authorization": f"Bearer {token}"} if token else identity
