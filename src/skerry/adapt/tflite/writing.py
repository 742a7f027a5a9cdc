"""The TFLite net that an ONNX graph becomes, while it is being made.

Each ONNX value stands in a tensor of the net, whose dimensions may be in another order:
a Transpose costs nothing then, and becomes an operator only where somebody asks for
dimensions in an order in which the value is not kept. A value that is read through
DequantizeLinear stands there as codes; those of uint8 are moved by 128 to int8, which
changes neither scale nor meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from skerry.adapt.tflite.net import Net, Operator, Option, Quantization, Tensor
from skerry.adapt.tflite.pairs import SHIFT, constant_of
from skerry.core.errors import ModelError
from skerry.core.names import claim_name
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, dims, dtype_name

Order = tuple[int, ...]
"""Which dimension of the ONNX value each dimension of the tensor is."""

CHANNELS_LAST: Order = (0, 2, 3, 1)
PICTURE_RANK = 4

_LOWEST, _HIGHEST = -128, 127
_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "TRANSPOSE_CONV": 3,
}
"""Versions of kernels that take int8, where that is not the second."""
_ALWAYS_FIRST = frozenset(
    {"ELU", "HARD_SWISH", "PRELU", "QUANTIZE", "RESHAPE", "TRANSPOSE_CONV"}
)
"""Operators whose first version is all that their kernels ask for."""


def one_scale(scale: float, zero_point: int) -> Quantization:
    """A scale and zero point of int8 for a whole tensor."""
    return Quantization(
        scale=np.array([scale], np.float32), zero_point=np.array([zero_point], np.int64)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Where a value stands.

    Attributes:
        tensor: Its number.
        order: The order of its dimensions.
    """

    tensor: int
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Where an operator's result goes.

    Attributes:
        value: What it stands for: its node's output, or that of the activation fused
            into it.
        quantization: Of its codes; None where floats are written.
        activation: Which one is fused into it, by its name in the schema.
        limits: What must follow in operators of its own: least and greatest number.
    """

    value: Value
    quantization: Quantization | None
    activation: str = "NONE"
    limits: tuple[float, float] | None = None


class Writing:
    """What of a graph is in the net so far.

    Args:
        graph: Its shapes are known and fixed.
        keeps_layout: Whether pictures go in and out in the graph's own order; else
            with channels last.
    """

    def __init__(self, graph: Graph, *, keeps_layout: tuple[bool, bool]) -> None:
        self.graph = graph
        self._keeps_input, self._keeps_output = keeps_layout
        self._tensors: list[Tensor] = []
        self._operators: list[Operator] = []
        self._held: dict[Value, Held] = {}
        self._codes: dict[Value, Held] = {}
        self._arranged: dict[tuple[int, Order, Order], int] = {}
        self._constants: dict[tuple[bytes, str, object], int] = {}
        self.fused: set[Node] = set()
        self.shuffles: dict[int, Array] = {}
        self.inputs: list[int] = []
        self._taken: set[str] = set()

    # What rules look at.

    def shape(self, value: Value) -> tuple[int, ...]:
        """The sizes of a value.

        Raises:
            ModelError: One of them is not fixed.
        """
        sizes = dims(value)
        if sizes is None or not all(isinstance(size, int) for size in sizes):
            raise ModelError(
                f"{self.graph.name} does not fix the shape of {value.name!r}, which "
                "TFLite needs to be",
                hint="Give the inputs theirs: --shape NAME=1x3x224x224.",
            )
        return tuple(size for size in sizes if isinstance(size, int))

    def where(self, value: Value) -> tuple[Held, bool]:
        """Where a value stands, and whether it does as codes."""
        codes = self._codes.get(value)
        return (self._numbers(value), False) if codes is None else (codes, True)

    def quantization(self, value: Value) -> Quantization | None:
        """What the codes of a value stand for; None where it is kept as floats."""
        held = self._codes.get(value)
        return None if held is None else self._tensors[held.tensor].quantization

    def order(self, value: Value) -> Order:
        """The order in which a value stands."""
        held = self._codes.get(value) or self._held.get(value)
        return held.order if held else plain(self.shape(value))

    def tensor(self, index: int) -> Tensor:
        """A tensor of the net."""
        return self._tensors[index]

    def is_constant(self, value: Value) -> bool:
        """Whether a value always holds the same, as codes or not."""
        return constant_of(self.graph, value) is not None

    # What rules read.

    def take(self, value: Value, order: Order | None = None, *, integer: bool) -> int:
        """The tensor in which a varying value stands, in an order.

        Args:
            value: A value that is no constant.
            order: Of the tensor's dimensions; that in which it stands if None.
            integer: Whether it is wanted as codes, where it has any.
        """
        held = self._codes.get(value) if integer else None
        if held is None:
            held = self._numbers(value)
        return held.tensor if order is None else self.arranged(held, order)

    def arranged(self, held: Held, order: Order) -> int:
        """A tensor's content with its dimensions in another order."""
        if held.order == order:
            return held.tensor
        key = (held.tensor, held.order, order)
        if key not in self._arranged:
            source = self._tensors[held.tensor]
            moves = [held.order.index(axis) for axis in order]
            shape = tuple(source.shape[place] for place in moves)
            made = self.add_tensor(source, shape, f"{source.name}.transposed")
            wide = [place for place in moves if source.shape[place] > 1]
            if wide == sorted(wide):
                self.operate("RESHAPE", [held.tensor, self.integers(shape)], [made])
            else:
                self.operate("TRANSPOSE", [held.tensor, self.integers(moves)], [made])
            self._arranged[key] = made
        return self._arranged[key]

    def constant(
        self, array: Array, name: str, quantization: Quantization | None = None
    ) -> int:
        """Add a constant, or find it."""
        scale = None if quantization is None else quantization.scale.tobytes()
        key = (array.tobytes(), f"{array.dtype}{array.shape}", scale)
        if key not in self._constants:
            self._constants[key] = len(self._tensors)
            self._tensors.append(
                Tensor(
                    name=self._unique(name),
                    dtype=array.dtype.name,
                    shape=array.shape,
                    content=array,
                    quantization=quantization,
                )
            )
        return self._constants[key]

    def integers(self, numbers: Sequence[int] | Sequence[tuple[int, int]]) -> int:
        """Add int32 numbers that say how: axes, shapes, paddings."""
        return self.constant(np.array(numbers, np.int32), "numbers")

    # What rules make.

    def add_tensor(self, like: Tensor, shape: Sequence[int], name: str) -> int:
        """Add a tensor that an operator makes, of the dtype and scale of another."""
        self._tensors.append(
            replace(like, shape=tuple(shape), name=self._unique(name), content=None)
        )
        return len(self._tensors) - 1

    def new_tensor(
        self, name: str, shape: Sequence[int], quantization: Quantization | None
    ) -> int:
        """Add a tensor of codes, or of floats where there is no scale."""
        dtype = "float32" if quantization is None else "int8"
        like = Tensor(name=name, dtype=dtype, shape=(), quantization=quantization)
        return self.add_tensor(like, shape, name)

    def operate(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Mapping[str, Option] | None = None,
    ) -> None:
        """Add an operator."""
        dtypes = {self._tensors[index].dtype for index in inputs[:1] if index >= 0}
        version = 1
        if "int8" in dtypes and code not in _ALWAYS_FIRST:
            version = _VERSIONS.get(code, 2)
        self._operators.append(
            Operator(
                code=code,
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                options=options or {},
                version=version,
            )
        )

    def write(
        self,
        code: str,
        inputs: Sequence[int],
        sink: Sink,
        order: Order,
        options: Mapping[str, Option] | None = None,
        *,
        fixed: Quantization | None = None,
    ) -> None:
        """Add the operator that makes a node's result.

        Args:
            code: Its name.
            inputs: The tensors that it reads.
            sink: Where its result goes.
            order: In which it makes it.
            options: Its options.
            fixed: The scale that its kernel writes whatever is wished; codes of
                another one are then made of it.
        """
        sizes = self.shape(sink.value)
        shape = [sizes[axis] for axis in order]
        name = str(sink.value.name)
        is_codes = sink.quantization is not None
        first = (fixed or sink.quantization) if is_codes else None
        made = self.new_tensor(name, shape, first)
        self.operate(code, inputs, [made], options)
        if sink.limits is not None:
            made = self._limited(made, sink.limits)
        if is_codes and first is not None and not first.is_like(sink.quantization):
            made = self.requantized(made, sink.quantization)
        self.keep(sink.value, Held(tensor=made, order=order), is_codes=is_codes)

    def requantized(self, index: int, quantization: Quantization | None) -> int:
        """A tensor as codes of another scale; as floats where there is none."""
        source = self._tensors[index]
        made = self.new_tensor(source.name, source.shape, quantization)
        if index in self.shuffles:
            self.shuffles[made] = self.shuffles[index]
        code = "QUANTIZE" if quantization is not None else "DEQUANTIZE"
        self.operate(code, [index], [made])
        return made

    def _limited(self, index: int, limits: tuple[float, float]) -> int:
        source = self._tensors[index]
        for code, limit in zip(("MAXIMUM", "MINIMUM"), limits, strict=True):
            if not np.isfinite(limit):
                continue
            number: Array = np.array([limit], np.float32)
            if source.quantization is not None:
                number = to_codes(number, source.quantization)
            bound = self.constant(number, "limit", source.quantization)
            made = self.add_tensor(source, source.shape, source.name)
            self.operate(code, [index, bound], [made])
            index = made
        return index

    def keep(self, value: Value, held: Held, *, is_codes: bool) -> None:
        """Say where a value stands."""
        (self._codes if is_codes else self._held)[value] = held

    def add_input(self, value: Value, quantization: Quantization | None) -> None:
        """Add an input of the net: of codes, where all that reads it reads codes."""
        shape = self.shape(value)
        order = plain(shape)
        if len(shape) == PICTURE_RANK and not self._keeps_input:
            order = CHANNELS_LAST
        dtype = dtype_name(value) or "float32"
        is_codes = quantization is not None and dtype == "float32"
        like = Tensor(
            name=str(value.name),
            dtype="int8" if is_codes else dtype,
            shape=(),
            quantization=quantization,
        )
        if dtype == "uint8" and quantization is not None:
            like = replace(like, quantization=quantization.moved(SHIFT))
        index = self.add_tensor(like, [shape[axis] for axis in order], like.name)
        self.inputs.append(index)
        if dtype == "uint8" and quantization is not None:
            index = self.requantized(index, quantization)
        held = Held(tensor=index, order=order)
        self.keep(value, held, is_codes=quantization is not None)

    def finish(self) -> Net:
        """The net, once all nodes have been written."""
        outputs = [self._output(value) for value in self.graph.output_values]
        return Net(
            tensors=tuple(self._tensors),
            operators=tuple(self._operators),
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
        )

    def _output(self, value: Value) -> int:
        held = self._codes.get(value) or self._numbers(value)
        order = plain(self.shape(value))
        if len(order) == PICTURE_RANK and not self._keeps_output:
            order = CHANNELS_LAST
        index = self.arranged(held, order)
        source = self._tensors[index]
        own = source.quantization
        if dtype_name(value) == "uint8" and own is not None:
            like = replace(source, dtype="uint8", quantization=own.moved(SHIFT))
            made = self.add_tensor(like, source.shape, source.name)
            self.operate("QUANTIZE", [index], [made])
            index = made
        is_made = any(index in operator.outputs for operator in self._operators)
        is_shared = any(
            self._tensors[index].name == output.name for output in self.graph.outputs
        )
        if not is_made or (is_shared and self._tensors[index].name != value.name):
            made = self.add_tensor(source, source.shape, source.name)
            self.operate("RESHAPE", [index, self.integers(source.shape)], [made])
            index = made
        self._rename(index, str(value.name))
        return index

    def _rename(self, index: int, name: str) -> None:
        for place, tensor in enumerate(self._tensors):
            if tensor.name == name and place != index:
                self._tensors[place] = replace(tensor, name=self._unique(name))
        self._tensors[index] = replace(self._tensors[index], name=name)

    def _numbers(self, value: Value) -> Held:
        """Where a value stands as it is; codes are turned into floats."""
        if value not in self._held:
            constant = self.graph.constant(value)
            if constant is not None:
                array = (
                    constant.astype(np.int32)
                    if constant.dtype == np.int64
                    else constant
                )
                index = self.constant(array, str(value.name))
                return Held(tensor=index, order=plain(array.shape))
            if value not in self._codes:
                raise ModelError(
                    f"{self.graph.name}: nothing makes the value {value.name!r}",
                    hint="This is a fault of Skerry's; please report it.",
                )
            held = self._codes[value]
            made = self.requantized(held.tensor, None)
            self._held[value] = replace(held, tensor=made)
        return self._held[value]

    def _unique(self, wish: str) -> str:
        return claim_name(wish, self._taken)


def plain(shape: Sequence[int]) -> Order:
    """The order in which ONNX has the dimensions."""
    return tuple(range(len(shape)))


def to_codes(array: Array, quantization: Quantization) -> Array:
    """Numbers as int8 codes."""
    codes = np.rint(array / quantization.scale[0]) + quantization.zero_point[0]
    return np.asarray(np.clip(codes, _LOWEST, _HIGHEST).astype(np.int8))


def unwritten(writing: Writing, node: Node, why: str, hint: str) -> ModelError:
    """The error of a node that TFLite has no operator for."""
    shape = "×".join(map(str, writing.shape(node.outputs[0])))
    return ModelError(
        f"{writing.graph.name}: TFLite has no operator for the {node.op_type} "
        f"{node.name!r}, which makes {shape}: it {why}",
        hint=hint,
    )
