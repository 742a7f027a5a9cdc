from __future__ import annotations

import asyncio
import hashlib
import json
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.comms import http as http_module
from skerry.comms.asgi import AsgiReceive, AsgiSend, Scope, serve
from skerry.comms.download import download
from skerry.comms.http import HttpBlobs, HubHttp, fetch_bytes
from skerry.core.errors import (
    ConflictError,
    DataError,
    LinkError,
    RefusedError,
    SkerryError,
    StateError,
    StorageError,
    TrustError,
)
from skerry.core.release import Blob
from tests.links import run

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOB = Blob(sha256=SHA256, size_bytes=len(CONTENT))


class Answer:
    """What the little server answers, and what it was asked."""

    def __init__(self, status: int = 200, content: bytes = b"", **headers: str) -> None:
        self.status = status
        self.content = content
        self.headers = headers
        self.asked: list[tuple[str, str, bytes]] = []
        self.asked_headers: dict[str, str] = {}

    async def __call__(
        self, scope: Scope, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.asked.append((scope["method"], scope["path"], body))
        self.asked_headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        headers = [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in self.headers.items()
        ]
        start = {"type": "http.response.start", "status": self.status}
        await send(start | {"headers": headers})
        await self.send_body(send)

    async def send_body(self, send: AsgiSend) -> None:
        await send({"type": "http.response.body", "body": self.content})


class Blobs(Answer):
    """A server of one blob."""

    def __init__(self, content: bytes = CONTENT, *, knows_ranges: bool = True) -> None:
        super().__init__()
        self.whole = content
        self.knows_ranges = knows_ranges
        self.breaks_after: int | None = None
        self.is_endless = False

    async def __call__(
        self, scope: Scope, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        headers = {k.decode(): v.decode() for k, v in scope.get("headers", [])}
        total = len(self.whole)
        first, last = headers.get("range", "bytes=0-")[6:].split("-")
        start, end = int(first), int(last or total - 1) + 1
        self.status, self.headers, self.content = 200, {}, self.whole
        if (start or last) and self.knows_ranges:
            self.status, self.content = 206, self.whole[start:end]
            self.headers = {"content_range": f"bytes {start}-{end - 1}/{total}"}
        if start >= len(self.whole):
            self.status, self.content = 416, b""
        await super().__call__(scope, receive, send)

    async def send_body(self, send: AsgiSend) -> None:
        more = {"type": "http.response.body", "more_body": True}
        if self.breaks_after is not None:
            await send(more | {"body": self.content[: self.breaks_after]})
            raise RuntimeError("the stream breaks, as it was told to")
        for _ in range(30 if self.is_endless else 0):
            await send(more | {"body": self.content})
        await super().send_body(send)


def with_server(app: Any, case: Callable[[str], Awaitable[None]]) -> None:
    """Run a case against a server on a free port."""

    async def whole() -> None:
        async with serve(app, stop_s=1) as server:
            await case(server.address)

    run(whole())


def error_body(code: str, what: str = "what", hint: str = "hint") -> bytes:
    """An error as the hub writes it."""
    return json.dumps({"error": {"code": code, "what": what, "hint": hint}}).encode()


def test_documents_are_exchanged() -> None:
    """Method, path, body and token arrive; the answer's object comes back."""
    app = Answer(content=b'{"a": 1}')

    async def case(url: str) -> None:
        async with HubHttp(url + "/", "secret") as hub:
            assert await hub.get("/v1/x") == {"a": 1}
            assert await hub.post("/v1/x", {"b": [None]}) == {"a": 1}
            await hub.put("/v1/x", {})
            await hub.patch("/v1/x", {})
            await hub.delete("/v1/x")

    with_server(app, case)
    assert [method for method, _, _ in app.asked] == [
        "GET",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
    ]
    assert app.asked[1] == ("POST", "/v1/x", b'{"b":[null]}')
    assert app.asked_headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("status", "content", "kind", "what"),
    [
        (409, error_body("ConflictError", "stale"), ConflictError, "stale"),
        (403, error_body("TrustError", "who?"), TrustError, "who?"),
        (400, error_body("DataError"), DataError, "what"),
        (400, error_body("SystemExit"), StateError, "what"),
        (400, error_body("annotations"), StateError, "what"),
        (400, error_body("MissingExtraError"), StateError, "what"),
        (500, b"<html>", StateError, "status 500"),
        (404, b'{"error": "none"}', StateError, "status 404"),
        (503, b"", LinkError, "busy"),
        (200, b"[1]", StateError, "object was expected"),
        (200, b"not json", StateError, "not JSON"),
    ],
)
def test_errors_are_those_of_our_tree(
    status: int, content: bytes, kind: type[SkerryError], what: str
) -> None:
    """By the name that the hub gives, and only if it is one of ours."""

    async def case(url: str) -> None:
        async with HubHttp(url, None) as hub:
            with pytest.raises(SkerryError, match=what) as caught:
                await hub.get("/v1/x")
            assert type(caught.value) is kind

    with_server(Answer(status, content), case)


def test_an_answer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """More is not read; a packed answer that was not asked for is refused."""
    monkeypatch.setattr(http_module, "LARGEST_ANSWER_BYTES", 100)

    async def large(url: str) -> None:
        async with HubHttp(url, None) as hub:
            with pytest.raises(DataError, match="more than 100 bytes"):
                await hub.get("/v1/x")

    async def packed(url: str) -> None:
        async with HubHttp(url, None) as hub:
            with pytest.raises(StateError, match="encoding 'gzip'"):
                await hub.get("/v1/x")

    with_server(Answer(content=b" " * 101), large)
    with_server(Answer(content=b"{}", content_encoding="gzip"), packed)


def test_a_hub_that_is_down_is_a_link_error() -> None:
    """For each way to ask."""

    async def case() -> None:
        async with serve(Answer()) as server:
            url = server.address
        async with HubHttp(url, None) as hub, HttpBlobs(url, None) as blobs:
            with pytest.raises(LinkError, match="cannot be reached"):
                await hub.get("/v1/x")
            with pytest.raises(LinkError):
                await blobs.stat(SHA256)
            with pytest.raises(LinkError):
                await anext(blobs.open(SHA256))
        with pytest.raises(LinkError):
            await asyncio.to_thread(fetch_bytes, url, None, largest_bytes=9)

    run(case())


def test_what_is_no_url_is_said() -> None:
    """It is a setting that is wrong, not the network."""
    with pytest.raises((StateError, LinkError)):
        fetch_bytes("nowhere", None, largest_bytes=9)


def test_a_small_file_is_fetched() -> None:
    """All of it, None where there is none, and no more than allowed."""

    async def fetch(url: str, largest_bytes: int = 5) -> bytes | None:
        return await asyncio.to_thread(
            fetch_bytes, url + "/x", "t", largest_bytes=largest_bytes
        )

    async def there(url: str) -> None:
        assert await fetch(url) == b"12345"
        with pytest.raises(DataError, match="more than 4 bytes"):
            await fetch(url, 4)

    async def none(url: str) -> None:
        assert await fetch(url) is None

    async def refused(url: str) -> None:
        with pytest.raises(RefusedError):
            await fetch(url)

    with_server(Answer(content=b"12345"), there)
    with_server(Answer(404, b"none"), none)
    with_server(Answer(403, error_body("RefusedError")), refused)


def test_blobs_are_kept_and_asked_for() -> None:
    """PUT and HEAD; what is not there is None, and an error to open."""
    app = Answer(content_length="12")

    async def case(url: str) -> None:
        async with HttpBlobs(url, "t") as blobs:
            assert await blobs.stat(SHA256) == 12
            app.headers, app.status = {}, 404
            assert await blobs.stat(SHA256) is None
            with pytest.raises(DataError, match="no blob"):
                await anext(blobs.open(SHA256))
            app.status = 201
            await blobs.put(SHA256, b"xy")
            assert app.asked[-1] == ("PUT", f"/v1/blobs/{SHA256}", b"xy")
            app.status, app.content = 507, error_body("StorageError")
            with pytest.raises(StorageError):
                await blobs.put(SHA256, b"xy")
            with pytest.raises(StorageError):
                await anext(blobs.open(SHA256))

    with_server(app, case)


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize("there", [0, 1000, len(CONTENT) - 1, len(CONTENT)])
def test_a_download_goes_on_where_it_ended(
    tmp_path: Path,
    there: int,
    knows_ranges: bool,  # noqa: FBT001
) -> None:
    """Also from a server that knows no ranges; what is all there asks for nothing."""
    part, app = tmp_path / "x.part", Blobs(knows_ranges=knows_ranges)
    part.write_bytes(CONTENT[:there])
    seen: list[tuple[str, int]] = []

    async def case(url: str) -> None:
        async with HttpBlobs(url, "t") as blobs:
            await download(blobs, BLOB, part, received=lambda *came: seen.append(came))

    with_server(app, case)
    assert part.read_bytes() == CONTENT
    assert {origin for origin, _ in seen} <= {"hub"}
    assert sum(n_bytes for _, n_bytes in seen) == len(CONTENT) - there
    if there < len(CONTENT):
        assert app.asked_headers.get("range") == (f"bytes={there}-" if there else None)
    else:
        assert not app.asked


def test_a_broken_stream_keeps_what_came(tmp_path: Path) -> None:
    """LinkError, and the next attempt fetches only the rest."""
    part, app = tmp_path / "x.part", Blobs()

    async def case(url: str) -> None:
        async with HttpBlobs(url, None) as blobs:
            app.breaks_after = 300_000
            with pytest.raises(LinkError):
                await download(blobs, BLOB, part)
            there = part.stat().st_size
            assert 0 < there <= 300_000
            app.breaks_after = None
            await download(blobs, BLOB, part)
            assert app.asked_headers["range"] == f"bytes={there}-"

    with_server(app, case)
    assert part.read_bytes() == CONTENT


def test_other_bytes_are_refused_and_removed(tmp_path: Path) -> None:
    """One flipped byte, in what came or in what was there."""
    flipped = b"\x01" + CONTENT[1:]

    async def case(url: str) -> None:
        async with HttpBlobs(url, None) as blobs:
            for before in (b"", flipped[:9]):
                (tmp_path / "x.part").write_bytes(before)
                with pytest.raises(TrustError, match="of another hash") as caught:
                    await download(blobs, BLOB, tmp_path / "x.part")
                assert caught.value.reason == "corrupt"
                assert not (tmp_path / "x.part").exists()

    with_server(Blobs(flipped), case)


def test_an_endless_stream_is_cut_off(tmp_path: Path) -> None:
    """No more than the signed size is ever written."""
    app = Blobs()
    app.is_endless = True

    async def case(url: str) -> None:
        async with HttpBlobs(url, None) as blobs:
            with pytest.raises(TrustError, match="came more"):
                await download(blobs, BLOB, tmp_path / "x.part")

    with_server(app, case)
    assert not (tmp_path / "x.part").exists()


def test_a_part_that_is_too_large_is_begun_anew(tmp_path: Path) -> None:
    """What cannot be the blob's begin is thrown away."""
    part = tmp_path / "x.part"
    part.write_bytes(CONTENT * 2)

    async def case(url: str) -> None:
        async with HttpBlobs(url, None) as blobs:
            await download(blobs, BLOB, part)

    with_server(Blobs(), case)
    assert part.read_bytes() == CONTENT


class MemoryBlobs:
    """A store whose stream ends early."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        assert sha256
        yield self.content[offset:end]

    async def put(self, sha256: str, content: bytes) -> None:
        raise NotImplementedError

    async def stat(self, sha256: str) -> int | None:
        raise NotImplementedError


def test_a_stream_that_ends_early_is_no_blob(tmp_path: Path) -> None:
    """LinkError says how much came; it is kept."""
    part = tmp_path / "x.part"
    with pytest.raises(LinkError, match="ended after 10 of 1024000 bytes"):
        asyncio.run(download(MemoryBlobs(CONTENT[:10]), BLOB, part))
    assert part.read_bytes() == CONTENT[:10]


def test_a_disk_that_refuses_is_a_storage_error(tmp_path: Path) -> None:
    """What came before it was full is kept; so it goes on once there is room."""
    part = tmp_path / "x.part"
    with pytest.raises(StorageError):
        asyncio.run(download(MemoryBlobs(CONTENT), BLOB, tmp_path / "none" / "x"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(StorageError, match="too large"):
            asyncio.run(download(MemoryBlobs(CONTENT), BLOB, part))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert part.read_bytes() == CONTENT[:5000]
    asyncio.run(download(MemoryBlobs(CONTENT), BLOB, part))
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_range_in_the_middle_is_all_that_is_given(
    knows_ranges: bool,  # noqa: FBT001
) -> None:
    """Also by a server that knows no ranges, or not where they end."""
    app = Blobs(knows_ranges=knows_ranges)

    async def case(url: str) -> None:
        async with HttpBlobs(url, None) as blobs:
            for first, last in ((0, 5), (3, 100_000), (200_000, 200_001)):
                given = blobs.open(SHA256, offset=first, end=last)
                got = b"".join([piece async for piece in given])
                assert got == CONTENT[first:last]

    with_server(app, case)


@pytest.mark.parametrize(
    "header", ["bytes 0-9/10", "", "bytes 99999999-9/10", "x" * 500]
)
def test_a_range_that_was_not_asked_for_is_refused(header: str) -> None:
    """Bytes put in the wrong place would spoil the download."""

    async def case(url: str) -> None:
        async with HttpBlobs(url, None) as blobs:
            with pytest.raises(StateError, match="from 5 was asked"):
                await anext(blobs.open(SHA256, offset=5))

    with_server(Answer(206, b"12345", content_range=header), case)
