"""Read files: one from outside whole and bounded, a large one a piece at a time."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from skerry.core.errors import DataError, UsageError
from skerry.core.release import Blob

PIECE_BYTES = 1 << 18
"""Bytes of a large file that are in memory at a time."""

LARGEST_FILE_BYTES = 1 << 28
"""More than any part of a release but its model has."""


def read_file(
    path: Path,
    *,
    largest_bytes: int = LARGEST_FILE_BYTES,
    error: type[UsageError | DataError] = UsageError,
) -> bytes:
    """Read a file, unless it is too large to be what it is meant to be.

    Args:
        path: The file.
        largest_bytes: Most bytes that it may have.
        error: What is raised.

    Raises:
        UsageError, or what `error` says: It cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest_bytes + 1)
    except OSError as problem:
        raise error(
            f"cannot read {path}: {problem.strerror or problem}",
            hint="Check the path and its permissions.",
        ) from problem
    if len(content) > largest_bytes:
        raise error(
            f"{path} has more than {largest_bytes} bytes, the most expected",
            hint="Is this the right file?",
        )
    return content


def read_pieces(path: Path) -> Iterator[bytes]:
    """The content of a file, a piece at a time.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        yield from read_open(file)


def read_open(file: io.BufferedReader | io.RawIOBase) -> Iterator[bytes]:
    """The rest of an open file, a piece at a time.

    Raises:
        OSError: It cannot be read.
    """
    while piece := file.read(PIECE_BYTES):
        yield piece


def name_file(path: Path) -> Blob | None:
    """The hash and the size of a file, a piece at a time; None if it is not there."""
    try:
        return name_pieces(read_pieces(path))
    except OSError:
        return None


def name_pieces(pieces: Iterable[bytes]) -> Blob:
    """The hash and the size of a content."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size_bytes += len(piece)
    return Blob(sha256=digest.hexdigest(), size_bytes=size_bytes)
