"""Arithmetic, activations and reductions: from TFLite to ONNX."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from skerry.adapt.tflite.net import Operator
from skerry.adapt.tflite.reading import (
    PICTURE_RANK,
    TO_FIRST,
    Layout,
    Reading,
)
from skerry.graph import Value, dtype_code

Rule = Callable[[Reading, Operator], None]

_PICTURE_AXES = {1, 2}


def pairwise(op_type: str) -> Rule:
    """The rule of an operator that computes with two tensors, and broadcasts."""

    def read(reading: Reading, operator: Operator) -> None:
        left, right = operator.inputs[:2]
        layout = reading.layout(left, right)
        operands = [reading.read_operand(index, layout) for index in (left, right)]
        made = reading.activated(reading.add(op_type, operands), operator)
        reading.write(operator.outputs[0], made, layout)

    return read


def elementwise(op_type: str, **attributes: float) -> Rule:
    """The rule of an operator that computes each number from one."""

    def read(reading: Reading, operator: Operator) -> None:
        x = operator.inputs[0]
        layout = reading.layout(x)
        made = reading.add(op_type, [reading.read(x, layout)], attributes)
        reading.write(operator.outputs[0], made, layout)

    return read


def composed(make: Callable[[Reading, Value, Operator], Value]) -> Rule:
    """The rule of an operator that several nodes stand for."""

    def read(reading: Reading, operator: Operator) -> None:
        x = operator.inputs[0]
        layout = reading.layout(x)
        made = make(reading, reading.read(x, layout), operator)
        reading.write(operator.outputs[0], made, layout)

    return read


def leaky_relu(reading: Reading, value: Value, operator: Operator) -> Value:
    """LEAKY_RELU."""
    alpha = float(operator.options.get("alpha", 0.0))  # type: ignore[arg-type]
    return reading.add("LeakyRelu", [value], {"alpha": alpha})


def relu6(reading: Reading, value: Value, _: Operator) -> Value:
    """RELU6."""
    return reading.clipped(value, 0.0, 6.0)


def relu_n1_to_1(reading: Reading, value: Value, _: Operator) -> Value:
    """RELU_N1_TO_1."""
    return reading.clipped(value, -1.0, 1.0)


def relu_0_to_1(reading: Reading, value: Value, _: Operator) -> Value:
    """RELU_0_TO_1."""
    return reading.clipped(value, 0.0, 1.0)


def square(reading: Reading, value: Value, _: Operator) -> Value:
    """SQUARE."""
    return reading.add("Mul", [value, value])


def rsqrt(reading: Reading, value: Value, _: Operator) -> Value:
    """RSQRT."""
    return reading.add("Reciprocal", [reading.add("Sqrt", [value])])


def gelu(reading: Reading, value: Value, operator: Operator) -> Value:
    """GELU: x/2 · (1 + erf(x/√2)), or with tanh (Hendrycks and Gimpel 2016)."""
    if operator.options.get("approximate"):
        cube = reading.add("Pow", [value, reading.number(3.0)])
        small = reading.add("Mul", [cube, reading.number(0.044715)])
        total = reading.add("Add", [value, small])
        inner = reading.add("Mul", [total, reading.number(float(np.sqrt(2 / np.pi)))])
        bent = reading.add("Tanh", [inner])
    else:
        inner = reading.add("Mul", [value, reading.number(float(np.sqrt(0.5)))])
        bent = reading.add("Erf", [inner])
    weight = reading.add("Add", [bent, reading.number(1.0)])
    half = reading.add("Mul", [value, reading.number(0.5)])
    return reading.add("Mul", [half, weight])


def read_prelu(reading: Reading, operator: Operator) -> None:
    """PRELU: the slope is broadcast from the last dimension."""
    x, slope = operator.inputs[:2]
    layout = reading.layout(x)
    operands = [reading.read(x, layout), reading.read_operand(slope, layout)]
    reading.write(operator.outputs[0], reading.add("PRelu", operands), layout)


def read_softmax(reading: Reading, operator: Operator) -> None:
    """SOFTMAX over the last dimension, of beta times the numbers."""
    _softmax(reading, operator, "Softmax")


def read_log_softmax(reading: Reading, operator: Operator) -> None:
    """LOG_SOFTMAX over the last dimension."""
    _softmax(reading, operator, "LogSoftmax")


def _softmax(reading: Reading, operator: Operator, op_type: str) -> None:
    x = operator.inputs[0]
    layout = reading.layout(x)
    value = reading.read(x, layout)
    beta = float(operator.options.get("beta", 1.0))  # type: ignore[arg-type]
    if op_type == "Softmax" and beta != 1.0:
        value = reading.add("Mul", [value, reading.number(beta)])
    axis = 1 if layout == "first" else -1
    made = reading.add(op_type, [value], {"axis": axis})
    reading.write(operator.outputs[0], made, layout)


def reduction(op_type: str) -> Rule:
    """The rule of an operator that reduces dimensions to one number."""

    def read(reading: Reading, operator: Operator) -> None:
        x, y = operator.inputs[0], operator.outputs[0]
        rank = len(reading.tensor(x).shape)
        axes = {axis % rank for axis in reading.numbers(operator.inputs[1])}
        keeps = bool(operator.options.get("keep_dims"))
        if op_type == "ReduceMean" and rank == PICTURE_RANK and axes == _PICTURE_AXES:
            _average(reading, x, y, keeps=keeps)
            return
        layout: Layout = reading.layout(x) if keeps else "last"
        if layout == "first":
            axes = {TO_FIRST.index(axis) for axis in axes}
        value = reading.read(x, layout)
        attributes: dict[str, object] = {"keepdims": int(keeps)}
        if op_type == "ReduceSum":
            made = reading.add(
                op_type, [value, reading.integers(sorted(axes))], attributes
            )
        else:
            made = reading.add(op_type, [value], {**attributes, "axes": sorted(axes)})
        reading.write(y, made, layout)

    return read


def _average(reading: Reading, x: int, y: int, *, keeps: bool) -> None:
    """The mean of each channel, in the form that quantizers know."""
    made = reading.add("GlobalAveragePool", [reading.read(x, "first")])
    if keeps:
        reading.write(y, made, "first")
        return
    if reading.tensor(y).quantization is not None:
        # The pool writes codes; that they then lie in two dimensions changes none.
        made = reading.quantized(made, y)
    shape = reading.integers(reading.tensor(y).shape)
    reading.keep(y, reading.add("Reshape", [made, shape]))


def read_arg_max(reading: Reading, operator: Operator) -> None:
    """ARG_MAX: the first of equals."""
    x, y = operator.inputs[0], operator.outputs[0]
    rank = len(reading.tensor(x).shape)
    axis = reading.numbers(operator.inputs[1])[0] % rank
    made = reading.add("ArgMax", [reading.read(x)], {"axis": axis, "keepdims": 0})
    if reading.tensor(y).dtype == "int32":
        made = reading.add("Cast", [made], {"to": dtype_code("int32")})
    reading.write(y, made)


def read_cast(reading: Reading, operator: Operator) -> None:
    """CAST."""
    x, y = operator.inputs[0], operator.outputs[0]
    layout = reading.layout(x)
    to = dtype_code(reading.tensor(y).dtype)
    made = reading.add("Cast", [reading.stored(x, layout)], {"to": to})
    reading.keep(y, made, layout)


def read_quantize(reading: Reading, operator: Operator) -> None:
    """QUANTIZE: numbers to codes, or codes to others."""
    x = operator.inputs[0]
    layout = reading.layout(x)
    reading.write(operator.outputs[0], reading.read(x, layout), layout)


def read_dequantize(reading: Reading, operator: Operator) -> None:
    """DEQUANTIZE: codes to numbers; also float16, as weights are kept."""
    x, y = operator.inputs[0], operator.outputs[0]
    layout = reading.layout(x)
    value = reading.read(x, layout)
    if reading.tensor(x).dtype == "float16":
        value = reading.add("Cast", [value], {"to": dtype_code("float32")})
    reading.write(y, value, layout)


def read_select(reading: Reading, operator: Operator) -> None:
    """SELECT_V2: where a condition holds, the one; else the other."""
    values = [reading.read(index) for index in operator.inputs[:3]]
    reading.write(operator.outputs[0], reading.add("Where", values))
