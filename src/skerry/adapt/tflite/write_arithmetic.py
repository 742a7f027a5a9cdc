"""Arithmetic, activations and reductions: from ONNX to TFLite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skerry.adapt.tflite.net import ACTIVATIONS, Option, Quantization
from skerry.adapt.tflite.pairs import Constant, constant_of
from skerry.adapt.tflite.sinks import limits_of, sink_of
from skerry.adapt.tflite.writing import (
    Held,
    Order,
    Sink,
    Writing,
    one_scale,
    plain,
    to_codes,
    unwritten,
)
from skerry.core.seams import Array
from skerry.graph import Node, Value, attribute

Rule = Callable[[Writing, Node], None]

UNIT = one_scale(1 / 256, -128)
"""What SOFTMAX and LOGISTIC write (TFLite's 8-bit quantization specification)."""

SIGNED_UNIT = one_scale(1 / 128, 0)
"""What TANH writes."""

_RELUS = {
    (0.0, np.inf): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
    (0.0, 1.0): "RELU_0_TO_1",
}
_INTEGER_CODES = 255


def pairwise(
    code: str, *, fuses: bool = False, alike: bool = False, integer: bool = True
) -> Rule:
    """The rule of an operator that computes with two values, and broadcasts.

    Args:
        code: Its name in the schema.
        fuses: Whether it can have an activation.
        alike: Whether its kernel takes codes of one scale only.
        integer: Whether it has a kernel for codes.
    """

    def write(writing: Writing, node: Node) -> None:
        values = [value for value in node.inputs if value is not None]
        if len(values) != 2:
            raise unwritten(
                writing, node, "computes with other than two values", "Split it."
            )
        is_integer = integer and all(_has_codes(writing, value) for value in values)
        sink = sink_of(writing, node, fuses=fuses, is_integer=is_integer)
        order = _order(writing, node, values)
        wanted = sink.quantization if alike else None
        inputs = [_operand(writing, value, order, sink, wanted) for value in values]
        options: dict[str, Option] = {}
        if fuses:
            number = ACTIVATIONS.index(sink.activation)
            options["fused_activation_function"] = number
        writing.write(code, inputs, sink, order, options)

    return write


def _has_codes(writing: Writing, value: Value) -> bool:
    """Whether a value is there as codes, or is a constant that can be made so."""
    found = constant_of(writing.graph, value)
    if found is None:
        return writing.quantization(value) is not None
    one = found.quantization
    return one is not None or found.array.dtype == np.float32


def _order(writing: Writing, node: Node, values: list[Value]) -> Order:
    """That of the first varying operand of full rank."""
    rank = len(writing.shape(node.outputs[0]))
    for value in values:
        if not writing.is_constant(value) and len(writing.shape(value)) == rank:
            return writing.order(value)
    return tuple(range(rank))


def _operand(
    writing: Writing,
    value: Value,
    order: Order,
    sink: Sink,
    wanted: Quantization | None,
) -> int:
    """An operand in an order, of the scale that is wanted, if one is."""
    integer = sink.quantization is not None
    found = constant_of(writing.graph, value)
    if found is not None:
        stored = _constant_operand(found, order, wanted, integer=integer)
        return writing.constant(stored.array, str(value.name), stored.quantization)
    shape = writing.shape(value)
    if len(shape) == len(order):
        index = writing.take(value, order, integer=integer)
    else:
        source = writing.take(value, plain(shape), integer=integer)
        whole = (*((1,) * (len(order) - len(shape))), *shape)
        like = writing.tensor(source)
        made = writing.add_tensor(like, whole, like.name)
        writing.operate("RESHAPE", [source, writing.integers(whole)], [made])
        index = writing.arranged(Held(tensor=made, order=plain(whole)), order)
    if wanted is not None and not wanted.is_like(writing.tensor(index).quantization):
        return writing.requantized(index, wanted)
    return index


def _constant_operand(
    found: Constant, order: Order, wanted: Quantization | None, *, integer: bool
) -> Constant:
    """A constant of full rank; as codes of one scale among codes."""
    shape = (1,) * (len(order) - found.array.ndim) + found.array.shape
    quantization = found.quantization
    if not integer:
        array = found.floats.astype(np.float32).reshape(shape)
        return Constant(array=np.ascontiguousarray(array.transpose(order)))
    is_fit = quantization is not None and quantization.scale.size == 1
    if is_fit and found.array.dtype == np.int8 and wanted is None:
        array = found.array.reshape(shape).transpose(order)
        return Constant(array=np.ascontiguousarray(array), quantization=quantization)
    floats = found.floats
    scale = wanted or _spanning(floats)
    array = to_codes(floats.reshape(shape).transpose(order), scale)
    return Constant(array=np.ascontiguousarray(array), quantization=scale)


def _spanning(floats: Array) -> Quantization:
    """A scale whose codes span some numbers, and zero."""
    low = min(float(floats.min(initial=0.0)), 0.0)
    high = max(float(floats.max(initial=0.0)), 0.0)
    scale = max((high - low) / _INTEGER_CODES, float(np.finfo(np.float32).tiny))
    return one_scale(scale, round(-low / scale) - 128)


def unary(
    code: str, *, fixed: Quantization | None = None, integer: bool = True
) -> Rule:
    """The rule of an operator that computes each number from one.

    Args:
        code: Its name in the schema.
        fixed: The scale that its kernel for codes writes, whatever is wished.
        integer: Whether it has a kernel for codes.
    """

    def write(writing: Writing, node: Node) -> None:
        value = _first(writing, node)
        is_integer = integer and writing.quantization(value) is not None
        sink = sink_of(writing, node, fuses=False, is_integer=is_integer)
        order = writing.order(value)
        index = writing.take(value, order, integer=sink.quantization is not None)
        writing.write(code, [index], sink, order, _options(node), fixed=fixed)

    return write


def _options(node: Node) -> dict[str, Option]:
    match node.op_type:
        case "LeakyRelu":
            return {"alpha": attribute(node, "alpha", 0.01)}
        case "Gelu":
            return {"approximate": attribute(node, "approximate", "none") == "tanh"}
        case _:
            return {}


def write_elu(writing: Writing, node: Node) -> None:
    """Elu, of which TFLite knows that with an alpha of 1 alone."""
    if attribute(node, "alpha", 1.0) != 1.0:
        raise unwritten(writing, node, "has an alpha other than 1", "Use LeakyRelu.")
    unary("ELU")(writing, node)


def write_relu(writing: Writing, node: Node) -> None:
    """Relu and Clip that stand alone; limits that no operator has take two."""
    limits = limits_of(writing.graph, node)
    if limits is None:
        raise unwritten(writing, node, "has limits that vary", "Make them constants.")
    if limits in _RELUS:
        unary(_RELUS[limits])(writing, node)
        return
    value = _first(writing, node)
    is_integer = writing.quantization(value) is not None
    sink = sink_of(writing, node, fuses=False, is_integer=is_integer)
    order = writing.order(value)
    index = writing.take(value, order, integer=sink.quantization is not None)
    source = writing.tensor(index).quantization
    for code, limit in zip(("MAXIMUM", "MINIMUM"), limits, strict=True):
        number: Array = np.array([limit], np.float32)
        if source is not None:
            number = to_codes(np.nan_to_num(number), source)
        bound = writing.constant(number, "limit", source)
        if code == "MINIMUM":
            writing.write(code, [index, bound], sink, order, fixed=source)
            continue
        made = writing.add_tensor(
            writing.tensor(index), writing.tensor(index).shape, "limited"
        )
        writing.operate(code, [index, bound], [made])
        index = made


def write_prelu(writing: Writing, node: Node) -> None:
    """PRelu: the slope has all dimensions but the batch."""
    value, slope = _first(writing, node), constant_of(writing.graph, node.inputs[1])
    if slope is None:
        raise unwritten(writing, node, "has a slope that varies", "Use a constant.")
    is_integer = writing.quantization(value) is not None
    sink = sink_of(writing, node, fuses=False, is_integer=is_integer)
    order = writing.order(value)
    integer = sink.quantization is not None
    stored = _constant_operand(slope, order, None, integer=integer)
    if order[0] != 0 or stored.array.shape[0] != 1:
        raise unwritten(
            writing, node, "has a slope for each sample", "Use one for all."
        )
    name = str(node.inputs[1] and node.inputs[1].name)
    inputs = [
        writing.take(value, order, integer=integer),
        writing.constant(stored.array[0], name, stored.quantization),
    ]
    writing.write("PRELU", inputs, sink, order)


def write_softmax(writing: Writing, node: Node) -> None:
    """Softmax: TFLite's is over the last dimension."""
    value = _first(writing, node)
    rank = len(writing.shape(value))
    axis = attribute(node, "axis", -1) % rank
    order = writing.order(value)
    if order[-1] != axis:
        order = (*(each for each in range(rank) if each != axis), axis)
    is_integer = writing.quantization(value) is not None
    sink = sink_of(writing, node, fuses=False, is_integer=is_integer)
    index = writing.take(value, order, integer=sink.quantization is not None)
    writing.write("SOFTMAX", [index], sink, order, {"beta": 1.0}, fixed=UNIT)


def reduction(code: str, *, alike: bool) -> Rule:
    """The rule of an operator that reduces dimensions to one number.

    Args:
        code: Its name in the schema.
        alike: Whether its codes keep the scale of those that it reads.
    """

    def write(writing: Writing, node: Node) -> None:
        value = _first(writing, node)
        rank = len(writing.shape(value))
        axes = {axis % rank for axis in _axes(writing, node, rank)}
        keeps = bool(attribute(node, "keepdims", 1))
        order = writing.order(value)
        left = tuple(axis for axis in order if keeps or axis not in axes)
        kept = sorted(left)
        if not keeps and list(left) != kept:
            order = plain(writing.shape(value))
            left = tuple(axis for axis in order if axis not in axes)
        source = writing.quantization(value)
        sink = sink_of(writing, node, fuses=False, is_integer=source is not None)
        index = writing.take(value, order, integer=sink.quantization is not None)
        places = writing.integers(sorted(order.index(axis) for axis in axes))
        writing.write(
            code,
            [index, places],
            sink,
            left if keeps else tuple(range(len(left))),
            {"keep_dims": keeps},
            fixed=source if alike else None,
        )

    return write


def _axes(writing: Writing, node: Node, rank: int) -> list[int]:
    listed = node.inputs[1] if len(node.inputs) > 1 else None
    found = writing.graph.constant(listed)
    if listed is not None and found is None:
        raise unwritten(writing, node, "has axes that vary", "Make them constants.")
    if found is not None:
        return [int(axis) for axis in found]
    return list(attribute(node, "axes", list(range(rank))))


def _first(writing: Writing, node: Node) -> Value:
    value = node.inputs[0]
    if value is None or writing.is_constant(value):
        raise unwritten(
            writing, node, "reads a constant", "Fold it: export the model again."
        )
    return value
