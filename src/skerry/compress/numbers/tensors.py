"""Quantize one tensor, exactly as the ONNX operators do.

Operator specification: QuantizeLinear, y = saturate(round(x / scale) + zero_point)
with ties to the even neighbour, and DequantizeLinear, x = (y - zero_point) · scale,
both with a float32 scale and computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skerry.compress.numbers.arrays import along_axis, as_floats, check_axis
from skerry.compress.numbers.ranges import Range, choose_range, scale_and_zero_point
from skerry.compress.numbers.schemes import Scheme
from skerry.core.errors import DataError
from skerry.core.seams import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizedTensor:
    """A tensor as integer codes.

    Attributes:
        values: The codes, of `scheme.dtype` and the tensor's shape.
        scale: float32: one number, shape `()`, or one a channel, shape `(channels,)`.
        zero_point: The code of real zero, of `scheme.dtype`, shaped as `scale`.
        scheme: How it was quantized.
    """

    values: Array
    scale: Array
    zero_point: Array
    scheme: Scheme

    def dequantize(self) -> Array:
        """The numbers that the codes stand for, as float32."""
        axis = self.scheme.axis
        scale = along_axis(self.scale, self.values, axis)
        zero_point = along_axis(self.zero_point, self.values, axis)
        steps = self.values.astype(np.int32) - zero_point.astype(np.int32)
        return np.asarray(steps.astype(np.float32) * scale)


def quantize_tensor(
    values: Array,
    scheme: Scheme,
    range: Range | None = None,  # noqa: A002 - the noun itself, at the public surface
) -> QuantizedTensor:
    """Quantize a tensor.

    Args:
        values: float16, float32 or float64 of any shape; computed in float32.
        scheme: How.
        range: What the codes shall cover; None chooses it from the values
            themselves. With `scheme.axis` it has one entry a channel.

    Raises:
        DataError: The values are empty, not floats, or have NaN or infinity, or the
            range has not one entry a channel.
        UsageError: The values have no such axis.
    """
    floats = as_floats(values, "values")
    if scheme.axis is not None:
        check_axis(floats, scheme.axis)
    chosen = choose_range(floats, scheme) if range is None else range
    expected = () if scheme.axis is None else (floats.shape[scheme.axis],)
    if chosen.low.shape != expected:
        raise DataError(
            f"the range has shape {chosen.low.shape}, expected {expected} for values "
            f"of shape {floats.shape} and axis {scheme.axis}",
            hint="Choose the range with the same scheme, from samples of this tensor.",
        )
    scale, zero_point = scale_and_zero_point(chosen, scheme)
    codes = _quantize(floats, scheme, scale, zero_point)
    return QuantizedTensor(
        values=codes, scale=scale, zero_point=zero_point, scheme=scheme
    )


def _quantize(floats: Array, scheme: Scheme, scale: Array, zero_point: Array) -> Array:
    zero = along_axis(zero_point, floats, scheme.axis).astype(np.float32)
    with np.errstate(over="ignore"):
        steps = np.asarray(floats / along_axis(scale, floats, scheme.axis))
    np.rint(steps, out=steps)
    # Saturating before the zero point is added keeps the sum exact in float32.
    np.clip(steps, scheme.qmin - zero, scheme.qmax - zero, out=steps)
    return np.asarray(np.add(steps, zero, out=steps).astype(scheme.dtype))
