"""Quantize the weights of a layer of a graph, by whichever method its range is chosen.

Weights are few and known, so the range with the least mean squared error is searched
on the weights themselves: a histogram, which serves for activations, cannot see how
the nine weights of a depthwise kernel round.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skerry.compress.numbers.arrays import by_channel
from skerry.compress.numbers.ranges import Range, choose_range
from skerry.compress.numbers.schemes import BYTE_BITS, Scheme
from skerry.compress.numbers.tensors import QuantizedTensor, quantize_tensor
from skerry.compress.ptq.operators import weight_axis
from skerry.core.seams import Array
from skerry.graph import Node

_PARTS = np.concatenate(
    [[1.0], np.linspace(1.006, 0.98, 53), np.linspace(0.97, 0.5, 48)]
)
"""Parts of the whole range that are tried. In eight bits the outermost weight may be
clipped by a step at most before that costs more than all rounding: there the grid is
fine."""

_PARTS_OF_FEW_BITS = np.concatenate([_PARTS, np.linspace(0.48, 0.1, 39)])
"""Fewer bits want ranges that are narrower by far."""


def quantize_weights(
    node: Node, weights: Array, scheme: Scheme, *, per_channel: bool
) -> QuantizedTensor:
    """Quantize a layer's weights.

    Args:
        node: The layer; it says where the output channels are.
        weights: Its weights, finite floats.
        scheme: How; its axis is not looked at.
        per_channel: Whether each output channel has a scale, where runtimes take that.

    Raises:
        DataError: The weights are empty, not floats, or have NaN or infinity.
    """
    axis = weight_axis(node, weights.ndim) if per_channel else None
    return quantize_rows(weights, replace(scheme, axis=axis))


def quantize_rows(weights: Array, scheme: Scheme) -> QuantizedTensor:
    """Quantize weights along the axis of a scheme, by the method of its ranges.

    Raises:
        DataError: The weights are empty, not floats, or have NaN or infinity.
    """
    if scheme.method == "mse" and scheme.symmetric:
        return quantize_tensor(weights, scheme, least_error_range(weights, scheme))
    return quantize_tensor(weights, scheme)


def least_error_range(weights: Array, scheme: Scheme) -> Range:
    """Find the symmetric range with the least squared error, each channel for itself.

    A grid search over the scale, on the weights themselves (Nagel et al., "A White
    Paper on Neural Network Quantization", arXiv:2106.08295, section 3.1). The whole
    range is the first that is tried, so the error is never above that of MinMax.

    Args:
        weights: Finite floats.
        scheme: Symmetric codes.

    Raises:
        DataError: The weights are empty, not floats, or have NaN or infinity.
        UsageError: They have no such axis.
    """
    whole = choose_range(weights, replace(scheme, method="minmax"))
    shape = whole.high.shape
    best = whole.high.reshape(-1).astype(np.float64)
    least = np.full(best.shape, np.inf)
    for part in _PARTS if scheme.bits >= BYTE_BITS else _PARTS_OF_FEW_BITS:
        high = (whole.high * part).astype(np.float32)
        tried = quantize_tensor(weights, scheme, Range(low=-high, high=high))
        wrong = (weights - tried.dequantize()).astype(np.float64)
        error = np.square(by_channel(wrong, scheme.axis)).sum(axis=1)
        is_better = error < least
        best = np.where(is_better, high.reshape(-1), best)
        least = np.minimum(error, least)
    high = best.reshape(shape).astype(np.float32)
    return Range(low=-high, high=high)
