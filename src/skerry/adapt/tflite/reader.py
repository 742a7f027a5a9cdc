"""Read a TFLite file as an ONNX graph: floats as floats, codes as QDQ pairs.

Inputs and outputs keep the file's names, layout and dtypes. Free sizes (a batch of any
size) get the size that the file takes for them, mostly 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from skerry.adapt.tflite import _schema
from skerry.adapt.tflite import read_arithmetic as arithmetic
from skerry.adapt.tflite import read_layers as layers
from skerry.adapt.tflite import read_shapes as shapes
from skerry.adapt.tflite.net import Net, Operator
from skerry.adapt.tflite.reading import Reading
from skerry.core.errors import ModelError
from skerry.core.names import did_you_mean
from skerry.graph import Graph, infer_shapes, parse_graph
from skerry.runtimes._tflite_file import parse_tflite

_DAMAGE = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
    ZeroDivisionError,
)
"""What rules raise where an operator's tensors do not fit it."""

RULES: Mapping[str, arithmetic.Rule] = MappingProxyType(
    {
        "ABS": arithmetic.elementwise("Abs"),
        "ADD": arithmetic.pairwise("Add"),
        "ARG_MAX": arithmetic.read_arg_max,
        "AVERAGE_POOL_2D": layers.read_average_pool,
        "BATCH_MATMUL": layers.read_product,
        "BATCH_TO_SPACE_ND": shapes.read_batch_to_space,
        "CAST": arithmetic.read_cast,
        "CEIL": arithmetic.elementwise("Ceil"),
        "CONCATENATION": shapes.read_concat,
        "CONV_2D": layers.read_conv,
        "COS": arithmetic.elementwise("Cos"),
        "DEPTHWISE_CONV_2D": layers.read_depthwise,
        "DEPTH_TO_SPACE": layers.read_depth_to_space,
        "DEQUANTIZE": arithmetic.read_dequantize,
        "DIV": arithmetic.pairwise("Div"),
        "ELU": arithmetic.elementwise("Elu"),
        "EQUAL": arithmetic.pairwise("Equal"),
        "EXP": arithmetic.elementwise("Exp"),
        "EXPAND_DIMS": shapes.read_reshaped,
        "FLOOR": arithmetic.elementwise("Floor"),
        "FULLY_CONNECTED": layers.read_dense,
        "GATHER": shapes.read_gather,
        "GELU": arithmetic.composed(arithmetic.gelu),
        "GREATER": arithmetic.pairwise("Greater"),
        "HARD_SWISH": arithmetic.elementwise("HardSwish"),
        "LEAKY_RELU": arithmetic.composed(arithmetic.leaky_relu),
        "LESS": arithmetic.pairwise("Less"),
        "LOG": arithmetic.elementwise("Log"),
        "LOGISTIC": arithmetic.elementwise("Sigmoid"),
        "LOG_SOFTMAX": arithmetic.read_log_softmax,
        "MAXIMUM": arithmetic.pairwise("Max"),
        "MAX_POOL_2D": layers.read_max_pool,
        "MEAN": arithmetic.reduction("ReduceMean"),
        "MINIMUM": arithmetic.pairwise("Min"),
        "MIRROR_PAD": shapes.read_mirror_pad,
        "MUL": arithmetic.pairwise("Mul"),
        "NEG": arithmetic.elementwise("Neg"),
        "PACK": shapes.read_pack,
        "PAD": shapes.read_pad,
        "PADV2": shapes.read_pad,
        "POW": arithmetic.pairwise("Pow"),
        "PRELU": arithmetic.read_prelu,
        "QUANTIZE": arithmetic.read_quantize,
        "REDUCE_MAX": arithmetic.reduction("ReduceMax"),
        "REDUCE_MIN": arithmetic.reduction("ReduceMin"),
        "RELU": arithmetic.elementwise("Relu"),
        "RELU6": arithmetic.composed(arithmetic.relu6),
        "RELU_0_TO_1": arithmetic.composed(arithmetic.relu_0_to_1),
        "RELU_N1_TO_1": arithmetic.composed(arithmetic.relu_n1_to_1),
        "RESHAPE": shapes.read_reshape,
        "RESIZE_BILINEAR": layers.read_resize_bilinear,
        "RESIZE_NEAREST_NEIGHBOR": layers.read_resize_nearest,
        "RSQRT": arithmetic.composed(arithmetic.rsqrt),
        "SELECT_V2": arithmetic.read_select,
        "SHAPE": shapes.read_shape,
        "SIN": arithmetic.elementwise("Sin"),
        "SLICE": shapes.read_slice,
        "SOFTMAX": arithmetic.read_softmax,
        "SPACE_TO_BATCH_ND": shapes.read_space_to_batch,
        "SPACE_TO_DEPTH": layers.read_space_to_depth,
        "SPLIT": shapes.read_split,
        "SPLIT_V": shapes.read_split,
        "SQRT": arithmetic.elementwise("Sqrt"),
        "SQUARE": arithmetic.composed(arithmetic.square),
        "SQUEEZE": shapes.read_reshaped,
        "STRIDED_SLICE": shapes.read_strided_slice,
        "SUB": arithmetic.pairwise("Sub"),
        "SUM": arithmetic.reduction("ReduceSum"),
        "TANH": arithmetic.elementwise("Tanh"),
        "TRANSPOSE": shapes.read_transpose,
        "TRANSPOSE_CONV": layers.read_transposed,
        "UNPACK": shapes.read_unpack,
    }
)
"""What reads an operator, by its name in TFLite's schema."""


def read_tflite_graph(content: bytes, *, name: str = "the model") -> Graph:
    """Read a TFLite model as an ONNX graph of opset 17.

    Codes of 8 bits become QDQ pairs with the same scales, so integers mean the same in
    both; weights that are kept as codes or float16 beside floats are read too.

    Args:
        content: The whole file.
        name: What messages call it.

    Returns:
        A checked graph whose tensors have shapes.

    Raises:
        ModelError: It is not a TFLite model, damaged, or has an operator or a kind of
            tensor that is not read.
        MissingExtraError: `tflite` is not installed.
    """
    net = _schema.decode(content, name)
    reading = Reading(net, name, _port_names(content, name))
    try:
        for operator in net.operators:
            reading.begin(operator)
            _rule(reading, net, operator)(reading, operator)
        graph = reading.finish()
    except _DAMAGE as error:
        raise _schema.damaged(name) from error
    return infer_shapes(parse_graph(graph.to_bytes(), name=name))


def operator_codes(content: bytes, *, name: str) -> list[tuple[str, str]]:
    """List a TFLite model's operators: what each is, and the tensor it makes first.

    Raises:
        ModelError: It is not a TFLite model, or damaged.
        MissingExtraError: `tflite` is not installed.
    """
    net = _schema.decode(content, name)
    return [
        (one.code, net.tensors[one.outputs[0]].name)
        for one in net.operators
        if one.outputs and one.outputs[0] >= 0
    ]


def _port_names(content: bytes, name: str) -> dict[int, str]:
    signature = parse_tflite(content, name=name)
    ports = (*signature.inputs, *signature.outputs)
    return {port.tensor: port.spec.name for port in ports}


def _rule(reading: Reading, net: Net, operator: Operator) -> arithmetic.Rule:
    if operator.code in RULES:
        return RULES[operator.code]
    made = [net.tensors[index] for index in operator.outputs if index >= 0]
    what = ", ".join(
        f"{one.name!r} of shape {'×'.join(map(str, one.shape)) or '()'}" for one in made
    )
    raise ModelError(
        f"{reading.name} has the operator {operator.code}, which is not read; it makes "
        f"{what or 'nothing'}",
        hint="Export the model to ONNX with the framework that made it. "
        + did_you_mean(operator.code, RULES),
    )
