"""The files of a gateway's folder, in the clear or sealed: the seam between the two.

Whoever keeps a secret or a model there reads and writes it through a `Vault`, and does
not know which kind it is: this one, or `skerry.edge.sealed_vault`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from skerry.core.durable import REAL_DISK, Disk, write_files
from skerry.core.errors import DataError, RuntimeFailure, TrustError
from skerry.core.files import name_pieces, read_open
from skerry.core.model import Model
from skerry.core.profile import Profile
from skerry.core.release import Blob
from skerry.core.seams import LoadOptions, Runtime, Session, Tensors

if TYPE_CHECKING:
    from skerry.comms.outbox import Cipher

Level = Literal["none", "file", "credential"]
"""Where the key comes from: there is none, from a file, from systemd's credentials."""

DOWNLOADS = "downloads"
"""The folder, in the gateway's, of files that grow."""

SEAL_FILE = "seal.json"
"""The file that says that a folder is sealed."""

SEALED_MAGIC = b"skerry.atrest/1"
"""So a sealed file begins, whatever its key."""


class Vault:
    """The files of a folder as they are.

    Attributes:
        level: Where the key comes from.
        cipher: Seals what waits in the outbox, or None.
    """

    level: Level = "none"
    cipher: Cipher | None = None

    def read(self, path: Path) -> bytes:
        """The content of a file.

        Raises:
            OSError: It cannot be read.
            DataError: It is not what was sealed there.
            TrustError: It is sealed, and there is no key.
        """
        content = path.read_bytes()
        if content.startswith(SEALED_MAGIC):
            raise no_key(path)
        return content

    def write_files(
        self,
        folder: Path,
        contents: Mapping[str, bytes | Iterable[bytes]],
        *,
        disk: Disk = REAL_DISK,
    ) -> None:
        """Put files in place, as `skerry.core.durable.write_files` does.

        Raises:
            StorageError: The disk refused.
        """
        write_files(folder, contents, disk=disk)

    def write_file(self, path: Path, content: bytes, *, disk: Disk = REAL_DISK) -> None:
        """Put one file in place.

        Raises:
            StorageError: The disk refused.
        """
        self.write_files(path.parent, {path.name: content}, disk=disk)

    def open(self, path: Path) -> io.RawIOBase:
        """Open a file for reading, from any place on.

        Raises:
            OSError: It cannot be read.
            DataError: It is not what was sealed there; reading may find so later, too.
        """
        return path.open("rb", buffering=0)

    def open_growing(self, path: Path) -> io.RawIOBase:
        """Open a download for reading and writing; it is made where it is not there.

        Raises:
            OSError: The disk refused.
        """
        return open_to_write(path)

    def pieces(self, path: Path) -> Iterator[bytes]:
        """The content of a file, a piece at a time.

        Raises:
            OSError: It cannot be read.
            DataError: It is not what was sealed there.
        """
        with self.open(path) as file:
            yield from read_open(file)

    def size_bytes(self, path: Path) -> int:
        """The size of a file's content.

        Raises:
            OSError: There is none.
        """
        return path.stat().st_size

    def holds(self, path: Path, blob: Blob) -> bool:
        """Whether a file is a blob; it is hashed only where its size is right."""
        try:
            is_long_enough = self.size_bytes(path) == blob.size_bytes
            return is_long_enough and name_pieces(self.pieces(path)) == blob
        except (OSError, DataError):
            return False

    def lend(self, path: Path) -> AbstractContextManager[Path]:
        """Give another program something to open.

        Raises:
            OSError: It cannot be read.
            DataError: It is not what was sealed there.
        """
        return contextlib.nullcontext(path)


CLEAR = Vault()
"""What keeps nothing secret."""


Lend = Callable[[Model, LoadOptions], AbstractContextManager[tuple[Model, LoadOptions]]]
"""Has the files of a model at hand for as long as the context is open."""


def as_they_are(
    model: Model, options: LoadOptions
) -> AbstractContextManager[tuple[Model, LoadOptions]]:
    """Lend files that nobody keeps."""
    return contextlib.nullcontext((model, options))


def lending(vault: Vault) -> Lend:
    """Lend models out of a vault, each time it is loaded: an edited one never is.

    The context raises `RuntimeFailure` for one that is not what was installed.
    """

    @contextmanager
    def lend(model: Model, options: LoadOptions) -> Iterator[tuple[Model, LoadOptions]]:
        with ExitStack() as lent:
            try:
                path = lent.enter_context(vault.lend(model.path))
                libraries = tuple(
                    lent.enter_context(vault.lend(each)) for each in options.libraries
                )
                found = name_pieces(CLEAR.pieces(path))
            except (OSError, DataError) as error:
                raise _edited(model, str(error)) from error
            if found.sha256 != model.sha256:
                raise _edited(model, f"it is {found.sha256[:12]}")
            yield replace(model, path=path), replace(options, libraries=libraries)

    return lend


class LendingRuntime:
    """A runtime that loads what is lent to it.

    Args:
        runtime: What loads.
        lend: Has the files at hand.
    """

    def __init__(self, runtime: Runtime, lend: Lend) -> None:
        self.name = runtime.name
        self.version = runtime.version
        self._runtime = runtime
        self._lend = lend

    def load(self, model: Model, options: LoadOptions) -> Session:
        """Load a model.

        Raises:
            RuntimeFailure: It is not what was installed, or the runtime cannot.
        """
        with self._lend(model, options) as (lent, completed):
            return self._runtime.load(lent, completed)

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Measure each operator of a model."""
        with self._lend(model, options) as (lent, completed):
            return self._runtime.profile(lent, inputs, completed, repeats=repeats)


def no_key(path: Path) -> TrustError:
    """What is wrong where a sealed file is met without a key."""
    return TrustError(
        f"{path} is sealed, and the key is not here",
        hint="Give the key that it was sealed with (--seal-key FILE, or systemd's "
        "credential skerry-key). A copied disk is of no use without it.",
    )


def _edited(model: Model, why: str) -> RuntimeFailure:
    return RuntimeFailure(
        f"{model.path.name} is not what was installed: {why}",
        hint="The disk has spoilt it, or somebody has edited it.",
    )


def open_to_write(path: Path) -> io.FileIO:
    """Open a file for reading and writing; it is made where it is not there.

    Raises:
        OSError: The disk refused.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    return io.FileIO(descriptor, "r+")
