"""What a graph costs to run: multiply-accumulates, weight bytes, activation memory.

Conventions:

- A multiply-accumulate (MAC) is counted for convolutions (per group), transposed
  convolutions, `Gemm` and `MatMul`, and their integer forms; all other operators count
  none. For a convolution that is N·Cout·Hout·Wout · (Cin/groups)·Kh·Kw.
- A weight is an initializer or the result of a Constant node. What is computed from
  weights alone (such as the dequantized weights of a QDQ model) takes no memory of its
  own: runtimes compute it once or fuse it.
- An activation lives from the node that makes it to the last node that reads it, in
  the order in which the nodes stand; while a node runs, what it reads and what it makes
  are there together. Inputs of the graph live from the start to their last reader,
  outputs from their maker to the end. No two activations share memory, but for these:
  the results of `Identity`, `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze` are views;
  `DequantizeLinear` is part of the nodes that read it, and `QuantizeLinear` of the node
  before it where it is the only reader, so a QDQ model holds integers.
- Nodes inside If, Loop and Scan are not counted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from skerry.core.errors import ModelError
from skerry.graph import _onnx
from skerry.graph._onnx import Node, Value, attribute
from skerry.graph.model_graph import Graph
from skerry.graph.shapes import infer_shapes, with_static_inputs

_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_CONVOLUTION_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """What one node costs.

    Attributes:
        name: The node's name, or that of its first output if it has none.
        op_type: The operator.
        macs: Multiply-accumulates.
        weight_bytes: Bytes of the weights it reads.
        input_bytes: Bytes of the activations it reads.
        output_bytes: Bytes of what it makes.
    """

    name: str
    op_type: str
    macs: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCost:
    """What a graph costs.

    Attributes:
        nodes: The nodes but for those that depend on weights alone, in order.
        macs: Multiply-accumulates of all nodes.
        weight_bytes: Bytes of all weights, each counted once.
        peak_activation_bytes: The most bytes of activations that live together.
    """

    nodes: tuple[NodeCost, ...]
    macs: int
    weight_bytes: int
    peak_activation_bytes: int


def count(graph: Graph) -> GraphCost:
    """Count what a graph with static shapes costs.

    Args:
        graph: The graph, with the shapes that `with_static_inputs` and `infer_shapes`
            give it.

    Raises:
        ModelError: The shape of a tensor is unknown.
    """
    weights = _weights(graph)
    nodes = [
        node
        for node in graph.nodes
        if not all(value in weights for value in node.outputs)
    ]
    costs = tuple(_node_cost(graph, node, weights) for node in nodes)
    return GraphCost(
        nodes=costs,
        macs=sum(cost.macs for cost in costs),
        weight_bytes=sum(_size_bytes(graph, value) for value in _stored(graph)),
        peak_activation_bytes=_peak_bytes(graph, nodes, weights),
    )


def peak_activation_bytes(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]]
) -> int | None:
    """Count the most bytes of activations that live together.

    Args:
        graph: The graph.
        shapes: Of its inputs, by name.

    Returns:
        None where a size is known only when the model runs.
    """
    try:
        static = infer_shapes(with_static_inputs(graph, shapes))
        return count(static).peak_activation_bytes
    except ModelError:
        return None


def _stored(graph: Graph) -> list[Value]:
    """The weights that the model holds."""
    constants = [node.outputs[0] for node in graph.nodes if node.op_type == "Constant"]
    return [*graph.initializers, *constants]


def _weights(graph: Graph) -> dict[Value, int]:
    """The values that never change, with the bytes of the weights they come from."""
    weights = {value: _size_bytes(graph, value) for value in _stored(graph)}
    for node in graph.nodes:
        if _is_constant(node, weights):
            read = sum(weights[value] for value in node.inputs if value is not None)
            weights |= dict.fromkeys(node.outputs, read)
    return weights


def _is_constant(node: Node, weights: dict[Value, int]) -> bool:
    """Whether a node depends on weights alone."""
    read = [value for value in node.inputs if value is not None]
    return bool(read) and all(value in weights for value in read) and not _nested(node)


def _node_cost(graph: Graph, node: Node, weights: dict[Value, int]) -> NodeCost:
    read = {value for value in node.inputs if value is not None}
    made = [value for value in node.outputs if value.name]
    return NodeCost(
        name=node.name or made[0].name or "",
        op_type=node.op_type,
        macs=_macs(graph, node),
        weight_bytes=sum(weights.get(value, 0) for value in read),
        input_bytes=sum(
            _size_bytes(graph, value) for value in read if value not in weights
        ),
        output_bytes=sum(_size_bytes(graph, value) for value in made),
    )


def _macs(graph: Graph, node: Node) -> int:
    if node.domain != "":
        return 0
    if node.op_type in _CONVOLUTION_WEIGHTS:
        weight = node.inputs[_CONVOLUTION_WEIGHTS[node.op_type]]
        return math.prod(_sizes(graph, node.outputs[0])) * math.prod(
            _sizes(graph, weight)[1:]
        )
    if node.op_type == "ConvTranspose":
        return math.prod(_sizes(graph, node.inputs[0])) * math.prod(
            _sizes(graph, node.inputs[1])[1:]
        )
    if node.op_type in _PRODUCTS:
        axis = -2 if attribute(node, "transA", 0) else -1
        depth = _sizes(graph, node.inputs[0])[axis]
        return math.prod(_sizes(graph, node.outputs[0])) * depth
    return 0


def _peak_bytes(graph: Graph, nodes: list[Node], weights: dict[Value, int]) -> int:
    position = {
        inner: index
        for index, node in enumerate(nodes)
        for inner in (node, *_nested(node))
    }
    births: dict[Value, int] = defaultdict(lambda: len(nodes))
    deaths: dict[Value, int] = defaultdict(int)
    for value in graph.values():
        if value in weights:
            continue
        producer = value.producer()
        birth = 0 if producer is None else position[producer]
        last = max((position.get(user, 0) for user in value.consumers()), default=birth)
        place = _place(value)
        births[place] = min(births[place], birth)
        deaths[place] = max(
            deaths[place], len(nodes) if value.is_graph_output() else last
        )
    changes = [0] * (len(nodes) + 2)
    for place, birth in births.items():
        size = _size_bytes(graph, place)
        changes[birth] += size
        changes[deaths[place] + 1] -= size
    return max(accumulate(changes))


def _place(value: Value) -> Value:
    """The value in whose memory a value lies: mostly itself."""
    while True:
        producer, readers = value.producer(), value.consumers()
        is_output = value.is_graph_output()
        if producer is None:
            return value
        if len(readers) == 1 and not is_output and _is_first(value, readers[0]):
            value = readers[0].outputs[0]
            continue
        source = producer.inputs[0] if producer.inputs else None
        is_view = producer.op_type in _VIEWS or (
            producer.op_type == "DequantizeLinear" and not is_output
        )
        if source is None or not is_view:
            return value
        value = source


def _is_first(value: Value, reader: Node) -> bool:
    """Whether a node quantizes a value, rather than reads it as a scale."""
    return reader.op_type == "QuantizeLinear" and reader.inputs[0] is value


def _nested(node: Node) -> list[Node]:
    """The nodes of the graphs inside a node."""
    return [inner for graph in _onnx.subgraphs(node) for inner in _onnx.walk(graph)]


def _sizes(graph: Graph, value: Value | None) -> tuple[int, ...]:
    dims = None if value is None else _onnx.dims(value)
    sizes = tuple(size for size in dims or () if isinstance(size, int))
    if value is None or dims is None or len(sizes) < len(dims):
        raise _unknown(graph, value)
    return sizes


def _size_bytes(graph: Graph, value: Value) -> int:
    size = _onnx.size_bytes(value)
    if size is None:
        raise _unknown(graph, value)
    return size


def _unknown(graph: Graph, value: Value | None) -> ModelError:
    open_inputs = [
        spec.name
        + "="
        + "×".join(str(size) if isinstance(size, int) else "?" for size in spec.shape)
        for spec in graph.inputs
        if not spec.is_static
    ]
    if open_inputs:
        hint = f"Give the inputs static shapes: {', '.join(open_inputs)}."
    else:
        hint = "Infer the shapes first; a size that depends on values stays unknown."
    name = "that was left out" if value is None else repr(value.name)
    return ModelError(
        f"the shape of the tensor {name} of {graph.name} is unknown", hint=hint
    )
