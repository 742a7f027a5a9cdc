"""Every odd model of `tests.odd_models` through quantization, on both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import ACCURATE, Quantize, StepContext
from skerry.core.errors import ModelError
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.graph import Graph, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import output_distance
from skerry.tasks.samples import MemorySource
from tests import models, odd_models, running

MakeSource = Callable[..., MemorySource]

STEPS = {
    "accurate": replace(ACCURATE, per_channel=False),
    "all": Quantize(operators="all"),
}
NEAR = 0.02
UNKNOWN = {("classical operators", "openvino")}
"""Nets whose float form a runtime refuses too."""
SAMPLES = 3


def outputs(runtime: Runtime, graph: Graph, inputs: Tensors, folder: Path) -> Tensors:
    """What a runtime gives for a graph."""
    model = write_graph(graph, folder / f"{runtime.name}.onnx")
    session = runtime.load(model, LoadOptions(precision="float32"))
    try:
        return session.run(inputs)
    finally:
        session.close()


@pytest.mark.parametrize("name", odd_models.ODD)
def test_odd_models_are_quantized(
    name: str, runtime: Runtime, make_source: MakeSource, tmp_path: Path
) -> None:
    """Legal, of the same signature, the same twice, right on both runtimes."""
    content = odd_models.ODD[name]()
    graph = parse_graph(content)
    source = make_source(graph, SAMPLES)
    inputs = source.samples[0].inputs
    expected = running.run(graph, inputs)
    for step in STEPS.values():
        context = StepContext(calibration=source, runtime=runtime)
        after = step.apply(graph, context)
        onnx.checker.check_model(onnx.load_from_string(after.to_bytes()))
        assert (after.inputs, after.outputs) == (graph.inputs, graph.outputs)
        for one in (runtime, get_runtime("openvino")):
            if (name, one.name) in UNKNOWN:
                continue
            got = outputs(one, after, inputs, tmp_path)
            assert output_distance(expected, got) < NEAR
    again = STEPS["all"].apply(parse_graph(content), context)
    assert again.to_bytes() == STEPS["all"].apply(graph, context).to_bytes()


@pytest.mark.parametrize("name", odd_models.REFUSED)
def test_what_cannot_be_quantized_is_refused(name: str) -> None:
    """With a word about what it is, and one about what to do."""
    build, word = odd_models.REFUSED[name]
    with pytest.raises(ModelError, match=word) as refused:
        prepare(parse_graph(build()))
    assert refused.value.hint


def test_masks_do_not_hide_nan(runtime: Runtime, make_source: MakeSource) -> None:
    """Infinity inside a net is a mask; NaN is a fault, of the net or of a sample."""
    content = models.model_bytes(
        """net (float[1, 4] x) => (float[1, 4] y) {
          h = MatMul(x, w) s = Sqrt(h) y = MatMul(s, w)
        }""",
        {"w": -np.eye(4, dtype=np.float32)},
    )
    graph = parse_graph(content)
    source = make_source(graph)
    with pytest.raises(Exception, match="becomes NaN"):
        Quantize(operators="all").apply(
            graph, StepContext(calibration=source, runtime=runtime)
        )
