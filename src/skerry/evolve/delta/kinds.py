"""What the bytes of a segment are, and how the difference of two becomes planes.

Every kind becomes signed integers, whose order is that of the values: then a small
change is a small difference, of floats as well. Differences wrap around, and are folded
so that those around 0 are small: 0, −1, 1, −2 … become 0, 1, 2, 3 ….
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.signedinteger[Any]]
Folded = NDArray[np.unsignedinteger[Any]]


class Kind(IntEnum):
    """What the bytes of a segment are."""

    BYTES = 0
    """Anything."""
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    FLOAT16 = 5
    """IEEE 754 of 16 bits, or bfloat16."""
    FLOAT32 = 6
    FLOAT64 = 7
    INT4 = 8
    """Two a byte, the lower four bits first."""

    @property
    def width(self) -> int:
        """Bytes of one value; two of 4 bits make one."""
        return _WIDTHS[self]

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point number."""
        return self in {Kind.FLOAT16, Kind.FLOAT32, Kind.FLOAT64}


_WIDTHS = {
    Kind.BYTES: 1,
    Kind.INT8: 1,
    Kind.INT16: 2,
    Kind.INT32: 4,
    Kind.INT64: 8,
    Kind.FLOAT16: 2,
    Kind.FLOAT32: 4,
    Kind.FLOAT64: 8,
    Kind.INT4: 1,
}


def to_codes(kind: Kind, content: bytes) -> Codes:
    """Read bytes as integers in the order of their values."""
    codes = np.frombuffer(content, f"<i{kind.width}")
    if kind is Kind.INT4:
        pairs = np.stack([codes & 15, (codes >> 4) & 15], axis=1).ravel()
        return (pairs ^ 8) - np.int8(8)
    return _reorder(codes) if kind.is_float else codes


def from_codes(kind: Kind, codes: Codes) -> bytes:
    """Write integers that `to_codes` read."""
    if kind is Kind.INT4:
        pairs = (codes & 15).reshape(-1, 2)
        return (pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8).tobytes()
    plain = _reorder(codes) if kind.is_float else codes
    return plain.astype(f"<i{kind.width}", copy=False).tobytes()


def _reorder(codes: Codes) -> Codes:
    """Turn sign and magnitude into two's complement, and back."""
    bits = 8 * codes.dtype.itemsize
    most = codes.dtype.type(np.iinfo(codes.dtype).max)
    return codes ^ ((codes >> (bits - 1)) & most)


def fold(kind: Kind, codes: Codes, foreseen: Codes) -> Folded:
    """The difference of values and what was foreseen, as small numbers."""
    with np.errstate(over="ignore"):
        steps = codes - foreseen
    if kind is Kind.INT4:
        steps = ((steps & 15) ^ 8) - np.int8(8)
    bits = 8 * steps.dtype.itemsize
    return ((steps << 1) ^ (steps >> (bits - 1))).view(f"<u{steps.dtype.itemsize}")


def unfold(kind: Kind, folded: Folded, foreseen: Codes) -> Codes:
    """The values whose difference was folded."""
    one = folded.dtype.type(1)
    steps = ((folded >> one) ^ -(folded & one)).view(foreseen.dtype)
    with np.errstate(over="ignore"):
        codes = foreseen + steps
    return ((codes & 15) ^ 8) - np.int8(8) if kind is Kind.INT4 else codes


def planes_of(folded: Folded) -> list[NDArray[np.uint8]]:
    """The bytes of each value, the highest plane first."""
    width = folded.dtype.itemsize
    rows = folded.view(np.uint8).reshape(-1, width)
    return [np.ascontiguousarray(rows[:, place]) for place in range(width - 1, -1, -1)]


def join_planes(planes: list[NDArray[np.uint8]]) -> Folded:
    """The values whose planes these are."""
    if len(planes) == 1:
        return planes[0]
    joined = np.stack(planes[::-1], axis=1)
    return joined.view(f"<u{len(planes)}").ravel()
