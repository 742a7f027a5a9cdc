"""What must be known of a decoded file before it becomes a graph: order and extents."""

from __future__ import annotations

import graphlib

from skerry.core.errors import ModelError
from skerry.graph._onnx import EXTERNAL, Proto, foreign_errors
from skerry.graph.proto import proto_nodes


def external_extents(proto: Proto, name: str) -> dict[str, int]:
    """The files that tensors lie in, and how many bytes each must have at least.

    Raises:
        ModelError: A position in a file is not a number.
    """
    nodes = list(proto_nodes(proto.graph))
    attributes = [attribute for node in nodes for attribute in node.attribute]
    graphs = [proto.graph, *(g for a in attributes for g in (a.g, *a.graphs))]
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    tensors += [tensor for a in attributes for tensor in (a.t, *a.tensors)]
    extents: dict[str, int] = {}
    with foreign_errors(f"{name} is damaged"):
        for tensor in tensors:
            if tensor.data_location == EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                location = str(entries.get("location", ""))
                end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
                extents[location] = max(end, extents.get(location, 0))
    return extents


def sort_nodes(proto: Proto, name: str) -> None:
    """Bring the nodes of a decoded file into topological order, in place.

    Those that are in order already stay as they are.

    Raises:
        ModelError: A node reads what no node makes, or what it helps to make itself.
    """
    graph = proto.graph
    makers = {out: i for i, node in enumerate(graph.node) for out in node.output if out}
    given = {value.name for value in (*graph.input, *graph.initializer)}
    given.update(sparse.values.name for sparse in graph.sparse_initializer)
    needs: dict[int, list[int]] = {}
    for index, node in enumerate(graph.node):
        for value in node.input:
            if value and value not in makers and value not in given:
                raise ModelError(
                    f"{name} is damaged: the {node.op_type} node {node.name!r} reads "
                    f"{value!r}, which nothing makes",
                    hint="Export or download the model again.",
                )
        inner = (
            n for a in node.attribute for g in (a.g, *a.graphs) for n in proto_nodes(g)
        )
        reads = [*node.input, *(value for nested in inner for value in nested.input)]
        needs[index] = [makers[value] for value in reads if value in makers]
    if all(need < index for index, some in needs.items() for need in some):
        return
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as cycle:
        around = [graph.node[index] for index in reversed(cycle.args[1])]
        names = " → ".join(node.name or node.op_type for node in around)
        raise ModelError(
            f"{name} has a cycle: {names}",
            hint="Export the model again: a graph must not read its own results.",
        ) from cycle
    nodes = [graph.node[index] for index in order]
    del graph.node[:]
    graph.node.extend(nodes)
