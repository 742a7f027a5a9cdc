"""The files of a gateway's folder under a key.

What other programs have to open, a model or a library, is lent to them as a copy in
memory that no disk ever sees (`memfd_create`), which nobody can change and which is
gone with the gateway.
"""

from __future__ import annotations

import fcntl
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from skerry.core.durable import REAL_DISK, Disk, write_files
from skerry.edge.sealing import SealedFile, seal_pieces, unsealed_bytes
from skerry.edge.vault import DOWNLOADS, Level, Vault, open_to_write
from skerry.evolve.trust.at_rest import DeviceKey, TextCipher

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - it holds links, and no content
_FIXED = (
    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
)


class SealedVault(Vault):
    """The files of a folder under a key.

    Args:
        folder: The gateway's: a file is bound to its place in it.
        key: The device's.
        level: Where the key comes from.
    """

    def __init__(self, folder: Path, key: DeviceKey, *, level: Level) -> None:
        self.level = level
        self.cipher = TextCipher(key, "outbox")
        self._folder = folder
        self._key = key

    def read(self, path: Path) -> bytes:
        """Decrypt a file."""
        return b"".join(self.pieces(path))

    def write_files(
        self,
        folder: Path,
        contents: Mapping[str, bytes | Iterable[bytes]],
        *,
        disk: Disk = REAL_DISK,
    ) -> None:
        """Encrypt files on their way to the disk."""
        sealed = {
            name: seal_pieces(
                self._key,
                self._place(folder / name),
                (content,) if isinstance(content, bytes) else content,
            )
            for name, content in contents.items()
        }
        write_files(folder, sealed, disk=disk)

    def open(self, path: Path) -> io.RawIOBase:
        """Open a file, which is decrypted as it is read."""
        return self._open(path, path.open("rb", buffering=0), is_writable=False)

    def open_growing(self, path: Path) -> io.RawIOBase:
        """Open a download, which is encrypted as it is written."""
        return self._open(path, open_to_write(path), is_writable=True)

    def size_bytes(self, path: Path) -> int:
        """The size of what a file holds."""
        return unsealed_bytes(path.stat().st_size)

    @contextmanager
    def lend(self, path: Path) -> Iterator[Path]:
        """Give a copy in memory, under the same name, which nobody can change."""
        with ExitStack() as lent:
            copy = os.memfd_create(path.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            lent.callback(os.close, copy)
            for piece in self.pieces(path):
                _write_all(copy, piece)
            fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _FIXED)
            # Whoever opens it says its name when that fails: a number says nothing.
            place = str(_IN_MEMORY) if os.access(_IN_MEMORY, os.W_OK) else None
            folder = tempfile.TemporaryDirectory(prefix="skerry-lent-", dir=place)
            link = Path(lent.enter_context(folder)) / path.name
            link.symlink_to(f"/proc/{os.getpid()}/fd/{copy}")
            yield link

    def _open(self, path: Path, raw: io.FileIO, *, is_writable: bool) -> SealedFile:
        place = self._place(path)
        try:
            return SealedFile(
                raw,
                self._key,
                place,
                is_growing=place.startswith(f"{DOWNLOADS}/"),
                is_writable=is_writable,
            )
        except BaseException:
            raw.close()
            raise

    def _place(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
