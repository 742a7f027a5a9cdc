"""What the pairs of a QDQ graph say: which values are codes, and of which scale.

All scales are given as TFLite has them, for int8: the zero points of uint8 are moved
by 128, as their codes are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skerry.adapt.tflite.net import Quantization
from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, attribute, sole_use

SHIFT = 128
"""From uint8 to int8."""

CARRIERS = frozenset(
    {
        "DepthToSpace",
        "Flatten",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that may stand between codes, and keep their scale."""

FUSING = frozenset({"Add", "Conv", "Gemm", "MatMul", "Mul", "Sub"})
"""Operators into which TFLite fuses an activation."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constant:
    """A constant of a QDQ graph.

    Attributes:
        array: int8 or int32 codes, or floats.
        quantization: Of the codes; None for floats.
    """

    array: Array
    quantization: Quantization | None = None

    @property
    def floats(self) -> Array:
        """What it stands for, float64 where it is codes."""
        if self.quantization is None:
            return self.array
        shape = [1] * self.array.ndim
        if self.quantization.scale.size > 1:
            shape[self.quantization.axis] = -1
        zero = self.quantization.zero_point.reshape(shape)
        scale = self.quantization.scale.astype(np.float64).reshape(shape)
        return np.asarray((self.array.astype(np.int64) - zero) * scale)

    def transposed(self, order: tuple[int, ...]) -> Constant:
        """The same with its dimensions in another order."""
        quantization = self.quantization
        if quantization is not None and quantization.scale.size > 1:
            axis = order.index(quantization.axis)
            quantization = replace(quantization, axis=axis)
        array = np.ascontiguousarray(self.array.transpose(order))
        return Constant(array=array, quantization=quantization)


def constant_of(graph: Graph, value: Value | None) -> Constant | None:
    """A constant, as codes where it is stored as codes; None for what varies.

    Raises:
        ModelError: Its codes are of a kind that TFLite does not have.
    """
    plain = graph.constant(value)
    if plain is not None:
        return Constant(array=plain)
    producer = None if value is None else value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        return None
    codes = graph.constant(producer.inputs[0])
    if codes is None:
        return None
    quantization = quantization_of(graph, producer)
    if codes.dtype == np.uint8:
        codes = (codes.astype(np.int16) - SHIFT).astype(np.int8)
    return Constant(array=codes, quantization=quantization)


def quantization_of(graph: Graph, node: Node) -> Quantization:
    """The scale of a QuantizeLinear or DequantizeLinear.

    Raises:
        ModelError: It varies, or is of codes that TFLite does not have.
    """
    scale = graph.constant(node.inputs[1])
    has_zero = len(node.inputs) > 2 and node.inputs[2] is not None
    zero = graph.constant(node.inputs[2]) if has_zero else np.zeros((), np.uint8)
    if scale is None or zero is None or scale.ndim > 1:
        raise ModelError(
            f"{graph.name} has codes whose scale varies or is one a block (node "
            f"{node.name!r}), which TFLite does not have",
            hint="Quantize it with one scale a tensor or a channel.",
        )
    if zero.dtype.name not in ("int8", "uint8", "int32"):
        raise ModelError(
            f"{graph.name} has codes of {zero.dtype.name} (node {node.name!r}), where "
            "TFLite's are written as int8",
            hint="Quantize it with 8 bits: skerry compress does.",
        )
    moved = SHIFT if zero.dtype == np.uint8 else 0
    zero_point = zero.astype(np.int64).reshape(-1) - moved
    scale = scale.astype(np.float32).reshape(-1)
    return Quantization(
        scale=scale,
        zero_point=np.broadcast_to(zero_point, scale.shape).copy(),
        axis=attribute(node, "axis", 1) if scale.size > 1 else 0,
    )


def written_quantization(graph: Graph, value: Value) -> Quantization | None:
    """The scale with which all that reads a float value quantizes it.

    Operators that only carry it may stand between: codes pass through them as well.

    Returns:
        None where something reads it as floats, nothing reads it, or scales differ.
    """
    found = _written(graph, value)
    alike = bool(found) and all(found[0].is_like(one) for one in found[1:])
    return found[0] if alike and found[0].scale.size == 1 else None


def _written(graph: Graph, value: Value) -> list[Quantization]:
    """The scales of all that quantizes a value; none where it is read as floats."""
    if value.is_graph_output():
        return []
    scales: list[Quantization] = []
    for use in value.uses():
        found: list[Quantization] = []
        if use.node.op_type == "QuantizeLinear" and use.idx == 0:
            found = [quantization_of(graph, use.node)]
        elif use.node.op_type in CARRIERS and use.idx == 0:
            found = _written(graph, use.node.outputs[0])
        if not found:
            return []
        scales += found
    return scales


def input_quantizations(graph: Graph) -> dict[Value, Quantization | None]:
    """What the codes of each input stand for; None for an input of floats."""
    return {value: _input_quantization(graph, value) for value in graph.input_values}


def _input_quantization(graph: Graph, value: Value) -> Quantization | None:
    if (found := written_quantization(graph, value)) is not None:
        return found
    waiting, seen = [value], set[Value]()
    while waiting:
        for use in waiting.pop().uses():
            if use.node.op_type == "DequantizeLinear" and use.idx == 0:
                return quantization_of(graph, use.node)
            made = use.node.outputs[0]
            if use.node.op_type in CARRIERS and use.idx == 0 and made not in seen:
                seen.add(made)
                waiting.append(made)
    return None


def behind_activation(value: Value) -> Value:
    """What the Relu or Clip makes that alone reads a value; else the value itself."""
    reader = sole_reader(value)
    is_fused = reader is not None and reader.op_type in ("Clip", "Relu")
    return reader.outputs[0] if is_fused and reader is not None else value


def sole_reader(value: Value) -> Node | None:
    """The only node that reads a value, if it is one that ONNX itself defines."""
    use = sole_use(value)
    return None if use is None or use[0].domain else use[0]
