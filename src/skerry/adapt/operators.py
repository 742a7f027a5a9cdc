"""A graph as a target sees it: operators and the dtypes they would compute in.

In a quantized (QDQ) graph, `QuantizeLinear` and `DequantizeLinear` say in which dtype
the operators between them compute; they are notation, and no target runs them as
operators of their own. This view takes them out: an operator that reads through a
DequantizeLinear and is read through a QuantizeLinear alone computes in the integers
on the other sides of the two. An activation function between an operator and its
QuantizeLinear is fused into it by every compiler, and an operator that only moves
bytes computes in whatever dtype it is handed: both pass the dtype on.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from skerry.graph import Graph, Node, Value, count, dims, dtype_name

AttributeValue = int | float | str | tuple[int | float | str, ...]

FUSED_ACTIVATIONS = frozenset({"Clip", "Relu"})
"""Fused into the operator before them, so that what lies between has no dtype."""

VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose output is their input under another shape."""

ELEMENTWISE = frozenset(
    {
        "Abs",
        "Clip",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Tanh",
    }
)
"""Operators that give each element of their first input one of their result."""

BYTE_MOVERS = VIEWS | {"Transpose"}
"""Operators that compute nothing: their output has the dtype of their input."""

_TRANSPARENT = FUSED_ACTIVATIONS | BYTE_MOVERS
_NOTATION = frozenset({"Constant", "DequantizeLinear", "QuantizeLinear"})
_BRANCHES = frozenset({"If", "Loop", "Scan"})
_BIAS_INPUT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
_BITS = {"bool": 8, "int4": 4, "uint4": 4, "bfloat16": 16, "float16": 16}
_BITS |= {f"{kind}{bits}": bits for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_BITS |= {"float32": 32, "float64": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor as one operator reads or writes it.

    Attributes:
        name: What tells it from others; QuantizeLinear and DequantizeLinear keep it.
        dtype: The numpy dtype name that the operator computes in; empty if unknown.
        shape: Its sizes, or None where one is known only when the model runs.
        is_constant: Whether it is a weight, a bias or a parameter.
        scalar: Its value, if it is a constant of one element.
        scales: How many scales quantize it, if it is a constant; 0 if none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    is_constant: bool = False
    scalar: float | None = None
    scales: int = 0

    @property
    def is_float(self) -> bool:
        """Whether quantization would change it."""
        return "float" in self.dtype

    @property
    def size_bytes(self) -> int | None:
        """Bytes in its dtype, or None where they are not known."""
        if self.shape is None or self.dtype not in _BITS:
            return None
        return math.ceil(math.prod(self.shape) * _BITS[self.dtype] / 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator that a target must run.

    Attributes:
        name: The node's name.
        op_type: Its ONNX operator.
        domain: Where it is defined; empty for ONNX's main domain.
        inputs: What it reads; None for an optional input that is left out.
        outputs: What it makes.
        attributes: Plain values by name; axes given as a constant input are here too,
            and the steps of a Slice, as `strides`.
        macs: Multiply-accumulates of one inference; 0 where they are not known.
    """

    name: str
    op_type: str
    domain: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    macs: int = 0

    @property
    def is_standard(self) -> bool:
        """Whether the ONNX standard defines it, and not a vendor."""
        return self.domain == "" or self.domain.startswith("ai.onnx")

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """The tensors it reads and makes that are no constants."""
        read = (one for one in self.inputs if one is not None and not one.is_constant)
        return (*read, *self.outputs)

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """The constants it reads."""
        return tuple(one for one in self.inputs if one is not None and one.is_constant)

    @property
    def dtype(self) -> str:
        """What it computes in: the dtype of its first input that is no constant."""
        return self.activations[0].dtype if self.activations else ""

    def as_int8(self) -> Operator:
        """Imagine it quantized: floats become int8, and a float bias int32."""
        bias = _BIAS_INPUT.get(self.op_type)
        inputs = tuple(
            None if one is None else _as_int8(one, is_bias=index == bias)
            for index, one in enumerate(self.inputs)
        )
        outputs = tuple(_as_int8(one, is_bias=False) for one in self.outputs)
        return replace(self, inputs=inputs, outputs=outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """All that a target must run.

    Attributes:
        operators: In topological order.
        results: Names of the tensors that the model hands out.
    """

    operators: tuple[Operator, ...]
    results: frozenset[str]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(operator.macs for operator in self.operators)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants, each counted once."""
        return constant_bytes(self.operators)

    def as_int8(self) -> Workload:
        """Imagine each operator quantized."""
        operators = tuple(operator.as_int8() for operator in self.operators)
        return replace(self, operators=operators)

    def live_bytes(self) -> tuple[int, ...] | None:
        """Bytes of the activations that are alive while each operator runs.

        An operator needs its inputs and outputs at once; the model's inputs are there
        from the start, its results until the end. Views take no memory of their own.

        Returns:
            One figure an operator, or None where a size is not known.
        """
        places: dict[str, str] = {}
        sizes: dict[str, int] = {}
        born: dict[str, int] = {}
        dies: dict[str, int] = {}
        for index, operator in enumerate(self.operators):
            made = {tensor.name for tensor in operator.outputs}
            first = operator.activations[0].name
            for tensor in operator.activations:
                if tensor.size_bytes is None:
                    return None
                is_view = operator.op_type in VIEWS and tensor.name in made
                name = places.setdefault(
                    tensor.name, places[first] if is_view else tensor.name
                )
                sizes.setdefault(name, tensor.size_bytes)
                born.setdefault(name, index if tensor.name in made else 0)
                dies[name] = index
        last = len(self.operators) - 1
        dies.update((places[name], last) for name in self.results & places.keys())
        steps = [0] * (len(self.operators) + 1)
        for name, size in sizes.items():
            steps[born[name]] += size
            steps[dies[name] + 1] -= size
        return tuple(accumulate(steps[:-1]))


def constant_bytes(operators: Iterable[Operator]) -> int:
    """Sum the bytes of the constants that operators read, each counted once."""
    sizes = {
        constant.name: constant.size_bytes or 0
        for operator in operators
        for constant in operator.constants
    }
    return sum(sizes.values())


def read_workload(graph: Graph) -> Workload:
    """List a graph's operators and the dtypes they would compute in.

    Args:
        graph: A graph whose shapes have been inferred.
    """
    reader = _Reader(graph)
    operators = [
        Operator(
            name=node.name or node.outputs[0].name or "",
            op_type=node.op_type,
            domain=node.domain,
            inputs=tuple(
                None if value is None else reader.read(value) for value in node.inputs
            ),
            outputs=tuple(reader.made(value) for value in node.outputs if value.name),
            attributes=reader.attributes(node),
        )
        for node in graph.nodes
        if node.op_type not in _NOTATION and not reader.is_constant(node)
    ]
    shapes = [one.shape for operator in operators for one in operator.activations]
    if None not in shapes:  # otherwise their work is not known
        operators = _with_macs(operators, graph)
    results = (_root(value) for value in graph.output_values)
    return Workload(
        operators=tuple(operators),
        results=frozenset(value.name or "" for value in results),
    )


def _with_macs(operators: list[Operator], graph: Graph) -> list[Operator]:
    """Add the counts of the graph room; both list the nodes in the same order."""
    macs: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for cost in count(graph).nodes:
        macs[cost.name, cost.op_type].append(cost.macs)
    return [
        replace(one, macs=macs[one.name, one.op_type].popleft()) for one in operators
    ]


class _Reader:
    """Follows values through QuantizeLinear and DequantizeLinear."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._constants = _constant_dtypes(graph)
        self._made: dict[Value, str] = {}
        ahead = _dtypes_ahead(graph)
        for node in graph.nodes:
            moved = node.inputs[0] if node.op_type in BYTE_MOVERS else None
            kept = "" if moved is None else self._dtype_read(moved)
            for value in node.outputs:
                self._made[value] = ahead[value] or kept or _dtype_of(value)

    def is_constant(self, node: Node) -> bool:
        """Whether all that a node makes is known before the model runs."""
        return all(value in self._constants for value in node.outputs)

    def read(self, value: Value) -> Tensor:
        """The tensor behind a value that an operator reads."""
        root = _root(value)
        if value not in self._constants:
            return _tensor(root, self._dtype_read(value))
        scalar = None
        array = self._graph.constant(value)
        if array is not None and array.size == 1 and array.dtype.kind in "fiu":
            scalar = float(array.reshape(()))
        constant = _tensor(root, self._constants[value])
        scales = self._scales(value)
        return replace(constant, is_constant=True, scalar=scalar, scales=scales)

    def _scales(self, value: Value) -> int:
        """How many scales a constant is dequantized by; 0 if it is not."""
        node = value.producer()
        if node is None or node.op_type != "DequantizeLinear":
            return 0
        array = self._graph.constant(node.inputs[1])
        return 0 if array is None else array.size

    def made(self, value: Value) -> Tensor:
        """The tensor behind a value that an operator makes."""
        return _tensor(value, self._made[value])

    def attributes(self, node: Node) -> dict[str, AttributeValue]:
        """A node's numbers and words; graphs and tensors are left out."""
        found: dict[str, AttributeValue] = {}
        for name, attribute in node.attributes.items():
            value = attribute.value
            if isinstance(value, int | float | str):
                found[name] = value
            elif isinstance(value, list | tuple):
                found[name] = tuple(
                    one for one in value if isinstance(one, int | float | str)
                )
        if node.op_type.startswith("Reduce") and len(node.inputs) > 1:
            axes = self._graph.constant(node.inputs[1])
            if axes is not None:
                found["axes"] = tuple(int(axis) for axis in np.ravel(axes))
        if node.op_type == "Slice" and len(node.inputs) > 4:
            steps = self._graph.constant(node.inputs[4])
            if steps is not None:
                found["strides"] = tuple(int(step) for step in np.ravel(steps))
        return found

    def _dtype_read(self, value: Value) -> str:
        """What an operator that reads this value computes in."""
        return _dtype_behind(value) or self._made.get(value) or _dtype_of(value)


def _dtypes_ahead(graph: Graph) -> dict[Value, str]:
    """The integers that all readers take a value as; empty where they take floats."""
    ahead: dict[Value, str] = {}
    results = set(graph.output_values)
    for node in reversed(graph.nodes):
        for value in node.outputs:
            readers = [use.node for use in value.uses()]
            ahead[value] = ""
            if not readers or value in results:
                continue
            if all(reader.op_type == "QuantizeLinear" for reader in readers):
                ahead[value] = _dtype_of(readers[0].outputs[0])
            elif len(readers) == 1 and readers[0].op_type in _TRANSPARENT:
                ahead[value] = ahead.get(readers[0].outputs[0], "")
    return ahead


def _constant_dtypes(graph: Graph) -> dict[Value, str]:
    """The values that never change, with the dtypes in which they are stored."""
    dtypes = {value: _dtype_of(value) for value in graph.initializers}
    for node in graph.nodes:
        read = [value for value in node.inputs if value is not None]
        if node.op_type == "Constant":
            dtypes |= {value: _dtype_of(value) for value in node.outputs}
        elif node.op_type in _BRANCHES:
            continue  # the graphs inside read values that are no inputs of the node
        elif read and all(value in dtypes for value in read):
            keeps = node.op_type in BYTE_MOVERS | {"DequantizeLinear"}
            dtypes |= {
                value: dtypes[read[0]] if keeps else _dtype_of(value)
                for value in node.outputs
            }
    return dtypes


def _root(value: Value) -> Value:
    """The value that QuantizeLinear and DequantizeLinear, if any, started from."""
    node = value.producer()
    while node is not None and node.op_type in _NOTATION - {"Constant"}:
        source = node.inputs[0]
        if source is None:
            return value
        value, node = source, source.producer()
    return value


def _dtype_behind(value: Value) -> str:
    """The integers that a value was dequantized from; empty if it was not."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return ""
    return _dtype_of(node.inputs[0])


def _dtype_of(value: Value) -> str:
    return dtype_name(value) or ""


def _tensor(value: Value, dtype: str) -> Tensor:
    sizes = dims(value)
    shape = tuple(size for size in sizes or () if isinstance(size, int))
    is_static = sizes is not None and len(shape) == len(sizes)
    return Tensor(
        name=value.name or "", dtype=dtype, shape=shape if is_static else None
    )


def _as_int8(tensor: Tensor, *, is_bias: bool) -> Tensor:
    if not tensor.is_float:
        return tensor
    return replace(tensor, dtype="int32" if is_bias else "int8")
