"""Write an ONNX graph as a TFLite file, without TensorFlow.

A QDQ graph becomes codes of int8: what stands between pairs is computed in integers,
and an input that is only read through QuantizeLinear, or an output that is only made
by DequantizeLinear, is one of codes. Everything else stays float.

TFLite's operators want channels last. Inputs and outputs of four dimensions have them
so where that saves transposes, and else keep the graph's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType

from skerry.adapt.tflite import _schema
from skerry.adapt.tflite import write_arithmetic as arithmetic
from skerry.adapt.tflite import write_layers as layers
from skerry.adapt.tflite import write_shapes as shapes
from skerry.adapt.tflite.net import Net
from skerry.adapt.tflite.pairs import (
    input_quantizations,
    quantization_of,
)
from skerry.adapt.tflite.tidy import tidied
from skerry.adapt.tflite.writing import Held, Writing, unwritten
from skerry.core.errors import ModelError
from skerry.core.names import did_you_mean
from skerry.graph import (
    Graph,
    Node,
    constants_to_initializers,
    fold_constants,
    name_all_nodes,
    remove_dead,
    upgrade_opset,
)

DESCRIPTION = "Written by Skerry."
OLDEST_OPSET = 13
"""Older graphs are raised to it: there, axes of Squeeze are inputs."""

RULES: Mapping[str, arithmetic.Rule] = MappingProxyType(
    {
        "Abs": arithmetic.unary("ABS", integer=False),
        "Add": arithmetic.pairwise("ADD", fuses=True),
        "AveragePool": layers.write_average_pool,
        "Ceil": arithmetic.unary("CEIL", integer=False),
        "Clip": arithmetic.write_relu,
        "Concat": shapes.write_concat,
        "Conv": layers.write_conv,
        "ConvTranspose": layers.write_transposed,
        "Cos": arithmetic.unary("COS", integer=False),
        "DepthToSpace": shapes.write_blocks,
        "Div": arithmetic.pairwise("DIV", fuses=True, integer=False),
        "Dropout": shapes.write_identity,
        "Elu": arithmetic.write_elu,
        "Exp": arithmetic.unary("EXP", integer=False),
        "Flatten": shapes.write_reshape,
        "Floor": arithmetic.unary("FLOOR", integer=False),
        "Gelu": arithmetic.unary("GELU", integer=False),
        "Gemm": layers.write_gemm,
        "GlobalAveragePool": layers.write_average_pool,
        "GlobalMaxPool": layers.write_global_max_pool,
        "HardSwish": arithmetic.unary("HARD_SWISH"),
        "Identity": shapes.write_identity,
        "LeakyRelu": arithmetic.unary("LEAKY_RELU"),
        "Log": arithmetic.unary("LOG", integer=False),
        "MatMul": layers.write_matmul,
        "Max": arithmetic.pairwise("MAXIMUM", alike=True),
        "MaxPool": layers.write_max_pool,
        "Min": arithmetic.pairwise("MINIMUM", alike=True),
        "Mul": arithmetic.pairwise("MUL", fuses=True),
        "Neg": arithmetic.unary("NEG", integer=False),
        "PRelu": arithmetic.write_prelu,
        "Pad": shapes.write_pad,
        "Pow": arithmetic.pairwise("POW", integer=False),
        "ReduceMax": arithmetic.reduction("REDUCE_MAX", alike=True),
        "ReduceMean": arithmetic.reduction("MEAN", alike=False),
        "ReduceMin": arithmetic.reduction("REDUCE_MIN", alike=True),
        "ReduceSum": arithmetic.reduction("SUM", alike=False),
        "Relu": arithmetic.write_relu,
        "Reshape": shapes.write_reshape,
        "Resize": shapes.write_resize,
        "Sigmoid": arithmetic.unary("LOGISTIC", fixed=arithmetic.UNIT),
        "Sin": arithmetic.unary("SIN", integer=False),
        "Slice": shapes.write_slice,
        "Softmax": arithmetic.write_softmax,
        "SpaceToDepth": shapes.write_blocks,
        "Split": shapes.write_split,
        "Sqrt": arithmetic.unary("SQRT", integer=False),
        "Squeeze": shapes.write_reshape,
        "Sub": arithmetic.pairwise("SUB", fuses=True),
        "Tanh": arithmetic.unary("TANH", fixed=arithmetic.SIGNED_UNIT),
        "Transpose": shapes.write_transpose,
        "Unsqueeze": shapes.write_reshape,
    }
)
"""What writes a node, by its operator."""


def write_tflite(graph: Graph, *, keep_layout: bool = False) -> bytes:
    """Write a graph as a TFLite file that LiteRT and compilers for NPUs read.

    Args:
        graph: With fixed shapes; its codes are of 8 bits, its weights symmetric.
        keep_layout: Whether inputs and outputs stay in the graph's own order even
            where channels last would save transposes.

    Returns:
        The file; the same graph gives the same bytes.

    Raises:
        ModelError: An operator, a kind of codes or an open shape that TFLite has not.
        MissingExtraError: `tflite` is not installed.
    """
    ready = _ready(graph)
    choices = (True,) if keep_layout else (True, False)
    ways = list(product(choices, choices))
    nets = [_write(ready, way) for way in ways]
    best = min(nets, key=_transposes)
    return _schema.encode(best, DESCRIPTION)


def _ready(graph: Graph) -> Graph:
    """Constants as initializers, and nothing that only constants go into."""
    raised = upgrade_opset(graph, OLDEST_OPSET)
    return name_all_nodes(
        remove_dead(fold_constants(constants_to_initializers(raised)))
    )


def count_floats(content: bytes) -> tuple[int, tuple[str, ...]]:
    """Tell what of a TFLite file that `write_tflite` made stays float.

    Returns:
        The number of operators on codes, and the names of what those on floats make.
    """
    net = _schema.decode(content, "the file")
    floats = [
        net.tensors[operator.outputs[0]].name
        for operator in net.operators
        if any(
            net.tensors[index].dtype == "float32"
            for index in (*operator.inputs, *operator.outputs)
            if index >= 0
        )
    ]
    return len(net.operators) - len(floats), tuple(floats)


def _transposes(net: Net) -> int:
    return sum(operator.code == "TRANSPOSE" for operator in net.operators)


def _write(graph: Graph, keeps_layout: tuple[bool, bool]) -> Net:
    writing = Writing(graph, keeps_layout=keeps_layout)
    for value, quantization in input_quantizations(graph).items():
        writing.add_input(value, quantization)
    for node in graph.nodes:
        if node not in writing.fused:
            _rule(writing, node)(writing, node)
    return tidied(writing.finish())


def _rule(writing: Writing, node: Node) -> arithmetic.Rule:
    if node.op_type == "QuantizeLinear":
        return _quantize
    if node.op_type == "DequantizeLinear":
        return _dequantize
    if node.domain == "" and node.op_type in RULES:
        return RULES[node.op_type]
    raise unwritten(
        writing,
        node,
        "is not written by Skerry",
        f"Rewrite it first: skerry adapt. {did_you_mean(node.op_type, RULES)}",
    )


def _quantize(writing: Writing, node: Node) -> None:
    """Codes: those that are there already, if they are of this scale."""
    value, result = node.inputs[0], node.outputs[0]
    if value is None or writing.is_constant(value):
        return
    quantization = quantization_of(writing.graph, node)
    held, is_codes = writing.where(value)
    if not is_codes or not quantization.is_like(writing.quantization(value)):
        made = writing.requantized(held.tensor, quantization)
        held = Held(tensor=made, order=held.order)
    writing.keep(result, held, is_codes=True)


def _dequantize(writing: Writing, node: Node) -> None:
    """Numbers that are there as codes; floats only where something reads floats."""
    value, result = node.inputs[0], node.outputs[0]
    if value is None or writing.is_constant(value):
        return
    held, _ = writing.where(value)
    if not quantization_of(writing.graph, node).is_like(writing.quantization(value)):
        raise ModelError(
            f"{writing.graph.name} reads the codes {value.name!r} with another scale "
            "than they are made with",
            hint="Quantize it again.",
        )
    writing.keep(result, held, is_codes=True)
