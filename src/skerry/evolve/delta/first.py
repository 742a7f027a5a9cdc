"""Deltas of the first kind, SKDELTA1: applied for ever, and written no more.

A zstd frame of the new blob with the old one as its dictionary, or of the bytes'
differences modulo 256. Both blobs are in memory while it is applied.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum

import numpy as np

from skerry.core.errors import DataError
from skerry.evolve.delta._zstd import open_packed

MAGIC = b"SKDELTA1"
LARGEST_BYTES = 1 << 28
"""Most bytes of the old and the new blob together."""

_HEADER = struct.Struct(">8sBQQ32s32s")


class Codec(IntEnum):
    """How a delta is written."""

    PATCH_FROM = 1
    """zstd, with the old blob as its dictionary."""
    SUBTRACT = 2
    """zstd of the bytes' differences; both blobs have the same size."""


def patch(old: bytes, delta: bytes, *, largest_bytes: int) -> bytes:
    """Apply a delta.

    Args:
        old: The blob that it starts from.
        delta: What was written before this version.
        largest_bytes: Most bytes that the new blob may have; nothing larger is
            unpacked, whatever the delta says.

    Returns:
        The new blob; its hash is the one in the delta's header.

    Raises:
        DataError: It is no delta, is damaged, starts from another blob, or gives more
            than allowed.
    """
    if len(delta) < _HEADER.size or not delta.startswith(MAGIC):
        raise _damaged("it is no delta of a kind that this version applies")
    _, codec, old_size, new_size, old_hash, new_hash = _HEADER.unpack_from(delta)
    if codec not in tuple(Codec):
        raise _damaged(f"its codec is {codec}, expected 1 or 2")
    if (len(old), hashlib.sha256(old).digest()) != (old_size, old_hash):
        raise _damaged(f"it starts from another blob, of {old_size} bytes")
    if new_size > largest_bytes:
        raise _damaged(f"it gives {new_size} bytes, at most {largest_bytes} expected")
    if old_size + new_size > LARGEST_BYTES:
        raise _damaged(f"it takes {old_size + new_size} bytes of memory")
    if codec == Codec.SUBTRACT and old_size != new_size:
        raise _damaged(f"it subtracts {old_size} bytes from {new_size}")
    dictionary = old if codec == Codec.PATCH_FROM else b""
    new = _decompress(delta[_HEADER.size :], dictionary, new_size)
    if codec == Codec.SUBTRACT:
        new = _add(new, old)
    if hashlib.sha256(new).digest() != new_hash:
        raise _damaged("it gives other bytes than it says")
    return new


def _decompress(body: bytes, dictionary: bytes, size: int) -> bytes:
    try:
        # Read bit by bit: its length is bounded by us and not by what the frame says.
        content = open_packed(body, dictionary).read(size + 1)
    except ValueError as error:
        raise _damaged(f"it cannot be unpacked: {error}") from error
    if len(content) != size:
        raise _damaged(f"it unpacks to {len(content)} bytes or more, not to {size}")
    return content


def _add(difference: bytes, old: bytes) -> bytes:
    parts = (np.frombuffer(difference, np.uint8), np.frombuffer(old, np.uint8))
    return (parts[0] + parts[1]).tobytes()


def _damaged(what: str) -> DataError:
    return DataError(
        f"the delta cannot be applied: {what}", hint="Fetch the whole blob instead."
    )
