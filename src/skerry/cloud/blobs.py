"""Blobs in a folder: `FOLDER/blobs/AA/SHA256`, whole or not there."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from skerry.core.durable import REAL_DISK, make_folder, storage_errors
from skerry.core.errors import DataError
from skerry.core.release import is_sha256

LARGEST_BLOB_BYTES = 1 << 30
PIECE_BYTES = 1 << 18
"""How much of a blob is read at once."""

PART_SUFFIX = ".part"


class Blobs:
    """A `BlobStore` in a folder of this machine.

    Args:
        folder: The hub's folder; the blobs lie in `blobs` below it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "blobs"

    async def start(self) -> None:
        """Make the folder, and remove what a crash left half-written.

        Raises:
            StorageError: The disk refused.
        """
        await asyncio.to_thread(self._clean)

    def path(self, sha256: str) -> Path:
        """Where a blob lies, if it is there.

        Raises:
            DataError: That is not a hash.
        """
        if not is_sha256(sha256):
            raise DataError(
                f"{sha256!r:.80} cannot name a blob",
                hint="Name it by its SHA-256: 64 hexadecimal digits in lower case.",
            )
        return self._folder / sha256[:2] / sha256

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give a blob in pieces, from an offset on and before an end.

        Raises:
            DataError: There is no such blob, or the offset lies outside it.
            StorageError: The disk failed.
        """
        size_bytes = await self.stat(sha256)
        if size_bytes is None:
            raise no_blob(sha256)
        if not 0 <= offset <= size_bytes:
            raise outside(sha256, size_bytes, offset)
        last = size_bytes if end is None else end
        async for piece in stream_file(self.path(sha256), offset, last):
            yield piece

    async def put(self, sha256: str, content: bytes) -> None:
        """Keep a blob; keeping it twice is no fault.

        Raises:
            DataError: The content has another hash, or is too large.
            StorageError: The disk refused.
        """

        async def whole() -> AsyncIterator[bytes]:
            yield content

        await self.put_stream(sha256, whole())

    async def put_stream(
        self,
        sha256: str,
        pieces: AsyncIterator[bytes],
        *,
        largest_bytes: int = LARGEST_BLOB_BYTES,
    ) -> int:
        """Keep a blob that comes in pieces; it is never whole in memory.

        Args:
            sha256: What its hash must be.
            pieces: Its bytes, in order.
            largest_bytes: How many there may be.

        Returns:
            Its size in bytes.

        Raises:
            DataError: The content has another hash, or is too large.
            StorageError: The disk refused; nothing of it is left.
        """
        path = self.path(sha256)
        part = path.with_name(f".{sha256}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")
        try:
            found, size_bytes = await _write(part, pieces, largest_bytes)
            if found != sha256:
                raise DataError(
                    f"the content of blob {sha256} has the hash {found}",
                    hint="Send it again: it was damaged, or is another one.",
                )
            await self._put_in_place(part, sha256)
        finally:
            part.unlink(missing_ok=True)
        return size_bytes

    async def stat(self, sha256: str) -> int | None:
        """The blob's size in bytes, or None where there is none.

        Raises:
            DataError: That is not a hash.
        """
        path = self.path(sha256)
        try:
            return (await asyncio.to_thread(path.stat)).st_size
        except FileNotFoundError:
            return None

    async def _put_in_place(self, part: Path, sha256: str) -> None:
        await asyncio.to_thread(_put_in_place, part, self.path(sha256))

    def _clean(self) -> None:
        make_folder(self._folder)
        with storage_errors(self._folder):
            for part in self._folder.glob(f"*/.*{PART_SUFFIX}"):
                part.unlink(missing_ok=True)


async def stream_file(path: Path, offset: int, end: int) -> AsyncIterator[bytes]:
    """Give a file in pieces, from an offset on and before an end.

    Raises:
        StorageError: The disk failed.
    """
    file = await asyncio.to_thread(_open_at, path, offset)
    left = end - offset
    try:
        while piece := await asyncio.to_thread(_read, file, left):
            left -= len(piece)
            yield piece
    finally:
        file.close()


def no_blob(sha256: str) -> DataError:
    """The error where there is no such blob."""
    return DataError(
        f"there is no blob {sha256}",
        hint="Publish the release that it belongs to again.",
    )


def outside(sha256: str, size_bytes: int, offset: int) -> DataError:
    """The error where bytes outside a blob are asked for."""
    return DataError(
        f"blob {sha256} has {size_bytes} bytes, byte {offset} was asked for",
        hint="Ask for bytes within it.",
    )


async def _write(
    part: Path, pieces: AsyncIterator[bytes], largest_bytes: int
) -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    file = await asyncio.to_thread(_create, part)
    try:
        async for piece in pieces:
            size_bytes += len(piece)
            if size_bytes > largest_bytes:
                raise DataError(
                    f"a blob has more than {largest_bytes} bytes",
                    hint="Make the model smaller, or split the release.",
                )
            digest.update(piece)
            await asyncio.to_thread(_append, file, piece)
    finally:
        file.close()
    return digest.hexdigest(), size_bytes


def _create(part: Path) -> IO[bytes]:
    make_folder(part.parent)
    with storage_errors(part):
        return part.open("xb", buffering=0)


def _append(file: IO[bytes], piece: bytes) -> None:
    # The sender's own trouble, an OSError too, must not be taken for the disk's.
    with storage_errors(Path(file.name)):
        left = memoryview(piece)
        while left:
            left = left[file.write(left) :]


def _put_in_place(part: Path, path: Path) -> None:
    with storage_errors(path):
        REAL_DISK.sync(part)
        REAL_DISK.replace(part, path)
        REAL_DISK.sync(path.parent)


def _open_at(path: Path, offset: int) -> IO[bytes]:
    with storage_errors(path):
        file = path.open("rb")
        file.seek(offset)
        return file


def _read(file: IO[bytes], most_bytes: int) -> bytes:
    with storage_errors(Path(file.name)):
        return file.read(max(0, min(most_bytes, PIECE_BYTES)))
