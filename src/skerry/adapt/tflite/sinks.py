"""Where results go: as codes or as floats, and which activation is fused on the way."""

from __future__ import annotations

import math

import numpy as np

from skerry.adapt.tflite.net import Quantization
from skerry.adapt.tflite.pairs import constant_of, sole_reader, written_quantization
from skerry.adapt.tflite.writing import Sink, Writing
from skerry.graph import Graph, Node, Value, attribute

_NAMES = {
    (0.0, math.inf): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
}
_LOWEST, _HIGHEST = -128, 127


def sink_of(
    writing: Writing,
    node: Node,
    *,
    fuses: bool,
    is_integer: bool,
) -> Sink:
    """Say where a node's result goes; an activation fused into it is marked so.

    Args:
        writing: The net.
        node: What makes the result.
        fuses: Whether its operator can have an activation.
        is_integer: Whether all that it reads is there as codes; the result is codes
            then, if it is quantized.
    """
    value = node.outputs[0]
    reader = sole_reader(value)
    if fuses and reader is not None and reader.op_type in ("Relu", "Clip"):
        limits = limits_of(writing.graph, reader)
        result = reader.outputs[0]
        if limits is not None and reader.inputs[0] is value:
            quantization = (
                written_quantization(writing.graph, result) if is_integer else None
            )
            writing.fused.add(reader)
            return _limited(result, quantization, limits)
    quantization = written_quantization(writing.graph, value) if is_integer else None
    return Sink(value=value, quantization=quantization)


def limits_of(graph: Graph, node: Node) -> tuple[float, float] | None:
    """Between what a Relu or a Clip keeps its input; None where that varies."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    limits = []
    for place, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        value = node.inputs[place] if place < len(node.inputs) else None
        if value is None:
            limits.append(float(attribute(node, name, default)))
            continue
        found = constant_of(graph, value)
        if found is None:
            return None
        limits.append(float(found.floats.ravel()[0]))
    return limits[0], limits[1]


def _limited(
    value: Value, quantization: Quantization | None, limits: tuple[float, float]
) -> Sink:
    """The activation of the schema that keeps between limits, where there is one.

    Codes cannot leave their range, so limits at its ends need nothing.
    """
    name = _NAMES.get(limits)
    if quantization is None:
        if name is None:
            return Sink(value=value, quantization=None, limits=limits)
        return Sink(value=value, quantization=None, activation=name)
    low, high = (_code(limit, quantization) for limit in limits)
    if name is None and (low, high) == (_LOWEST, _HIGHEST):
        name = "NONE"
    if name is None and limits[0] == 0.0 and high == _HIGHEST:
        name = "RELU"
    if name is None:
        return Sink(value=value, quantization=quantization, limits=limits)
    return Sink(value=value, quantization=quantization, activation=name)


def _code(limit: float, quantization: Quantization) -> int:
    if not math.isfinite(limit):
        return _HIGHEST if limit > 0 else _LOWEST
    code = round(limit / float(quantization.scale[0])) + int(quantization.zero_point[0])
    return int(np.clip(code, _LOWEST, _HIGHEST))
