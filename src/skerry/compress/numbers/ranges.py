"""Which range of numbers the codes cover, chosen from samples.

Samples may be one array or a stream of arrays: what is kept of them is a minimum, a
maximum and, except for `minmax`, a histogram of fixed size, so memory does not
grow with their number. A range always includes zero, so that zero (padding, ReLU) is
represented exactly (Jacob et al., arXiv:1712.05877, section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skerry.compress.numbers.arrays import as_floats, by_channel
from skerry.compress.numbers.entropy import least_divergence
from skerry.compress.numbers.histograms import Histogram
from skerry.compress.numbers.schemes import Scheme
from skerry.core.errors import DataError
from skerry.core.seams import Array

_FLOAT32 = np.finfo(np.float32)
WIDEST = float(_FLOAT32.max) / 2
"""The largest magnitude of a range's ends: wider ones overflow when dequantized."""

# The search for the least error: which of low and high move, and by which factors.
_BOTH = np.array([[True], [True]])
_LOW = np.array([[True], [False]])
_HIGH = np.array([[False], [True]])
_COARSE = 0.9 ** np.arange(1, 45)
_FINE = np.linspace(0.9, 1 / 0.9, 17)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Range:
    """The real numbers that the codes cover; it always includes zero.

    Attributes:
        low: float32: one number (shape `()`), or one a channel (shape `(channels,)`).
            What is given above zero becomes zero.
        high: Like `low`; what is given below zero becomes zero.

    Raises:
        DataError: They are not finite numbers of one shape, or low is above high, or
            beyond half of float32.

    Example:
        >>> Range(low=1.0, high=6.0)
        Range(low=array(0., dtype=float32), high=array(6., dtype=float32))
    """

    low: Array
    high: Array

    def __post_init__(self) -> None:
        low = as_floats(self.low, "low", allow_integers=True)
        high = as_floats(self.high, "high", allow_integers=True)
        if low.shape != high.shape or low.ndim > 1:
            raise DataError(
                f"low has shape {low.shape} and high {high.shape}, expected two "
                "numbers or two vectors of one length",
                hint="Give one low and one high, or one of each a channel.",
            )
        if np.any(low > high):
            raise DataError(
                f"low is above high in {np.count_nonzero(low > high)} of {low.size}",
                hint="Swap them.",
            )
        if np.any(low < -WIDEST) or np.any(high > WIDEST):
            raise DataError(
                f"the range {low.min():g} to {high.max():g} is too wide for float32",
                hint="Scale the values down, or look for garbage among them.",
            )
        object.__setattr__(self, "low", np.asarray(np.minimum(low, np.float32(0))))
        object.__setattr__(self, "high", np.asarray(np.maximum(high, np.float32(0))))


def choose_range(samples: Array | Iterable[Array], scheme: Scheme) -> Range:
    """Choose the range of a tensor from samples of it.

    Args:
        samples: float16, float32 or float64 (computed in float32): one array, or an
            iterable of arrays, each seen once. Their shapes may differ where the
            scheme has no axis; along the axis they must not.
        scheme: The method, and what the codes can hold.

    Returns:
        One range for all, or with `scheme.axis` one a channel.

    Raises:
        DataError: There are no samples, or NaN or infinity among them, or they are
            not floats, or their numbers of channels differ.
        UsageError: A sample has no such axis.
    """
    observer = RangeObserver(scheme)
    for sample in _each(samples):
        observer.update(sample)
    return observer.range()


def scale_and_zero_point(
    range: Range,  # noqa: A002 - the noun itself, at the public surface
    scheme: Scheme,
) -> tuple[Array, Array]:
    """Turn a range into the two parameters of QuantizeLinear.

    Asymmetric: scale = (high - low) / (qmax - qmin), and the zero point is the code
    nearest to where real zero falls, so the range covered may lie up to half a step
    off the one asked for. Symmetric: the scale is the larger magnitude divided by the
    highest code above the middle one. A channel that is nothing but zero gets scale 1.

    Args:
        range: What the codes shall cover.
        scheme: The codes.

    Returns:
        The scale (float32) and the zero point (`scheme.dtype`), shaped as the range.
    """
    return _parameters(
        range.low.astype(np.float64), range.high.astype(np.float64), scheme
    )


def _parameters(low: Array, high: Array, scheme: Scheme) -> tuple[Array, Array]:
    if scheme.symmetric:
        middle = 0 if scheme.signed else 1 << (scheme.bits - 1)
        scale = _as_scale(np.maximum(-low, high) / (scheme.qmax - middle))
        return scale, np.full(scale.shape, middle, scheme.dtype)
    scale = _as_scale((high - low) / (scheme.qmax - scheme.qmin))
    zero_point = np.rint(scheme.qmin - low / scale.astype(np.float64))
    zero_point = np.clip(zero_point, scheme.qmin, scheme.qmax)
    return scale, np.asarray(zero_point, scheme.dtype)


class RangeObserver:
    """Watches samples go by and says which range they need.

    The result does not depend on how the samples are split or ordered. Except with
    `minmax` it is as fine as the histogram: see `Histogram`.

    Args:
        scheme: The method, and what the codes can hold.
    """

    def __init__(self, scheme: Scheme) -> None:
        self._scheme = scheme
        self._low: Array | None = None
        self._high: Array | None = None
        self._histogram: Histogram | None = None

    def update(self, samples: Array) -> None:
        """Take in one array of samples; nothing of it is kept.

        Args:
            samples: float16, float32 or float64; with `scheme.axis` each of the
                same number of channels.

        Raises:
            DataError: It is empty, or has NaN or infinity, or is not of floats, or
                has another number of channels than those before.
            UsageError: It has no such axis.
        """
        rows = by_channel(as_floats(samples, "samples"), self._scheme.axis)
        low, high = rows.min(axis=1), rows.max(axis=1)
        if self._low is None or self._high is None:
            self._low, self._high = low, high
            if self._scheme.method != "minmax":
                self._histogram = Histogram(channels=len(rows))
        elif len(low) != len(self._low):
            raise DataError(
                f"a sample has {len(low)} channels along axis {self._scheme.axis}, "
                f"those before had {len(self._low)}",
                hint="Give samples of one tensor, or name the axis of the channels.",
            )
        else:
            self._low = np.minimum(self._low, low)
            self._high = np.maximum(self._high, high)
        if self._histogram is not None:
            self._histogram.add(rows)

    def range(self) -> Range:
        """Choose the range from what was seen so far.

        Raises:
            DataError: Nothing was seen yet.
        """
        if self._low is None or self._high is None:
            raise DataError(
                "there are no samples to choose a range from",
                hint="Give at least one array.",
            )
        low, high = np.minimum(self._low, 0), np.maximum(self._high, 0)
        if self._scheme.symmetric:
            high = np.maximum(-low, high)
            low = -high
        if self._histogram is not None:
            choose = _CHOICES[self._scheme.method]
            low, high = choose(self._histogram, self._scheme, low, high)
        if self._scheme.axis is None:
            low, high = low[0], high[0]
        return Range(low=low, high=high)


def _percentile(
    histogram: Histogram, scheme: Scheme, low: Array, high: Array
) -> tuple[Array, Array]:
    kept = scheme.percentile / 100
    if scheme.symmetric:
        high = np.minimum(high, histogram.magnitude(kept))
        return -high, high
    low = np.maximum(low, histogram.quantile((1 - kept) / 2))
    high = np.minimum(high, histogram.quantile((1 + kept) / 2))
    return np.minimum(low, 0), np.maximum(high, 0)


def _least_mse(
    histogram: Histogram, scheme: Scheme, low: Array, high: Array
) -> tuple[Array, Array]:
    """Shrink the range where that lowers the mean squared error on the histogram.

    A grid search, as in Nagel et al., "A White Paper on Neural Network Quantization"
    (arXiv:2106.08295), section 3.1: both ends together, then (unless the scheme is
    symmetric) each alone. The search starts from the whole range and only ever
    improves on it, each channel for itself.
    """
    whole = np.stack([low, high]).astype(np.float64)
    best, least = whole, _mse(histogram, scheme, whole)[0]
    for moving in [_BOTH] if scheme.symmetric else [_BOTH, _HIGH, _LOW, _HIGH]:
        for factor in _COARSE:
            tried = np.where(moving, whole * factor, best)
            error, rounding = _mse(histogram, scheme, tried)
            best = np.where(error < least, tried, best)
            least = np.minimum(error, least)
            # Clipping only grows as the range shrinks on.
            if np.all(error - rounding > least):
                break
        middle = best
        for factor in _FINE:
            tried = np.where(moving, np.clip(middle * factor, low, high), best)
            error, _ = _mse(histogram, scheme, tried)
            best = np.where(error < least, tried, best)
            least = np.minimum(error, least)
    return best[0], best[1]


def _mse(histogram: Histogram, scheme: Scheme, ends: Array) -> tuple[Array, Array]:
    """The mean squared error, and the most of it that rounding can explain."""
    # As a range holds its ends, without the checks that it makes each time.
    low, high = ends.astype(np.float32).astype(np.float64)
    scale, zero_point = _parameters(low, high, scheme)
    steps = scale.astype(np.float64)
    error = histogram.mean_squared_error(
        steps,
        lowest=scheme.qmin - zero_point.astype(np.int64),
        highest=scheme.qmax - zero_point.astype(np.int64),
    )
    return error, steps**2 / 4


_CHOICES = {
    "percentile": _percentile,
    "mse": _least_mse,
    "entropy": least_divergence,
}


def _as_scale(scale: Array) -> Array:
    """A float32 scale one can divide by: normal, and 1 where the range is empty."""
    scale = np.where(scale > 0, np.maximum(scale, _FLOAT32.tiny), 1.0)
    return scale.astype(np.float32)


def _each(samples: Any) -> Iterable[Array]:
    # Tensors of other libraries are iterable too, but they are one array.
    if hasattr(samples, "__array__"):
        return [samples]
    if not isinstance(samples, Iterable):
        raise DataError(
            f"the samples are {type(samples).__name__}, expected an array or an "
            "iterable of arrays",
            hint="Give a numpy array of floats.",
        )
    return samples
