from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skerry.compress.ptq.equalize import equalize, measure_channels
from skerry.compress.ptq.layer_weights import LayerWeights
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.ptq.regions import find_regions
from skerry.core.errors import DataError
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.tasks.evaluate import output_distance
from skerry.tasks.samples import MemorySource
from tests import models, running

MakeSource = Callable[..., MemorySource]


def chain(weights: models.Weights | None = None) -> Graph:
    """Pointwise, depthwise, pointwise and dense, with ReLU between."""
    shapes = {
        "a": (16, 8, 1, 1),
        "a_bias": (16,),
        "d": (16, 1, 3, 3),
        "b": (16, 16, 1, 1),
        "g": (4, 16),
    }
    content = models.model_bytes(
        """net (float[1, 8, 6, 6] x) => (float[1, 4] y) {
          c = Conv(x, a, a_bias) r = Relu(c)
          e = Conv<group = 16, pads = [1, 1, 1, 1]>(r, d) s = Relu(e)
          f = Conv(s, b) t = Relu(f) p = GlobalAveragePool(t) v = Flatten(p)
          y = Gemm<transB = 1>(v, g)
        }""",
        {**models.random_weights(shapes), **(weights or {})},
    )
    return prepare(parse_graph(content))


def widened(graph: Graph, seed: int = 0) -> Graph:
    """The same function, with channels of very different ranges."""
    wide, rng = graph.copy(), np.random.default_rng(seed)
    weights = LayerWeights(wide)
    for region in find_regions(wide):
        weights.divide(region, 2.0 ** rng.uniform(-3.3, 3.3, region.channels))
    weights.write()
    return wide


def inputs(graph: Graph, count: int = 8) -> list[dict[str, np.ndarray]]:
    """Random inputs of a graph."""
    return [running.random_inputs(graph, seed) for seed in range(count)]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_wide_ranges_are_brought_together(
    by: str, *, per_channel: bool, runtime: Runtime, make_source: MakeSource
) -> None:
    """INT8 of a net whose channels differ by a hundred times is as good as without."""
    graph = chain()
    wide = widened(graph)
    context = StepContext(calibration=make_source(graph), runtime=runtime)
    given = inputs(graph, 1)[0]
    expected = running.run(graph, given)

    def loss(source: Graph, how: str) -> float:
        step = Quantize(equalize=how, per_channel=per_channel)
        return output_distance(
            expected, running.run(step.apply(source, context), given)
        )

    assert loss(wide, by) < 0.3 * loss(wide, "none")
    assert loss(wide, by) < 2 * loss(graph, "none") + 1e-4


@pytest.mark.parametrize("by_samples", [True, False])
def test_the_function_stays(runtime: Runtime, *, by_samples: bool) -> None:
    """Equalizing changes weights, not what is computed, and adds no operator."""
    graph = widened(chain())
    after = equalize(
        graph,
        inputs(graph) if by_samples else None,
        runtime=runtime,
        per_channel=False,
    )
    assert running.same_outputs(graph, after, atol=1e-4)
    assert [node.op_type for node in after.nodes] == [
        node.op_type for node in graph.nodes
    ]
    assert after.to_bytes() != graph.to_bytes()


def test_weights_on_both_sides_have_the_same_ranges(runtime: Runtime) -> None:
    """At convergence r₁ is r₂ for each channel (Nagel et al., section 4.1)."""
    after = equalize(widened(chain()), None, runtime=runtime, per_channel=False)
    weights = LayerWeights(after)
    for region in find_regions(after):
        made = weights.made_by(region)
        assert made is not None
        (sink,) = region.sinks
        read = np.abs(weights.read_by(sink, region.channels)).max(axis=(1, 3))
        ratio = np.abs(made).max(axis=1) / read.reshape(-1)
        np.testing.assert_allclose(ratio / ratio.mean(), 1, rtol=0.05)


def test_dead_channels_stay_as_they_are(runtime: Runtime) -> None:
    """A channel of nothing but zeros is no reason to divide by zero."""
    a = models.random_weights({"a": (16, 8, 1, 1)})["a"]
    a[3] = 0
    graph = chain({"a": a, "a_bias": np.zeros(16, np.float32)})
    for samples in (inputs(graph), None):
        after = equalize(graph, samples, runtime=runtime, per_channel=True)
        assert running.same_outputs(graph, after, atol=1e-4)


def test_nothing_to_equalize(runtime: Runtime) -> None:
    """A net of one layer is computed on as it was, and no sample is run."""
    graph = prepare(
        parse_graph(
            models.model_bytes(
                "net (float[1, 4] x) => (float[1, 4] y) { y = MatMul(x, w) }",
                models.random_weights({"w": (4, 4)}),
            )
        )
    )
    after = equalize(graph, [], runtime=runtime, per_channel=True)
    assert after.to_bytes() == graph.to_bytes()


def test_statistics_are_of_all_samples(runtime: Runtime) -> None:
    """Extremes and mean squares, a channel, whatever the order of the samples."""
    graph = chain()
    regions = find_regions(graph)
    samples = inputs(graph)
    found = measure_channels(graph, regions, samples, runtime=runtime)
    name = str(regions[0].sinks[0].value.name)
    watched = graph.copy()
    watched.add_outputs([name])
    seen = np.concatenate([running.run(watched, one)[name] for one in samples])
    rows = seen.transpose(1, 0, 2, 3).reshape(16, -1)
    np.testing.assert_allclose(found[name].high, rows.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found[name].low, 0)
    mean = np.square(rows.astype(np.float64)).mean(axis=1)
    np.testing.assert_allclose(found[name].mean_square, mean, rtol=1e-5)


def test_samples_are_checked(runtime: Runtime) -> None:
    """None at all, and NaN: an error instead of weights that are NaN."""
    graph = chain()
    with pytest.raises(DataError, match="no calibration samples"):
        equalize(graph, [], runtime=runtime, per_channel=True)
    broken = {"x": np.full((1, 8, 6, 6), np.nan, np.float32)}
    with pytest.raises(DataError, match="NaN"):
        equalize(graph, [broken], runtime=runtime, per_channel=True)
