"""Make a graph out of nodes."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.graph._onnx import IrGraph, IrModel, Node, Value
from skerry.graph.model_graph import Graph

_IR_VERSION = 8
"""The version of the file format that came with opset 17."""


def make_graph(
    nodes: Sequence[Node] = (),
    *,
    inputs: Sequence[Value] = (),
    outputs: Sequence[Value] = (),
    initializers: Sequence[Value] = (),
    opset: int,
    name: str,
) -> Graph:
    """Make a graph out of nodes that are in none yet.

    Args:
        nodes: In topological order.
        inputs: What the caller gives.
        outputs: What the caller gets; each is made by a node.
        initializers: The constants that the nodes read.
        opset: The version of the ONNX standard's operators.
        name: What messages call the model.
    """
    graph = IrGraph(
        list(inputs),
        list(outputs),
        nodes=list(nodes),
        initializers=list(initializers),
        opset_imports={"": opset},
        name="net",
    )
    return Graph(IrModel(graph, ir_version=_IR_VERSION), name=name)
