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

_OUTGROWN = 10.16
"""How many codes beyond the last one a channel may reach before it keeps its own scale:
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
        codes: INT8 or UINT8.
        scale: A scale a channel, or one.
        zero: The code that stands for 0, in the shape of the scale.
        old_codes: Of the version before.
        old_scale: Of the version before.
        old_zero: Of the version before.
    """

    name: str
    axis: int
    codes: Array
    scale: Array
    zero: Array
    old_codes: Array
    old_scale: Array
    old_zero: Array

    @property
    def weights(self) -> Array:
        """What the codes stand for, float64."""
        wide = self.codes.astype(np.float64) - self.on_codes(self.zero)
        return wide * self.on_codes(self.scale)

    def error(self, grid: int) -> float:
        """How far a grid takes the weights from what they are, squared."""
        codes, scale, zero = put_on_grid(self, grid)
        wide = codes.astype(np.float64) - self.on_codes(zero)
        return float(np.square(wide * self.on_codes(scale) - self.weights).sum())

    @property
    def last_codes(self) -> tuple[int, int]:
        """The least and the largest code; both sides alike where 0 is in the middle."""
        limits = np.iinfo(self.codes.dtype)
        is_centred = limits.min < 0 and not (self.zero.any() or self.old_zero.any())
        return limits.min + is_centred, limits.max

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
    """The layers whose weights of eight bits both versions have, in the graph's order.

    Weights of four bits are left out.
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
    codes, scale = (graph.constant(value) for value in node.inputs[:2])
    old_codes, old_scale = (
        previous.constant(previous.value(name)) for name in names[:2]
    )
    if codes is None or scale is None or old_codes is None or old_scale is None:
        return None
    is_plain = codes.dtype in {np.dtype(np.int8), np.dtype(np.uint8)}
    is_same = codes.dtype == old_codes.dtype and codes.shape == old_codes.shape
    fits = codes.ndim >= 2 and scale.shape == old_scale.shape and scale.ndim <= 1
    if not is_plain or not is_same or not fits:
        return None
    zeros = _zeros(graph, node, previous, before)
    if zeros is None:
        return None
    zero, old_zero = (np.broadcast_to(one, scale.shape) for one in zeros)
    return Layer(
        name=names[0],
        axis=attribute(node, "axis", 1) % codes.ndim,
        codes=codes,
        scale=scale,
        zero=zero,
        old_codes=old_codes,
        old_scale=old_scale,
        old_zero=old_zero,
    )


def _zeros(
    graph: Graph, node: Node, previous: Graph, before: Mapping[str, object]
) -> tuple[Array, Array] | None:
    """The codes of 0, now and before; None where they cannot be made the same."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    name = str(value.name) if value is not None else ""
    is_there = name in before
    now = np.zeros((), np.int16) if value is None else graph.constant(value)
    old = (
        previous.constant(previous.value(name)) if is_there else np.zeros((), np.int16)
    )
    if now is None or old is None or now.shape not in {(), old.shape}:
        return None
    zeros = now.astype(np.int16), old.astype(np.int16)
    is_same = bool((zeros[0] == zeros[1]).all())
    is_own = value is not None and len(list(value.uses())) == 1
    return zeros if is_same or (is_own and is_there) else None


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
            codes, scale, zero = put_on_grid(layer, grids[layer.name])
            node = _reader(frozen.value(layer.name))
            if _fix_bias(frozen, _reader(node.outputs[0]), scale):
                made = [codes, scale]
                if (zero != layer.zero).any():
                    made.append(zero.astype(codes.dtype))
                for value, array in zip(node.inputs, made, strict=False):
                    if value is not None:
                        set_constant(value, array)
    return frozen


def _reader(value: Value) -> Node:
    """The one node that reads a value."""
    (use,) = value.uses()
    return use.node


def put_on_grid(layer: Layer, grid: int) -> tuple[Array, Array, Array]:
    """A layer's codes, scales and zeros, like the old ones as far as that goes."""
    least, most = layer.last_codes
    wanted = layer.weights / layer.on_codes(layer.old_scale)
    wanted += layer.on_codes(layer.old_zero)
    steps = np.rint((wanted - layer.old_codes) / grid) * grid
    codes = np.clip(layer.old_codes + steps, least, most)
    others = tuple(axis for axis in range(codes.ndim) if axis != layer.axis)
    over = np.maximum(wanted - most, least - wanted)
    reach = over.max(axis=others if layer.scale.size > 1 else None)
    is_kept = (reach > _OUTGROWN).reshape(layer.scale.shape)
    keeps = layer.on_codes(np.asarray(is_kept))
    return (
        np.where(keeps, layer.codes, codes).astype(layer.codes.dtype),
        np.where(is_kept, layer.scale, layer.old_scale),
        np.where(is_kept, layer.zero, layer.old_zero),
    )


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
