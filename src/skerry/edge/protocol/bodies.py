"""Bodies of HTTP requests: read within bounds, copied as little as can be, unpacked."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skerry.core.errors import DataError
from skerry.edge.protocol.service import InferenceService

AT_ONCE_BYTES = 4 << 20
"""For a body of at most so many bytes room is made before it comes."""

Headers = Mapping[bytes, bytes]
Body = bytes | memoryview
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
ReadInto = Callable[[memoryview, float], Awaitable[bool]]

_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a body was not taken.

    Attributes:
        status: Of HTTP.
        what: What happened.
        hint: What to do next.
    """

    status: int
    what: str
    hint: str


async def read_body(
    service: InferenceService,
    headers: Headers,
    receive: Receive,
    *,
    read_into: ReadInto | None,
    largest: int,
    head_bytes: int = 0,
) -> Body | Fault | None:
    """Read a body.

    The bytes of one that is given count as held until the caller takes them off.

    Args:
        service: It counts what is held at once.
        headers: The request's.
        receive: Gives the body's pieces.
        read_into: Reads it into given memory where the server can
            (`skerry.comms.asgi.BODY_EXTENSION`).
        largest: Most bytes.
        head_bytes: How long its JSON is: what comes after that is aligned.

    Returns:
        The body, or why it is not taken, or None where the client is gone.

    Raises:
        BusyError: There is no room for it beside the bodies of others.
    """
    promised = headers.get(b"content-length", b"").lstrip(b"0")
    size_bytes = int(promised[:20]) if promised[:20].isdigit() else 0
    if size_bytes > largest:
        return _too_large(str(size_bytes), largest)
    try:
        if read_into is not None and 0 < size_bytes <= AT_ONCE_BYTES:
            return await _read_whole(service, read_into, size_bytes, head_bytes)
        async with asyncio.timeout(service.timeout_s):
            return await _read_pieces(service, receive, largest, head_bytes)
    except TimeoutError:
        return Fault(
            status=408,
            what=f"the body has not come within {service.timeout_s:g} s",
            hint="Send it in one go.",
        )


async def _read_whole(
    service: InferenceService, read_into: ReadInto, size_bytes: int, head_bytes: int
) -> Body | None:
    service.hold(size_bytes)
    body: Body | None = None
    try:
        room = _room(size_bytes, head_bytes)
        if await read_into(room, service.timeout_s):
            body = room
        return body
    finally:
        if body is None:
            service.release(size_bytes)


async def _read_pieces(
    service: InferenceService, receive: Receive, largest: int, head_bytes: int
) -> Body | Fault | None:
    """Read a body as it comes; nobody knows how long it will be."""
    pieces: list[bytes] = []
    size_bytes, held_bytes = 0, 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            pieces.append(message.get("body", b""))
            size_bytes += len(pieces[-1])
            if size_bytes > largest:
                return _too_large(f"at least {size_bytes}", largest)
            service.hold(len(pieces[-1]))
            held_bytes = size_bytes
            if not message.get("more_body", False):
                held_bytes = 0  # they are the caller's now
                return _join(pieces, size_bytes, head_bytes)
    finally:
        service.release(held_bytes)


def _room(size_bytes: int, head_bytes: int) -> memoryview:
    """Memory for a body, so that what follows its head is aligned."""
    room = np.empty(size_bytes + _ALIGNMENT, np.uint8)
    start = -(room.ctypes.data + head_bytes) % _ALIGNMENT
    return room.data[start : start + size_bytes]


def _join(pieces: list[bytes], size_bytes: int, head_bytes: int) -> Body:
    """Put a body together, so that what follows its head is aligned.

    A body in one piece is left as it is. Others are copied once; an input's array
    would else be copied again, where the head is of an odd length.
    """
    if len(pieces) == 1:
        return pieces[0]
    body = _room(size_bytes, head_bytes)
    at = 0
    for piece in pieces:
        body[at : at + len(piece)] = piece
        at += len(piece)
    return body


def _too_large(got: str, largest: int) -> Fault:
    return Fault(
        status=413,
        what=f"the body has {got} bytes, expected at most {largest}",
        hint="Send smaller batches, as binary tensors.",
    )


def read_encoding(headers: Headers) -> bytes | None:
    """How a body is packed; None where it is not.

    Raises:
        DataError: In a way that is not known here.
    """
    given = headers.get(b"content-encoding", b"identity").strip().lower()
    if given == b"identity":
        return None
    if given not in _WINDOW_BITS:
        raise DataError(
            f"the body's encoding is {given[:80]!r}, expected gzip or deflate",
            hint="Send it as it is.",
        )
    return given


def wanted_encoding(headers: Headers) -> bytes | None:
    """How a client wants its answer packed; None where it wants it in several ways.

    Many HTTP libraries accept several encodings by default; packing numbers for them
    would only cost.
    """
    wanted = headers.get(b"accept-encoding", b"").strip().lower()
    return wanted if wanted in _WINDOW_BITS else None


async def unpack(body: Body, encoding: bytes, largest: int) -> bytes:
    """Unpack a body in a thread, never to more than may be sent unpacked.

    Raises:
        DataError: It is not packed so, is cut off, or unpacks to too much.
    """
    unpacker = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        unpacked = await asyncio.to_thread(unpacker.decompress, body, largest + 1)
    except zlib.error as error:
        raise DataError(
            f"the body is not {encoding.decode()}: {error}", hint="Send it as it is."
        ) from error
    if len(unpacked) > largest or not unpacker.eof:
        raise DataError(
            f"the body unpacks to more than {largest} bytes, or is cut off",
            hint="Send smaller batches.",
        )
    return unpacked


async def pack(body: bytes, encoding: bytes) -> bytes:
    """Pack an answer in a thread, quickly rather than well."""

    def run() -> bytes:
        packer = zlib.compressobj(1, wbits=_WINDOW_BITS[encoding])
        return packer.compress(body) + packer.flush()

    return await asyncio.to_thread(run)
