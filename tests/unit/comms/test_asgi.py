from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest

from skerry.comms.asgi import (
    BODY_EXTENSION,
    LARGEST_HEAD_BYTES,
    AsgiReceive,
    AsgiSend,
    Scope,
    Server,
    serve,
)
from skerry.comms.http import fetch_bytes
from skerry.core.errors import LinkError, StateError
from tests.links import run


class App:
    """Answers after a while."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s
        self.asked = asyncio.Event()

    async def __call__(
        self, scope: Scope, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        assert scope["type"] == "http"
        assert receive
        self.asked.set()
        await asyncio.sleep(self.wait_s)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


async def fetch(url: str) -> bytes | None:
    """Fetch from another thread."""
    return await asyncio.to_thread(fetch_bytes, url, None, largest_bytes=100)


def test_it_serves_on_a_free_port_and_leaves_signals_alone() -> None:
    """The address works while the context is open, and no longer."""

    async def case() -> None:
        before = signal.getsignal(signal.SIGTERM)
        async with serve(App()) as server:
            assert server.port > 0
            assert server.address == f"http://127.0.0.1:{server.port}"
            assert await fetch(server.address) == b"ok"
            assert signal.getsignal(signal.SIGTERM) is before
        with pytest.raises(LinkError):
            await fetch(server.address)

    run(case())


def test_a_port_in_use_is_named() -> None:
    """StateError says which, and what to do."""

    async def case() -> None:
        async with serve(App()) as server:
            with pytest.raises(StateError, match=f"127.0.0.1:{server.port} is in use"):
                async with serve(App(), port=server.port):
                    pass
        async with serve(App(), port=server.port):
            pass

    run(case())


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70_000)])
def test_what_cannot_be_listened_on_is_named(host: str, port: int) -> None:
    """An address of another machine; a port that is none."""

    async def case() -> None:
        with pytest.raises(StateError, match=f"{host}:{port} cannot be listened on"):
            async with serve(App(), host=host, port=port):
                pass

    run(case())


def test_a_request_in_flight_is_finished() -> None:
    """Leaving the context waits for it."""

    async def case() -> None:
        app = App(wait_s=0.3)
        async with serve(app) as server:
            asking = asyncio.create_task(fetch(server.address))
            await app.asked.wait()
        assert await asking == b"ok"

    run(case())


def test_stopping_takes_no_longer_than_told() -> None:
    """A request that hangs is cut off."""

    async def case() -> None:
        app = App(wait_s=60)
        async with asyncio.timeout(10), serve(app, stop_s=1) as server:
            asking = asyncio.create_task(fetch(server.address))
            await app.asked.wait()
        with pytest.raises((LinkError, StateError)):
            await asking

    run(case())


def test_an_application_that_does_not_start_is_said() -> None:
    """A failing lifespan is a StateError, not an exit of the process."""

    async def app(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})

    async def case() -> None:
        with pytest.raises(StateError, match="did not start"):
            async with serve(app):
                pass

    run(case())


def test_an_address_of_ipv6_is_bracketed() -> None:
    """As RFC 3986 wants it."""
    assert Server("::1", 80).address == "http://[::1]:80"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999\r\n\r\n",
    ],
    ids=["silent", "half a head", "a body that nobody wants"],
)
def test_who_sends_no_request_is_cut_off(first: bytes) -> None:
    """Connections that trickle would keep everybody else out."""

    async def case() -> None:
        async with serve(App(), keep_alive_s=1) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(first)

            async def trickle() -> None:
                while first:
                    await asyncio.sleep(0.1)
                    writer.write(b"x")

            trickling = asyncio.create_task(trickle())
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            trickling.cancel()
            writer.close()

    run(case())


def test_a_slow_answer_is_no_silence() -> None:
    """A request under way is waited for, and the next one may come after it."""

    async def case() -> None:
        async with serve(App(wait_s=1.5), keep_alive_s=1) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                async with asyncio.timeout(5):
                    answer = await reader.readuntil(b"\r\n\r\n")
                    assert answer.startswith(b"HTTP/1.1 200")
                    await reader.readuntil(b"0\r\n\r\n")
            writer.close()

    run(case())


async def _reader(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
    """Read the body into memory of its own, and say how long it was, and its end."""
    if scope["type"] == "lifespan":
        return
    headers = dict(scope["headers"])
    read_body = scope.get("extensions", {}).get(BODY_EXTENSION)
    if read_body is None or b"content-length" not in headers:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
    else:
        room = bytearray(int(headers[b"content-length"]))
        if not await read_body(memoryview(room), 30):
            return
        body = bytes(room)
    told = b"%d %d %s" % (len(body), body.count(b"\n"), body[-4:])
    length = (b"content-length", b"%d" % len(told))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": told})


async def _told(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().splitlines()
        if line.startswith(b"content-length")
    )
    return await reader.readexactly(length)


def _post(body: bytes, *more: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    lines = (b"POST / HTTP/1.1", b"Host: h", length, *more)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize("size", [0, 1000, 65_000, 65_536, 300_000, 2_000_000])
@pytest.mark.parametrize(
    "cuts", [(), (10,), (70, 100, 70_000), (66_000, 66_001), (66_000, 1_999_000)]
)
def test_a_body_is_read_into_given_memory(size: int, cuts: tuple[int, ...]) -> None:
    """However it comes, one request after the other on one connection."""
    body = (bytes(range(256)) * (size // 256 + 1))[:size]

    async def case() -> None:
        async with serve(_reader) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            for _ in range(3):
                whole = _post(body)
                for start, end in zip((0, *cuts), (*cuts, len(whole)), strict=True):
                    writer.write(whole[start:end])
                    await writer.drain()
                    await asyncio.sleep(0.001)
                told = await _told(reader)
                assert told == b"%d %d %s" % (size, body.count(b"\n"), body[-4:])
            writer.close()

    run(case())


def test_requests_may_follow_before_they_are_answered() -> None:
    """Each is answered, in their order (RFC 9112, section 9.3.2)."""

    async def case() -> None:
        bodies = [bytes(300_000), b"b", bytes(100_000), b""]
        async with serve(_reader) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"".join(map(_post, bodies)))
            for body in bodies:
                assert (await _told(reader)).startswith(b"%d " % len(body))
            writer.close()

    run(case())


def test_who_goes_in_the_middle_of_a_body_is_let_go() -> None:
    """The application hears of it, and the next client is served."""

    async def case() -> None:
        async with serve(_reader) as server:
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(_post(bytes(300_000))[:100_000])
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(_post(b"more"))
            assert await _told(reader) == b"4 0 more"
            writer.close()

    run(case())


def test_a_body_has_its_time() -> None:
    """The application hears that it did not come, answers, and that is the end."""

    async def app(scope: Scope, _receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] == "lifespan":
            return
        try:
            await scope["extensions"][BODY_EXTENSION](memoryview(bytearray(9)), 0.2)
        except TimeoutError:
            length = (b"content-length", b"4")
            start = {"type": "http.response.start", "status": 408, "headers": [length]}
            await send(start)
            await send({"type": "http.response.body", "body": b"late"})

    async def case() -> None:
        async with asyncio.timeout(60), serve(app) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(_post(b"123456789")[:-1])
            told = await reader.read()
            assert told.endswith(b"late")
            assert b"connection: close" in told
            writer.close()

    run(case())


def test_who_is_asked_to_go_on_is_read_as_usual() -> None:
    """`Expect: 100-continue` is answered first."""

    async def case() -> None:
        async with serve(_reader) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            whole = _post(b"tide", b"Expect: 100-continue")
            writer.write(whole[:-4])
            assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
            writer.write(whole[-4:])
            assert await _told(reader) == b"4 0 tide"
            writer.close()

    run(case())


CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"GET / HTTP/1.1\r\n", b"a: %s\r\n" % (b"x" * 999)),
        (b"GET / HTTP/1.1\r\nlong: ", b"x" * 999),
        (b"GET /", b"x" * 999),
        (CHUNKED + b"0\r\n", b"a: %s\r\n" % (b"x" * 999)),
    ],
    ids=["many headers", "a long header", "a long path", "trailers"],
)
def test_a_head_is_bounded(first: bytes, piece: bytes) -> None:
    """Without it, one client could fill the memory."""

    async def case() -> None:
        async with asyncio.timeout(60), serve(_reader) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(first)
            with contextlib.suppress(ConnectionError):
                for _ in range(3 * LARGEST_HEAD_BYTES // len(piece)):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                told = await reader.read()  # the connection ends, whatever is said
                assert b" 200 " not in told
            writer.close()

    run(case())


def test_a_body_in_chunks_is_read_whole() -> None:
    """Its framing may be as long as itself."""

    async def case() -> None:
        async with serve(_reader) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(CHUNKED + b"6\r\ntidal \r\n" * 50_000 + b"0\r\n\r\n")
            assert (await _told(reader)).startswith(b"300000 ")
            writer.close()

    run(case())
