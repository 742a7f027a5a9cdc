"""Give matrix products without a bias one that is next to nothing, for OpenVINO.

Where two quantized products of matrices follow each other, OpenVINO 2026.4 makes one
kernel of both. It forgets the zero point of the first one's input unless the first has
a bias, and the results are garbage, or it does not compile; a bias of zeros it removes
before. One unit of one int32 sum, hundreds of which are a step of the result, keeps
both runtimes right. onnxruntime computes the same either way.
"""

from __future__ import annotations

import numpy as np

from skerry.graph import (
    Graph,
    Node,
    Value,
    dims,
    insert_after,
    make_initializer,
    make_node,
    make_value,
)


def give_biases(graph: Graph) -> None:
    """Add the smallest bias to quantized products of matrices without one, in place.

    Args:
        graph: A graph with pairs, as `insert_qdq` writes it; its nodes are named.
    """
    for node in graph.nodes:
        if _is_in_danger(graph, node):
            _give_bias(graph, node)


def _is_in_danger(graph: Graph, node: Node) -> bool:
    if node.op_type not in ("Gemm", "MatMul") or node.domain not in ("", "ai.onnx"):
        return False
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return False
    source, weights = (_dequantizer(value) for value in node.inputs[:2])
    if source is None or weights is None or len(dims(node.outputs[0]) or ()) != 2:
        return False
    zero_point = graph.constant(source.inputs[2])
    is_constant = graph.constant(weights.inputs[0]) is not None
    is_shifted = zero_point is not None and bool(zero_point.any())
    return is_constant and is_shifted and _is_quantized(node.outputs[0])


def _dequantizer(value: Value | None) -> Node | None:
    producer = None if value is None else value.producer()
    is_one = producer is not None and producer.op_type == "DequantizeLinear"
    return producer if is_one else None


def _is_quantized(value: Value) -> bool:
    """Whether a value is quantized as it is, or behind one operator without weights."""
    for use in value.uses():
        reader = use.node
        if reader.op_type == "QuantizeLinear":
            return True
        is_bias = reader.op_type == "Add" and _dequantizer(reader.inputs[1 - use.idx])
        if is_bias:
            return False
        if any(
            one.node.op_type == "QuantizeLinear" for one in reader.outputs[0].uses()
        ):
            return True
    return False


def _give_bias(graph: Graph, node: Node) -> None:
    result, channels = node.outputs[0], (dims(node.outputs[0]) or ())[-1]
    source, weights = (_dequantizer(value) for value in node.inputs[:2])
    if source is None or weights is None or not isinstance(channels, int):
        return
    scales = [graph.constant(one.inputs[1]) for one in (source, weights)]
    if scales[0] is None or scales[1] is None:
        return
    scale = np.asarray(scales[0] * scales[1], np.float32)
    codes = np.eye(1, channels, dtype=np.int32)[0]
    arrays = {
        "codes": codes,
        "scale": scale,
        "zero_point": np.zeros_like(scale, np.int32),
    }
    constants = [
        graph.add_initializer(
            make_initializer(array, graph.unique_name(f"{node.name}.unit.{name}"))
        )
        for name, array in arrays.items()
    ]
    unit = make_node(
        "DequantizeLinear",
        constants,
        {"axis": 0} if scale.ndim else {},
        outputs=[graph.unique_name(f"{node.name}.unit")],
        name=graph.unique_name(f"{node.name}.unit.DequantizeLinear"),
    )
    if node.op_type == "Gemm":
        graph.ir.graph.insert_before(node, [unit])
        node.resize_inputs(3)
        node.replace_input_with(2, unit.outputs[0])
        return
    shape = dims(result) or ()
    graph.ir.graph.insert_before(node, [unit])
    add = make_node(
        "Add",
        [result, unit.outputs[0]],
        outputs=[
            make_value(graph.unique_name(f"{result.name}.biased"), "float32", shape)
        ],
        name=graph.unique_name(f"{node.name}.add_unit"),
    )
    insert_after(graph, result, [add])
