"""Clips on the disk, by what they hold; the oldest go when there are too many."""

from __future__ import annotations

import contextlib
from pathlib import Path

from skerry.core.durable import make_folder
from skerry.core.errors import DataError
from skerry.core.release import is_sha256
from skerry.edge.streams.leaving import Clip
from skerry.edge.vault import CLEAR, Vault

SUFFIX = ".mp4"


class ClipFolder:
    """A folder of clips; its methods block, and any thread may call them.

    Args:
        folder: Where; it is made if need be.
        limit_bytes: Most bytes of clips.
        vault: Writes and reads them.

    Raises:
        StorageError: The disk refused.
    """

    def __init__(
        self, folder: Path, *, limit_bytes: int = 1 << 28, vault: Vault = CLEAR
    ) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._vault = vault
        make_folder(folder)

    def put(self, clip: Clip) -> Path:
        """Keep a clip, and let go of the oldest where there are too many bytes.

        Raises:
            StorageError: The disk refused.
        """
        path = self._folder / f"{clip.sha256}{SUFFIX}"
        self._vault.write_file(path, clip.content)
        found = []
        for one in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # let go of just now
                stat = one.stat()
                found.append((stat.st_mtime_ns, stat.st_size, one))
        total = sum(size for _, size, _ in found)
        for _, size, one in sorted(found):
            if total <= self._limit_bytes or one == path:
                break
            one.unlink(missing_ok=True)
            total -= size
        return path

    def find(self, sha256: str) -> bytes | None:
        """The clip of this name, or None where there is none, or none any more."""
        if not is_sha256(sha256):
            return None
        try:
            return self._vault.read(self._folder / f"{sha256}{SUFFIX}")
        except (OSError, DataError):
            return None
