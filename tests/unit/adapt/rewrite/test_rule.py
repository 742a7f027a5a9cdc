"""Drafts read what the original holds, once, and constants as constants."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.rewrite.rule import Draft, static_shape
from skerry.graph import Graph, infer_shapes, name_all_nodes, parse_graph
from tests.models import model_bytes
from tests.rewriting import site_of


@pytest.fixture
def graph() -> Graph:
    """Add a constant to an input of an open size."""
    text = "net (float[n, 3] x) => (float[n, 3] y) { y = Add(x, c) }"
    content = model_bytes(text, {"c": np.ones(3, np.float32)})
    return infer_shapes(name_all_nodes(parse_graph(content)))


def test_a_value_is_read_once(graph: Graph) -> None:
    """Twice asked for, one input."""
    draft = Draft(graph, "float32")
    first, second = (draft.read(graph.input_values[0]) for _ in range(2))
    assert first is second
    assert list(draft.reads) == ["in0"]


def test_a_constant_stays_a_constant(graph: Graph) -> None:
    """It comes into the draft as one, not as an input."""
    site = site_of(graph, "Add")
    draft = site.draft()
    value = site.read(draft, 1)
    np.testing.assert_array_equal(draft.graph.constant(value), np.ones(3))
    assert draft.reads == {}


def test_an_input_that_is_not_there_is_refused(graph: Graph) -> None:
    """A rule that reads what was left out has a fault."""
    site = site_of(graph, "Add")
    with pytest.raises(ValueError, match="no such input"):
        site.take(site.draft(), None)
    assert not site.has(2)
    assert site.constant(2) is None


def test_open_sizes_are_no_shape(graph: Graph) -> None:
    """A symbol is not a size."""
    assert static_shape(graph.input_values[0]) is None
    assert static_shape(None) is None
    assert site_of(graph, "Add").shape(1) == (3,)
