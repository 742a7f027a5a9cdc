"""Models of one operator each, or of many that have nothing to do with each other.

The tensors of case number 7 all have names that begin with `c7_`, so that answers about
a model of many cases can be told apart. An operator whose layout ONNX fixes as NCHW
stands between two Transposes: those of a model whose own layout is NHWC, as every
compiler behind TFLite takes it, and which cancel there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skerry.adapt.operators import AttributeValue, Operator, read_workload
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Value,
    make_graph,
    make_initializer,
    make_node,
    make_value,
)

OPSET = 20
"""The first with Gelu; onnxruntime reads it since 1.17."""

NAME = "probed"
"""The last word of the name of each probed node."""

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_ZERO_POINTS = {"uint8": 128}
_SCALE, _WEIGHT_SCALE = 0.05, 0.01
_UNIT = {"Sigmoid": (1 / 256, 0), "Softmax": (1 / 256, 0), "Tanh": (1 / 128, 0.5)}
"""Of what a kernel fixes: its output's scale at 8 bits, and where in them 0 lies."""

_BITS = {"int8": 8, "uint8": 8, "int16": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One operator to ask about.

    Attributes:
        op_type: The ONNX operator.
        dtype: What it computes in: of `int8`, `uint8`, `int16` a QDQ graph is made.
        shapes: Of the activations it reads, in ONNX's layout.
        output: The shape it makes, in ONNX's layout.
        weights: Shapes of constants that follow the activations and are quantized;
            a second one is a bias.
        parameters: Constants that follow those and stay as they are; None for an
            optional input left out.
        attributes: Its attributes.
        is_spatial: Whether ONNX fixes its layout as NCHW.
        outputs: How many tensors of the output's shape it makes.
        made: The dtype of those where it is another, such as ArgMax's int64.
    """

    op_type: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    weights: tuple[tuple[int, ...], ...] = ()
    parameters: tuple[Array | None, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    is_spatial: bool = False
    outputs: int = 1
    made: str = ""


def case_graph(cases: Sequence[Case], *, name: str = "probe") -> Graph:
    """Build one model of some cases, side by side.

    Args:
        cases: Each becomes a part of its own, with inputs and outputs of its own.
        name: The model's name.
    """
    graph = make_graph(opset=OPSET, name=name)
    for number, case in enumerate(cases):
        _Part(graph, case, prefix=f"c{number}_").build()
    return graph


def case_operator(case: Case) -> Operator:
    """The case's operator as an audit sees it."""
    workload = read_workload(case_graph([case]))
    return next(one for one in workload.operators if one.name.endswith(NAME))


def case_of(name: str) -> int | None:
    """The number of the case whose tensor has this name; None if it is none's."""
    head = name.partition("_")[0]
    return int(head[1:]) if head[:1] == "c" and head[1:].isdigit() else None


class _Part:
    """Builds one case's nodes into a graph."""

    def __init__(self, graph: Graph, case: Case, *, prefix: str) -> None:
        self._graph = graph
        self._case = case
        self._prefix = prefix
        self._is_quantized = case.dtype in _BITS

    def build(self) -> None:
        case = self._case
        read: list[Value | None] = [
            self._input(f"x{number}", shape) for number, shape in enumerate(case.shapes)
        ]
        for number, shape in enumerate(case.weights):
            read.append(self._weight(f"w{number}", shape, is_bias=number == 1))
        for number, array in enumerate(case.parameters):
            read.append(None if array is None else self._constant(f"p{number}", array))
        while read and read[-1] is None:
            read.pop()
        dtype = case.made or ("float32" if self._is_quantized else case.dtype)
        made = [
            make_value(f"{self._prefix}m{number}", dtype, case.output)
            for number in range(case.outputs)
        ]
        self._add(case.op_type, read, case.attributes, made, name=NAME)
        for number, value in enumerate(made):
            self._output(f"y{number}", value)

    def _input(self, name: str, shape: Sequence[int]) -> Value:
        """An input in the model's own layout, then what the operator reads."""
        given = (
            [shape[place] for place in _TO_NHWC] if self._is_turned(shape) else shape
        )
        spec = TensorSpec(
            name=self._prefix + name, dtype=self._case.dtype, shape=tuple(given)
        )
        value = self._graph.add_input(spec)
        if self._is_quantized:
            value = self._dequantized(value, name, given, self._quantization())
        if self._is_turned(shape):
            value = self._turned(value, f"{name}t", _TO_NCHW, shape)
            if self._is_quantized:
                value = self._requantized(
                    value, f"{name}t", shape, self._quantization()
                )
        return value

    def _output(self, name: str, value: Value) -> None:
        case = self._case
        shape: Sequence[int] = case.output
        quantization = self._quantization(case.op_type)
        if self._is_quantized and not case.made:
            if self._is_turned(shape):
                value = self._requantized(value, f"{name}o", shape, quantization)
                shape = [shape[place] for place in _TO_NHWC]
                value = self._turned(value, f"{name}t", _TO_NHWC, shape)
            value = self._quantized(value, name, shape, quantization)
        elif self._is_turned(shape):
            shape = [shape[place] for place in _TO_NHWC]
            value = self._turned(value, f"{name}t", _TO_NHWC, shape)
        self._graph.add_output(value)

    def _is_turned(self, shape: Sequence[int]) -> bool:
        return self._case.is_spatial and len(shape) == len(_TO_NCHW)

    def _turned(
        self, value: Value, name: str, perm: Sequence[int], shape: Sequence[int]
    ) -> Value:
        dtype = "float32" if self._is_quantized else self._case.dtype
        made = make_value(f"{self._prefix}{name}", dtype, shape)
        self._add("Transpose", [value], {"perm": tuple(perm)}, [made], name=name)
        return made

    def _quantization(self, op_type: str = "") -> tuple[float, int]:
        bits = _BITS[self._case.dtype] if self._is_quantized else 8
        zero = _ZERO_POINTS.get(self._case.dtype, 0)
        if op_type in _UNIT and self._is_quantized:
            scale, share = _UNIT[op_type]
            lowest = 0 if self._case.dtype == "uint8" else -(2 ** (bits - 1))
            if bits > 8:
                return 2.0**-15, 0
            return scale, lowest + round(share * 2**bits)
        return _SCALE if bits == 8 else _SCALE / 256, zero

    def _requantized(
        self, value: Value, name: str, shape: Sequence[int], how: tuple[float, int]
    ) -> Value:
        return self._dequantized(
            self._quantized(value, f"{name}q", shape, how), f"{name}q", shape, how
        )

    def _quantized(
        self, value: Value, name: str, shape: Sequence[int], how: tuple[float, int]
    ) -> Value:
        made = make_value(f"{self._prefix}{name}", self._case.dtype, shape)
        self._add("QuantizeLinear", [value, *self._pair(name, how)], {}, [made])
        return made

    def _dequantized(
        self, value: Value, name: str, shape: Sequence[int], how: tuple[float, int]
    ) -> Value:
        made = make_value(f"{self._prefix}{name}d", "float32", shape)
        pair = self._pair(f"{name}d", how)
        self._add("DequantizeLinear", [value, *pair], {}, [made])
        return made

    def _pair(self, name: str, how: tuple[float, int]) -> tuple[Value, Value]:
        scale, zero = how
        return (
            self._constant(f"{name}_scale", np.array(scale, np.float32)),
            self._constant(f"{name}_zero", np.array(zero, self._case.dtype)),
        )

    def _weight(self, name: str, shape: Sequence[int], *, is_bias: bool) -> Value:
        size = int(np.prod(shape))
        # Small and not all alike; sums of them stay far from what would overflow.
        pattern = (np.arange(size) % 3 - 1).reshape(shape)
        if not self._is_quantized:
            return self._constant(name, pattern.astype(self._case.dtype))
        dtype = "int32" if is_bias else self._weight_dtype()
        zero = 0 if is_bias else _ZERO_POINTS.get(dtype, 0)
        scale = self._quantization()[0] * _WEIGHT_SCALE if is_bias else _WEIGHT_SCALE
        stored = self._constant(name, (pattern + zero).astype(dtype))
        made = make_value(f"{self._prefix}{name}d", "float32", shape)
        pair = (
            self._constant(f"{name}_scale", np.array(scale, np.float32)),
            self._constant(f"{name}_zero", np.array(zero, dtype)),
        )
        self._add("DequantizeLinear", [stored, *pair], {}, [made])
        return made

    def _weight_dtype(self) -> str:
        return "int8" if self._case.dtype == "int16" else self._case.dtype

    def _constant(self, name: str, array: Array) -> Value:
        return self._graph.add_initializer(
            make_initializer(array, f"{self._prefix}{name}")
        )

    def _add(
        self,
        op_type: str,
        read: Sequence[Value | None],
        attributes: Mapping[str, Any],
        made: Sequence[Value],
        *,
        name: str = "",
    ) -> None:
        called = f"{self._prefix}{name or f'{op_type}_{made[0].name}'}"
        node = make_node(op_type, read, attributes, outputs=list(made), name=called)
        self._graph.add_node(node)
