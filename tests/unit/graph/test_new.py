"""Graphs made out of nodes."""

from __future__ import annotations

import numpy as np

from skerry.core.model import TensorSpec
from skerry.graph import (
    make_graph,
    make_initializer,
    make_node,
    make_value,
    parse_graph,
)


def test_a_graph_of_nodes_is_a_model() -> None:
    """What is made so can be written and read."""
    x, w = make_value("x", "float32", [2]), make_initializer(np.ones(2), "w")
    node = make_node("Relu", [x], outputs=[make_value("y", "float32", [2])])
    graph = make_graph(
        [node], inputs=[x], outputs=node.outputs, initializers=[w], opset=17, name="net"
    )
    again = parse_graph(graph.to_bytes())
    assert [str(spec) for spec in (*again.inputs, *again.outputs)] == [
        "x float32[2]",
        "y float32[2]",
    ]
    assert (again.opset, len(again.initializers)) == (17, 1)


def test_a_graph_may_begin_without_nodes() -> None:
    """They are added one by one; the last ones' results are what comes out."""
    graph = make_graph(opset=17, name="net")
    x = graph.add_input(TensorSpec(name="x", dtype="float32", shape=(2,)))
    node = make_node("Relu", [x], outputs=[make_value("y", "float32", [2])])
    graph.add_node(node)
    graph.add_output(node.outputs[0])
    again = parse_graph(graph.to_bytes())
    assert [node.op_type for node in again.nodes] == ["Relu"]
    assert [str(spec) for spec in (*again.inputs, *again.outputs)] == [
        "x float32[2]",
        "y float32[2]",
    ]
