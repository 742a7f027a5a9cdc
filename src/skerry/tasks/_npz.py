"""Read `.npz` files from outside: row by row, bounded, and without pickles.

An `.npz` is a zip of `.npy` members (numpy's NEP 1). A member's header must agree with
the size that the zip states, and bytes are read only as rows are asked for, so a file
that promises more than it holds, or unpacks to more than memory, does no harm.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from skerry.core.errors import DataError
from skerry.core.seams import Array

LARGEST_ROW_BYTES = 1 << 28
"""Most bytes of one row; a sample is a row of each array."""

LARGEST_ROWS = 1 << 26
"""Most rows of one array."""

_LARGEST_HEADER_BYTES = 1 << 16
_KINDS = frozenset("biufU")
_HEADER_READERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One array of an `.npz` file, as its header states it.

    Attributes:
        name: The array's name.
        dtype: Its dtype.
        shape: Its shape; at least one axis, that of the rows.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """The size of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


@contextmanager
def open_npz(file: Path | bytes, *, name: str) -> Iterator[zipfile.ZipFile]:
    """Open the zip; whatever is wrong with it, here or later, is a DataError.

    Args:
        file: Its path or its content.
        name: Whose file it is, for messages.
    """
    try:
        stream = io.BytesIO(file) if isinstance(file, bytes) else file
        with zipfile.ZipFile(stream) as archive:
            yield archive
    except OSError as error:
        raise DataError(
            f"cannot read {name}: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,  # a member ends early
        NotImplementedError,  # a compression that this Python lacks
        OverflowError,
        RuntimeError,  # an encrypted member
        ValueError,
    ) as error:
        raise DataError(
            f"{name} is not a whole .npz file: {error or type(error).__name__}",
            hint="Write it with numpy.savez or numpy.savez_compressed.",
        ) from error


def read_members(archive: zipfile.ZipFile, *, name: str) -> dict[str, Member]:
    """Read the header of each array; no array is read.

    Raises:
        DataError: A member is not an array of numbers or text in rows, or its header
            and its size disagree.
    """
    members = {}
    for entry in archive.infolist():
        if not entry.filename.endswith(".npy"):
            raise DataError(
                f"{name} holds {entry.filename!r}, expected arrays only",
                hint="Write it with numpy.savez or numpy.savez_compressed.",
            )
        with archive.open(entry) as stream:
            member = _read_header(stream, entry.filename.removesuffix(".npy"), name)
            size_bytes = stream.tell() + member.shape[0] * member.row_bytes
        if entry.file_size != size_bytes:
            raise DataError(
                f"{name}: array {member.name!r} has {entry.file_size} bytes, its "
                f"header says {size_bytes}",
                hint="The file is damaged: write it again.",
            )
        members[member.name] = member
    return members


def read_rows(archive: zipfile.ZipFile, member: Member) -> Generator[Array, None, None]:
    """Read an array row by row; one row is in memory at a time.

    Yields:
        The next row, shape `member.shape[1:]`, in the machine's byte order.
    """
    with archive.open(f"{member.name}.npy") as stream:
        _read_header(stream, member.name, str(archive.filename))
        for _ in range(member.shape[0]):
            content = stream.read(member.row_bytes)
            if len(content) < member.row_bytes:
                raise EOFError(f"array {member.name!r} ends early")
            row = np.frombuffer(content, dtype=member.dtype)
            native = row.astype(member.dtype.newbyteorder("="))
            yield native.reshape(member.shape[1:])


def _read_header(stream: IO[bytes], array: str, name: str) -> Member:
    try:
        # numpy would first unpack as much of a header as it says it has: up to 4 GiB.
        head = io.BytesIO(stream.read(_LARGEST_HEADER_BYTES))
        reader = _HEADER_READERS[npy.read_magic(head)]
        shape, is_fortran, dtype = reader(head)
        stream.seek(head.tell())
    # numpy evaluates the header as a Python literal and warns of old files; the rest
    # is what its parser raises on text that is none.
    except (
        KeyError,  # a version that only structures need
        ValueError,
        TypeError,
        MemoryError,
        RecursionError,
        SyntaxError,
        UserWarning,
        tokenize.TokenError,
    ) as error:
        raise DataError(
            f"{name}: {array!r} is not an array: {error or type(error).__name__}",
            hint="Write it with numpy.savez or numpy.savez_compressed.",
        ) from error
    if dtype.kind not in _KINDS or dtype.names or dtype.subdtype:
        raise DataError(
            f"{name}: array {array!r} is of dtype {dtype}, expected numbers or text",
            hint="Pickled objects and structures are not read: convert the array.",
        )
    member = Member(name=array, dtype=dtype, shape=shape)
    if not shape or min(shape) < 0 or shape[0] > LARGEST_ROWS:
        raise DataError(
            f"{name}: array {array!r} has shape {shape}, expected "
            f"up to {LARGEST_ROWS} rows",
            hint="The first axis is that of the samples.",
        )
    if is_fortran and len(shape) > 1:
        raise DataError(
            f"{name}: array {array!r} is stored column by column",
            hint="Store numpy.ascontiguousarray(array).",
        )
    if member.row_bytes > LARGEST_ROW_BYTES:
        raise DataError(
            f"{name}: a row of array {array!r} has {member.row_bytes} bytes, expected "
            f"at most {LARGEST_ROW_BYTES}",
            hint="The first axis is that of the samples.",
        )
    return member
