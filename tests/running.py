"""Run graphs in tests, to show that an edit kept what they compute."""

from __future__ import annotations

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from skerry.core.model import TensorSpec
from skerry.graph import Graph

SYMBOL_SIZE = 4
"""What each symbolic size is in the inputs that tests make."""


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Draw one array an input: normal floats, coin flips."""
    rng = np.random.default_rng(seed)

    def draw(spec: TensorSpec) -> NDArray[np.generic]:
        shape = [size if isinstance(size, int) else SYMBOL_SIZE for size in spec.shape]
        if spec.dtype == "bool":
            return rng.integers(2, size=shape).astype(np.bool_)
        return rng.normal(size=shape).astype(spec.dtype)

    return {spec.name: draw(spec) for spec in graph.inputs}


def run(
    graph: Graph, inputs: dict[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    """Run a graph as it is written, without a runtime's own rewrites."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.to_bytes(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def same_outputs(before: Graph, after: Graph, *, atol: float = 1e-5) -> bool:
    """Whether two graphs give the same outputs, by name, on some random inputs."""
    for seed in range(3):
        inputs = random_inputs(before, seed)
        expected, got = run(before, inputs), run(after, inputs)
        if expected.keys() != got.keys() or not all(
            np.allclose(expected[name], got[name], rtol=1e-4, atol=atol)
            for name in expected
        ):
            return False
    return True
