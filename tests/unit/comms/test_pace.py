from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from skerry.comms import http
from skerry.comms.download import download
from skerry.comms.http import HttpBlobs, fetch_bytes
from skerry.comms.pace import Pace
from skerry.core.clock import FakeClock
from skerry.core.errors import LinkError
from skerry.core.release import Blob

CONTENT = bytes(range(256)) * 8


def test_what_is_fast_enough_passes() -> None:
    """A stream at the least speed goes on for ever; a pause within a window is none."""
    clock = FakeClock()
    pace = Pace(100.0, window_s=60.0, clock=clock)
    for _ in range(50):
        clock.advance(wall_s=59)
        pace.took(0)
        clock.advance(wall_s=1)
        pace.took(6000)


def test_what_is_too_slow_is_told() -> None:
    """With what came, what was expected, and what helps."""
    clock = FakeClock()
    pace = Pace(100.0, window_s=60.0, clock=clock)
    clock.advance(wall_s=60)
    with pytest.raises(LinkError, match="98 bytes a second over 60 s") as caught:
        pace.took(5900)
    assert "--least-speed" in caught.value.hint


def test_no_least_speed_lets_anything_pass() -> None:
    """0 is no limit."""
    clock = FakeClock()
    pace = Pace(0.0, clock=clock)
    clock.advance(wall_s=1e9)
    pace.took(0)


class Dripping(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A body that comes drop by drop, each of them 20 s after the one before."""

    def __init__(self, content: bytes, clock: FakeClock, drop_bytes: int = 1) -> None:
        self._content = content
        self._clock = clock
        self._drop_bytes = drop_bytes
        self.dripped = 0

    def _drip(self) -> bytes:
        self._clock.advance(wall_s=20)
        drop = self._content[self.dripped : self.dripped + self._drop_bytes]
        self.dripped += self._drop_bytes
        return drop

    def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
        while drop := self._drip():
            yield drop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while drop := self._drip():
            yield drop


def _served(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[httpx.Request], httpx.Response]
) -> None:
    """Have every client ask this function."""
    transport = httpx.MockTransport(answer)
    for name in ("AsyncClient", "Client"):
        made = getattr(httpx, name)

        def make(made: type = made, **options: object) -> object:
            return made(**{**options, "transport": transport})

        monkeypatch.setattr(http.httpx, name, make)


@pytest.mark.attack("tuf.slow-retrieval")
def test_metadata_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a window, not after the hours that it would take."""
    clock = FakeClock()
    stream = Dripping(CONTENT, clock)
    _served(monkeypatch, lambda _: httpx.Response(200, stream=stream))
    with pytest.raises(LinkError, match="0 bytes a second"):
        fetch_bytes("http://hub/v1/trust/x", None, largest_bytes=9999, clock=clock)
    assert stream.dripped <= 4


@pytest.mark.attack("uptane.slow-retrieval")
def test_a_blob_that_drips_is_given_up_and_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each attempt ends after a window and keeps its drops; an honest hub ends it."""
    clock, blob, part = FakeClock(), Blob.of(CONTENT), tmp_path / "part"
    is_slow = True
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.headers.get("Range", "bytes=0-")[6:-1])
        asked.append(request.headers.get("Range", ""))
        stream = Dripping(CONTENT[offset:], clock, 1 if is_slow else 9999)
        headers = {"Content-Range": f"bytes {offset}-{blob.size_bytes - 1}/*"}
        return httpx.Response(206 if offset else 200, headers=headers, stream=stream)

    async def attempt() -> None:
        async with HttpBlobs("http://hub", None, clock=clock) as blobs:
            await download(blobs, blob, part)

    _served(monkeypatch, answer)
    for _ in range(3):
        with pytest.raises(LinkError, match="bytes a second"):
            asyncio.run(attempt())
    assert asked == ["", "bytes=2-", "bytes=4-"]
    is_slow = False
    asyncio.run(attempt())
    assert part.read_bytes() == CONTENT
