"""Where in a graph channels may be scaled without changing what it computes.

That is between the operator that can make a channel smaller and those that can undo
it. Operators such as ReLU and pooling are positively homogeneous: f(s·x) = s·f(x) for
s > 0. Between two layers joined by such operators alone, channel c may be divided by
s_c in the first one's weights and multiplied by s_c in the next one's (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from skerry.compress.ptq.operators import Role, role, weight
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, attribute, dims

_SAME_AXIS = frozenset({"Identity", "LeakyRelu", "PRelu", "Relu"})
_SPATIAL = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze"})
_SHAPES_ONLY = frozenset({"Shape", "Size"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the channels of a value lie.

    Attributes:
        axis: The dimension.
        repeats: How many neighbours along it belong to one channel: more than one
            where a picture was flattened.
    """

    axis: int
    repeats: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """A layer whose weights can undo the scaling of its input.

    Attributes:
        node: The layer.
        value: What it reads.
        place: Where the channels lie in that.
    """

    node: Node
    value: Value
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Values whose channels can be scaled together.

    Attributes:
        channels: How many.
        source: The operator whose constants make the channels smaller: a layer, a
            product with a constant, or a normalization.
        place: Where the channels lie in what it makes.
        shifts: Additions of constants on the way, with the place of the channels in
            the sum.
        sinks: The layers that make them larger again.
    """

    channels: int
    source: Node
    place: Place
    shifts: tuple[tuple[Node, Place], ...]
    sinks: tuple[Sink, ...]


def find_regions(graph: Graph, *, normalizations: bool = False) -> tuple[Region, ...]:
    """Find all regions, in topological order of their sources; none share a value.

    Args:
        graph: Its nodes are named, the types of its values known.
        normalizations: Whether a `LayerNormalization` is a source too.
    """
    regions: list[Region] = []
    taken: set[Value] = set()
    for node in graph.nodes:
        places = _places_of_output(graph, node)
        if normalizations:
            places += _places_of_normalized(graph, node)
        for place in places:
            search = _Search(graph)
            is_free = node.outputs[0] not in taken
            if is_free and search.grow(node.outputs[0], place) and search.sinks:
                taken |= search.places.keys()
                regions.append(
                    Region(
                        channels=_size(node.outputs[0], place),
                        source=node,
                        place=place,
                        shifts=tuple(search.shifts),
                        sinks=tuple(search.sinks),
                    )
                )
    return tuple(regions)


def constant_operand(graph: Graph, node: Node) -> int | None:
    """The index of the constant that a product, quotient or sum is computed with."""
    if len(node.inputs) != 2 or node.domain not in ("", "ai.onnx"):
        return None
    wanted = {"Mul": (1, 0), "Add": (1, 0), "Div": (1,), "Sub": (1,)}
    for index in wanted.get(node.op_type, ()):
        constant = graph.constant(node.inputs[index])
        other = node.inputs[1 - index]
        if constant is not None and constant.dtype == np.float32:
            return index if graph.constant(other) is None else None
    return None


def _places_of_output(graph: Graph, node: Node) -> list[Place]:
    """Where the channels of a source's output can lie; empty where it is no source."""
    rank = len((dims(node.outputs[0]) if node.outputs else None) or ())
    axes: list[int] = []
    if role(node) is Role.WEIGHTS:
        if _can_scale_output(graph, node):
            axes = [rank - 1 if node.op_type in ("Gemm", "MatMul") else 1]
    elif node.op_type in ("Mul", "Div") and constant_operand(graph, node) is not None:
        # Channels are second in pictures and last in sequences and vectors.
        axes = [1, rank - 1] if rank > 2 else [rank - 1]
    places = [Place(axis=axis) for axis in axes if 0 < axis < rank]
    return [place for place in places if _size(node.outputs[0], place)]


def _places_of_normalized(graph: Graph, node: Node) -> list[Place]:
    """Where the channels of a normalization lie that has one scale for each."""
    rank = len((dims(node.outputs[0]) if node.outputs else None) or ())
    if node.op_type != "LayerNormalization" or node.domain or rank < 2:
        return []
    constants = [graph.constant(value) for value in node.inputs[1:] if value]
    is_last = attribute(node, "axis", -1) in (-1, rank - 1)
    place = Place(axis=rank - 1)
    size = _size(node.outputs[0], place)
    is_one_each = all(
        one is not None and one.dtype == np.float32 and one.shape == (size,)
        for one in constants
    )
    return [place] if is_last and size and is_one_each else []


def _size(value: Value, place: Place) -> int:
    """How many channels a value has; 0 where that is not fixed."""
    size = (dims(value) or ())[place.axis]
    return size if isinstance(size, int) else 0


def _can_scale_output(graph: Graph, node: Node) -> bool:
    value = weight(graph, node)
    array = None if value is None else graph.constant(value)
    if array is None or array.dtype != np.float32:
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and graph.constant(bias) is None:
        return False
    if node.op_type == "ConvTranspose":
        return attribute(node, "group", 1) == 1
    return node.op_type != "MatMul" or array.ndim == 2


class _Search:
    """Follows a value to all that reads it, and keeps what it met on the way."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.places: dict[Value, Place] = {}
        self.shifts: list[tuple[Node, Place]] = []
        self.sinks: list[Sink] = []

    def grow(self, value: Value, place: Place) -> bool:
        """Whether all that reads a value can undo its scaling, or pass it on."""
        # A value that is reached twice is multiplied with itself.
        if value.is_graph_output() or value in self.places:
            return False
        self.places[value] = place
        for use in value.uses():
            node = use.node
            if node.op_type in _SHAPES_ONLY:
                continue
            if node.graph is not self._graph.ir.graph:
                return False
            if use.idx == 0 and self._undoes(node, value, place):
                self.sinks.append(Sink(node=node, value=value, place=place))
                continue
            passed = self._passed(node, use.idx, value, place)
            if passed is None or not self.grow(node.outputs[0], passed):
                return False
        return True

    def _undoes(self, node: Node, value: Value, place: Place) -> bool:
        """Whether a layer's weights are constant and have a row a channel."""
        read = weight(self._graph, node)
        array = None if read is None else self._graph.constant(read)
        rank = len(dims(value) or ())
        if array is None or array.dtype != np.float32:
            return False
        match node.op_type:
            case "Conv":
                return place == Place(axis=1)
            case "Gemm":
                return place.axis == 1 and not attribute(node, "transA", 0)
            case "MatMul":
                return place.axis == rank - 1 and array.ndim == 2
            case _:
                return False

    def _passed(
        self, node: Node, index: int, value: Value, place: Place
    ) -> Place | None:
        """Where the channels lie in what a node makes of them, None where it ends."""
        before, after = dims(value), dims(node.outputs[0])
        is_known = node.domain in ("", "ai.onnx") and len(node.outputs) == 1
        if not is_known or before is None or after is None:
            return None
        constant = constant_operand(self._graph, node)
        if constant is not None or node.op_type == "Mul":
            if constant is not None and node.op_type in ("Add", "Sub"):
                self.shifts.append((node, place))
            is_alike = (
                len(before) == len(after) and before[place.axis] == after[place.axis]
            )
            return place if is_alike else None
        return None if index else self._carried(node, before, after, place)

    def _carried(
        self,
        node: Node,
        before: tuple[int | str | None, ...],
        after: tuple[int | str | None, ...],
        place: Place,
    ) -> Place | None:
        """Where channels lie behind an operator that lets factors through."""
        if node.op_type in _SPATIAL:
            return place if place == Place(axis=1) else None
        if node.op_type == "Transpose":
            order = list(attribute(node, "perm", list(range(len(before)))[::-1]))
            return Place(axis=order.index(place.axis), repeats=place.repeats)
        if node.op_type in _RESHAPES:
            return _reshaped(before, after, place)
        is_same = node.op_type in _SAME_AXIS or self._is_relu(node)
        return place if is_same else None

    def _is_relu(self, node: Node) -> bool:
        """Whether a Clip has no upper limit, and 0 for a lower one."""
        if node.op_type != "Clip" or len(node.inputs) < 2:
            return False
        low = self._graph.constant(node.inputs[1])
        high = node.inputs[2] if len(node.inputs) > 2 else None
        return low is not None and high is None and not low.any()


def _reshaped(
    before: tuple[int | str | None, ...],
    after: tuple[int | str | None, ...],
    place: Place,
) -> Place | None:
    """Where channels lie once the dimensions behind them are merged or dropped."""
    axis = place.axis
    if len(after) <= axis or before[:axis] != after[:axis] or None in before[:axis]:
        return None
    size = before[axis]
    if not isinstance(size, int):
        return None
    if after[axis] == size:
        return place
    behind = [one for one in before[axis + 1 :] if isinstance(one, int)]
    merged = prod(behind)
    is_fixed = len(behind) == len(before) - axis - 1 and len(after) == axis + 1
    if is_fixed and after[axis] == size * merged:
        return Place(axis=axis, repeats=place.repeats * merged)
    return None


def scaled_along(place: Place, rank: int, scale: Array) -> Array:
    """Shape one number a channel so that it broadcasts over a value of a rank."""
    return scale.repeat(place.repeats).reshape(-1, *(1,) * (rank - place.axis - 1))


def names_read(regions: Sequence[Region]) -> Iterator[tuple[str, Place, int]]:
    """What layers read inside regions: name, place and number of channels."""
    for region in regions:
        for sink in region.sinks:
            yield str(sink.value.name), sink.place, region.channels
