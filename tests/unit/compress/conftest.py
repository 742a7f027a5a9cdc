"""What the tests of whole-graph quantization share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skerry.compress.quantize import Quantize, StepContext
from skerry.core.seams import Array, Runtime
from skerry.graph import Graph, Node, parse_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import MemorySource, Sample
from tests import running

SAMPLES = 8


def random_source(graph: Graph, count: int = SAMPLES, seed: int = 0) -> MemorySource:
    """Random inputs of a graph, without labels."""
    return MemorySource(
        samples=tuple(
            Sample(
                inputs=running.random_inputs(graph, seed + index),
                label=None,
                name=f"s{index}",
            )
            for index in range(count)
        )
    )


@pytest.fixture
def make_source() -> Callable[..., MemorySource]:
    """Make random inputs of a graph."""
    return random_source


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """The runtime that calibrates."""
    return get_runtime("onnxruntime")


@pytest.fixture
def quantized(runtime: Runtime) -> Callable[..., Graph]:
    """Quantize a model's bytes with some parameters."""

    def quantize(content: bytes, **params: object) -> Graph:
        graph = parse_graph(content)
        context = StepContext(calibration=random_source(graph), runtime=runtime)
        return Quantize(**params).apply(graph, context)

    return quantize


@pytest.fixture
def node_of() -> Callable[[Graph, str], Node]:
    """Find a node by its name."""

    def find(graph: Graph, name: str) -> Node:
        return next(node for node in graph.nodes if node.name == name)

    return find


@pytest.fixture
def stored() -> Callable[[Graph, Node, int], Array | None]:
    """The codes behind a node's input, None where it is not dequantized constants."""

    def read(graph: Graph, node: Node, index: int) -> Array | None:
        value = node.inputs[index]
        maker = None if value is None else value.producer()
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        return graph.constant(maker.inputs[0])

    return read
