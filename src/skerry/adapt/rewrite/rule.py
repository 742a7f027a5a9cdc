"""What a rewrite rule is, and what it sees and makes.

A rule is told of one operator that a processor does not run (a `Site`), and draws small
graphs that could stand in for it (`Replacement`), best first. It need not know what the
processor runs: the engine takes the first one of which all operators do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from skerry.adapt.operators import Operator
from skerry.adapt.rewrite.bounds import Bound
from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Match,
    Node,
    Value,
    attribute,
    dims,
    dtype_name,
    find,
    make_graph,
    make_initializer,
    make_node,
    make_value,
)
from skerry.graph.match import Op

FOREIGN = frozenset(
    {"FastGelu", "Gelu", "Mish", "QuickGelu", "SiLU", "Silu", "Swish", "SwishBeta"}
    | {"swish"}
)
"""Activation functions that others define too, and as the same function; any other
operator of another domain than ONNX's may be anything, whatever it is called."""

Shape = tuple[int, ...]
Attribute = int | float | str | list[int]
Operand = Value | float
AttributeT = TypeVar("AttributeT", bound=Attribute)


class Draft:
    """A small graph that is being drawn to stand in for some nodes of another.

    Attributes:
        graph: The drawing; its inputs are copies of what it reads.
        reads: The values of the other graph that it reads, by input name.
    """

    __slots__ = ("_dtype", "_read", "graph", "reads")

    def __init__(self, original: Graph, dtype: str) -> None:
        """Begin with nothing.

        Args:
            original: The graph that the drawing is for.
            dtype: What numbers given as Python floats become.
        """
        self.graph = make_graph(name="replacement", opset=original.opset)
        self.reads: dict[str, Value] = {}
        self._read: dict[Value, Value] = {}
        self._dtype = dtype

    def read(self, value: Value, constant: Array | None = None) -> Value:
        """Read a value of the original graph, once however often it is asked for."""
        if value not in self._read:
            if constant is None:
                name = f"in{len(self.reads)}"
                spec = dtype_name(value) or "float32"
                made = make_value(name, spec, dims(value) or ())
                self.graph.ir.graph.inputs.append(made)
                self.reads[name] = value
            else:
                made = self.constant(constant)
            self._read[value] = made
        return self._read[value]

    def constant(self, array: Array) -> Value:
        """Add a constant of the array's own dtype."""
        name = self.graph.unique_name("constant")
        return self.graph.add_initializer(make_initializer(array, name))

    def integers(self, *numbers: int) -> Value:
        """Add a list of int64, such as a shape."""
        return self.constant(np.array(numbers, np.int64))

    def number(self, number: float) -> Value:
        """Add one number of the draft's dtype."""
        return self.constant(np.array(number, np.dtype(self._dtype)))

    def op(
        self, op_type: str, *operands: Operand | None, **attributes: Attribute
    ) -> Value:
        """Add an operator of one result; floats among the operands become constants."""
        return self.split(op_type, 1, *operands, **attributes)[0]

    def split(
        self,
        op_type: str,
        results: int,
        *operands: Operand | None,
        **attributes: Attribute,
    ) -> tuple[Value, ...]:
        """Add an operator of several results."""
        inputs = [
            self.number(one) if isinstance(one, int | float) else one
            for one in operands
        ]
        names = [self.graph.unique_name(op_type) for _ in range(results)]
        node = make_node(op_type, inputs, attributes, outputs=names, name=names[0])
        self.graph.add_node(node)
        return tuple(node.outputs)

    def like(self, node: Node, *operands: Value | None) -> Value:
        """Add an operator of ONNX itself, with the attributes of another graph's."""
        kept = {name: one.value for name, one in node.attributes.items()}
        return self.op(node.op_type, *operands, **kept)

    def negative(self, x: Value) -> Value:
        """Add a product with −1, which more processors have in integers than Neg."""
        return self.op("Mul", x, -1.0)

    def reshape(self, x: Value, shape: Shape) -> Value:
        """Add a Reshape to sizes that are known."""
        return self.op("Reshape", x, self.integers(*shape))

    def transpose(self, x: Value, order: list[int]) -> Value:
        """Add a Transpose, unless it would change nothing."""
        if order == sorted(order):
            return x
        return self.op("Transpose", x, perm=order)

    def slice(self, x: Value, start: int, stop: int, axis: int) -> Value:
        """Add a Slice of one dimension."""
        ends = (self.integers(start), self.integers(stop), self.integers(axis))
        return self.op("Slice", x, *ends)

    def pad(self, x: Value, pads: list[int]) -> Value:
        """Add a Pad with zeros, unless it would change nothing."""
        if not any(pads):
            return x
        return self.op("Pad", x, self.integers(*pads), self.number(0.0))

    def mean(self, x: Value, axes: list[int], *, keepdims: int = 1) -> Value:
        """Add a ReduceMean, as this opset writes it."""
        if self.graph.opset >= 18:
            return self.op("ReduceMean", x, self.integers(*axes), keepdims=keepdims)
        return self.op("ReduceMean", x, axes=axes, keepdims=keepdims)

    def sum(self, values: list[Value]) -> Value:
        """Add values up, two at a time."""
        total = values[0]
        for value in values[1:]:
            total = self.op("Add", total, value)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """What can stand in for some nodes.

    Attributes:
        draft: The small graph.
        results: Its values that stand in for the outputs of `root`, in order.
        root: The node that made the results so far.
        bound: How far the new results may be from the old ones.
    """

    draft: Draft
    results: tuple[Value, ...]
    root: Node
    bound: Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One node that a processor does not run, in its graph.

    Attributes:
        graph: The graph, with shapes.
        node: The node.
        operator: The same as the target sees it.
    """

    graph: Graph
    node: Node
    operator: Operator

    @property
    def is_static(self) -> bool:
        """Whether all sizes of what it reads and makes are known."""
        return all(one.shape is not None for one in self.operator.activations)

    def draft(self) -> Draft:
        """Begin a replacement."""
        return Draft(self.graph, dtype_name(self.node.outputs[0]) or "float32")

    def to(
        self, draft: Draft, *results: Value, bound: Bound, root: Node | None = None
    ) -> Replacement:
        """Finish a replacement of this node, or of the pattern that ends in `root`."""
        return Replacement(
            draft=draft, results=results, root=root or self.node, bound=bound
        )

    def read(self, draft: Draft, index: int) -> Value:
        """Let a draft read one of the node's inputs, which is there."""
        return self.take(draft, self.node.inputs[index])

    def take(self, draft: Draft, value: Value | None) -> Value:
        """Let a draft read a value of the graph, as a constant where it is one."""
        if value is None:
            raise ValueError(f"{self.node.name} has no such input")
        return draft.read(value, self.graph.constant(value))

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        inputs = self.node.inputs
        return len(inputs) > index and inputs[index] is not None

    def constant(self, index: int) -> Array | None:
        """What one of the node's inputs always holds; None where it varies."""
        return self.graph.constant(self.node.inputs[index]) if self.has(index) else None

    def attribute(self, name: str, default: AttributeT) -> AttributeT:
        """One of the node's attributes, or what the standard says it then is."""
        return attribute(self.node, name, default)

    def integers(self, name: str, default: list[int]) -> list[int]:
        """An attribute that is a list of integers."""
        return [int(one) for one in attribute(self.node, name, default)]

    def shape(self, index: int = 0) -> Shape | None:
        """Sizes of one of the node's inputs; None where one is not known."""
        return static_shape(self.node.inputs[index]) if self.has(index) else None

    def result_shape(self, index: int = 0) -> Shape | None:
        """Sizes of one of the node's results; None where one is not known."""
        return static_shape(self.node.outputs[index])

    def matches(self, pattern: Op) -> Iterator[Match]:
        """Places where a pattern has this node in it."""
        return (one for one in find(self.graph, pattern) if self.node in one.nodes)


def static_shape(value: Value | None) -> Shape | None:
    """Sizes of a value; None where one is not known."""
    sizes = None if value is None else dims(value)
    if sizes is None:
        return None
    known = tuple(size for size in sizes if isinstance(size, int))
    return known if len(known) == len(sizes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One way to say the same in other operators.

    Attributes:
        name: What reports call it.
        replaces: Operators that it can stand in for, alone or with those around.
        advice: What it does, as an imperative sentence without its full stop.
        source: Where the identity or the bound is from.
        draw: Draws replacements of a site, best first; none where it does not apply.
        opset: The oldest opset that has the operators it draws.
    """

    name: str
    replaces: frozenset[str]
    advice: str
    source: str
    draw: Callable[[Site], Iterator[Replacement]] = field(repr=False)
    opset: int = 13

    def names(self, operator: Operator) -> bool:
        """Whether it can stand in for an operator."""
        is_known = operator.is_standard or operator.op_type in FOREIGN
        return is_known and operator.op_type in self.replaces
