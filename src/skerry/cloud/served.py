"""What devices may fetch by its hash: blobs, and deltas that were made here."""

from __future__ import annotations

from collections.abc import AsyncIterator

from skerry.cloud.blobs import Blobs, no_blob
from skerry.cloud.packed import PackedDeltas


class Served:
    """A `BlobStore` of both.

    Args:
        blobs: What was published.
        packed: What was made here.
    """

    def __init__(self, blobs: Blobs, packed: PackedDeltas) -> None:
        self._blobs = blobs
        self._packed = packed

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give one in pieces; see `Blobs.open`.

        Raises:
            DataError: There is none of this hash, or the offset lies outside it.
            StorageError: The disk failed.
        """
        for store in (self._blobs, self._packed):
            if await store.stat(sha256) is not None:
                async for piece in store.open(sha256, offset=offset, end=end):
                    yield piece
                return
        raise no_blob(sha256)

    async def put(self, sha256: str, content: bytes) -> None:
        """Keep a blob; see `Blobs.put`."""
        await self._blobs.put(sha256, content)

    async def stat(self, sha256: str) -> int | None:
        """The size in bytes, or None where there is none of this hash."""
        size_bytes = await self._blobs.stat(sha256)
        return size_bytes if size_bytes is not None else await self._packed.stat(sha256)
