from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from skerry.compress.search.error_sources import value_errors, weight_error
from skerry.compress.search.quantized_values import (
    StoredWeights,
    float_twin,
    read_operands,
    read_pairs,
)
from skerry.core.seams import Runtime
from skerry.graph import Graph
from tests import models, running

NET = models.model_bytes(
    """net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
      a = Conv(x, w) r = Relu(a) s = Sin(r) y = Conv(s, w)
    }""",
    models.random_weights({"w": (4, 4, 1, 1)}),
)


def test_pairs_and_operands_are_read_from_the_graph(
    quantized: Callable[..., Graph],
) -> None:
    """What reads and writes integers is told by the graph alone; Sin stays float."""
    graph = quantized(NET)
    pairs = read_pairs(graph)
    assert sorted(str(pair.value.name) for pair in pairs.values()) == ["r", "s", "x"]
    operands = read_operands(graph, pairs)
    dtypes = {name: operands[name].dtype for name in ("a", "r", "s", "y")}
    assert dtypes == {"a": "int8", "r": "int8", "s": "", "y": "int8"}
    assert operands["a"].weights is not None
    assert operands["a"].weights.is_per_channel
    assert operands["y"].writes is None
    assert operands["s"].reads == ()


def test_the_twin_rounds_no_value(quantized: Callable[..., Graph]) -> None:
    """Without its pairs a graph gives what its rounded weights give in float."""
    graph = quantized(NET)
    twin = float_twin(graph)
    assert not read_pairs(twin)
    inputs = running.random_inputs(graph, 5)
    rounded, plain = (running.run(one, inputs)["y"] for one in (graph, twin))
    assert 0 < np.abs(rounded - plain).max() < 0.1


def test_rounding_and_clipping_are_told_apart(
    quantized: Callable[..., Graph], runtime: Runtime
) -> None:
    """Samples within the range are rounded, samples beyond it clipped too."""
    graph = quantized(NET)
    inside = running.random_inputs(graph, 0)
    errors = {
        scale: value_errors(
            graph, [{"x": np.float32(scale) * inside["x"]}], runtime=runtime
        )
        for scale in (1.0, 20.0)
    }
    name = next(iter(errors[1.0]))
    near, far = errors[1.0][name][0], errors[20.0][name][0]
    assert near.clipping < near.rounding
    assert far.clipping > 10 * far.rounding
    assert near.rounding == pytest.approx(near.minmax, rel=0.5)
    assert far.minmax < far.total / 10


def test_the_histogram_holds_all_values(
    quantized: Callable[..., Graph], runtime: Runtime
) -> None:
    """At most 64 bins over what was seen, beside the range that was chosen."""
    graph = quantized(NET)
    samples = [running.random_inputs(graph, seed) for seed in range(3)]
    for name, (_, histogram) in value_errors(graph, samples, runtime=runtime).items():
        pair = read_pairs(graph)[name]
        assert len(histogram.counts) == 64
        assert sum(histogram.counts) >= 3 * 4 * 8 * 8
        assert (histogram.range_low, histogram.range_high) == (pair.low, pair.high)
        assert histogram.low < histogram.high


def test_an_unused_channel_wastes_codes(
    quantized: Callable[..., Graph], runtime: Runtime
) -> None:
    """Three channels of four reach a tenth as far: most codes are theirs in vain."""
    graph = quantized(NET)
    sample = running.random_inputs(graph, 0)
    sample["x"][:, :3] /= 30
    found = value_errors(graph, [sample], runtime=runtime)
    pairs = read_pairs(graph)
    (error,) = (
        one for name, (one, _) in found.items() if pairs[name].value.name == "x"
    )
    assert error.outlier == 3
    assert error.reach > 8
    assert error.wasted > 0.6


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_error_of_weights_is_that_of_their_steps(*, per_channel: bool) -> None:
    """A twelfth of the squared step holds for weights drawn at random."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8, 64)).astype(np.float32)
    weights[0] *= 1 if per_channel else 20
    peaks = np.abs(weights).max(axis=1, keepdims=True) if per_channel else None
    scale = np.asarray((np.abs(weights).max() if peaks is None else peaks) / 127)
    stored = StoredWeights(
        steps=np.rint(weights / scale).astype(np.int32),
        scale=scale.astype(np.float32),
        axis=0,
        dtype="int8",
    )
    wrong = np.square(stored.steps * scale - weights).sum(axis=1)
    wrong = np.mean(wrong / np.square(weights).sum(axis=1))
    error = weight_error(stored)
    assert math.isclose(error.rounding, wrong, rel_tol=0.3)
    assert error.has_channel_scales is per_channel
    assert (error.wasted > 0.6) is not per_channel
    assert error.clipping == 0
