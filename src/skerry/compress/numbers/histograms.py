"""Histograms of bounded size that grow with what they see."""

from __future__ import annotations

import numpy as np

from skerry.core.seams import Array

BINS = 8192
BINS_PER_CHANNEL = 2048
"""Fewer where each channel has a histogram of its own, for the memory they take."""

_CHUNK = 1 << 18
"""Numbers counted at a time, so that one large array does not need many times its
memory."""

_NOTHING = -160
"""The exponent before anything but zero is seen: below that of any float32."""

_LARGEST_SHIFT = 62

_NARROWEST = 2.0**-120
"""The narrowest bins whose reciprocal is a float32."""


class Histogram:
    """Counts numbers in a fixed number of bins, one row of bins a channel.

    The bins lie evenly around zero and reach to the next power of two above the
    largest magnitude seen. When a larger one comes, neighbouring bins are merged and
    the width doubles. The edges of wide bins are edges of narrow ones too, so the
    counts do not depend on the order in which numbers came.

    Accuracy: a bin is at most 4/bins of the largest magnitude wide: 1/2048 of it with
    one channel, 1/512 with several. Numbers in a bin count as evenly spread over it,
    so a quantile is off by less than a bin: an outlier a thousand times larger than
    all else leaves little to see of the rest.

    Args:
        channels: How many rows.
    """

    def __init__(self, *, channels: int) -> None:
        self._bins = BINS if channels == 1 else BINS_PER_CHANNEL
        self._counts = np.zeros((channels, self._bins), np.int64)
        # The bins cover [-2^exponent, 2^exponent).
        self._exponents = np.full(channels, _NOTHING, np.int64)
        self._ends: tuple[int, int] | None = None

    @property
    def edges(self) -> Array:
        """The edges of the bins, float64, shape `(channels, bins + 1)`."""
        steps = np.arange(self._bins + 1) - self._bins // 2
        return steps * self._widths[:, None]

    @property
    def counts(self) -> Array:
        """How many numbers lie in each bin, int64, shape `(channels, bins)`."""
        return self._counts.copy()

    @property
    def _widths(self) -> Array:
        return np.ldexp(2.0 / self._bins, self._exponents)

    def add(self, rows: Array) -> None:
        """Count numbers.

        Args:
            rows: Finite float32, shape `(channels, any)`.
        """
        self._ends = None
        self._widen(np.maximum(-rows.min(axis=1), rows.max(axis=1)))
        columns = max(_CHUNK, self._counts.size) // len(rows)
        for start in range(0, rows.shape[1], columns):
            part = rows[:, start : start + columns]
            indices = self._steps(part)
            indices += self._bins // 2
            self._counts += self._count(indices)

    def _steps(self, part: Array) -> Array:
        """The bin of each number, int64, counted from zero.

        Dividing by a power of two is exact, so no number changes its bin; and in
        float32, which is faster, where no quotient is smaller than its dividend.
        """
        widths = self._widths[:, None]
        if widths.min() >= _NARROWEST and widths.max() <= 1:
            scaled = part * (1 / widths).astype(np.float32)
        else:
            scaled = part / widths
        steps: Array = np.floor(scaled, out=scaled).astype(np.int64)
        return steps

    def quantile(self, fraction: float) -> Array:
        """The number below which a fraction of all lies, one a channel."""
        return _quantile(self._counts, self.edges, fraction)

    def magnitude(self, fraction: float) -> Array:
        """The magnitude below which a fraction of all lies, one a channel."""
        half = self._bins // 2
        folded = self._counts[:, half:] + self._counts[:, half - 1 :: -1]
        return _quantile(folded, self.edges[:, half:], fraction)

    def mean_squared_error(
        self, scale: Array, *, lowest: Array, highest: Array
    ) -> Array:
        """The mean squared error if all numbers were quantized, one a channel.

        Exact for numbers that lie evenly spread in their bin: with u = x / scale, the
        integral of (u - round(u))² from 0 to u is round(u)/12 + (u - round(u))³/3,
        and beyond the last step the error grows with the distance from it.

        Args:
            scale: The size of a step, one a channel.
            lowest: The last step below zero, one a channel.
            highest: The last step above zero, one a channel.
        """
        # Bins at either end that nothing fell into add nothing.
        first, end = self._occupied()
        steps = self.edges[:, first : end + 1] / scale[:, None]
        nearest = np.clip(np.rint(steps), lowest[:, None], highest[:, None])
        beyond = steps - nearest
        integral = nearest / 12 + beyond * beyond * beyond / 3
        counts = self._counts[:, first:end]
        summed = (counts * np.diff(integral, axis=1)).sum(axis=1)
        mean: Array = summed / counts.sum(axis=1) / self._widths * scale**3
        return mean

    def _occupied(self) -> tuple[int, int]:
        """The first bin that counts anything, in any channel, and the one past all."""
        if self._ends is None:
            used = np.flatnonzero(self._counts.any(axis=0))
            self._ends = (
                (int(used[0]), int(used[-1]) + 1) if used.size else (0, self._bins)
            )
        return self._ends

    def _widen(self, largest: Array) -> None:
        _, exponents = np.frexp(largest.astype(np.float64))
        needed = np.where(largest > 0, exponents, _NOTHING)
        doublings = np.maximum(needed - self._exponents, 0)
        if not doublings.any():
            return
        half = self._bins // 2
        # An arithmetic shift floors, so bins merge outwards from zero on both sides.
        moved = np.arange(-half, half) >> np.minimum(doublings, _LARGEST_SHIFT)[:, None]
        self._counts = self._count(moved + half, self._counts)
        self._exponents = self._exponents + doublings

    def _count(self, indices: Array, weights: Array | None = None) -> Array:
        channels = len(indices)
        if channels > 1:
            indices = indices + np.arange(channels)[:, None] * self._bins
        flat = np.bincount(
            indices.ravel(),
            None if weights is None else weights.ravel(),
            minlength=channels * self._bins,
        )
        return flat.astype(np.int64, copy=False).reshape(channels, self._bins)


def _quantile(counts: Array, edges: Array, fraction: float) -> Array:
    """The inverse of the cumulative count, linear within a bin."""
    cumulative = np.cumsum(counts, axis=1)
    wanted = cumulative[:, -1:] * fraction
    index = np.minimum((cumulative < wanted).sum(axis=1), counts.shape[1] - 1)[:, None]
    count = np.take_along_axis(counts, index, axis=1)
    before = np.take_along_axis(cumulative, index, axis=1) - count
    share = (wanted - before) / np.maximum(count, 1)
    left = np.take_along_axis(edges, index, axis=1)
    right = np.take_along_axis(edges, index + 1, axis=1)
    return np.asarray(left + share * (right - left))[:, 0]
