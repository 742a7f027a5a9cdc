"""Give scales to results that a QDQ graph leaves in float.

CPUs compute the last layers' results in float at no cost, so quantizers for CPUs leave
them so. An NPU has no float: there, each result needs a scale of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skerry.adapt.tflite.pairs import (
    CARRIERS,
    FUSING,
    behind_activation,
    constant_of,
    sole_reader,
    written_quantization,
)
from skerry.graph import (
    Graph,
    Node,
    Value,
    dtype_name,
    insert_after,
    make_initializer,
    make_node,
    name_all_nodes,
)

FIXED_RANGES = {
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
}
"""Between what some operators' results always are."""

_FIXED_SCALES = {"Sigmoid": (256, -128), "Softmax": (256, -128), "Tanh": (128, 0)}
"""One over the scale, and the zero point, that TFLite's kernels have for them."""

_COMPUTES = frozenset(
    {
        "Abs",
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Elu",
        "Exp",
        "Gemm",
        "GlobalAveragePool",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "PRelu",
        "ReduceMean",
        "Relu",
        "Sigmoid",
        "Softmax",
        "Sub",
        "Tanh",
    }
)


def unscaled(graph: Graph) -> tuple[str, ...]:
    """The names of results that are computed of codes alone and kept as floats.

    So are inputs of which something is cut or moved before it becomes codes.

    Those of fixed ranges, which need no samples, are among them.
    """
    return tuple(str(value.name) for value in _unscaled(graph))


def with_scales(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> Graph:
    """Return a copy in which results pass through pairs.

    Args:
        graph: A QDQ graph; left as it was.
        ranges: Least and greatest number by name of value.
    """
    scaled = name_all_nodes(graph)
    for value in _unscaled(scaled):
        name, producer = str(value.name), value.producer()
        if name not in ranges:
            continue
        kind = producer.op_type if producer is not None else ""
        if kind in _FIXED_SCALES:
            count, zero = _FIXED_SCALES[kind]
            scale = 1 / count
        else:
            low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 0.0)
            scale = max((high - low) / 255, float(np.finfo(np.float32).tiny))
            zero = round(-low / scale) - 128
        insert_pair(scaled, value, scale, zero)
    return scaled


def _unscaled(graph: Graph) -> list[Value]:
    found = [value for value in graph.input_values if _is_read_as_float(value)]
    scaled = set(found)
    for node in graph.nodes:
        if node.op_type == "DequantizeLinear":
            scaled.add(node.outputs[0])
            continue
        varying = [
            value
            for value in node.inputs
            if value is not None and constant_of(graph, value) is None
        ]
        if not varying or not scaled.issuperset(varying):
            continue
        if node.op_type in CARRIERS:
            scaled.update(node.outputs)
        elif node.op_type in _COMPUTES and _is_quantizable(graph, node):
            value = _result(node)
            if written_quantization(graph, value) is None and value not in found:
                found.append(value)
            scaled.update((value, node.outputs[0]))
    return found


def _is_read_as_float(value: Value) -> bool:
    """Whether an input of floats is read by something that makes no codes of it."""
    readers = value.consumers()
    return dtype_name(value) == "float32" and any(
        one.op_type in CARRIERS for one in readers
    )


def _is_quantizable(graph: Graph, node: Node) -> bool:
    """Whether the weights of a layer are codes, and its result is of floats."""
    if dtype_name(node.outputs[0]) not in ("float32", None):
        return False
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return True
    weights = constant_of(graph, node.inputs[1])
    return weights is None or weights.quantization is not None


def _result(node: Node) -> Value:
    """A node's result, behind what is computed along with it."""
    value = node.outputs[0]
    reader = sole_reader(value)
    if node.op_type == "MatMul" and reader is not None and reader.op_type == "Add":
        value = reader.outputs[0]
    return behind_activation(value) if node.op_type in FUSING else value


def insert_pair(graph: Graph, value: Value, scale: float, zero_point: int) -> None:
    """Pass a value through a pair of int8, in place.

    Args:
        graph: The graph of the value.
        value: What all that reads it will read as codes.
        scale: Of the codes.
        zero_point: The code of 0.
    """
    name = str(value.name)
    parameters = [
        graph.add_initializer(make_initializer(array, graph.unique_name(wish)))
        for array, wish in (
            (np.array(scale, np.float32), f"{name}.scale"),
            (np.array(zero_point, np.int8), f"{name}.zero_point"),
        )
    ]
    quantize = make_node(
        "QuantizeLinear",
        [value, *parameters],
        outputs=[graph.unique_name(f"{name}.q")],
        name=graph.unique_name(f"{name}.QuantizeLinear"),
    )
    dequantize = make_node(
        "DequantizeLinear",
        [quantize.outputs[0], *parameters],
        outputs=[graph.unique_name(f"{name}.dq")],
        name=graph.unique_name(f"{name}.DequantizeLinear"),
    )
    insert_after(graph, value, [quantize, dequantize])
