"""Chunk lists: the hashes of a blob's parts, so that one bad byte costs one part.

A chunk list is signed as a target of its own (`core.release.chunks_path`) and lies in
the store as a blob of its own. It is binary, big endian: magic, bytes of a chunk, then
the SHA-256 of each chunk in order; the last chunk may be shorter.

The size of a chunk grows with the root of the blob's: with n bytes and chunks of c, the
list costs 32 n/c bytes and a flipped byte costs c, together least at c = √(32 n).
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

from skerry.core.errors import DataError
from skerry.core.release import Blob

MAGIC = b"SKCHUNK1"
SMALLEST_CHUNK_BYTES = 1 << 12
LARGEST_CHUNK_BYTES = 1 << 20
SMALLEST_CHUNKED_BYTES = 1 << 14
"""A blob that is smaller has no list: fetching all of it again costs little."""

HASH_BYTES = 32

_HEADER = struct.Struct(">8sI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """What each part of a blob must be.

    Attributes:
        size_bytes: The blob's size.
        chunk_bytes: The size of each chunk but the last, which may be smaller.
        hashes: The SHA-256 of each, 32 bytes one after the other.
    """

    size_bytes: int
    chunk_bytes: int
    hashes: bytes

    @classmethod
    def whole(cls, blob: Blob) -> Chunks:
        """A blob of which no list is known: all of it is one chunk."""
        return cls(
            size_bytes=blob.size_bytes,
            chunk_bytes=max(1, blob.size_bytes),
            hashes=bytes.fromhex(blob.sha256),
        )

    @classmethod
    def cut(cls, content: bytes) -> Chunks:
        """Cut a blob into chunks of the size that suits it."""
        size = chunk_bytes_for(len(content))
        view = memoryview(content)
        hashes = b"".join(
            hashlib.sha256(view[start : start + size]).digest()
            for start in range(0, len(content), size)
        )
        return cls(size_bytes=len(content), chunk_bytes=size, hashes=hashes)

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self.hashes) // HASH_BYTES

    def span(self, index: int) -> tuple[int, int]:
        """Where a chunk begins, and where the next one does."""
        start = index * self.chunk_bytes
        return start, min(start + self.chunk_bytes, self.size_bytes)

    def is_right(self, index: int, digest: bytes) -> bool:
        """Whether a chunk may have this SHA-256."""
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES] == digest


def chunk_bytes_for(size_bytes: int) -> int:
    """The power of two nearest to √(32 n), from 4 KiB to 1 MiB.

    Example:
        >>> chunk_bytes_for(1 << 20), chunk_bytes_for(200 << 20)
        (4096, 65536)
    """
    best = 1 << round(math.log2(HASH_BYTES * max(1, size_bytes)) / 2)
    return min(max(best, SMALLEST_CHUNK_BYTES), LARGEST_CHUNK_BYTES)


def most_list_bytes(size_bytes: int) -> int:
    """Most bytes that the chunk list of a blob of this size may have."""
    return _HEADER.size + HASH_BYTES * -(-size_bytes // SMALLEST_CHUNK_BYTES)


def write_chunks(chunks: Chunks) -> bytes:
    """Write a chunk list."""
    return _HEADER.pack(MAGIC, chunks.chunk_bytes) + chunks.hashes


def read_chunks(content: bytes, blob: Blob) -> Chunks:
    """Read the chunk list of a blob from outside.

    Raises:
        DataError: It is none, or not one of this blob.
    """
    if len(content) < _HEADER.size or not content.startswith(MAGIC):
        raise _damaged(blob, "it is none of a kind that this version reads")
    _, chunk_bytes = _HEADER.unpack_from(content)
    if not SMALLEST_CHUNK_BYTES <= chunk_bytes <= LARGEST_CHUNK_BYTES:
        raise _damaged(
            blob,
            f"its chunks have {chunk_bytes} bytes, {SMALLEST_CHUNK_BYTES} to "
            f"{LARGEST_CHUNK_BYTES} expected",
        )
    hashes = content[_HEADER.size :]
    expected = HASH_BYTES * -(-blob.size_bytes // chunk_bytes)
    if len(hashes) != expected:
        raise _damaged(
            blob, f"it has {len(hashes)} bytes of hashes, {expected} expected"
        )
    return Chunks(size_bytes=blob.size_bytes, chunk_bytes=chunk_bytes, hashes=hashes)


def _damaged(blob: Blob, what: str) -> DataError:
    return DataError(
        f"the chunk list of blob {blob.sha256[:12]} of {blob.size_bytes} bytes: {what}",
        hint="Publish the release again.",
    )
