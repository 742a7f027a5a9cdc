"""Quantize one layer: its weights, its input, its bias."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from skerry.compress.numbers.arrays import as_floats
from skerry.compress.numbers.ranges import Range, choose_range, scale_and_zero_point
from skerry.compress.numbers.schemes import UINT8_ACTIVATIONS, Scheme
from skerry.compress.numbers.tensors import QuantizedTensor, quantize_tensor
from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array

_INT32_MAX = np.iinfo(np.int32).max
_TINY = float(np.finfo(np.float32).tiny)
_SLACK = 1 + 2.0**-20
"""Scales are rounded to float32; this much more keeps the bias inside all the same."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizedLayer:
    """A convolution or matrix product in integers.

    The layer's sum is Σ (x - activation_zero_point) · (w - weight_zero_point) + bias,
    in int32, and worth activation_scale · weight_scale a unit (Jacob et al.,
    arXiv:1712.05877, sections 2.2 and 2.4).

    Attributes:
        weights: The codes, scale and zero point of the weights.
        activation_scale: float32, one number: the scale of the layer's input.
        activation_zero_point: One code, of `activation_scheme.dtype`.
        activation_scheme: How the layer's input is quantized.
        bias: int32, one an output channel; None where none was given.
    """

    weights: QuantizedTensor
    activation_scale: Array
    activation_zero_point: Array
    activation_scheme: Scheme
    bias: Array | None

    @property
    def bias_scale(self) -> Array:
        """What one unit of the bias and of the sum is worth; shaped as the weights'."""
        return np.asarray(self.activation_scale * self.weights.scale)


def quantize_layer(
    weights: Array,
    calibration: Array | Iterable[Array],
    scheme: Scheme,
    *,
    activations: Scheme = UINT8_ACTIVATIONS,
    bias: Array | None = None,
) -> QuantizedLayer:
    """Quantize a layer's weights, and choose how its input is quantized.

    Args:
        weights: The weights in float: OIHW for a convolution (channels on axis 0),
            K×N for a matrix product (channels on axis 1).
        calibration: What the layer's input looks like on real samples: one array, or
            an iterable of arrays, each seen once and none kept.
        scheme: How the weights are quantized.
        activations: How the layer's input is quantized; one scale for all of it.
        bias: The bias in float, one an output channel. Where it would not fit int32,
            the channel's weight scale is raised until it does. With 8-bit codes no
            product in such a channel reaches 1/30,000 of the bias, so little is lost.

    Raises:
        DataError: Weights, calibration or bias are empty, not floats, or have NaN or
            infinity, or the bias has not one entry a channel.
        UsageError: The weights have no such axis, or `activations` has one.
    """
    if activations.axis is not None:
        raise UsageError(
            f"activations are to be quantized along axis {activations.axis}",
            hint="Use axis None: a sum over channels needs one scale for its input.",
        )
    floats = as_floats(weights, "weights")
    input_range = choose_range(calibration, activations)
    scale, zero_point = scale_and_zero_point(input_range, activations)
    weight_range = choose_range(floats, scheme)
    offsets = None if bias is None else as_floats(bias, "bias")
    if offsets is not None:
        _check_bias(offsets, floats, scheme.axis)
        weight_range = _hold_bias(offsets, weight_range, scheme, scale)
    codes = quantize_tensor(floats, scheme, weight_range)
    return QuantizedLayer(
        weights=codes,
        activation_scale=scale,
        activation_zero_point=zero_point,
        activation_scheme=activations,
        bias=None if offsets is None else _quantize_bias(offsets, codes, scale),
    )


def _quantize_bias(
    bias: Array, weights: QuantizedTensor, activation_scale: Array
) -> Array:
    unit = (activation_scale * weights.scale).astype(np.float64)
    return np.asarray(np.rint(bias.astype(np.float64) / unit).astype(np.int32))


def _hold_bias(
    bias: Array, weight_range: Range, scheme: Scheme, activation_scale: Array
) -> Range:
    """Widen the weights' range where the bias would not fit int32."""
    least_unit = np.maximum(np.abs(bias.astype(np.float64)) / _INT32_MAX, _TINY)
    if scheme.axis is None:
        least_unit = least_unit.max()
    least_scale = least_unit / activation_scale * _SLACK
    steps = scheme.qmax - scheme.qmin
    return Range(
        low=weight_range.low,
        high=np.maximum(weight_range.high, weight_range.low + least_scale * steps),
    )


def _check_bias(bias: Array, weights: Array, axis: int | None) -> None:
    channels = bias.size if axis is None else weights.shape[axis]
    if bias.shape != (channels,):
        raise DataError(
            f"the bias has shape {bias.shape}, expected ({channels},) for weights of "
            f"shape {weights.shape} and axis {axis}",
            hint="Give one number an output channel, and name their axis.",
        )
