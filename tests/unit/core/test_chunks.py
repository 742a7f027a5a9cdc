from __future__ import annotations

import hashlib

import pytest

from skerry.core.chunks import (
    LARGEST_CHUNK_BYTES,
    MAGIC,
    SMALLEST_CHUNK_BYTES,
    Chunks,
    chunk_bytes_for,
    most_list_bytes,
    read_chunks,
    write_chunks,
)
from skerry.core.errors import DataError
from skerry.core.release import Blob

CONTENT = bytes(range(256)) * 100
BLOB = Blob.of(CONTENT)


def test_a_list_says_what_each_chunk_is() -> None:
    """The last is shorter; together they are the blob."""
    chunks = Chunks.cut(CONTENT)
    assert len(chunks) == 7
    parts = [CONTENT[slice(*chunks.span(index))] for index in range(len(chunks))]
    assert b"".join(parts) == CONTENT
    for index, part in enumerate(parts):
        assert chunks.is_right(index, hashlib.sha256(part).digest())
        assert not chunks.is_right(index, hashlib.sha256(part + b"x").digest())


def test_it_is_written_and_read() -> None:
    """What is read is what was written, and it is no larger than foreseen."""
    chunks = Chunks.cut(CONTENT)
    content = write_chunks(chunks)
    assert content == MAGIC + b"\0\0\x10\0" + chunks.hashes
    assert read_chunks(content, BLOB) == chunks
    assert len(content) <= most_list_bytes(BLOB.size_bytes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        MAGIC,
        b"SKCHUNK2\0\0\x10\0" + bytes(7 * 32),
        MAGIC + b"\0\0\0\0" + bytes(7 * 32),
        MAGIC + b"\xff\xff\xff\xff" + bytes(32),
        MAGIC + b"\0\0\x10\0" + bytes(6 * 32),
        MAGIC + b"\0\0\x10\0" + bytes(7 * 32 + 1),
    ],
)
def test_what_is_no_list_of_the_blob_is_refused(content: bytes) -> None:
    """Its header, its chunk size and its length are checked."""
    with pytest.raises(DataError, match="chunk list of blob"):
        read_chunks(content, BLOB)


@pytest.mark.parametrize("size_bytes", [1, 10_000, 1 << 20, 200 << 20, 1 << 40])
def test_a_list_and_one_chunk_cost_little(size_bytes: int) -> None:
    """Together at most twice the least that is possible, within the bounds."""
    chunk_bytes = chunk_bytes_for(size_bytes)
    assert chunk_bytes & (chunk_bytes - 1) == 0
    assert SMALLEST_CHUNK_BYTES <= chunk_bytes <= LARGEST_CHUNK_BYTES
    if SMALLEST_CHUNK_BYTES < chunk_bytes < LARGEST_CHUNK_BYTES:
        cost = 32 * size_bytes / chunk_bytes + chunk_bytes
        assert cost <= 1.1 * 2 * (32 * size_bytes) ** 0.5
