"""A layer with weights as one matrix product: what it multiplies with what.

Each output position of a convolution is the product of the weights, one row an output
channel, with the patch of the input that its kernel covers ("im2col", Chellapilla et
al., "High Performance Convolutional Neural Networks for Document Processing", 2006).
A transposed convolution is a convolution of its input with zeros in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skerry.core.seams import Array
from skerry.graph import Node, attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRows:
    """How to take a layer apart.

    Attributes:
        op_type: `Conv`, `ConvTranspose`, `Gemm` or `MatMul`.
        groups: Into how many parts inputs and outputs are split.
        kernel: Its sizes, none for matrix products.
        strides: One a spatial axis, likewise those below.
        dilations: Distance between what neighbours in the kernel read.
        pads: Zeros before each spatial axis; behind it there are as many as needed.
        is_transposed: Whether the weights of a Gemm are stored outputs first.
    """

    op_type: str
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    is_transposed: bool = False

    def positions(self, outputs: Array) -> int:
        """How many positions the layer computes: all but the channels."""
        channels = int(outputs.shape[1 if self.kernel else -1])
        return outputs.size // max(channels, 1)

    def made(self, outputs: Array, picked: Array) -> Array:
        """What the layer made at some positions, `[groups, positions, channels]`."""
        rows = np.moveaxis(outputs, 1, -1) if self.kernel else outputs
        if rows.ndim == 1 or not self.kernel:
            flat = rows.reshape(-1, rows.shape[-1])[picked]
        else:
            flat = rows[np.unravel_index(picked, rows.shape[:-1])]
        return self._by_group(flat)

    def read(self, inputs: Array, made_shape: Sequence[int], picked: Array) -> Array:
        """What the layer multiplies there, `[groups, positions, weights a channel]`.

        Args:
            inputs: The layer's input.
            made_shape: The shape of its output.
            picked: Positions as `made` takes them.
        """
        if not self.kernel:
            return inputs.reshape(-1, inputs.shape[-1])[picked][None]
        spatial = tuple(made_shape[2:])
        strides = self.strides
        if self.op_type == "ConvTranspose":
            inputs, strides = self._spread(inputs), (1,) * len(self.kernel)
        padded = self._padded(inputs, spatial, strides)
        spans = [(size - 1) * gap + 1 for size, gap in self._taps()]
        axes = tuple(range(2, inputs.ndim))
        windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)
        windows = windows[_every(self.dilations)]
        sample, *place = np.unravel_index(picked, (inputs.shape[0], *spatial))
        starts = [one * stride for one, stride in zip(place, strides, strict=True)]
        index: tuple[Any, ...] = (sample, slice(None), *starts)
        patches = windows[index]
        channels = inputs.shape[1] // self.groups
        rows = patches.reshape(len(picked), self.groups, channels * self._kernel_size)
        return np.ascontiguousarray(rows.swapaxes(0, 1))

    def matrix(self, weights: Array) -> Array:
        """The weights as `[groups, outputs of a group, weights an output]`."""
        if not self.kernel:
            return (weights if self.is_transposed else weights.T)[None]
        if self.op_type == "Conv":
            return weights.reshape(self.groups, len(weights) // self.groups, -1)
        split = weights.reshape(self.groups, -1, *weights.shape[1:])
        flipped = np.flip(split, tuple(range(3, split.ndim)))
        return flipped.swapaxes(1, 2).reshape(self.groups, weights.shape[1], -1)

    def weights(self, matrix: Array, shape: Sequence[int]) -> Array:
        """The inverse of `matrix`, for weights of a shape."""
        if not self.kernel:
            return np.ascontiguousarray(
                matrix[0] if self.is_transposed else matrix[0].T
            )
        if self.op_type == "Conv":
            return matrix.reshape(shape)
        split = matrix.reshape(self.groups, shape[1], -1, *shape[2:])
        flipped = np.flip(split.swapaxes(1, 2), tuple(range(3, split.ndim)))
        return np.ascontiguousarray(flipped.reshape(shape))

    @property
    def _kernel_size(self) -> int:
        return int(np.prod(self.kernel))

    def _taps(self) -> list[tuple[int, int]]:
        return list(zip(self.kernel, self.dilations, strict=True))

    def _by_group(self, rows: Array) -> Array:
        split = rows.reshape(len(rows), self.groups, -1)
        return np.ascontiguousarray(split.swapaxes(0, 1))

    def _spread(self, inputs: Array) -> Array:
        """Put zeros between the inputs of a transposed convolution."""
        sizes = [
            (size - 1) * stride + 1
            for size, stride in zip(inputs.shape[2:], self.strides, strict=True)
        ]
        spread = np.zeros((*inputs.shape[:2], *sizes), inputs.dtype)
        spread[_every(self.strides)] = inputs
        return spread

    def _padded(
        self, inputs: Array, spatial: Sequence[int], strides: Sequence[int]
    ) -> Array:
        """Add the zeros that the output of this size has seen; or cut, where few."""
        widths: list[tuple[int, int]] = [(0, 0), (0, 0)]
        cuts: list[Any] = [slice(None), slice(None)]
        for axis, (size, gap) in enumerate(self._taps()):
            span, pad = (size - 1) * gap, self.pads[axis]
            before = span - pad if self.op_type == "ConvTranspose" else pad
            needed = (spatial[axis] - 1) * strides[axis] + span + 1
            behind = needed - before - inputs.shape[axis + 2]
            widths.append((max(before, 0), max(behind, 0)))
            first = max(-before, 0)
            cuts.append(slice(first, first + needed))
        if any(before or behind for before, behind in widths):
            inputs = np.pad(inputs, widths)
        return np.asarray(inputs[tuple(cuts)])


def _every(steps: Sequence[int]) -> tuple[Any, ...]:
    """An index that takes each so many-th entry along the last axes."""
    return (..., *(slice(None, None, step) for step in steps))


def rows_of(
    node: Node, weights: Array, inputs_shape: Sequence[int]
) -> LayerRows | None:
    """Say how to take a layer apart; None where that is not known.

    Args:
        node: An operator with constant weights.
        weights: Its weights.
        inputs_shape: The shape of its input, for padding that depends on it.
    """
    if node.op_type == "MatMul":
        return LayerRows(op_type="MatMul") if weights.ndim == 2 else None
    if node.op_type == "Gemm":
        is_plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
        if not is_plain or attribute(node, "transA", 0):
            return None
        is_transposed = bool(attribute(node, "transB", 0))
        return LayerRows(op_type="Gemm", is_transposed=is_transposed)
    if node.op_type not in ("Conv", "ConvTranspose"):
        return None
    kernel = weights.shape[2:]
    ones = [1] * len(kernel)
    strides = tuple(attribute(node, "strides", ones))
    dilations = tuple(attribute(node, "dilations", ones))
    spans = [(size - 1) * gap for size, gap in zip(kernel, dilations, strict=True)]
    pads = _pads(node, inputs_shape[2:], spans, strides)
    if pads is None:
        return None
    return LayerRows(
        op_type=node.op_type,
        groups=attribute(node, "group", 1),
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
    )


def _pads(
    node: Node, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> tuple[int, ...] | None:
    """Zeros before each axis (ONNX operator specification, Conv, `auto_pad`)."""
    how = attribute(node, "auto_pad", "NOTSET")
    if how == "NOTSET":
        given = attribute(node, "pads", [0] * (2 * len(spans)))
        is_cut = "output_shape" in node.attributes
        return None if is_cut else tuple(given[: len(spans)])
    if how == "VALID":
        return (0,) * len(spans)
    if node.op_type != "Conv":
        return None
    pads = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + span + 1 - size, 0)
        pads.append(total // 2 if how == "SAME_UPPER" else total - total // 2)
    return tuple(pads)
