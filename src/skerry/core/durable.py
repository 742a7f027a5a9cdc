"""The only way a file is put in place: all of it, or none, whatever happens.

A file is written under a temporary name in the folder where it will stand, flushed
to the disk, renamed over its final name, and the folder is flushed so that the rename
itself survives a power cut (POSIX `rename` is atomic; the order of write, fsync,
rename, fsync of the folder is the one that T. S. Pillai et al., "All File Systems Are
Not Created Equal", OSDI 2014, section 4, finds necessary).
"""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from skerry.core.errors import ConflictError, StorageError

TEMPORARY_SUFFIX = ".skerry-tmp"
"""Ends the name of each file that is not yet in place."""

_HINTS = {
    errno.ENOSPC: "Free some space, or choose another folder.",
    errno.EDQUOT: "Free some space, or choose another folder.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.EACCES: "You may not write there: choose another folder.",
    errno.EPERM: "You may not write there: choose another folder.",
    errno.ENOTDIR: "A part of the path is a file: choose another folder.",
    errno.EISDIR: "That is a folder: give the name of a file.",
    errno.EEXIST: "A file stands where a folder is needed: choose another folder.",
}


class Disk(Protocol):
    """The calls that put a file in place."""

    def write(self, path: Path, content: bytes) -> None:
        """Create the file with this content; not yet safe from a power cut."""
        ...

    def append(self, path: Path, content: bytes) -> None:
        """Add to a file that was created; not yet safe from a power cut."""
        ...

    def sync(self, path: Path) -> None:
        """Flush a file's content, or a folder's entries, to the disk."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename, atomically replacing what stands at the target."""
        ...

    def remove(self, path: Path) -> None:
        """Remove the file if it is there."""
        ...


class RealDisk:
    """The disk of this machine."""

    def write(self, path: Path, content: bytes) -> None:
        """Create the file with this content."""
        path.write_bytes(content)

    def append(self, path: Path, content: bytes) -> None:
        """Add to a file that was created."""
        with path.open("ab", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]

    def sync(self, path: Path) -> None:
        """Call fsync on a file or a folder."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, atomically replacing what stands at the target."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove the file if it is there."""
        path.unlink(missing_ok=True)


class PrivateDisk(RealDisk):
    """The disk of this machine, for secrets: a new file is its owner's alone."""

    def write(self, path: Path, content: bytes) -> None:
        """Create the file with this content, mode 0600 from the first moment."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)


REAL_DISK = RealDisk()
PRIVATE_DISK = PrivateDisk()


def write_file(path: Path, content: bytes, *, disk: Disk = REAL_DISK) -> None:
    """Put one file in place: after a power cut it is the old one or the new one.

    Args:
        path: Where it will stand; the folder exists.
        content: All of it.
        disk: The disk to write to.

    Raises:
        StorageError: The disk refused; what stands at `path` is whole, the old one
            unless the disk refused only to flush the folder.
    """
    write_files(path.parent, {path.name: content}, disk=disk)


def write_files(
    folder: Path,
    contents: Mapping[str, bytes | Iterable[bytes]],
    *,
    disk: Disk = REAL_DISK,
) -> None:
    """Put several files in place in one folder.

    None is renamed before all are safely written, so a full disk leaves none of
    them. A power cut between two renames leaves some new and some old files, each
    whole: put the file that refers to the others last.

    Args:
        folder: The folder; it exists.
        contents: Content by file name, in the order of renaming; what is too large for
            memory comes in pieces.
        disk: The disk to write to.

    Raises:
        StorageError: The disk refused.
    """
    staged = {
        name: folder / f".{name}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"
        for name in contents
    }
    try:
        with storage_errors(folder):
            for name, content in contents.items():
                _write(disk, staged[name], content)
                disk.sync(staged[name])
            for name, temporary in staged.items():
                disk.replace(temporary, folder / name)
            disk.sync(folder)
    except BaseException:
        for temporary in staged.values():
            _remove_quietly(disk, temporary)
        raise


def make_folder(folder: Path) -> None:
    """Create a folder and its parents if they are not there, safe from a power cut.

    Raises:
        StorageError: The disk refused, or a file stands there.
    """
    with storage_errors(folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            REAL_DISK.sync(path.parent)


@contextmanager
def hold(path: Path, *, who: str, is_waiting: bool = False) -> Iterator[None]:
    """Hold a lock file while the context is open; a process that dies lets it go.

    Args:
        path: The file, in the folder that nobody else may use meanwhile.
        who: Who uses the folder, for the error.
        is_waiting: Whether to wait for another process to let it go.

    Raises:
        ConflictError: Another process holds it, and this one does not wait.
        StorageError: The disk refused.
    """
    with storage_errors(path):
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB))
        except OSError as error:
            raise ConflictError(
                f"another {who} runs in {path.parent}",
                hint="Stop it, or choose another folder.",
            ) from error
        yield


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error of our tree."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(
            f"cannot write {path}: {reason}",
            hint=_HINTS.get(error.errno or 0, "Choose another folder."),
        ) from error


def _write(disk: Disk, path: Path, content: bytes | Iterable[bytes]) -> None:
    pieces = iter((content,) if isinstance(content, bytes) else content)
    disk.write(path, next(pieces, b""))
    for piece in pieces:
        disk.append(path, piece)


def _remove_quietly(disk: Disk, path: Path) -> None:
    try:
        disk.remove(path)
    except OSError:
        # The error under way matters more; the name says what the leftover is.
        return
