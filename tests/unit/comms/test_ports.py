"""Listening: what asyncio makes of our sockets."""

from __future__ import annotations

import asyncio
import socket

from skerry.comms.ports import listen


def test_answers_are_sent_at_once() -> None:
    """Accepted connections have TCP_NODELAY: none waits for a delayed ACK."""

    async def case() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            found.set_result(
                accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            )
            writer.close()

        listener = listen("127.0.0.1", 0)
        server = await asyncio.start_server(serve, sock=listener)
        _, writer = await asyncio.open_connection(*listener.getsockname())
        try:
            return await found
        finally:
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    assert asyncio.run(case()) == 1
