"""Write a quantized graph's weights on the scales of the version before.

Weights keep the old scales, and differ from the old codes by multiples of a grid: 1 is
what rounding to the nearest gives, 4 leaves all as they were that changed by less than
two. Biases follow, for their scale is that of their inputs times that of the weights.
Channels that have outgrown their old scale keep their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, attribute, set_constant

_LARGEST_CODE = 127
_OUTGROWN = 1.08
"""How far beyond the largest code a channel may reach before it keeps its own scale:
what reaches further is cut off."""

_SAME_CODES = 0.98
_MOVED_SCALE = 1e-4
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A layer's weights, now and before.

    Attributes:
        name: Of the codes.
        axis: Which axis has a scale each.
        codes: INT8.
        scale: A scale a channel, or one.
        old_codes: Of the version before.
        old_scale: Of the version before.
    """

    name: str
    axis: int
    codes: Array
    scale: Array
    old_codes: Array
    old_scale: Array

    def on_codes(self, scale: Array) -> Array:
        """A scale in the shape in which it goes with the codes."""
        if scale.ndim == 0 or scale.size == 1:
            return scale.reshape(())
        sides = [1] * self.codes.ndim
        sides[self.axis] = -1
        return scale.reshape(sides)

    @property
    def moved(self) -> tuple[int, int]:
        """Channels that differ from before by a factor alone, and all of them."""
        rows = [
            np.moveaxis(one, self.axis, 0).reshape(one.shape[self.axis], -1)
            for one in (self.codes, self.old_codes)
        ]
        is_same = (rows[0] == rows[1]).mean(axis=1) >= _SAME_CODES
        factor = np.broadcast_to(self.scale / self.old_scale, is_same.shape)
        moved = is_same & (np.abs(factor - 1) > _MOVED_SCALE)
        return int(moved.sum()), len(moved)


def find_layers(graph: Graph, previous: Graph) -> list[Layer]:
    """The layers whose INT8 weights both versions have, in the order of the graph.

    Weights whose zero is not at code 0, or that have four bits, are left out.
    """
    before = {str(value.name): value for value in previous.initializers}
    return [
        layer
        for node in graph.nodes
        if node.op_type == "DequantizeLinear"
        and (layer := _layer(graph, node, previous, before)) is not None
    ]


def _layer(
    graph: Graph, node: Node, previous: Graph, before: Mapping[str, object]
) -> Layer | None:
    names = [str(value.name) if value is not None else "" for value in node.inputs]
    read = (*(value for value in node.inputs[:2] if value), node.outputs[0])
    is_alone = all(len(list(value.uses())) == 1 for value in read)
    if any(name not in before for name in names[:2]) or not is_alone:
        return None
    now = [graph.constant(value) for value in node.inputs]
    old = [previous.constant(previous.value(name)) for name in names[:2]]
    if any(one is None for one in [*now, *old]) or len(now) < 2:
        return None
    codes, scale, *zeros = now
    old_codes, old_scale = old
    if codes is None or scale is None or old_codes is None or old_scale is None:
        return None
    is_plain = codes.dtype == np.int8 and codes.ndim >= 2 and old_codes.dtype == np.int8
    is_centred = not any(zero is not None and zero.any() for zero in zeros)
    fits = codes.shape == old_codes.shape and scale.shape == old_scale.shape
    if not is_plain or not is_centred or not fits or scale.ndim > 1:
        return None
    return Layer(
        name=names[0],
        axis=attribute(node, "axis", 1) % codes.ndim,
        codes=codes,
        scale=scale,
        old_codes=old_codes,
        old_scale=old_scale,
    )


def freeze(graph: Graph, layers: Sequence[Layer], grids: Mapping[str, int]) -> Graph:
    """Return the graph with its weights on the old scales.

    Args:
        graph: The new version; left as it was.
        layers: Its layers, as `find_layers` found them.
        grids: Multiples of what the codes may differ by, by layer; those that are not
            named stay as they are.
    """
    frozen = graph.copy()
    for layer in layers:
        if layer.name in grids:
            codes, scale = put_on_grid(layer, grids[layer.name])
            node = _reader(frozen.value(layer.name))
            if _fix_bias(frozen, _reader(node.outputs[0]), scale):
                for value, array in zip(node.inputs, (codes, scale), strict=False):
                    if value is not None:
                        set_constant(value, array)
    return frozen


def _reader(value: Value) -> Node:
    """The one node that reads a value."""
    (use,) = value.uses()
    return use.node


def put_on_grid(layer: Layer, grid: int) -> tuple[Array, Array]:
    """The codes and scales of a layer on the old scales, on a grid around old codes."""
    wide = layer.codes.astype(np.float64) * layer.on_codes(layer.scale)
    wanted = wide / layer.on_codes(layer.old_scale)
    steps = np.rint((wanted - layer.old_codes) / grid) * grid
    codes = np.clip(layer.old_codes + steps, -_LARGEST_CODE, _LARGEST_CODE)
    others = tuple(axis for axis in range(codes.ndim) if axis != layer.axis)
    reach = np.abs(wanted).max(axis=others if layer.scale.size > 1 else None)
    is_kept = reach > _OUTGROWN * _LARGEST_CODE
    scale = np.where(is_kept.reshape(layer.scale.shape), layer.scale, layer.old_scale)
    keeps = layer.on_codes(np.asarray(is_kept))
    return np.where(keeps, layer.codes, codes).astype(np.int8), scale


def _fix_bias(graph: Graph, reader: Node, scale: Array) -> bool:
    """Bring a layer's bias to its new scale; False where it does not fit."""
    bias = reader.inputs[2] if len(reader.inputs) > 2 else None
    node = None if bias is None else bias.producer()
    source = reader.inputs[0].producer() if reader.inputs[0] is not None else None
    if node is None or source is None or node.op_type != "DequantizeLinear":
        # A bias that stays float has no scale.
        return True
    codes, old = (graph.constant(value) for value in node.inputs[:2])
    step = graph.constant(source.inputs[1]) if len(source.inputs) > 1 else None
    if codes is None or old is None or step is None:
        return False
    sums = (step.astype(np.float32) * scale.astype(np.float32)).astype(np.float32)
    wanted = np.rint(codes * (old.astype(np.float64) / sums.reshape(old.shape)))
    if not np.abs(wanted).max(initial=0) <= _INT32.max // 2:
        return False
    for value, array in zip(
        node.inputs[:2],
        (wanted.astype(np.int32), sums.reshape(old.shape)),
        strict=True,
    ):
        if value is not None:
            set_constant(value, array)
    return True


def norms_moved(layers: Sequence[Layer]) -> tuple[int, int]:
    """Channels that differ by a factor alone, as batch norms leave them, and all."""
    counts = [layer.moved for layer in layers]
    return sum(some for some, _ in counts), sum(every for _, every in counts)


def grids_of(layers: Sequence[Layer], grid: int) -> dict[str, int]:
    """The same grid for all layers."""
    return {layer.name: grid for layer in layers}
