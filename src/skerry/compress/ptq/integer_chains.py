"""Choose what to quantize so that values stay integers from layer to layer.

A pair of QuantizeLinear and DequantizeLinear between a convolution and the addition
behind it costs two passes over the values, more than small convolutions save. So an
operator between layers is quantized where that spares pairs: where what it reads is
integer already, and what it writes is read as integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from skerry.compress.ptq.operators import (
    activations,
    is_float,
    runs_wrong,
    standard,
    weight,
)
from skerry.compress.ptq.patterns import Patterns
from skerry.graph import Graph, Node, Value, attribute, dims, sole_use

CHEAP_SHARE = 0.25
"""Part of an operator's operands that may be float for it to be worth quantizing: the
one number a channel that an attention gives is quantized at next to no cost."""


class IntegerChains:
    """The nodes of a graph that one runtime computes in integers, as long chains.

    Args:
        graph: Its values' types are known; its nodes are named.
        patterns: What the runtime can do.
        keep_float: Names of nodes to leave alone.
    """

    def __init__(
        self, graph: Graph, patterns: Patterns, keep_float: frozenset[str]
    ) -> None:
        self._graph = graph
        self._patterns = patterns
        self._keep_float = keep_float
        self._parts: dict[Node, tuple[Node, ...]] = {}
        self._whole: dict[Node, Node] = {}
        for node in graph.nodes:
            if node not in self._whole and self._is_candidate(node):
                self._parts[node] = tuple(self._fused_into(node))
                self._whole |= dict.fromkeys(self._parts[node], node)
        # The largest choice that is consistent: begin with everything, and take out
        # what gains nothing until all that is left does.
        self._chosen = set(self._parts)
        while idle := [node for node in self._chosen if not self._gains(node)]:
            self._chosen.difference_update(idle)

    @property
    def hosts(self) -> list[Node]:
        """The nodes to quantize, in topological order, without those fused into one."""
        return [node for node in self._graph.nodes if node in self._chosen]

    @property
    def nodes(self) -> list[Node]:
        """The nodes to quantize, in topological order."""
        whole = {node: self._whole.get(node, node) for node in self._graph.nodes}
        return [node for node, host in whole.items() if host in self._chosen]

    @property
    def observed(self) -> set[Value]:
        """The values whose ranges are needed, whatever else is kept in float."""
        patterns = self._patterns
        found: set[Value] = set()
        for node, parts in self._parts.items():
            if node in self._chosen or node.op_type in patterns.layers:
                found.update(activations(self._graph, node))
                found.update(part.outputs[0] for part in (node, *parts))
        return found

    def result(self, node: Node) -> Value:
        """What a node makes, with all that is fused into it."""
        return (self._parts.get(node, ()) or (node,))[-1].outputs[0]

    def bias(self, node: Node) -> Node | None:
        """The addition that is the bias of a matrix product, or None.

        Both become one Gemm, which is computed in integers if its bias is one.
        """
        value = weight(self._graph, node) if node.op_type == "MatMul" else None
        weights = self._graph.constant(value)
        reader, index = self._only_reader(node)
        if weights is None or weights.ndim != 2 or reader is None:
            return None
        if reader.op_type != "Add":
            return None
        constant = self._graph.constant(reader.inputs[1 - index])
        is_vector = constant is not None and constant.shape == weights.shape[1:]
        return reader if is_vector else None

    def carries(self, node: Node) -> bool:
        """Whether a node passes integers on with their scale."""
        if node.op_type == "Resize" and attribute(node, "mode", "nearest") != "nearest":
            return False
        return (
            standard(node)
            and node.op_type in self._patterns.carries
            and node.name not in self._keep_float
            and not any(output.is_graph_output() for output in node.outputs)
        )

    def writes_integers(self, node: Node) -> bool:
        """Whether a chosen node's result passes through a pair."""
        result = self.result(node)
        if result.is_graph_output():
            return False
        readers = list(self._readers(result))
        if node.op_type in self._patterns.float_results:
            return bool(readers) and all(reader in self._chosen for reader in readers)
        return True

    def _fused_into(self, node: Node) -> Iterator[Node]:
        """What vanishes into a node: its bias, the activation behind it."""
        bias = self.bias(node)
        if bias is not None:
            yield bias
        activation, index = self._only_reader(bias or node)
        names = self._patterns.activations.get(node.op_type, frozenset())
        if activation is not None and not index and activation.op_type in names:
            yield activation

    def _only_reader(self, node: Node) -> tuple[Node | None, int]:
        """What alone reads a node's result, and as which of its inputs."""
        use = sole_use(node.outputs[0])
        if use is None:
            return None, 0
        reader, index = use
        # A reader inside If or Loop belongs to another graph.
        fits = standard(reader) and reader.graph is node.graph
        is_free = reader.name not in self._keep_float
        return (reader, index) if fits and is_free else (None, 0)

    def _is_candidate(self, node: Node) -> bool:
        if not standard(node) or node.name in self._keep_float:
            return False
        if not is_float(node.outputs[0]) or not activations(self._graph, node):
            return False
        if node.op_type in self._patterns.layers:
            return weight(self._graph, node) is not None and not runs_wrong(
                self._graph, node
            )
        return node.op_type in self._patterns.arithmetic

    def _gains(self, node: Node) -> bool:
        """Whether quantizing a node spares more than it costs."""
        result = self.result(node)
        if node.op_type in self._patterns.layers:
            is_output = result.is_graph_output()
            return not is_output or node.op_type in self._patterns.float_results
        if result.is_graph_output():
            return False
        is_read = any(reader in self._chosen for reader in self._readers(result))
        return is_read and self._reads_integers(node)

    def _reads_integers(self, node: Node) -> bool:
        """Whether all, or all but a small part, of the operands are integers."""
        operands = activations(self._graph, node)
        floats = [value for value in operands if not self._is_integer(value)]
        if not floats:
            return True
        total, of_floats = _elements(operands), _elements(floats)
        if total is None or of_floats is None:
            return False
        return of_floats <= CHEAP_SHARE * total

    def _is_integer(self, value: Value) -> bool:
        producer = value.producer()
        while producer is not None and self.carries(producer):
            source = producer.inputs[0]
            producer = None if source is None else source.producer()
        if producer is None:
            return False
        host = self._whole.get(producer, producer)
        return host in self._chosen and self.writes_integers(host)

    def _readers(self, value: Value) -> Iterator[Node]:
        """What reads a value, directly or carried."""
        for use in value.uses():
            if self.carries(use.node) and use.idx == 0:
                for output in use.node.outputs:
                    yield from self._readers(output)
            else:
                yield use.node


def _elements(values: list[Value]) -> int | None:
    """How many numbers some values hold, None where a shape is not known."""
    total = 0
    for value in values:
        shape = dims(value)
        sizes = [size for size in shape or (None,) if isinstance(size, int)]
        if shape is None or len(sizes) != len(shape):
            return None
        total += prod(sizes)
    return total
