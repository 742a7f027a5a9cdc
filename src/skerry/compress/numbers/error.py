"""What quantization loses, and where: to rounding, or to clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from skerry.compress.numbers.arrays import along_axis, as_floats, by_channel
from skerry.compress.numbers.tensors import QuantizedTensor
from skerry.core.errors import DataError
from skerry.core.seams import Array

_SLACK = 1 + 2.0**-22
"""A scale is rounded to float32, so the outermost number of a min-max range may lie
this much beyond the last half step; it was rounded, not clipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationError:
    """The squared error of a quantized tensor.

    A number counts as clipped when it lies more than half a step outside the first or
    last code, where the error has no bound; all others are at most half a step off
    (the overload and granular regions of Gersho and Gray, "Vector Quantization and
    Signal Compression", 1992, chapter 5).

    Attributes:
        total: The sum of squared errors: exactly `rounding + clipping`.
        rounding: The part from numbers within reach of the codes.
        clipping: The part from numbers beyond them.
        wasted_range: The fraction of the codes below the lowest or above the highest
            one used, 0 to 1; the mean over channels.
        sqnr_db: The signal's energy over the total error, in decibels; infinite where
            there is no error.
    """

    total: float
    rounding: float
    clipping: float
    wasted_range: float
    sqnr_db: float


def quantization_error(values: Array, quantized: QuantizedTensor) -> QuantizationError:
    """Compare a tensor with its quantized form.

    Args:
        values: What was quantized, of the same shape.
        quantized: What became of it.

    Returns:
        The sums, computed in float64.

    Raises:
        DataError: The values are not finite floats, or of another shape.
    """
    floats = as_floats(values, "values").astype(np.float64)
    if floats.shape != quantized.values.shape:
        raise DataError(
            f"the values have shape {floats.shape}, what was quantized has "
            f"{quantized.values.shape}",
            hint="Give the values that were quantized.",
        )
    squares = (floats - quantized.dequantize()) ** 2
    clipped = _clipped(floats, quantized)
    rounding = float(squares[~clipped].sum())
    clipping = float(squares[clipped].sum())
    total = rounding + clipping
    return QuantizationError(
        total=total,
        rounding=rounding,
        clipping=clipping,
        wasted_range=_wasted_range(quantized),
        sqnr_db=_decibels(float((floats**2).sum()), total),
    )


def _clipped(floats: Array, quantized: QuantizedTensor) -> Array:
    scheme = quantized.scheme
    scale = along_axis(quantized.scale, floats, scheme.axis).astype(np.float64)
    zero = along_axis(quantized.zero_point, floats, scheme.axis).astype(np.float64)
    lowest = (scheme.qmin - zero - 0.5) * scale * _SLACK
    highest = (scheme.qmax - zero + 0.5) * scale * _SLACK
    return np.asarray((floats < lowest) | (floats > highest))


def _wasted_range(quantized: QuantizedTensor) -> float:
    scheme = quantized.scheme
    rows = by_channel(quantized.values, scheme.axis).astype(np.int64)
    used = rows.max(axis=1) - rows.min(axis=1) + 1
    return float(1 - (used / (scheme.qmax - scheme.qmin + 1)).mean())


def _decibels(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
