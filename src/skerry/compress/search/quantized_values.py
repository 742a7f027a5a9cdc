"""Read back, from a quantized graph, which values are integers and in which steps.

What a step meant to do is in its recipe; what a runtime is given is in the graph. So
the evidence is taken from the graph, whichever steps made it: each value that passes
through QuantizeLinear and DequantizeLinear, and each constant that is stored as codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from skerry.compress.ptq.operators import (
    Role,
    fused_activation,
    operands,
    role,
    weight_axis,
)
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, attribute, remove_dead

_FUSED_INTEGER = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger")
_ADDED = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """A value that passes through QuantizeLinear and DequantizeLinear.

    Attributes:
        name: Of what QuantizeLinear makes, which no other pair has.
        value: What is quantized.
        restored: What its DequantizeLinear nodes make.
        scale: The size of a step.
        lowest: The lowest step, counted from zero.
        highest: The highest one.
        dtype: Of the codes.
    """

    name: str
    value: Value
    restored: tuple[Value, ...]
    scale: float
    lowest: int
    highest: int
    dtype: str

    @property
    def low(self) -> float:
        """The least number that a code stands for."""
        return self.lowest * self.scale

    @property
    def high(self) -> float:
        """The largest number that a code stands for."""
        return self.highest * self.scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredWeights:
    """Constant weights that a graph stores as codes.

    Attributes:
        steps: The codes less their zero points, int32, of the weights' shape.
        scale: float32: one number, or one a channel, shaped to be multiplied.
        axis: The axis of output channels, where the operator has one.
        dtype: Of the codes.
    """

    steps: Array
    scale: Array
    axis: int | None
    dtype: str

    @property
    def is_per_channel(self) -> bool:
        """Whether channels have scales of their own."""
        return self.scale.size > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """What one node of a quantized graph reads and writes in integers.

    Attributes:
        reads: Names of the pairs that it reads.
        writes: Name of the pair that its output, or that of the activation fused into
            it, passes through; None where that stays float.
        weights: Its weights, where they are stored as codes.
        dtype: What it computes in, `int8` or `int16`; empty for float.
    """

    reads: tuple[str, ...]
    writes: str | None
    weights: StoredWeights | None
    dtype: str


def read_pairs(graph: Graph) -> dict[str, Pair]:
    """Find the values that pass through a pair with one constant scale, by name."""
    return {pair.name: pair for pair in _pairs(graph)}


def read_operands(graph: Graph, pairs: Mapping[str, Pair]) -> dict[str, Operands]:
    """Find what each node of a quantized graph computes with, by the node's name.

    Args:
        graph: The quantized graph.
        pairs: What `read_pairs` found in it.
    """
    restored = {
        str(value.name): pair for pair in pairs.values() for value in pair.restored
    }
    written = {str(pair.value.name): pair for pair in pairs.values()}
    found = {
        str(node.name): _operands(graph, node, restored, written)
        for node in graph.nodes
        if node.op_type not in _ADDED
    }
    # An activation fused into what makes its input computes in integers with it.
    for node in graph.nodes:
        fused, maker = fused_activation(node), found.get(str(node.name))
        if fused is not None and maker is not None and maker.writes is not None:
            found[str(fused.name)] = Operands(
                reads=(), writes=maker.writes, weights=None, dtype=maker.dtype
            )
    return found


def float_twin(graph: Graph) -> Graph:
    """Return a copy in which values are not rounded on their way; weights still are.

    Its values have the names and the scaling of the quantized graph, so they can be
    held against the ranges there whatever was equalized before.
    """
    twin = graph.copy()
    for pair in read_pairs(twin).values():
        for restored in pair.restored:
            for use in list(restored.uses()):
                use.node.replace_input_with(use.idx, pair.value)
    return remove_dead(twin)


def _pairs(graph: Graph) -> Iterator[Pair]:
    for node in graph.nodes:
        if node.op_type != "QuantizeLinear" or node.inputs[0] is None:
            continue
        scale, zero = (_constant(graph, node, index) for index in (1, 2))
        if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
            continue
        if zero is None:
            zero = np.zeros((), np.uint8)
        codes = _integers(str(zero.dtype))
        yield Pair(
            name=str(node.outputs[0].name),
            value=node.inputs[0],
            restored=tuple(
                use.node.outputs[0]
                for use in node.outputs[0].uses()
                if use.node.op_type == "DequantizeLinear"
            ),
            scale=float(scale.reshape(())),
            lowest=codes.min - int(zero.reshape(())),
            highest=codes.max - int(zero.reshape(())),
            dtype=str(codes.dtype),
        )


def _integers(name: str) -> np.iinfo[np.integer]:
    try:
        return np.iinfo(name)
    except (TypeError, ValueError):  # a type that numpy does not know
        return np.iinfo(np.uint8)


def _constant(graph: Graph, node: Node, index: int) -> Array | None:
    return graph.constant(node.inputs[index]) if index < len(node.inputs) else None


def _operands(
    graph: Graph, node: Node, restored: Mapping[str, Pair], written: Mapping[str, Pair]
) -> Operands:
    sources = [value for value in operands(node) if value is not None]
    reads = [
        restored[str(value.name)] for value in sources if str(value.name) in restored
    ]
    stored = [value for value in sources if _is_stored(graph, value)]
    fused = fused_activation(node)
    outputs = [one.outputs[0] for one in (node, fused) if one is not None]
    pair = next((written[str(v.name)] for v in outputs if str(v.name) in written), None)
    # Products may end in floats; all else that does was never meant to be integer.
    kind = role(node)
    may_be = kind is not Role.FLOAT and (pair is not None or kind is Role.WEIGHTS)
    is_integer = may_be and bool(reads) and len(reads) + len(stored) == len(sources)
    dtype = reads[0].dtype.removeprefix("u") if is_integer else ""
    if node.op_type.startswith(_FUSED_INTEGER):
        dtype = "int8"
    weights = None
    if len(sources) > 1:
        weights = _weights(graph, node, sources[1])
    return Operands(
        reads=tuple(one.name for one in reads) if is_integer else (),
        writes=pair.name if pair is not None and is_integer else None,
        weights=weights,
        dtype=dtype,
    )


def _is_stored(graph: Graph, value: Value) -> bool:
    """Whether a value is dequantized constants."""
    maker = value.producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return False
    return graph.constant(maker.inputs[0]) is not None


def _weights(graph: Graph, node: Node, value: Value) -> StoredWeights | None:
    maker = value.producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    codes, scale = (_constant(graph, maker, index) for index in (0, 1))
    if codes is None or scale is None or not codes.size:
        return None
    zero = _constant(graph, maker, 2)
    steps = codes.astype(np.int32)
    shape = [1] * steps.ndim
    if scale.size > 1:
        axis = attribute(maker, "axis", 1) % steps.ndim
        if scale.ndim != 1 or steps.shape[axis] != scale.size:
            return None  # a scale a block
        shape[axis] = scale.size
    if zero is not None:
        steps = steps - zero.astype(np.int32).reshape(shape if zero.size > 1 else ())
    return StoredWeights(
        steps=steps,
        scale=scale.reshape(shape if scale.size > 1 else ()),
        axis=weight_axis(node, steps.ndim),
        dtype=str(codes.dtype),
    )
