from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.ptq.smooth import smooth
from skerry.core.errors import UsageError
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.tasks.evaluate import output_distance
from skerry.tasks.samples import MemorySource, Sample
from tests import models, running


def net() -> Graph:
    """A normalization of which one channel is a hundred times wider, and products."""
    text = """net (float[1, 4, 8] x) => (float[1, 4, 8] y) {
      n = LayerNormalization(x, scale, shift)
      q = MatMul(n, m)
      k = MatMul(n, w)
      y = Mul(q, k)
    }"""
    weights = models.random_weights({"m": (8, 8), "w": (8, 8), "shift": (8,)})
    weights["scale"] = np.array([100, 1, 1, 1, 1, 1, 1, 1], np.float32)
    weights["m"][0] /= 100
    weights["w"][0] /= 100
    return prepare(parse_graph(models.model_bytes(text, weights)))


def test_channels_are_shared_as_the_paper_has_it(runtime: Runtime) -> None:
    """With half of it, each channel is as wide in the activation as in the weights."""
    graph = net()
    inputs = [running.random_inputs(graph, seed) for seed in range(4)]
    after = smooth(graph, inputs, alpha=0.5, runtime=runtime)
    assert all(
        output_distance(running.run(graph, one), running.run(after, one)) < 1e-8
        for one in inputs
    )
    after.add_outputs(["n"])
    read = np.max(
        [np.abs(running.run(after, one)["n"]).max((0, 1)) for one in inputs], 0
    )
    rows = np.max(
        [
            np.abs(np.asarray(after.constant(node.inputs[1]))).max(axis=1)
            for node in after.nodes
            if node.op_type == "MatMul"
        ],
        0,
    )
    assert np.allclose(read / rows, (read / rows)[0], rtol=1e-3)


def test_less_is_lost_where_a_channel_is_an_outlier(runtime: Runtime) -> None:
    """One scale for the activation then serves all channels."""
    graph = net()
    inputs = [running.random_inputs(graph, seed) for seed in range(8)]
    samples = tuple(Sample(inputs=one, label=None, name="") for one in inputs)
    context = StepContext(calibration=MemorySource(samples=samples), runtime=runtime)

    def distance(step: Quantize) -> float:
        quantized = step.apply(graph, context)
        return float(
            np.mean(
                [
                    output_distance(
                        running.run(graph, one), running.run(quantized, one)
                    )
                    for one in inputs
                ]
            )
        )

    plain = Quantize()
    assert distance(replace(plain, smooth=0.5)) < distance(plain) / 10


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_only_a_part_can_be_taken_over(alpha: float) -> None:
    """Less than nothing, or more than all, is refused."""
    with pytest.raises(UsageError, match="smooth is"):
        Quantize(smooth=alpha)
