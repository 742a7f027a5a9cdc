from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import ModelError, UsageError
from skerry.core.model import TensorSpec
from skerry.graph import (
    Graph,
    attribute,
    dtype_name,
    make_initializer,
    make_node,
    make_value,
    parse_graph,
)
from tests import models


@pytest.fixture
def graph() -> Graph:
    """A small convolutional net."""
    return parse_graph(models.conv_net(), name="conv_net")


def test_signature(graph: Graph) -> None:
    """Inputs and outputs carry name, dtype and shape; initializers are not inputs."""
    assert [str(spec) for spec in graph.inputs] == ["x float32[1×3×16×16]"]
    assert [str(spec) for spec in graph.outputs] == ["y float32[1×4]"]


def test_unknown_sizes_have_no_name() -> None:
    """A symbol is kept; what exporters write for an unknown size becomes None."""
    content = models.model_bytes(
        'net (float[batch, "?"] x) => (float[a, b] y) {y=Relu(x)}'
    )
    assert parse_graph(content).inputs[0].shape == ("batch", None)


def test_nodes_are_in_order(graph: Graph) -> None:
    """Each node stands after those it reads from."""
    seen: set[object] = set()
    for node in graph.nodes:
        assert all(before in seen for before in node.predecessors())
        seen.add(node)


def test_all_nodes_go_into_branches() -> None:
    """`nodes` are the graph's own; `all_nodes` has those inside an If too."""
    graph = parse_graph(models.if_net())
    assert [node.op_type for node in graph.nodes] == ["If"]
    assert sorted(node.op_type for node in graph.all_nodes) == [
        "Add",
        "If",
        "Mul",
        "Relu",
    ]


def test_constant(graph: Graph) -> None:
    """Initializers and Constant nodes have an array, computed values have none."""
    np.testing.assert_array_equal(graph.constant(graph.value("six")), 6)
    assert graph.constant(graph.value("stem")) is None
    assert graph.constant(None) is None
    content = models.model_bytes(
        """net (float[2] x) => (float[2] y) {
          c = Constant<value_floats = [1.0, 2.0]>()
          y = Add(x, c)
        }"""
    )
    with_node = parse_graph(content)
    array = with_node.constant(with_node.value("c"))
    assert array is not None
    assert array.tolist() == [1, 2]


def test_value_by_name(graph: Graph) -> None:
    """A value is found by name; a misspelt one names the nearest."""
    assert graph.value("depth_n").producer() is not None
    with pytest.raises(UsageError, match="no tensor 'depth_m'") as caught:
        graph.value("depth_m")
    assert "Did you mean 'depth" in caught.value.hint


def test_copy_is_independent(graph: Graph) -> None:
    """Changing a copy leaves the original as it was."""
    before = graph.to_bytes()
    copied = graph.copy()
    copied.add_outputs(["stem"])
    copied.metadata["key"] = "value"
    assert graph.to_bytes() == before
    assert copied.to_bytes() != before


def test_add_outputs(graph: Graph) -> None:
    """A value inside becomes an output, once."""
    graph.add_outputs(["y", "stem_a", "stem_a"])
    assert [value.name for value in graph.output_values] == ["y", "stem_a"]


def test_output_of_unknown_type_is_refused(graph: Graph) -> None:
    """The signature of a graph whose types are not inferred yet is an error."""
    graph.add_outputs(["stem"])
    with pytest.raises(ModelError, match="does not say the type of 'stem'"):
        _ = graph.outputs


def test_unique_name_is_given_once(graph: Graph) -> None:
    """A taken name gets a number, and so does one that was given before."""
    assert graph.unique_name("stem") == "stem_2"
    assert graph.unique_name("stem") == "stem_3"
    assert graph.unique_name("fresh") == "fresh"
    assert graph.unique_name("fresh") == "fresh_2"


def test_add_initializer(graph: Graph) -> None:
    """A new constant is found by name; one whose name is taken is refused."""
    array = np.arange(3, dtype=np.float32)
    graph.add_initializer(make_initializer(array, "new"))
    np.testing.assert_array_equal(graph.constant(graph.value("new")), array)
    with pytest.raises(UsageError, match="has an initializer 'new' already"):
        graph.add_initializer(make_initializer(array, "new"))


def test_add_input(graph: Graph) -> None:
    """A new input joins the signature, and nodes can read it."""
    spec = TensorSpec(name="extra", dtype="uint8", shape=("batch", 3))
    value = graph.add_input(spec)
    assert graph.inputs[1] == spec
    assert graph.value("extra") is value


def test_attribute(graph: Graph) -> None:
    """An attribute has its plain value, or the default where it is left out."""
    conv = graph.nodes[0]
    assert attribute(conv, "strides", (1, 1)) == (2, 2)
    assert attribute(conv, "group", 1) == 1


def test_made_nodes() -> None:
    """A node's outputs can be given by name; else there is one without a name."""
    value = make_value("v", "float32", (2, "n"))
    node = make_node("Split", [value], {"axis": 1}, outputs=["a", "b"], name="split")
    assert [output.name for output in node.outputs] == ["a", "b"]
    assert node.name == "split"
    assert [output.name for output in make_node("Relu", [value]).outputs] == [None]
    assert dtype_name(value) == "float32"


def test_custom_domains_are_listed() -> None:
    """Operators outside the standard are read, and their domains listed."""
    content = models.model_bytes(
        "net (float[2] x) => (float[2] y) {y = com.example.Gelu(x)}",
        domains=', "com.example": 1',
    )
    assert parse_graph(content).custom_domains == ("com.example",)
    assert parse_graph(models.mlp()).custom_domains == ()


def test_bytes_are_reproducible(graph: Graph) -> None:
    """The same graph gives the same bytes, from any copy and any reading of it."""
    content = graph.to_bytes()
    assert graph.copy().to_bytes() == content
    assert parse_graph(models.conv_net()).to_bytes() == content
    assert parse_graph(content).to_bytes() == content
