"""A disk in memory that loses power, or refuses, at a chosen call.

What may be left after a power cut follows what POSIX promises, not what one file
system happens to do (T. S. Pillai et al., "All File Systems Are Not Created Equal",
OSDI 2014, section 3):

- content that was not synced may be there in full, in part, as zeros, or not at all;
- a new name, a rename or a removal may or may not have happened until its folder is
  synced, each independently of the others; a rename is atomic in itself.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


class PowerCut(BaseException):
    """The simulated machine lost its power; every later call raises it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A change of a folder: `gone` stops to be a name, `name` begins to be one."""

    file: int
    name: Path | None
    gone: Path | None


class SimulatedDisk:
    r"""A `skerry.core.durable.Disk` in memory.

    Calls are counted from 0; each method of the Protocol is one call.

    Args:
        files: What lies on the disk, safely, at the start.
        cut_at: The call during which the power is cut, or None.
        refuse_at: The call that is refused with `refusal`, or None; a refused write
            leaves half the content behind, as a full disk does.
        refusal: The errno of the refusal.

    Example:
        >>> disk = SimulatedDisk({Path("a"): b"old"})
        >>> disk.write(Path("a"), b"new!")
        >>> sorted(files[Path("a")] for files in disk.after_power_cut())
        [b'', b'\x00\x00\x00\x00', b'ne', b'new!', b'old']
    """

    def __init__(
        self,
        files: Mapping[Path, bytes] | None = None,
        *,
        cut_at: int | None = None,
        refuse_at: int | None = None,
        refusal: int = errno.ENOSPC,
    ) -> None:
        self.calls = 0
        self._cut_at = cut_at
        self._refuse_at = refuse_at
        self._refusal = refusal
        contents = list((files or {}).items())
        self._content = dict(enumerate(content for _, content in contents))
        self._safe_content: dict[int, bytes] = dict(self._content)
        self._unsafe_files: set[int] = set()
        self._names = {path: number for number, (path, _) in enumerate(contents)}
        self._safe_names = dict(self._names)
        self._unsafe_entries: list[_Entry] = []

    def write(self, path: Path, content: bytes) -> None:
        """Create the file with this content, or overwrite it in place."""
        refused = self._is_refused()
        file = self._names.get(path)
        if file is None:
            file = len(self._content)
            self._safe_content[file] = b""
            self._enter(_Entry(file=file, name=path, gone=None))
        self._content[file] = content[: len(content) // 2] if refused else content
        self._unsafe_files.add(file)
        self._end_call(refused=refused)

    def append(self, path: Path, content: bytes) -> None:
        """Add to a file that was created."""
        refused = self._is_refused()
        file = self._names[path]
        self._content[file] += content[: len(content) // 2] if refused else content
        self._unsafe_files.add(file)
        self._end_call(refused=refused)

    def sync(self, path: Path) -> None:
        """Make a file's content, or a folder's entries, safe."""
        refused = self._is_refused()
        if not refused and self.calls != self._cut_at:
            if path in self._names:
                file = self._names[path]
                self._safe_content[file] = self._content[file]
                self._unsafe_files.discard(file)
            else:
                self._sync_folder(path)
        self._end_call(refused=refused)

    def replace(self, source: Path, target: Path) -> None:
        """Rename, atomically replacing what stands at the target."""
        refused = self._is_refused()
        if not refused:
            file = self._names[source]
            self._enter(_Entry(file=file, name=target, gone=source))
        self._end_call(refused=refused)

    def remove(self, path: Path) -> None:
        """Remove the file if it is there."""
        refused = self._is_refused()
        if not refused and path in self._names:
            self._enter(_Entry(file=self._names[path], name=None, gone=path))
        self._end_call(refused=refused)

    @property
    def files(self) -> dict[Path, bytes]:
        """What a program sees while there is power."""
        return {path: self._content[file] for path, file in self._names.items()}

    def after_power_cut(self) -> Iterator[dict[Path, bytes]]:
        """List everything that the disk may hold if the power is cut now.

        Yields:
            Content by path, each possible state at least once.
        """
        unsafe = self._unsafe_entries
        for chosen in itertools.product((False, True), repeat=len(unsafe)):
            names = dict(self._safe_names)
            for entry in itertools.compress(unsafe, chosen):
                _apply(entry, names)
            files = sorted(set(names.values()))
            for contents in itertools.product(*map(self._may_hold, files)):
                held = dict(zip(files, contents, strict=True))
                yield {path: held[file] for path, file in names.items()}

    def _may_hold(self, file: int) -> list[bytes]:
        content, safe = self._content[file], self._safe_content[file]
        if file not in self._unsafe_files:
            return [content]
        half, zeros = content[: len(content) // 2], bytes(len(content))
        return list({content, half, zeros, b"", safe})

    def _sync_folder(self, folder: Path) -> None:
        waiting = []
        for entry in self._unsafe_entries:
            changed = [path for path in (entry.name, entry.gone) if path is not None]
            if folder in {path.parent for path in changed}:
                _apply(entry, self._safe_names)
            else:
                waiting.append(entry)
        self._unsafe_entries = waiting

    def _enter(self, entry: _Entry) -> None:
        _apply(entry, self._names)
        self._unsafe_entries.append(entry)

    def _is_refused(self) -> bool:
        if self._cut_at is not None and self.calls > self._cut_at:
            raise PowerCut
        return self.calls == self._refuse_at

    def _end_call(self, *, refused: bool) -> None:
        call, self.calls = self.calls, self.calls + 1
        if call == self._cut_at:
            raise PowerCut
        if refused:
            raise OSError(self._refusal, os.strerror(self._refusal))


def _apply(entry: _Entry, names: dict[Path, int]) -> None:
    if entry.gone is not None:
        names.pop(entry.gone, None)
    if entry.name is not None:
        names[entry.name] = entry.file
