"""The only door to uvicorn: an ASGI application on a socket, in this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from functools import partial
from typing import Any

from skerry.comms.ports import listen
from skerry.core.errors import MissingExtraError, StateError

try:
    import httptools
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise MissingExtraError("uvicorn", extra="gateway") from error

Scope = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiSend = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, AsgiReceive, AsgiSend], Awaitable[None]]
"""An application of ASGI 3 (https://asgi.readthedocs.io)."""


BODY_EXTENSION = "skerry.body"
"""The extension of a scope that reads a body of known length into given memory.

It is an async function of a memoryview that has the body's length (`Content-Length`)
and of the seconds it may take; it answers whether the body came whole, and raises
`TimeoutError` where it did not come in time. `receive` is not called before it.
"""

LARGEST_HEAD_BYTES = 64 << 10
"""Most bytes of a request's head."""

_chunk = memoryview(bytearray(64 << 10))  # read from at once, so one is enough for all
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\ncontent-length: 0\r\n\r\n"
)


class Server:
    """A listening application; `serve` makes it.

    Attributes:
        host: Where it listens.
        port: The port, chosen by the system where 0 was asked for.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    @property
    def address(self) -> str:
        """The URL of its root."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class _Uvicorn(uvicorn.Server):
    """One that leaves signals alone and tells when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Have it end as soon as it can."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        # uvicorn's own wakes ten times a second to see whether it is to stop; the date
        # in its answers changes once.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:  # it would end the process
            raise StateError(
                "the application did not start", hint="The log says what went wrong."
            ) from error
        self.ready.set()


class _Impatient(HttpToolsProtocol, asyncio.BufferedProtocol):
    """Ends a connection on which no request comes, also where bytes trickle.

    uvicorn's own waits for ever for the first request and for the rest of a head:
    as many silent connections as it admits would keep everybody else out. It also
    bounds neither a head nor the trailers after a body: here whatever is not a body's
    own bytes is bounded (431, RFC 6585, section 5). And it copies a body four times:
    here an application may have it read into memory of its own (`BODY_EXTENSION`).

    There is one timer a connection, set anew only when it rings: what is waited for
    comes nearly always, and to set and cancel a timer costs as much as to read a head.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._body_bytes = self._other_bytes = 0
        self._room: memoryview | None = None
        self._filled = 0
        self._whole: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._expect_within(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._whole is not None and not self._whole.done():
            self._whole.set_result(False)
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return _chunk if self._room is None else self._room[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._room is None:
            self.data_received(bytes(_chunk[:nbytes]))
            return
        self._filled += nbytes
        if self._filled == len(self._room):
            self._room = None
            # The parser has not seen these bytes: another one begins after them.
            self.parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
            self._due_s = math.inf
            if self._whole is not None and not self._whole.done():
                self._whole.set_result(True)

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        is_alone = before is None or before.response_complete
        if is_alone and not self.expect_100_continue:
            reader = partial(self._read_body, self.cycle)
            self.scope["extensions"] = {BODY_EXTENSION: reader}  # type: ignore[dict-item]

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._expect_within(self.timeout_keep_alive)

    def _expect_within(self, seconds: float) -> None:
        """End the connection, or the wait for a body, unless `_due_s` is set anew."""
        self._due_s = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > self._due_s:
            self._set_timer(self._due_s)

    def _set_timer(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due_s == math.inf:
            return  # the next to be waited for sets it
        if self.loop.time() < self._due_s:
            self._set_timer(self._due_s)
        elif self._whole is not None and not self._whole.done():
            self._whole.set_exception(TimeoutError())
        else:
            self.timeout_keep_alive_handler()

    async def _read_body(self, cycle: Any, room: memoryview, within_s: float) -> bool:
        """Read a whole body into memory of its length; False where it was cut off."""
        start = len(cycle.body)
        room[:start] = cycle.body
        cycle.body = bytearray()
        if not cycle.more_body:
            return True
        self._room, self._filled = room, start
        self._whole = self.loop.create_future()
        self._expect_within(within_s)
        self.flow.resume_reading()
        try:
            return await self._whole
        finally:
            if self._room is not None:  # given up: what follows cannot be read
                self._room, self._due_s = None, math.inf
                cycle.keep_alive = False

    def data_received(self, chunk: bytes) -> None:
        # The time runs until a request has begun, whatever comes before that.
        before = self.cycle
        self._other_bytes += len(chunk)
        super().data_received(chunk)
        if self.cycle is not before:
            self._due_s = math.inf
        if self._other_bytes > LARGEST_HEAD_BYTES + self._body_bytes:
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        # A body in small chunks may have as many bytes of framing as of its own.
        self._body_bytes += len(body)
        self._other_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._body_bytes = self._other_bytes = 0
        super().on_message_complete()


@contextlib.asynccontextmanager
async def serve(
    app: AsgiApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    keep_alive_s: int = 30,
    stop_s: int = 5,
    most_connections: int = 1024,
) -> AsyncIterator[Server]:
    """Serve an application for as long as the context is open.

    Args:
        app: The application.
        host: Where to listen; only this machine unless told otherwise.
        port: The port, or 0 for any free one.
        keep_alive_s: How long a connection is kept on which no request comes, in
            seconds.
        stop_s: How long requests in flight may take once the context is left.
        most_connections: Beyond these, a request is answered with 503.

    Raises:
        StateError: The port is in use or not permitted, or the application did not
            start.
    """
    listener = listen(host, port)
    config = uvicorn.Config(
        app,
        http=_Impatient,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=stop_s,
        limit_concurrency=most_connections,
    )
    server = _Uvicorn(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await _wait_ready(server, running)
        yield Server(host, listener.getsockname()[1])
    finally:
        server.stop()
        await _wait_stopped(running, timeout_s=stop_s + 2)
        listener.close()


async def _wait_ready(server: _Uvicorn, running: asyncio.Task[None]) -> None:
    ready = asyncio.ensure_future(server.ready.wait())
    await asyncio.wait({ready, running}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if running.done():
        running.result()


async def _wait_stopped(running: asyncio.Task[None], *, timeout_s: float) -> None:
    done, _ = await asyncio.wait({running}, timeout=timeout_s)
    if not done:
        running.cancel()
    await asyncio.gather(running, return_exceptions=True)
