"""A blob into a file: what is there is kept, what came wrong is fetched again.

The file is checked chunk by chunk (`core.chunks`), what lies in it from an earlier
attempt as well as what comes: a flipped byte, or a tail torn by a power cut, costs the
chunks that it touched. Without a chunk list the whole blob is one chunk.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from skerry.core import durable
from skerry.core.chunks import LARGEST_CHUNK_BYTES, Chunks
from skerry.core.errors import LinkError, SkerryError, StorageError, TrustError
from skerry.core.files import PIECE_BYTES, name_pieces, read_open
from skerry.core.release import Blob, Reason

MOST_FETCHES = 4
"""A chunk that came wrong from the same place this often will not come right."""

_SMALLEST_SYNC_BYTES = 1 << 14

Origin = Literal["hub", "peer"]
"""Where bytes came from."""

OpenPart = Callable[[Path], io.RawIOBase]
"""Opens a file for reading and writing, without a buffer; makes it if need be."""


class Readable(Protocol):
    """What gives blobs; a `BlobStore` does."""

    def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give a blob in pieces, from an offset on and before an end."""
        ...


class Peer(Readable, Protocol):
    """A neighbour that may have a blob; whatever goes wrong there is a `LinkError`."""

    def give_up(self, error: SkerryError) -> None:
        """Be told that it was no help: `TrustError` if it lied."""
        ...


async def download(
    store: Readable,
    blob: Blob,
    part: Path,
    *,
    chunks: Chunks | None = None,
    peers: Sequence[Peer] = (),
    received: Callable[[Origin, int], None] | None = None,
    opens: OpenPart | None = None,
) -> None:
    """Fetch a blob into a file, going on where an earlier attempt ended.

    Args:
        store: Where it comes from.
        blob: Its hash and size.
        part: The file; what is right in it is kept and not fetched again.
        chunks: The hashes of its chunks, where they are known.
        peers: Who is asked first. Without `chunks` nobody is: one could spoil it all.
        received: Told of each number of bytes that came, and from where.
        opens: Opens the file for reading and writing; in the clear by default.

    Raises:
        TrustError: What came is not the blob (`corrupt`).
        LinkError: The stream broke; the file keeps what came.
        DataError: The store has no such blob.
        StorageError: The disk refused.
    """
    told = received or _ignore
    make = partial(_Part, part, blob, chunks, opens or _open_part)
    async with _opened(make) as file:
        for peer in peers if chunks is not None else ():
            fill = _Fill(file, peer, blob, most_fetches=1)
            try:
                await fill.run(partial(told, "peer"))
            except StorageError:
                raise
            except SkerryError as error:
                peer.give_up(error)
        fill = _Fill(file, store, blob, most_fetches=MOST_FETCHES)
        await fill.run(partial(told, "hub"))
        await _finish(file.check)


class _Fill:
    """Fetches what is missing of a blob from one place."""

    def __init__(
        self,
        part: _Part,
        store: Readable,
        blob: Blob,
        *,
        most_fetches: int,
    ) -> None:
        self._part = part
        self._store = store
        self._blob = blob
        self._most_fetches = min(most_fetches, part.most_fetches)

    async def run(self, received: Callable[[int], None]) -> None:
        part, blob = self._part, self._blob
        part.forget_faults()
        while (run := part.begin()) is not None:
            start, end = run
            is_rest = end == blob.size_bytes
            pieces = self._store.open(
                blob.sha256, offset=start, **({} if is_rest else {"end": end})
            )
            await self._append(pieces, received)
            if part.at < end:
                raise LinkError(
                    f"the stream of blob {blob.sha256[:12]} ended after {part.at} of "
                    f"{end} bytes",
                    hint="Try again: it goes on from there.",
                )

    async def _append(
        self, pieces: AsyncIterator[bytes], received: Callable[[int], None]
    ) -> None:
        part = self._part
        try:
            async for piece in pieces:
                received(len(piece))
                await _finish(part.write, piece)
                if part.is_too_large or part.most_faults >= self._most_fetches:
                    await _finish(part.drop_if_whole)
                    raise _corrupt(
                        self._blob,
                        "more" if part.is_too_large else "others, of another hash",
                    )
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


class _Part:
    """What has come of a blob, in its file; each method blocks.

    Raises:
        StorageError: The disk refused.
    """

    def __init__(
        self, path: Path, blob: Blob, chunks: Chunks | None, opens: OpenPart
    ) -> None:
        self.at = 0
        self.is_too_large = False
        self._path = path
        self._blob = blob
        self._is_chunked = chunks is not None
        self._chunks = chunks or Chunks.whole(blob)
        self._is_right = bytearray(len(self._chunks))
        self._faults: dict[int, int] = {}
        self._end = 0
        self._digest = hashlib.sha256()
        self._was_begun = False
        self._unsynced_bytes = 0
        with durable.storage_errors(path):
            self._file = opens(path)
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise

    @property
    def most_fetches(self) -> int:
        """How often a chunk may come wrong, by what it costs to fetch it again.

        That a large one came wrong may be the fault of what was there before.
        """
        if self._chunks.chunk_bytes <= LARGEST_CHUNK_BYTES:
            return MOST_FETCHES
        return 2 if self._was_begun else 1

    @property
    def most_faults(self) -> int:
        """How often that chunk came wrong which did so most often."""
        return max(self._faults.values(), default=0)

    def forget_faults(self) -> None:
        """What came wrong from one place may come right from another."""
        self._faults.clear()

    def begin(self) -> tuple[int, int] | None:
        """Get ready for the first bytes that are missing.

        Returns:
            Where they begin, and where those that follow are right; None where nothing
            is missing.
        """
        first = self._is_right.find(0)
        if first < 0:
            return None
        last = self._is_right.find(1, first)
        last = len(self._is_right) if last < 0 else last
        start, end = self._chunks.span(first)
        if not start < self.at < end:  # else a part of that chunk is there
            self.at, self._digest = start, hashlib.sha256()
        self._end = self._chunks.span(last - 1)[1]
        with durable.storage_errors(self._path):
            self._file.seek(self.at)
        return self.at, self._end

    def write(self, piece: bytes) -> None:
        """Add what came, unless it is too much: an endless stream fills no disk."""
        left = memoryview(piece)
        while left and self.at < self._end:
            index = self.at // self._chunks.chunk_bytes
            end = self._chunks.span(index)[1]
            now = left[: end - self.at]
            with durable.storage_errors(self._path):
                self._write(now)
            left = left[len(now) :]
            if self.at == end:
                self._judge(index)
        self.is_too_large = bool(left)

    def close(self) -> None:
        """Close the file."""
        with durable.storage_errors(self._path):
            self._file.close()

    def check(self) -> None:
        """Have the file safe on the disk if it is the blob.

        Raises:
            TrustError: The chunk list is of another blob; the file is removed.
        """
        with durable.storage_errors(self._path):
            self._file.truncate(self._blob.size_bytes)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.seek(0)
            if not self._is_chunked or name_pieces(read_open(self._file)) == self._blob:
                return
            self._path.unlink(missing_ok=True)
        raise _corrupt(self._blob, "chunks that are signed and another blob")

    def drop_if_whole(self) -> None:
        """Remove the file if none of it can be told from the rest."""
        if not self._is_chunked:
            with durable.storage_errors(self._path):
                self._path.unlink(missing_ok=True)

    def _write(self, piece: memoryview) -> None:
        while piece:
            n_bytes = self._file.write(piece) or 0
            self._digest.update(piece[:n_bytes])
            self.at += n_bytes
            self._unsynced_bytes += n_bytes
            piece = piece[n_bytes:]
        # What a power cut may take is bounded, and so is what is fetched twice.
        if self._unsynced_bytes >= most_unsynced_bytes(self._blob):
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._unsynced_bytes = 0

    def _judge(self, index: int) -> None:
        """A chunk is whole: it is right, or it came wrong once more."""
        if self._chunks.is_right(index, self._digest.digest()):
            self._is_right[index] = 1
        else:
            self._faults[index] = self._faults.get(index, 0) + 1
        self._digest = hashlib.sha256()

    def _resume(self) -> None:
        """Find out what of an earlier attempt is right."""
        with durable.storage_errors(self._path):
            here = self._file.seek(0, os.SEEK_END)
            self._file.seek(0)
            self._was_begun = here > 0
            if here > self._blob.size_bytes and not self._is_chunked:
                self._file.truncate(0)
                return
            for index in range(len(self._chunks)):
                start, end = self._chunks.span(index)
                if start >= here:
                    return
                digest = self._hash(min(end, here) - start)
                if here < end:
                    self.at, self._digest = here, digest
                elif self._chunks.is_right(index, digest.digest()):
                    self._is_right[index] = 1

    def _hash(self, n_bytes: int) -> Any:
        digest = hashlib.sha256()
        while n_bytes > 0 and (piece := self._file.read(min(n_bytes, PIECE_BYTES))):
            digest.update(piece)
            n_bytes -= len(piece)
        return digest


@asynccontextmanager
async def _opened(make: Callable[[], _Part]) -> AsyncIterator[_Part]:
    """Have the file open; it is closed even where the caller never came to see it."""
    opening = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        yield await asyncio.shield(opening)
    finally:
        await asyncio.wait({opening})
        if opening.exception() is None:
            await _finish(opening.result().close)


def _open_part(path: Path) -> io.RawIOBase:
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")


def most_unsynced_bytes(blob: Blob) -> int:
    """How much of what came a power cut may take, in bytes: a 64th of the blob."""
    return max(_SMALLEST_SYNC_BYTES, blob.size_bytes >> 6)


async def _finish(call: Callable[..., None], *arguments: object) -> None:
    """Do blocking work to its end, even where the caller is cancelled meanwhile.

    A write that went on behind a cancelled download would spoil the file of the next.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


def _corrupt(blob: Blob, what: str) -> TrustError:
    return TrustError(
        f"for blob {blob.sha256[:12]} of {blob.size_bytes} bytes came {what}",
        hint="Publish it again; if this comes back, it is changed on the way.",
        reason=Reason.CORRUPT,
    )


def _ignore(_origin: Origin, _n_bytes: int) -> None:
    """Take no interest in what came."""
