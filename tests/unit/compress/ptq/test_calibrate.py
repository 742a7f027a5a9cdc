from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from skerry.compress import UINT8_ACTIVATIONS
from skerry.compress.numbers.ranges import Range
from skerry.compress.ptq.calibrate import LARGEST_SLICE, calibrate, watch
from skerry.compress.ptq.dead_zones import narrow
from skerry.compress.ptq.plan import observable
from skerry.compress.ptq.prepare import prepare
from skerry.core.errors import DataError
from skerry.core.seams import Array, Runtime
from skerry.graph import Graph, parse_graph
from tests import models, running

CONV = (
    "net (float[1, 2, N, N] x) => (float[1, 2, N, N] y) { a = Conv(x, w) y = Relu(a) }"
)


def conv_graph() -> Graph:
    """Build a pointwise convolution of pictures of any size."""
    return prepare(
        parse_graph(
            models.model_bytes(CONV, models.random_weights({"w": (2, 2, 1, 1)}))
        )
    )


def pictures(count: int, size: int = 8) -> Iterator[dict[str, Array]]:
    """Make pictures one by one."""
    rng = np.random.default_rng(5)
    for _ in range(count):
        yield {"x": rng.normal(size=(1, 2, size, size)).astype(np.float32)}


@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
def test_ranges_are_minimum_and_maximum(
    build: models.Builder, runtime: Runtime
) -> None:
    """Each value's range is that of numpy over all samples, less its dead zones."""
    graph = prepare(parse_graph(build()))
    names = observable(graph, "all")
    samples = [running.random_inputs(graph, seed) for seed in range(5)]
    ranges = calibrate(graph, names, samples, runtime=runtime, scheme=UINT8_ACTIVATIONS)
    watched = graph.copy()
    inputs = {spec.name for spec in graph.inputs}
    watched.add_outputs(names - inputs)
    seen = [{**running.run(watched, sample), **sample} for sample in samples]
    assert ranges.keys() == names
    values = {
        name: np.concatenate([arrays[name].reshape(-1) for arrays in seen])
        for name in ranges
    }
    expected = narrow(
        graph, {name: Range(low=v.min(), high=v.max()) for name, v in values.items()}
    )
    for name, found in ranges.items():
        assert found.low == pytest.approx(expected[name].low, rel=1e-4, abs=1e-6)
        assert found.high == pytest.approx(expected[name].high, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_memory_is_flat_in_the_number_of_samples(runtime: Runtime, method: str) -> None:
    """Two hundred samples from a generator take no more memory than ten."""
    graph = conv_graph()
    scheme = replace(UINT8_ACTIVATIONS, method=method)

    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        try:
            calibrate(
                graph, ["x", "a"], pictures(count, 32), runtime=runtime, scheme=scheme
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(2)
    few, many = peak_bytes(10), peak_bytes(200)
    # Were they kept, the 190 more would take 1.5 MB; coverage itself takes a little.
    assert many < few + 256 * 1024


def test_no_samples_are_an_error(runtime: Runtime) -> None:
    """Without samples there are no ranges, and the hint says how many to give."""
    with pytest.raises(DataError, match="no calibration samples") as caught:
        calibrate(conv_graph(), ["a"], [], runtime=runtime, scheme=UINT8_ACTIVATIONS)
    assert "8" in caught.value.hint


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_broken_samples_are_named(runtime: Runtime, number: float) -> None:
    """NaN or infinity in a sample is an error that names the tensor."""
    samples = [*pictures(2)]
    samples[1]["x"][0, 0, 0, 0] = number
    with pytest.raises(DataError, match="'x' becomes NaN or infinite"):
        calibrate(
            conv_graph(), ["a", "x"], samples, runtime=runtime, scheme=UINT8_ACTIVATIONS
        )


def test_samples_may_differ_in_size(runtime: Runtime) -> None:
    """Where the model takes any size, each sample may have its own."""
    samples = [*pictures(1, 4), *pictures(1, 9)]
    ranges = calibrate(
        conv_graph(), ["x"], samples, runtime=runtime, scheme=UINT8_ACTIVATIONS
    )
    assert ranges["x"].high == max(sample["x"].max() for sample in samples)


def test_the_extremes_of_a_large_tensor_are_seen(runtime: Runtime) -> None:
    """A histogram takes a part of a large tensor, its range the outermost numbers."""
    size = int(np.sqrt(LARGEST_SLICE)) + 1
    sample = next(pictures(1, size))
    sample["x"].reshape(-1)[[1, 3]] = -50.0, 60.0
    scheme = replace(UINT8_ACTIVATIONS, method="percentile", percentile=100)
    ranges = calibrate(conv_graph(), ["x"], [sample], runtime=runtime, scheme=scheme)
    assert ranges["x"].low == pytest.approx(-50, rel=0.02)
    assert ranges["x"].high == pytest.approx(60, rel=0.02)


def test_the_graph_is_left_as_it_was(runtime: Runtime) -> None:
    """Watching values adds no outputs to the graph that was given."""
    graph = conv_graph()
    content = graph.to_bytes()
    calibrate(graph, ["a"], pictures(1), runtime=runtime, scheme=UINT8_ACTIVATIONS)
    assert graph.to_bytes() == content


def test_values_of_two_samples_are_never_there_at_once(runtime: Runtime) -> None:
    """What was shown of a sample is emptied before the next one is run."""
    graph = conv_graph()
    shown = []
    for found in watch(graph, ["a"], pictures(3), runtime=runtime):
        assert not any(shown)
        assert {"a", "x", "y"} == found.keys()
        shown.append(found)
    assert len(shown) == 3
    assert not any(shown)


def test_what_is_only_made_has_no_range(runtime: Runtime) -> None:
    """It keeps the runtime from fusing what others are made of, no more."""
    ranges = calibrate(
        conv_graph(),
        ["y"],
        pictures(3),
        runtime=runtime,
        scheme=UINT8_ACTIVATIONS,
        made=["a"],
    )
    assert ranges.keys() == {"y"}
