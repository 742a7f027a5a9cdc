from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.cloud import blobs as blobs_module
from skerry.cloud.blobs import PIECE_BYTES, Blobs
from skerry.core.errors import DataError, StorageError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


async def _pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def _read(blobs: Blobs, sha256: str, offset: int = 0) -> list[bytes]:
    return [piece async for piece in blobs.open(sha256, offset=offset)]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_blob_comes_back(tmp_path: Path) -> None:
    """In pieces, from any offset on, twice kept or once; a new object finds it."""

    async def main() -> None:
        blobs = Blobs(tmp_path)
        await blobs.start()
        assert await blobs.stat(SHA256) is None
        assert await blobs.put_stream(SHA256, _pieces(CONTENT)) == len(CONTENT)
        await blobs.put(SHA256, CONTENT)
        again = Blobs(tmp_path)
        await again.start()
        assert await again.stat(SHA256) == len(CONTENT)
        pieces = await _read(again, SHA256)
        assert b"".join(pieces) == CONTENT
        assert max(map(len, pieces)) <= PIECE_BYTES
        for offset in (1, 777, len(CONTENT)):
            read = b"".join(await _read(again, SHA256, offset))
            assert read == CONTENT[offset:]
        assert _files(tmp_path) == [tmp_path / "blobs" / SHA256[:2] / SHA256]

    asyncio.run(main())


def test_what_has_another_hash_is_refused(tmp_path: Path) -> None:
    """One flipped bit, or bytes too few: nothing is left of it."""

    async def main() -> None:
        blobs = Blobs(tmp_path)
        await blobs.start()
        for wrong in (CONTENT[:-1], b"", b"\x01" + CONTENT[1:]):
            with pytest.raises(DataError, match="has the hash"):
                await blobs.put_stream(SHA256, _pieces(wrong))
        assert await blobs.stat(SHA256) is None
        assert _files(tmp_path) == []

    asyncio.run(main())


def test_a_blob_is_bounded(tmp_path: Path) -> None:
    """One byte too many ends it, however many would follow."""

    async def main() -> None:
        blobs = Blobs(tmp_path)
        size = len(CONTENT)
        with pytest.raises(DataError, match=f"more than {size - 1} bytes"):
            await blobs.put_stream(SHA256, _pieces(CONTENT), largest_bytes=size - 1)
        assert _files(tmp_path) == []
        await blobs.put_stream(SHA256, _pieces(CONTENT), largest_bytes=size)

    asyncio.run(main())


def test_a_broken_upload_leaves_nothing(tmp_path: Path) -> None:
    """The sender's error comes out as it is."""

    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT[:1000]
        raise ConnectionResetError

    async def main() -> None:
        blobs = Blobs(tmp_path)
        with pytest.raises(ConnectionResetError):
            await blobs.put_stream(SHA256, broken())
        assert _files(tmp_path) == []

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "x", SHA256.upper(), "../" + SHA256[3:]])
def test_only_hashes_name_blobs(tmp_path: Path, name: str) -> None:
    """A name that could be a path to elsewhere is refused everywhere."""

    async def main() -> None:
        blobs = Blobs(tmp_path)
        with pytest.raises(DataError, match="cannot name a blob"):
            await blobs.put(name, CONTENT)
        with pytest.raises(DataError):
            await blobs.stat(name)
        with pytest.raises(DataError):
            await _read(blobs, name)

    asyncio.run(main())


def test_a_blob_that_is_not_there(tmp_path: Path) -> None:
    """It is named; an offset outside a blob is refused with its size."""

    async def main() -> None:
        blobs = Blobs(tmp_path)
        with pytest.raises(DataError, match=f"no blob {SHA256}"):
            await _read(blobs, SHA256)
        await blobs.put(SHA256, CONTENT)
        for offset in (-1, len(CONTENT) + 1):
            with pytest.raises(DataError, match=f"has {len(CONTENT)} bytes"):
                await _read(blobs, SHA256, offset)

    asyncio.run(main())


def test_a_full_disk_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written of it is removed."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    async def main() -> None:
        blobs = Blobs(tmp_path)
        monkeypatch.setattr(blobs_module.REAL_DISK, "replace", refuse)
        with pytest.raises(StorageError, match="No space left"):
            await blobs.put(SHA256, CONTENT)
        assert _files(tmp_path) == []

    asyncio.run(main())


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    """A start clears half-written blobs and leaves whole ones."""

    async def main() -> None:
        blobs = Blobs(tmp_path)
        await blobs.put(SHA256, CONTENT)
        left = blobs.path(SHA256).with_name(f".{SHA256}.x.part")
        left.write_bytes(b"half")
        await blobs.start()
        assert _files(tmp_path) == [blobs.path(SHA256)]

    asyncio.run(main())
