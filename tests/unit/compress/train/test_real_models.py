"""Production models, and the demo's own, go through torch and back."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.app.demo import networks
from skerry.compress.train.from_graph import from_graph
from skerry.graph import Graph, read_graph
from skerry.runtimes.torch import TorchSession
from tests import running


def carried(package: str, pattern: str) -> Path:
    """A model in an installed package; the test is skipped if it is not there."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package.replace('_', '-')} is not installed")
    return min(Path(spec.origin).parent.rglob(pattern))


MODELS: dict[str, tuple[Callable[[], Path], tuple[int, ...]]] = {
    "meter": (lambda: Path(networks.__file__).parent / "meter.onnx", (2, 1, 28, 28)),
    "read text": (
        lambda: carried("rapidocr_onnxruntime", "*v4_rec_infer.onnx"),
        (1, 3, 48, 160),
    ),
    "find text": (
        lambda: carried("rapidocr_onnxruntime", "*v4_det_infer.onnx"),
        (1, 3, 96, 96),
    ),
    "turn text": (
        lambda: carried("rapidocr_onnxruntime", "*_cls_infer.onnx"),
        (1, 3, 48, 192),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_in_torch_and_after_the_way_back(name: str) -> None:
    """To within 1e-5, and what is written gives the very same numbers."""
    find, shape = MODELS[name]
    graph = read_graph(find())
    module = from_graph(graph)
    assert sum(one.numel() for one in module.parameters()) > 100_000
    picture = np.random.default_rng(0).random(shape).astype(np.float32)
    inputs = {graph.inputs[0].name: picture}
    expected = outputs(graph, inputs)
    session = TorchSession(module, module.inputs, module.outputs)
    (found,) = session.run(inputs).values()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs(module.to_graph(), inputs), expected, atol=1e-7)


def outputs(graph: Graph, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What onnxruntime makes of a graph with one output."""
    (array,) = running.run(graph, inputs).values()
    return array
