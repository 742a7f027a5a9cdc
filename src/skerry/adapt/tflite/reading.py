"""The ONNX graph that a TFLite net becomes, while it is being made.

TFLite keeps channels last, ONNX's convolutions and pools want them second. Each tensor
is kept in the layout in which it was made, and transposed only when an operator asks
for the other: between operators that agree, there is nothing to cancel afterwards.

A tensor of codes becomes QuantizeLinear, and DequantizeLinear where it is read (QDQ).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from skerry.adapt.tflite.net import (
    ACTIVATIONS,
    LEFT_OUT,
    Net,
    Operator,
    Quantization,
    Tensor,
)
from skerry.core.errors import ModelError
from skerry.core.names import claim_name
from skerry.core.seams import Array
from skerry.graph import Graph, Node, Value, make_graph, make_initializer, make_node
from skerry.graph import make_value as new_value

Layout = Literal["last", "first"]
"""Where the channels of a tensor of four dimensions stand; others have but `last`."""

OPSET = 17

TO_FIRST = (0, 3, 1, 2)
TO_LAST = (0, 2, 3, 1)
PICTURE_RANK = 4

_CODES = frozenset({"int8", "uint8"})
_CLIPS = {"RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0)}


class Reading:
    """What of a net is in ONNX so far.

    Args:
        net: The net.
        name: What messages call it.
        ports: The names of inputs and outputs in the signature, by tensor.
    """

    def __init__(self, net: Net, name: str, ports: Mapping[int, str]) -> None:
        self._net = net
        self._ports = ports
        self.name = name
        self._source = ""
        self._nodes: list[Node] = []
        self._constants: list[Value] = []
        self._taken = set(ports.values())
        self._held: dict[tuple[int, Layout], Value] = {}
        self._floats: dict[tuple[int, object], Value] = {}
        self._parameters: dict[int, tuple[Value, Value]] = {}
        self._inputs = [self._input(index) for index in net.inputs]

    def begin(self, operator: Operator) -> None:
        """Name the nodes to come after what an operator of the file makes."""
        made = [index for index in operator.outputs if index >= 0]
        self._source = self._net.tensors[made[0]].name if made else operator.code

    # What operators look at.

    def tensor(self, index: int) -> Tensor:
        """A tensor of the net.

        Raises:
            IndexError: It is left out.
        """
        if index < 0:
            raise IndexError(index)
        return self._net.tensors[index]

    def size(self, index: int, axis: int) -> int:
        """The size of a tensor of four dimensions along one of them.

        Raises:
            ValueError: It has not four.
        """
        shape = self.tensor(index).shape
        if len(shape) != PICTURE_RANK:
            raise ValueError(shape)
        return shape[axis]

    def numbers(self, index: int) -> list[int]:
        """The content of a tensor that says how, not what: axes, sizes, paddings.

        Raises:
            ModelError: It varies.
        """
        return [int(number) for number in self.content(index).ravel()]

    def content(self, index: int) -> Array:
        """What a tensor always holds.

        Raises:
            ModelError: It varies.
        """
        tensor = self.tensor(index)
        if tensor.content is None:
            raise ModelError(
                f"{self.name} computes the tensor {tensor.name!r} while it runs, where "
                "only a constant is read",
                hint="Convert the model again with static shapes.",
            )
        return tensor.content

    def is_constant(self, index: int) -> bool:
        """Whether a tensor always holds the same."""
        return self.tensor(index).content is not None

    def layout(self, *indices: int) -> Layout:
        """The layout in which an operator without a wish of its own reads tensors.

        It is that of the first varying tensor of four dimensions; channels last if a
        varying one has fewer, whose dimensions then match the last ones.
        """
        varying = [index for index in indices if not self.is_constant(index)]
        if any(len(self.tensor(index).shape) != PICTURE_RANK for index in varying):
            return "last"
        first = next(iter(varying), None)
        return "last" if first is None or (first, "last") in self._held else "first"

    # What operators read.

    def read(self, index: int, layout: Layout = "last") -> Value:
        """A tensor as numbers: codes pass through DequantizeLinear."""
        key = (index, layout)
        if key not in self._floats:
            stored = self.stored(index, layout)
            tensor = self.tensor(index)
            if tensor.quantization is None or tensor.dtype == "float32":
                return stored
            axis = tensor.quantization.axis
            if layout == "first" and len(tensor.shape) == PICTURE_RANK:
                axis = TO_FIRST.index(axis)
            self._floats[key] = self._dequantized(stored, index, axis)
        return self._floats[key]

    def read_permuted(self, index: int, order: Sequence[int]) -> Value:
        """A constant as numbers, its dimensions in another order.

        Raises:
            ModelError: It varies.
        """
        key = (index, tuple(order))
        if key not in self._floats:
            tensor = self.tensor(index)
            array = np.ascontiguousarray(self.content(index).transpose(order))
            value = self.constant(array, tensor.name)
            if tensor.quantization is not None and tensor.dtype != "float32":
                axis = list(order).index(tensor.quantization.axis)
                value = self._dequantized(value, index, axis)
            self._floats[key] = value
        return self._floats[key]

    def read_flat(self, index: int) -> Value:
        """A tensor as numbers, for an operator to which only their order matters."""
        shape = self.tensor(index).shape
        is_picture = len(shape) == PICTURE_RANK and (index, "first") in self._held
        if is_picture and (shape[1] * shape[2] == 1 or shape[3] == 1):
            return self.read(index, "first")
        return self.read(index)

    def read_operand(self, index: int, layout: Layout) -> Value:
        """A tensor as numbers that are broadcast against others in a layout."""
        tensor = self.tensor(index)
        rank = len(tensor.shape)
        if layout == "last" or rank in (0, PICTURE_RANK) or tensor.content is None:
            return self.read(index, layout)
        key = (index, "operand")
        if key not in self._floats:
            shape = (1,) * (PICTURE_RANK - rank) + tensor.shape
            array = tensor.content.reshape(shape).transpose(TO_FIRST)
            value = self.constant(np.ascontiguousarray(array), tensor.name)
            if tensor.quantization is not None:
                axis = TO_FIRST.index(PICTURE_RANK - rank + tensor.quantization.axis)
                value = self._dequantized(value, index, axis)
            self._floats[key] = value
        return self._floats[key]

    def stored(self, index: int, layout: Layout = "last") -> Value:
        """A tensor as it is kept, codes as codes.

        Raises:
            ModelError: Nothing has made it.
        """
        tensor = self.tensor(index)
        if len(tensor.shape) != PICTURE_RANK:
            layout = "last"
        if (index, layout) not in self._held:
            self._held[index, layout] = self._stored(index, tensor, layout)
        return self._held[index, layout]

    def _stored(self, index: int, tensor: Tensor, layout: Layout) -> Value:
        if tensor.content is not None:
            array = tensor.content
            if layout == "first":
                array = np.ascontiguousarray(array.transpose(TO_FIRST))
            return self.constant(array, tensor.name)
        other: Layout = "last" if layout == "first" else "first"
        if (index, other) not in self._held:
            raise ModelError(
                f"{self.name} reads the tensor {tensor.name!r}, which nothing makes",
                hint="Convert the model again: it is not whole.",
            )
        order = TO_FIRST if layout == "first" else TO_LAST
        return self.add("Transpose", [self._held[index, other]], {"perm": order})

    # What operators make.

    def add(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, object] | None = None,
        *,
        wish: str = "",
    ) -> Value:
        """Add a node; returns its first output."""
        output = self._unique(wish or f"{op_type}_{len(self._nodes)}")
        node = make_node(op_type, inputs, dict(attributes or {}), outputs=[output])  # type: ignore[arg-type]
        node.name = f"{self._source}:{op_type}_{len(self._nodes)}"
        self._nodes.append(node)
        return node.outputs[0]

    def add_many(
        self, op_type: str, inputs: Sequence[Value], count: int, axis: int
    ) -> list[Value]:
        """Add a node with several outputs along an axis."""
        names = [
            self._unique(f"{op_type}_{len(self._nodes)}.{place}")
            for place in range(count)
        ]
        node = make_node(op_type, inputs, {"axis": axis}, outputs=names)
        node.name = f"{self._source}:{op_type}_{len(self._nodes)}"
        self._nodes.append(node)
        return list(node.outputs)

    def constant(self, array: Array, wish: str = "constant") -> Value:
        """Add a constant."""
        value = make_initializer(array, self._unique(wish or "constant"))
        self._constants.append(value)
        return value

    def number(self, number: float) -> Value:
        """Add one float."""
        return self.constant(np.array(number, np.float32), "number")

    def integers(self, numbers: Sequence[int]) -> Value:
        """Add int64[n], as axes and shapes are given."""
        return self.constant(np.array(numbers, np.int64), "numbers")

    def activated(self, value: Value, operator: Operator) -> Value:
        """Put the activation behind a value that is fused into its operator.

        Raises:
            ModelError: It is one that no operator is known to have.
        """
        number = int(operator.options.get("fused_activation_function", 0))  # type: ignore[arg-type]
        kind = ACTIVATIONS[number] if number < len(ACTIVATIONS) else str(number)
        if kind == "NONE":
            return value
        if kind in _CLIPS:
            return self.clipped(value, *_CLIPS[kind])
        if kind not in ("RELU", "TANH"):
            raise ModelError(
                f"{self.name} fuses the activation {kind} into {operator.code}",
                hint="Convert the model again without it.",
            )
        return self.add("Relu" if kind == "RELU" else "Tanh", [value])

    def clipped(self, value: Value, low: float, high: float) -> Value:
        """Limit a value."""
        limits = [self.number(limit) for limit in (low, high)]
        return self.add("Clip", [value, *limits])

    def write(self, index: int, value: Value, layout: Layout = "last") -> None:
        """Keep numbers as a tensor: as codes, where the tensor holds codes."""
        tensor = self.tensor(index)
        if tensor.quantization is not None and tensor.dtype != "float32":
            value = self.quantized(value, index)
        self.keep(index, value, layout)

    def keep(self, index: int, value: Value, layout: Layout = "last") -> None:
        """Keep a value as a tensor, as it is."""
        if len(self.tensor(index).shape) != PICTURE_RANK:
            layout = "last"
        self._held[index, layout] = value

    def quantized(self, value: Value, index: int) -> Value:
        """Numbers as the codes of a tensor."""
        scale, zero_point = self._parameters_of(index)
        wish = f"{self.tensor(index).name}.codes"
        return self.add("QuantizeLinear", [value, scale, zero_point], wish=wish)

    def finish(self) -> Graph:
        """The graph, once all operators have been read.

        Raises:
            ModelError: Nothing makes one of the outputs.
        """
        outputs = []
        for index in self._net.outputs:
            value, name = self.stored(index), self._ports[index]
            if value.producer() is None or value in outputs:
                value = self.add("Identity", [value])
            value.name = name
            shaped = new_value(name, self._dtype(index), self._sizes(index))
            value.type, value.shape = shaped.type, shaped.shape
            outputs.append(value)
        return make_graph(
            self._nodes,
            inputs=self._inputs,
            outputs=outputs,
            initializers=self._constants,
            opset=OPSET,
            name=self.name,
        )

    def _input(self, index: int) -> Value:
        shape = self.tensor(index).shape
        value = new_value(self._ports[index], self._dtype(index), shape)
        self._held[index, "last"] = value
        return value

    def _sizes(self, index: int) -> list[int | None]:
        """The sizes of an output; one that follows from the inputs' is not told."""
        tensor = self.tensor(index)
        return [
            None if axis in tensor.open_axes else size
            for axis, size in enumerate(tensor.shape)
        ]

    def _dtype(self, index: int) -> str:
        return self.tensor(index).dtype

    def _unique(self, wish: str) -> str:
        return claim_name(wish, self._taken)

    def _dequantized(self, codes: Value, index: int, axis: int) -> Value:
        scale, zero_point = self._parameters_of(index)
        has_axis = self._quantization(index).scale.size > 1
        return self.add(
            "DequantizeLinear",
            [codes, scale, zero_point],
            {"axis": axis} if has_axis else {},
            wish=f"{self.tensor(index).name}.dequantized",
        )

    def _quantization(self, index: int) -> Quantization:
        tensor = self.tensor(index)
        # Biases have zero points too, which are 0.
        if tensor.quantization is None or tensor.dtype not in (*_CODES, "int32"):
            raise ModelError(
                f"{self.name} keeps the tensor {tensor.name!r} as codes of "
                f"{tensor.dtype}, which are not read",
                hint="Convert the model again with 8 bits.",
            )
        return tensor.quantization

    def _parameters_of(self, index: int) -> tuple[Value, Value]:
        if index not in self._parameters:
            quantization, tensor = self._quantization(index), self.tensor(index)
            scale, zero_point = quantization.scale, quantization.zero_point
            if scale.size == 1:
                scale, zero_point = scale.reshape(()), zero_point.reshape(())
            limits = np.iinfo(tensor.dtype)
            if zero_point.min() < limits.min or zero_point.max() > limits.max:
                raise ValueError(zero_point)
            self._parameters[index] = (
                self.constant(scale, f"{tensor.name}.scale"),
                self.constant(
                    zero_point.astype(tensor.dtype), f"{tensor.name}.zero_point"
                ),
            )
        return self._parameters[index]


def option(operator: Operator, name: str, default: int) -> int:
    """A number among an operator's options."""
    found = operator.options.get(name, default)
    if isinstance(found, tuple):
        raise TypeError(found)
    return int(found)


def given(operator: Operator, place: int) -> int | None:
    """The number of an operator's optional input, or None where it is left out."""
    if place >= len(operator.inputs) or operator.inputs[place] == LEFT_OUT:
        return None
    return operator.inputs[place]
