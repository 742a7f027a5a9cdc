"""A client of the HTTP service that sees every byte: one connection, in its control."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from urllib.parse import urlsplit

from tests.serving import Response


class Wire:
    """One connection to a service, opened when it is needed.

    Args:
        address: Of the service.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._place = (parts.hostname, parts.port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, fields: dict[str, Any]) -> Response:
        """Send one request and read one answer.

        Raises:
            OSError, EOFError, ValueError: There was none, or not one only.
        """
        await self.send(path, fields)
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = dict(line.lower().split(": ", 1) for line in lines)
        body = await self._reader.readexactly(int(headers["content-length"]))
        if self._reader._buffer:  # type: ignore[attr-defined]
            raise ValueError("there came more than one answer")
        return Response(status=int(status_line.split()[1]), headers=headers, body=body)

    async def send(self, path: str, fields: dict[str, Any]) -> None:
        """Send one request."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._place)
        body = json.dumps(fields).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def close(self) -> None:
        """Leave, whatever is still to come."""
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._reader = self._writer = None
