"""Let layers that are kept in float be computed in float.

Where a Conv, ConvTranspose or Gemm with float weights reads what a DequantizeLinear
makes, and what it makes goes into a QuantizeLinear, onnxruntime takes it for a layer
whose weights were forgotten: it rounds them to INT8, with one scale, and computes it in
integers. So the very layers that were kept in float because they suffer are rounded
the hard way (its transformer `WeightBiasQuantization`, in all releases since 1.20).

It looks through Relu and Clip only. A LeakyRelu of slope 1, which changes nothing, ends
its search, and is fused into the layer afterwards at no cost; OpenVINO drops it.
"""

from __future__ import annotations

from skerry.graph import Graph, Node, Value, dims, insert_after, make_node, make_value

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})
_SEEN_THROUGH = frozenset(
    {
        "Clip",
        "Flatten",
        "MaxPool",
        "Relu",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""What may stand between a layer and the QuantizeLinear behind it: limits, and what
onnxruntime moves the QuantizeLinear up through."""


def shield_floats(graph: Graph) -> None:
    """Shield what is computed in float between pairs, in place.

    Args:
        graph: A graph with pairs, as `insert_qdq` writes it.
    """
    for node in graph.nodes:
        end = _float_layer(graph, node)
        if end is not None and _is_quantized(end.outputs[0]):
            _shield(graph, end.outputs[0])


def _float_layer(graph: Graph, node: Node) -> Node | None:
    """The last node of a layer with float weights that reads dequantized values."""
    is_layer = node.op_type in _LAYERS or node.op_type == "MatMul"
    if not is_layer or node.domain not in ("", "ai.onnx") or len(node.inputs) < 2:
        return None
    if not _is_dequantized(node.inputs[0]) or _is_dequantized(node.inputs[1]):
        return None
    return node if node.op_type in _LAYERS else _bias(graph, node)


def _bias(graph: Graph, product: Node) -> Node | None:
    """The addition of a constant to a matrix product; both become one Gemm."""
    uses = list(product.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return None
    add, index = uses[0]
    return add if graph.constant(add.inputs[1 - index]) is not None else None


def _is_dequantized(value: Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_quantized(value: Value) -> bool:
    """Whether a value goes into a QuantizeLinear and nowhere else."""
    while not value.is_graph_output():
        readers = {use.node for use in value.uses()}
        if readers and all(one.op_type == "QuantizeLinear" for one in readers):
            return True
        if len(readers) != 1:
            return False
        reader = readers.pop()
        if reader.op_type not in _SEEN_THROUGH or reader.inputs[0] is not value:
            return False
        value = reader.outputs[0]
    return False


def _shield(graph: Graph, value: Value) -> None:
    same = make_value(
        graph.unique_name(f"{value.name}.float"), "float32", dims(value) or ()
    )
    node = make_node(
        "LeakyRelu",
        [value],
        {"alpha": 1.0},
        outputs=[same],
        name=graph.unique_name(f"{value.name}.stays_float"),
    )
    insert_after(graph, value, [node])
