"""Find small patterns of operators in a graph.

A pattern is written as the expression that it looks for, from its last operator
inwards:

    x = anything("x")
    hard_swish = op(
        "Div",
        op("Mul", x, op("Clip", op("Add", x, constant(3)), constant(0), constant(6))),
        constant(6),
    )
    for match in find(graph, hard_swish): ...

Add and Mul match with their operands in either order. What a match makes on the way
is read by nothing outside of it and is no output of the graph: the matched nodes can
be replaced as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from skerry.graph._onnx import Node, Use, Value
from skerry.graph.model_graph import Graph

_COMMUTATIVE = frozenset({"Add", "Mul"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Anything:
    """Matches any value; the same name must be the same value everywhere.

    Attributes:
        name: What `Match.values` calls the value.
    """

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """Matches a constant.

    Attributes:
        number: What each element is (to float32's precision); None for any constant.
        name: What `Match.values` calls the value; None leaves it out.
    """

    number: float | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """Matches the only used output of a node of the ONNX standard.

    Attributes:
        op_type: The operator.
        inputs: Patterns of its first inputs; those after them may be anything.
    """

    op_type: str
    inputs: tuple[Pattern, ...] = ()


Pattern = Anything | Constant | Op


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A place where a pattern was found.

    Attributes:
        nodes: The matched nodes, in topological order; the last makes the result.
        values: The named values of the pattern.
    """

    nodes: tuple[Node, ...]
    values: dict[str, Value]


def anything(name: str) -> Anything:
    """Match any value, under a name."""
    return Anything(name=name)


def constant(number: float | None = None, *, name: str | None = None) -> Constant:
    """Match a constant whose elements all are a number, or any constant."""
    return Constant(number=number, name=name)


def op(op_type: str, *inputs: Pattern) -> Op:
    """Match an operator by its name and the patterns of its first inputs."""
    return Op(op_type=op_type, inputs=inputs)


def chain(first: str, *op_types: str) -> Op:
    """Match operators of which each reads the one before as its first input.

    Example:
        >>> chain("Conv", "BatchNormalization")
        Op(op_type='BatchNormalization', inputs=(Op(op_type='Conv', inputs=()),))
    """
    pattern = op(first)
    for op_type in op_types:
        pattern = op(op_type, pattern)
    return pattern


def find(graph: Graph, pattern: Op) -> tuple[Match, ...]:
    """Find where a pattern occurs; no node is in two matches.

    Args:
        graph: Where to look; nodes inside If and Loop are not looked at.
        pattern: What to look for.

    Returns:
        The matches, in the topological order of their last nodes. Where two would
        share a node, the earlier one.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    matches: list[Match] = []
    taken: set[Node] = set()
    for node in order:
        for found in _match_node(graph, pattern, node, Match(nodes=(), values={})):
            nodes = tuple(sorted(set(found.nodes), key=order.__getitem__))
            if taken.isdisjoint(nodes) and _is_closed(nodes):
                taken.update(nodes)
                matches.append(replace(found, nodes=nodes))
                break
    return tuple(matches)


def sole_use(value: Value) -> Use | None:
    """Find the one place where a value is read.

    Returns:
        The node and which of its inputs it is; None where the value is read nowhere or
        more than once, or where the caller of the model gets it.
    """
    uses = list(value.uses())
    return uses[0] if len(uses) == 1 and not value.is_graph_output() else None


def _match(
    graph: Graph, pattern: Pattern, value: Value | None, so_far: Match
) -> Iterator[Match]:
    if value is None:
        return
    match pattern:
        case Anything(name=name):
            yield from _named(so_far, name, value)
        case Constant(number=number, name=name):
            array = graph.constant(value)
            if array is not None and (number is None or _is_all(array, number)):
                yield from _named(so_far, name, value) if name else (so_far,)
        case Op():
            producer = value.producer()
            if producer is not None and producer.outputs[0] is value:
                yield from _match_node(graph, pattern, producer, so_far)


def _match_node(
    graph: Graph, pattern: Op, node: Node, so_far: Match
) -> Iterator[Match]:
    if node.op_type != pattern.op_type or node.domain != "":
        return
    if len(node.inputs) < len(pattern.inputs):
        return
    so_far = replace(so_far, nodes=(*so_far.nodes, node))
    inputs = tuple(node.inputs)
    yield from _match_inputs(graph, pattern.inputs, inputs, so_far)
    if node.op_type in _COMMUTATIVE:
        yield from _match_inputs(graph, pattern.inputs, inputs[::-1], so_far)


def _match_inputs(
    graph: Graph,
    patterns: tuple[Pattern, ...],
    inputs: tuple[Value | None, ...],
    so_far: Match,
) -> Iterator[Match]:
    if not patterns:
        yield so_far
        return
    for found in _match(graph, patterns[0], inputs[0], so_far):
        yield from _match_inputs(graph, patterns[1:], inputs[1:], found)


def _named(so_far: Match, name: str, value: Value) -> Iterator[Match]:
    if so_far.values.get(name, value) is value:
        yield replace(so_far, values={**so_far.values, name: value})


def _is_all(array: np.ndarray, number: float) -> bool:
    if array.size == 0 or array.dtype.kind not in "fiu":
        return False
    return bool(np.allclose(array.astype(np.float64), number, rtol=1e-6, atol=1e-9))


def _is_closed(nodes: tuple[Node, ...]) -> bool:
    """Whether only the last node's results leave the match."""
    return all(
        not value.is_graph_output() and set(value.consumers()) <= set(nodes)
        for node in nodes[:-1]
        for value in node.outputs
    )
