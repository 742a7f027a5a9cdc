"""Tensors as bytes, in the datatypes of the Open Inference Protocol, version 2.

Little-endian and in row order. A string (`BYTES`) is its length in four bytes and then
UTF-8 ("Tensor Data Types" and "Binary Tensor Data Extension" in Triton's protocol
documentation); in numpy such a tensor is an array of `str` objects. `BF16` needs the
package ml_dtypes, for numpy has no such type of its own.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from skerry.core.errors import DataError, StateError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
    "object": "BYTES",
}
"""The protocol's name of each dtype that is carried."""

SHOWN = 80
"""Most characters that an error shows of what a client wrote."""

_LENGTH = struct.Struct("<I")

if sys.byteorder != "little":  # pragma: no cover
    raise StateError(
        "tensors are carried little-endian, this machine is not",
        hint="Run the gateway on a little-endian machine.",
    )


@lru_cache(maxsize=64)  # numpy makes a dtype's name anew each time
def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a dtype that is carried."""
    return DATATYPES[dtype.name]


def describe(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Describe inputs or outputs in the protocol's words; -1 is a size left open."""
    return [
        {
            "name": spec.name,
            "datatype": DATATYPES.get(spec.dtype, spec.dtype),
            "shape": sizes_of(spec),
        }
        for spec in specs
    ]


def sizes_of(spec: TensorSpec) -> list[int]:
    """The shape of an input or output, -1 for a size left open."""
    return [size if isinstance(size, int) else -1 for size in spec.shape]


def check_fit(datatype: str, shape: Sequence[int], spec: TensorSpec) -> np.dtype[Any]:
    """Compare what a client says of an input with the signature.

    Returns:
        The dtype of its array.

    Raises:
        DataError: It is of another datatype or shape, or of none that is carried.
    """
    expected = DATATYPES.get(spec.dtype)
    if expected is None or datatype != expected:
        raise DataError(
            f"input {spec.name!r} is {datatype[:SHOWN]}, expected "
            f"{expected or spec.dtype}",
            hint=f"Carried are {', '.join(DATATYPES.values())}.",
        )
    # Nothing times a million is no bytes in, and may be gigabytes out.
    if not spec.accepts(tuple(shape)) or 0 in shape:
        raise DataError(
            f"input {spec.name!r} has shape {list(shape)}, expected {spec}",
            hint="Check the layout, and that the batch axis is there.",
        )
    return np.dtype(spec.dtype) if spec.dtype != "bfloat16" else _bfloat16()


def read_tensor(
    piece: memoryview, dtype: np.dtype[Any], shape: Sequence[int], *, name: str
) -> Array:
    """Read a tensor; it is a view of the bytes where these lie as numpy wants them.

    Args:
        piece: All of its bytes.
        dtype: What they are.
        shape: Its sizes, as checked against the signature.
        name: That of the input, for the message.

    Raises:
        DataError: There are more or fewer bytes than the shape says.
    """
    if dtype == np.object_:
        return unpack_strings(piece, shape, name=name)
    expected = math.prod(shape) * dtype.itemsize
    if len(piece) != expected:
        raise DataError(
            f"input {name!r} has {len(piece)} bytes, expected {expected} for "
            f"{datatype_of(dtype)}{list(shape)}",
            hint="The tensors' bytes follow each other in the order of the inputs.",
        )
    if dtype == np.bool_:  # any other byte than 0 is true, but 1 is how numpy says it
        truth: Array = np.frombuffer(piece, np.uint8) != 0
        return truth.reshape(shape)
    array: Array = np.frombuffer(piece, dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def write_tensor(array: Array) -> memoryview:
    """Write a tensor; what is written is a view of the array but for strings."""
    if array.dtype == np.object_:
        return memoryview(pack_strings(array.reshape(-1)))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def pack_strings(values: Iterable[object]) -> bytes:
    """Write strings, each after its length."""
    pieces: list[bytes] = []
    for value in values:
        text = value if isinstance(value, bytes) else str(value).encode()
        pieces += (_LENGTH.pack(len(text)), text)
    return b"".join(pieces)


def unpack_strings(piece: memoryview, shape: Sequence[int], *, name: str) -> Array:
    """Read strings, each after its length.

    Raises:
        DataError: They are not as many as the shape says, are cut off, or no UTF-8.
    """
    texts: list[str] = []
    start, expected = 0, math.prod(shape)
    try:
        while start < len(piece) and len(texts) <= expected:
            (length,) = _LENGTH.unpack_from(piece, start)
            start += _LENGTH.size + length
            if start > len(piece):
                break
            texts.append(str(piece[start - length : start], "utf-8"))
    except (struct.error, UnicodeDecodeError) as error:
        raise DataError(
            f"input {name!r} has strings that cannot be read: {error}",
            hint="Each is its length in four bytes, then UTF-8.",
        ) from error
    if start != len(piece) or len(texts) != expected:
        raise DataError(
            f"input {name!r} has not the {expected} strings of BYTES{list(shape)}",
            hint="Each is its length in four bytes, little-endian, then UTF-8.",
        )
    array: Array = np.array(texts, np.object_).reshape(shape)
    return array


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError as error:
        raise DataError(
            "BF16 is not carried here: the Python package ml_dtypes is not installed",
            hint="pip install ml_dtypes, beside Skerry.",
        ) from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype
