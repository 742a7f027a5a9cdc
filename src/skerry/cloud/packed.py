"""Deltas that the hub has made, on its disk: a cache of bounded size.

`FOLDER/deltas/FROM-TO-SHA256`: the name says all, so that there is no list to disagree
with. An empty file says that no delta of the two is worth it. What was not asked for
the longest goes first; after a restart, the oldest.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

from skerry.cloud.blobs import no_blob, outside, stream_file
from skerry.core.durable import (
    TEMPORARY_SUFFIX,
    make_folder,
    storage_errors,
    write_file,
)
from skerry.core.files import name_file
from skerry.core.release import NOTHING, Blob, is_sha256

PACKED_FOLDER = "deltas"
WORK_FOLDER = "work"
MOST_BYTES = 256 << 20
MOST_DELTAS = 4096

Pair = tuple[str, str]
"""The hashes of the blob that a delta begins from, and of the one that it gives."""


class PackedDeltas:
    """The deltas in a folder, by what they begin from and what they give.

    Args:
        folder: The hub's.
        most_bytes: Most bytes that all of them may have.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.work = folder / PACKED_FOLDER / WORK_FOLDER
        self._folder = folder / PACKED_FOLDER
        self._most_bytes = most_bytes
        self._deltas: dict[Pair, Blob] = {}

    async def start(self) -> None:
        """Find what is there; what a crash left half-made is removed.

        Raises:
            StorageError: The disk refused.
        """
        self._deltas = await asyncio.to_thread(self._read)

    @property
    def pairs(self) -> Mapping[Pair, Blob]:
        """What there is, empty ones too; the least used first."""
        return MappingProxyType(self._deltas)

    def touch(self, pair: Pair) -> None:
        """Note that a delta was of use, if there is one."""
        found = self._deltas.pop(pair, None)
        if found is not None:
            self._deltas[pair] = found

    async def add(self, pair: Pair, delta: bytes) -> Blob:
        """Keep a delta; those that are used least make room for it.

        Args:
            pair: What it begins from, and what it gives.
            delta: Its bytes; none, where none is worth it.

        Raises:
            StorageError: The disk refused.
        """
        blob = Blob.of(delta)
        await asyncio.to_thread(write_file, self._path(pair, blob), delta)
        replaced = self._deltas.pop(pair, None)
        self._deltas[pair] = blob
        gone = [] if replaced in {None, blob} else [(pair, replaced)]
        gone += self._make_room(keep=pair)
        await asyncio.to_thread(self._remove, gone)
        return blob

    async def stat(self, sha256: str) -> int | None:
        """The size of a delta in bytes, or None where there is none of this hash."""
        found = self._find(sha256)
        return found[1].size_bytes if found else None

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give a delta in pieces, as `Blobs.open` gives blobs.

        Raises:
            DataError: There is none of this hash, or the offset lies outside it.
            StorageError: The disk failed.
        """
        found = self._find(sha256)
        if found is None:
            raise no_blob(sha256)
        size_bytes = found[1].size_bytes
        if not 0 <= offset <= size_bytes:
            raise outside(sha256, size_bytes, offset)
        last = size_bytes if end is None else end
        async for piece in stream_file(self._path(*found), offset, last):
            yield piece

    def _find(self, sha256: str) -> tuple[Pair, Blob] | None:
        found = (one for one in self._deltas.items() if one[1].sha256 == sha256)
        return None if sha256 == NOTHING.sha256 else next(found, None)

    def _make_room(self, *, keep: Pair) -> list[tuple[Pair, Blob]]:
        gone = []
        used_bytes = sum(blob.size_bytes for blob in self._deltas.values())
        for pair, blob in list(self._deltas.items()):
            fits = used_bytes <= self._most_bytes and len(self._deltas) <= MOST_DELTAS
            if fits or pair == keep:
                break
            del self._deltas[pair]
            used_bytes -= blob.size_bytes
            gone.append((pair, blob))
        return gone

    def _remove(self, gone: list[tuple[Pair, Blob]]) -> None:
        for pair, blob in gone:
            with storage_errors(self._folder):
                self._path(pair, blob).unlink(missing_ok=True)

    def _path(self, pair: Pair, blob: Blob) -> Path:
        return self._folder / "-".join([*pair, blob.sha256])

    def _read(self) -> dict[Pair, Blob]:
        make_folder(self._folder)
        with storage_errors(self._folder):
            shutil.rmtree(self.work, ignore_errors=True)
            for path in self._folder.glob(f".*{TEMPORARY_SUFFIX}"):
                path.unlink(missing_ok=True)
            files = [(path, path.stat()) for path in self._folder.iterdir()]
            return _known(files)


def _known(files: list[tuple[Path, os.stat_result]]) -> dict[Pair, Blob]:
    found = {}
    for path, _ in sorted(files, key=lambda one: one[1].st_mtime_ns):
        origin, _, rest = path.name.partition("-")
        goal, _, sha256 = rest.partition("-")
        if not all(map(is_sha256, (origin, goal, sha256))):
            continue
        blob = name_file(path)
        if blob is not None and blob.sha256 == sha256:
            found[origin, goal] = blob
        else:  # The disk has rotted: it is made again.
            path.unlink(missing_ok=True)
    return found
