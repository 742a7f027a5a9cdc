"""Which values of a graph become integers: decided first, then written by `qdq`."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from skerry.compress.ptq.integer_chains import IntegerChains
from skerry.compress.ptq.operators import (
    Operators,
    Role,
    activations,
    fused_activation,
    is_float,
    quantizable,
    role,
)
from skerry.compress.ptq.patterns import DEFAULT_RUNTIME, patterns_of
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.graph import Graph, Node, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What of a graph is quantized; values and nodes are named, so plans can be kept.

    Attributes:
        nodes: Nodes computed in integers, in topological order.
        carries: Nodes that only carry quantized values on, with their scale.
        reads: Values quantized where the nodes above read them; each with the name
            of the value whose range it takes (its own, or that which it carries).
        writes: Values quantized where they are written, for every reader; likewise.
        outputs: What each of the nodes above writes in integers, by the node's name:
            its own output, or that of the activation fused into it. A node that
            writes floats has no entry.
        biases: By the name of a matrix product, that of the addition that is its bias.
    """

    nodes: tuple[str, ...]
    carries: tuple[str, ...]
    reads: Mapping[str, str] = field(default_factory=dict)
    writes: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    biases: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> frozenset[str]:
        """Names of all values whose range it needs."""
        return frozenset((*self.reads.values(), *self.writes.values()))


def observable(
    graph: Graph, operators: Operators, runtime: str = DEFAULT_RUNTIME
) -> frozenset[str]:
    """Names of all values whose range a plan may need, whatever stays float."""
    if operators == "fused":
        # The more is kept in float, the fewer chains there are.
        chains = IntegerChains(graph, patterns_of(runtime), frozenset())
        return frozenset(_name(value) for value in chains.observed)
    found: set[str] = set()
    for node in quantizable(graph, operators):
        found.update(_name(value) for value in activations(graph, node))
        fused = fused_activation(node)
        found.update(_name(one.outputs[0]) for one in (node, fused) if one is not None)
    return frozenset(found)


def without_range(
    graph: Graph,
    operators: Operators,
    ranges: Container[str],
    runtime: str = DEFAULT_RUNTIME,
) -> frozenset[str]:
    """Names of nodes that read or write a value for which there is no range."""
    missing = {
        name for name in observable(graph, operators, runtime) if name not in ranges
    }
    return frozenset(
        _name(node)
        for node in (graph.nodes if missing else ())
        if not missing.isdisjoint(
            _name(value) for value in (*activations(graph, node), *node.outputs[:1])
        )
    )


def plan_quantization(
    graph: Graph,
    *,
    operators: Operators,
    keep_float: frozenset[str] = frozenset(),
    runtime: str = DEFAULT_RUNTIME,
) -> Plan:
    """Decide which values of a graph are quantized.

    A quantized node reads integers, and writes them where that is what lets a runtime
    fuse it: always for convolutions and arithmetic, for matrix products only when
    each reader is quantized too (onnxruntime and OpenVINO both have integer matrix
    products with float results). The graph's outputs stay float.

    Args:
        graph: Its values' types are known; its nodes are named.
        operators: Which operators to quantize.
        keep_float: Names of nodes to leave alone. What they read from a quantized
            node has passed through integers all the same.
        runtime: Whose patterns decide what `fused` is.

    Raises:
        UsageError: There is no node of a name to keep float, or the patterns of the
            runtime are not known.
    """
    _check_names(graph, keep_float)
    if operators == "fused":
        return _plan_chains(
            IntegerChains(graph, patterns_of(runtime), keep_float), graph
        )
    chosen = [
        node for node in quantizable(graph, operators) if node.name not in keep_float
    ]
    names = frozenset(_name(node) for node in chosen)
    fused: set[str] = set()
    outputs: dict[str, str] = {}
    for node in chosen:
        if _name(node) in fused:
            continue
        activation, output = fused_activation(node), node.outputs[0]
        if activation is not None and activation.name not in keep_float:
            fused.add(_name(activation))
            output = activation.outputs[0]
        if _writes_integers(node, output, names):
            outputs[_name(node)] = _name(output)
    writes = {output: output for output in outputs.values()}
    carries = _carry(graph, writes, keep_float)
    reads = {
        _name(value): _name(value)
        for node in chosen
        if _name(node) not in fused
        for value in activations(graph, node)
        if _name(value) not in writes
    }
    return Plan(
        nodes=tuple(_name(node) for node in chosen),
        carries=carries,
        reads=reads,
        writes=writes,
        outputs=outputs,
    )


def _plan_chains(chains: IntegerChains, graph: Graph) -> Plan:
    hosts = chains.hosts
    outputs = {
        _name(node): _name(chains.result(node))
        for node in hosts
        if chains.writes_integers(node)
    }
    writes = {output: output for output in outputs.values()}
    biases = [(node, chains.bias(node)) for node in hosts]
    carries = []
    for node in graph.nodes:
        source = node.inputs[0] if node.inputs else None
        if source is not None and _name(source) in writes and chains.carries(node):
            carries.append(_name(node))
            for output in filter(is_float, node.outputs):
                writes[_name(output)] = writes[_name(source)]
    reads = {
        _name(value): _name(value)
        for node in hosts
        for value in activations(graph, node)
        if _name(value) not in writes
    }
    return Plan(
        nodes=tuple(_name(node) for node in chains.nodes),
        carries=tuple(carries),
        reads=reads,
        writes=writes,
        outputs=outputs,
        biases={_name(node): _name(add) for node, add in biases if add is not None},
    )


def _check_names(graph: Graph, keep_float: frozenset[str]) -> None:
    names = [_name(node) for node in graph.nodes]
    for name in sorted(keep_float - frozenset(names)):
        raise UsageError(
            f"{graph.name} has no operator {name!r} to keep float",
            hint=did_you_mean(name, names),
        )


def _writes_integers(node: Node, output: Value, names: frozenset[str]) -> bool:
    if output.is_graph_output():
        return False
    if node.op_type not in ("MatMul", "Gemm"):
        return True
    return all(
        _name(use.node) in names or role(use.node) is Role.CARRY
        for use in output.uses()
    )


def _carry(
    graph: Graph, writes: dict[str, str], keep_float: frozenset[str]
) -> tuple[str, ...]:
    """Let nodes that only carry values take the scale of their input along."""
    carries = []
    for node in graph.nodes:
        if role(node) is not Role.CARRY or node.name in keep_float or not node.inputs:
            continue
        source = node.inputs[0]
        if source is None or _name(source) not in writes:
            continue
        if any(output.is_graph_output() for output in node.outputs):
            continue
        carries.append(_name(node))
        for output in filter(is_float, node.outputs):
            writes[_name(output)] = writes[_name(source)]
    return tuple(carries)


def _name(named: Node | Value) -> str:
    if not named.name:
        raise ValueError("the graph's nodes and values must be named first")
    return named.name
