"""How many of a net's weight layers a model keeps as INT8, whoever made it."""

from __future__ import annotations

from pathlib import Path

from skerry.core.errors import SkerryError
from skerry.graph import Graph, Node, Value, read_graph

FLOAT_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv"})
INTEGER_LAYERS = frozenset(
    {
        "ConvInteger",
        "MatMulInteger",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
CARRIERS = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def int8_share(source: Path, path: Path) -> float | None:
    """Share of the source's weight layers whose weights are INT8 in a model.

    Weights that stand in the file as float and are rounded when it is loaded, as some
    tools write them, count as INT8: the layer is computed so.

    Args:
        source: The float model.
        path: The model made from it.

    Returns:
        A fraction; None where the model is not an ONNX file, or cannot be read.
    """
    if path.suffix != ".onnx":
        return None
    try:
        before, after = read_graph(source), read_graph(path)
    except SkerryError:
        return None
    layers = sum(has_weights(before, node) for node in before.nodes)
    quantized = sum(is_quantized(after, node) for node in after.nodes)
    return min(1.0, quantized / layers) if layers else None


def has_weights(graph: Graph, node: Node) -> bool:
    """Whether a node multiplies by constant float weights."""
    if node.op_type not in FLOAT_LAYERS or len(node.inputs) < 2:
        return False
    return _is_constant(graph, _origin(node.inputs[1]))


def is_quantized(graph: Graph, node: Node) -> bool:
    """Whether a node multiplies by constant weights of few bits."""
    if node.op_type in INTEGER_LAYERS:
        place = 3 if node.op_type.startswith("Q") else 1
        return len(node.inputs) > place and _is_constant(graph, node.inputs[place])
    if node.op_type not in FLOAT_LAYERS or len(node.inputs) < 2:
        return False
    value = _origin(node.inputs[1])
    back = value.producer() if value is not None else None
    if back is None or back.op_type != "DequantizeLinear":
        return False
    value = _origin(back.inputs[0])
    there = value.producer() if value is not None else None
    if there is not None and there.op_type == "QuantizeLinear":
        value = _origin(there.inputs[0])
    return _is_constant(graph, value)


def _origin(value: Value | None) -> Value | None:
    """The value that operators which compute nothing have carried here."""
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in CARRIERS:
            break
        value = node.inputs[0]
    return value


def _is_constant(graph: Graph, value: Value | None) -> bool:
    if value is None:
        return False
    node = value.producer()
    is_told = node is not None and node.op_type == "Constant"
    return is_told or graph.constant(value) is not None
