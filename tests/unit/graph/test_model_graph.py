from __future__ import annotations

import pytest

from skerry.graph import Graph, parse_graph
from tests import models


@pytest.fixture
def graph() -> Graph:
    """A small convolutional net."""
    return parse_graph(models.conv_net(), name="conv_net")


def test_signature(graph: Graph) -> None:
    """Inputs and outputs carry name, dtype and shape; initializers are not inputs."""
    assert [str(spec) for spec in graph.inputs] == ["x float32[1×3×16×16]"]
    assert [str(spec) for spec in graph.outputs] == ["y float32[1×4]"]
