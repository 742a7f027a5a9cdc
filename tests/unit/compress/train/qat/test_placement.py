from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.train.qat.placement import (
    LayerSums,
    sums_before_pairs,
    weights_before,
)
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.tasks.sample import MemorySource
from tests import models

Source = Callable[..., MemorySource]


def written(
    content: bytes, runtime: Runtime, source: Source, step: Quantize
) -> tuple[Graph, Graph]:
    """A graph as the quantizer wrote it, and what it was written from."""
    graph = parse_graph(content)
    context = StepContext(calibration=source(graph), runtime=runtime)
    floats = step.equalized(prepare(graph), context)
    found = step.measure(floats, context)
    return step.write(floats, found.ranges, found.shifts, found.codes), floats


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rounding", ["nearest", "adaptive"])
def test_training_begins_with_the_quantizers_codes(
    bits: int, rounding: str, runtime: Runtime, make_source: Source
) -> None:
    """Each weight lies within the code that was chosen, near to its own."""
    step = Quantize(weight_bits=bits, rounding=rounding, weight_method="mse")
    graph, floats = written(models.conv_net(), runtime, make_source, step)
    before = weights_before(graph, floats)
    assert before
    for node in graph.nodes:
        codes = graph.constant(node.inputs[0])
        if node.op_type != "DequantizeLinear" or node.inputs[0].name not in before:
            continue
        assert codes is not None
        scale = graph.constant(node.inputs[1])
        assert scale is not None
        weights = before[str(node.inputs[0].name)]
        shape = [1] * weights.ndim
        shape[node.attributes["axis"].value] = -1
        steps = weights / scale.reshape(shape)
        assert np.array_equal(np.rint(steps), codes.astype(np.float32))


def test_sums_are_found_behind_convolutions_and_relus(
    runtime: Runtime, make_source: Source
) -> None:
    """A pair knows the scales of its layer's input and weights; inputs have none."""
    weights = models.random_weights({"w0": (4, 3, 1, 1), "w1": (2, 4, 1, 1)})
    content = models.model_bytes(
        """net (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y) {
          a = Conv(x, w0) r = Relu(a) y = Conv(r, w1)
        }""",
        weights,
    )
    graph, _ = written(content, runtime, make_source, Quantize())
    assert sums_before_pairs(graph) == {
        "r.scale": LayerSums(read="x.scale", weights="w0.0.codes.scale", axis=1)
    }
