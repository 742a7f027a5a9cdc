"""What a gateway downloads: partial files, and the room that they and the slots take.

```
FOLDER/downloads/NAME/SHA256.part
```

Where room is short, what is only cached goes first: downloads that their own release
name does not want any more, then those of other names, the oldest first, then what lies
in slots and belongs to no release there. A slot in use is never touched.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from skerry.comms.download import Origin
from skerry.core.documents import Json
from skerry.core.durable import make_folder, storage_errors
from skerry.core.errors import StorageError
from skerry.core.release import Blob, ReleaseId
from skerry.edge.installed import Installed
from skerry.edge.slots import Slots

SPARE_BYTES = 1 << 20
"""What an update leaves free on the disk, for the outbox and the record."""

_SUFFIX = ".part"


class Serves(Protocol):
    """As much of the engine as must be known to leave its files alone."""

    def active(self, name: str) -> Installed | None:
        """What serves."""
        ...


class Downloads:
    """The downloads of all release names.

    Args:
        folder: The gateway's folder.
        slots: What is on the disk.
        engine: What serves.
        free_bytes: How much the file system of a folder can still take; None asks it.
        quota_bytes: Most bytes that downloads and slots may take, or None.
    """

    def __init__(
        self,
        folder: Path,
        slots: Slots,
        engine: Serves,
        *,
        free_bytes: Callable[[Path], int] | None = None,
        quota_bytes: int | None = None,
    ) -> None:
        self._received_bytes: Counter[Origin] = Counter()
        self._folder = folder
        self._slots = slots
        self._engine = engine
        self._free_bytes = free_bytes or free_bytes_of
        self._quota_bytes = quota_bytes
        self._wanted: dict[str, frozenset[str]] = {}

    def of(self, name: str) -> NameDownloads:
        """The downloads of one release name."""
        return NameDownloads(self, name)

    def count(self, origin: Origin, n_bytes: int) -> None:
        """Count bytes that came."""
        self._received_bytes[origin] += n_bytes

    def received_bytes(self) -> dict[str, Json]:
        """How many bytes came since the start, from the hub and from peers."""
        return dict(self._received_bytes.items())

    def folder(self, name: str) -> Path:
        """Where those of a name lie.

        Two names may download the same blob at the same time.
        """
        return self._folder / "downloads" / name

    def want(self, name: str, blobs: Sequence[Blob]) -> None:
        """Keep these of a name, whatever room others need; its others are removed."""
        self._wanted[name] = frozenset(blob.sha256 for blob in blobs)
        _remove(self._unwanted(self.folder(name)))

    def forget(self, name: str) -> None:
        """Want nothing of a name any more."""
        self._wanted.pop(name, None)
        _remove(self._unwanted(self.folder(name)))

    def make_room(self, needed_bytes: int, release: ReleaseId) -> None:
        """See that there is room, and remove what is only cached where there is none.

        Raises:
            StorageError: There is not enough all the same.
        """
        if self._room_bytes() >= needed_bytes:
            return
        others = [
            path
            for folder in (self._folder / "downloads").iterdir()
            for path in self._unwanted(folder)
        ]
        for path in sorted(others, key=_changed_at_s):
            _remove([path])
            if self._room_bytes() >= needed_bytes:
                return
        self._slots.sweep(self._wanted, self._served_files())
        room_bytes = self._room_bytes()
        if room_bytes < needed_bytes:
            is_quota = room_bytes < self._free_bytes(self._folder)
            raise StorageError(
                f"{release} needs {needed_bytes} bytes free in {self._folder}, "
                f"{room_bytes} are{' within its quota' if is_quota else ''}",
                hint="Raise the quota (--disk-quota-mb)."
                if is_quota
                else "Free some space on the gateway.",
            )

    def _served_files(self) -> set[Path]:
        serving = (self._engine.active(name) for name in self._slots.names())
        return {path for one in serving if one for path in one.files.values()}

    def _unwanted(self, folder: Path) -> Iterator[Path]:
        wanted = self._wanted.get(folder.name, frozenset())
        return (path for path in folder.glob(f"*{_SUFFIX}") if path.stem not in wanted)

    def _room_bytes(self) -> int:
        free = self._free_bytes(self._folder)
        if self._quota_bytes is None:
            return free
        used = sum(
            size_of(path)
            for folder in ("downloads", "slots")
            for path in (self._folder / folder).rglob("*")
        )
        return min(free, self._quota_bytes - used)


class NameDownloads:
    """The downloads of one release name; all but `part` block.

    Args:
        downloads: Those of all names.
        name: The release's name.
    """

    def __init__(self, downloads: Downloads, name: str) -> None:
        self._all = downloads
        self._name = name

    def part(self, blob: Blob) -> Path:
        """Where what has come of a blob lies."""
        return self._all.folder(self._name) / f"{blob.sha256}{_SUFFIX}"

    def part_to_write(self, blob: Blob) -> Path:
        """The same, in a folder that is there.

        Raises:
            StorageError: The disk refused.
        """
        make_folder(self._all.folder(self._name))
        return self.part(blob)

    def make_room(
        self, blobs: Sequence[Blob], *, placed_bytes: int, release: ReleaseId
    ) -> None:
        """See that there is room for these blobs and for the slot made of them.

        Args:
            blobs: What is to be downloaded; other downloads of this name are removed.
            placed_bytes: How many bytes go into the slot: for a while they lie there
                and among the downloads.
            release: What for.

        Raises:
            StorageError: There is not enough, or the disk refused.
        """
        make_folder(self._all.folder(self._name))
        self._all.want(self._name, blobs)
        missing_bytes = sum(
            blob.size_bytes - min(size_of(self.part(blob)), blob.size_bytes)
            for blob in blobs
        )
        self._all.make_room(missing_bytes + placed_bytes + SPARE_BYTES, release)

    def clear(self) -> None:
        """Remove all of them: they lie in a slot now.

        Raises:
            StorageError: The disk refused.
        """
        self._all.forget(self._name)


def size_of(path: Path) -> int:
    """The size of a file in bytes; 0 where there is none."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def free_bytes_of(folder: Path) -> int:
    """How much the file system of a folder can still take, in bytes."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    figures = os.statvfs(there)
    return figures.f_bavail * figures.f_frsize


def _changed_at_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(paths: Iterator[Path] | Sequence[Path]) -> None:
    for path in list(paths):
        with storage_errors(path):
            path.unlink(missing_ok=True)
