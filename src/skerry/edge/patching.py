"""Apply a delta from file to file, a piece at a time.

The new blob grows under the name of a download: what a power cut leaves of it is not of
its length or not of its hash, and is made again from the beginning.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from pathlib import Path

from skerry.core.durable import storage_errors
from skerry.core.errors import DataError
from skerry.core.release import Blob
from skerry.edge.vault import Vault
from skerry.evolve.delta import Read, rebuild


def patch_file(vault: Vault, old: Path, delta: Path, new: Path, wanted: Blob) -> None:
    """Make a file of an old one and a delta; neither is ever whole in memory.

    Args:
        vault: Keeps the files.
        old: What the delta starts from; it is only read.
        delta: What `evolve.delta.diff` wrote.
        new: Where the new one is put; what is there is replaced.
        wanted: What it must be.

    Raises:
        DataError: The delta is damaged, or gives something else.
        StorageError: The disk refused.
    """
    try:
        _write(vault, old, delta, new, wanted)
    except DataError:
        # A download must not go on behind what is no part of it.
        with storage_errors(new):
            new.unlink(missing_ok=True)
        raise


def _write(vault: Vault, old: Path, delta: Path, new: Path, wanted: Blob) -> None:
    digest = hashlib.sha256()
    # What reads wrong is the disk's fault as much as what cannot be written.
    with storage_errors(new), ExitStack() as files:
        reads = [
            _reads_of(files.enter_context(io.BufferedReader(vault.open(one))))
            for one in (old, delta)
        ]
        pieces = rebuild(*reads, largest_bytes=wanted.size_bytes)
        with io.BufferedWriter(vault.open_growing(new)) as file:
            file.truncate(0)
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
    if digest.hexdigest() != wanted.sha256:
        raise DataError(
            f"the delta gives {digest.hexdigest()}, not {wanted.sha256}",
            hint="Publish the release again.",
        )


def _reads_of(file: io.BufferedReader) -> Read:
    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    return read
