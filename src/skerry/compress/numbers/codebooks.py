"""Non-uniform quantization: each number as the index of one of a few others.

Two kinds of codebook: k-means, which puts its entries where the numbers are (S. Han et
al., "Deep Compression", arXiv:1510.00149, section 3), and powers of two, by which
hardware multiplies with a shift (A. Zhou et al., "Incremental Network Quantization",
arXiv:1702.03044, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from skerry.compress.numbers.arrays import along_axis, as_floats, by_channel, check_axis
from skerry.compress.numbers.schemes import BYTE_BITS, PACKED_BITS
from skerry.core.errors import DataError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.seams import Array

CodebookKind = Literal["kmeans", "power-of-two"]
"""Where the entries of a codebook lie: where the numbers are, or at ±2^k and zero."""

_MOST_ROUNDS = 100
_PART_FOR_ANOTHER_ROUND = 1e-6
"""k-means ends once a round takes less than this part off the error."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedTensor:
    """A tensor as indices into a codebook.

    Attributes:
        codes: uint8, of the tensor's shape; below the number of entries.
        entries: float32, ascending.
        scale: What the entries are multiplied by: float32, shape `()`, or one a
            channel, shape `(channels,)`.
        axis: The axis of the channels; None for one scale.
    """

    codes: Array
    entries: Array
    scale: Array
    axis: int | None

    def decode(self) -> Array:
        """The numbers that the codes stand for, as float32."""
        found = self.entries[self.codes]
        return np.asarray(found * along_axis(self.scale, found, self.axis))


def encode(
    values: Array,
    *,
    bits: int = PACKED_BITS,
    kind: CodebookKind = "kmeans",
    axis: int | None = None,
) -> CodedTensor:
    """Choose a codebook for a tensor, and code it by the nearest entries.

    With an axis all channels share the entries, each scaled by a factor of its own:
    their root mean square, or for powers of two one such, so that products stay shifts.
    The result depends on the values alone, not on chance.

    Args:
        values: float16, float32 or float64 of any shape; computed in float32.
        bits: 4 or 8: there are at most 2^bits entries.
        kind: Where they lie.
        axis: The axis of the channels; None for one scale.

    Raises:
        DataError: The values are empty, not floats, or have NaN or infinity.
        UsageError: There is no such kind or width, or the values have no such axis.
    """
    check_codebook(bits, kind)
    floats = as_floats(values, "values")
    if axis is not None:
        check_axis(floats, axis)
    rows = by_channel(floats, axis).astype(np.float64)
    if kind == "power-of-two":
        scale = _power_scale(rows)
    else:
        scale = np.ones(1) if axis is None else _mean_scale(rows)
    scale = scale.astype(np.float32).reshape(() if axis is None else -1)
    scaled = floats / along_axis(scale, floats, axis)
    entries = _powers(bits) if kind == "power-of-two" else _means(scaled, 1 << bits)
    middles = (entries[1:].astype(np.float64) + entries[:-1]) / 2
    codes = np.searchsorted(middles, scaled).astype(np.uint8)
    if axis is None:
        entries, scale = entries * scale, np.ones((), np.float32)
    return CodedTensor(codes=codes, entries=entries, scale=scale, axis=axis)


def check_codebook(bits: int, kind: str) -> None:
    """Refuse a codebook that there is not.

    Raises:
        UsageError: There is no such kind or width.
    """
    if kind not in get_args(CodebookKind):
        raise UsageError(
            f"there is no kind of codebook {kind!r}",
            hint=did_you_mean(str(kind), get_args(CodebookKind)),
        )
    if isinstance(bits, bool) or bits not in (PACKED_BITS, BYTE_BITS):
        raise UsageError(
            f"bits is {bits!r}, expected {PACKED_BITS} or {BYTE_BITS}",
            hint="4 bits are stored two a byte; other widths would waste part of one.",
        )
    if kind == "power-of-two" and bits != PACKED_BITS:
        raise UsageError(
            f"a codebook of powers of two has {PACKED_BITS} bits, got {bits}",
            hint="More only add powers too small to matter; use k-means.",
        )


def pack(codes: Array) -> Array:
    """Put two 4-bit codes into each byte, the first into the lower half.

    Args:
        codes: uint8 below 16, of any shape; flattened, and filled up with a zero.

    Returns:
        uint8, shape `(half as many, rounded up,)`.
    """
    flat = codes.reshape(-1)
    even = np.concatenate([flat, np.zeros(flat.size % 2, np.uint8)])
    return np.asarray(even[::2] | even[1::2] << PACKED_BITS)


def unpack(packed: Array, count: int) -> Array:
    """Take 4-bit codes out of bytes again.

    Raises:
        DataError: There are not as many.
    """
    if not 0 <= 2 * packed.size - count <= 1:
        raise DataError(
            f"{packed.size} bytes hold {2 * packed.size} codes, expected {count}",
            hint="Give the number of codes that were packed.",
        )
    both = np.stack([packed & ((1 << PACKED_BITS) - 1), packed >> PACKED_BITS], axis=1)
    return both.reshape(-1)[:count]


def _mean_scale(rows: Array) -> Array:
    scale = np.sqrt(np.mean(rows**2, axis=1))
    return np.where(scale > np.finfo(np.float32).tiny, scale, 1.0)


def _power_scale(rows: Array) -> Array:
    """The power of two nearest to each largest magnitude (equation 3 of INQ)."""
    largest = np.abs(rows).max(axis=1)
    usable = np.where(largest > np.finfo(np.float32).tiny, largest, 1.0)
    return np.exp2(np.floor(np.log2(usable * 4 / 3)))


def _powers(bits: int) -> Array:
    """Zero and ± 1, 1/2, 1/4 …: one code of the sixteen is left over."""
    count = (1 << (bits - 1)) - 1
    positive = np.exp2(np.arange(1 - count, 1))
    return np.concatenate([-positive[::-1], [0], positive]).astype(np.float32)


def _means(values: Array, count: int) -> Array:
    """The entries of least squared error that k-means finds in one dimension.

    Sorted numbers belong to an entry in runs, so a round costs `count` look-ups in
    cumulative sums, however many numbers there are. It begins evenly spread over the
    range, which Deep Compression found best for the rare large weights, and once more
    evenly spread over the numbers; the better end is taken.
    """
    ordered = np.sort(values.reshape(-1).astype(np.float64))
    distinct = np.unique(ordered)
    if len(distinct) <= count:
        return distinct.astype(np.float32)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    shares = (np.arange(count) + 0.5) / count
    begun = (
        np.linspace(ordered[0], ordered[-1], count),
        ordered[(shares * len(ordered)).astype(np.int64)],
    )
    ended = [_rounds(ordered, sums, entries) for entries in begun]
    _, entries = min(ended, key=lambda one: one[0])
    return np.unique(entries.astype(np.float32))


def _rounds(ordered: Array, sums: Array, entries: Array) -> tuple[float, Array]:
    """Lloyd's rounds; returns minus the energy kept, and the entries."""
    before = np.inf
    for _ in range(_MOST_ROUNDS):
        entries = np.unique(entries)
        middles = (entries[1:] + entries[:-1]) / 2
        bounds = np.concatenate(
            [[0], np.searchsorted(ordered, middles), [len(ordered)]]
        )
        sizes = np.diff(bounds)
        totals = np.diff(sums[bounds])
        filled = sizes > 0
        entries = totals[filled] / sizes[filled]
        # The squared error is the energy of all less that of the means.
        error = -float((entries**2 * sizes[filled]).sum())
        if before - error <= _PART_FOR_ANOTHER_ROUND * abs(error):
            break
        before = error
    return error, entries
