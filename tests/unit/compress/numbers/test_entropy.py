from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from skerry.compress import UINT8_ACTIVATIONS, Scheme, choose_range
from skerry.compress.numbers.entropy import _divergence
from skerry.core.seams import Array

SIGNED = Scheme(method="entropy")
ASYMMETRIC = Scheme(signed=False, symmetric=False, method="entropy")


def drawn(kind: str, count: int = 100_000) -> Array:
    """Draw numbers of a kind of distribution."""
    rng = np.random.default_rng(2)
    numbers = {
        "normal": lambda: rng.normal(size=count),
        "laplace": lambda: rng.laplace(size=count),
        "student": lambda: rng.standard_t(3, size=count),
        "relu": lambda: np.maximum(rng.normal(size=count), 0),
    }[kind]()
    return np.asarray(numbers, np.float32)


def slow_divergence(counts: Array, start: int, end: int, levels: int) -> float:
    """The divergence of one window, step by step as Migacz's slides have it."""
    reference = counts[start:end].astype(np.float64)
    inside = reference.copy()
    reference[0] += counts[:start].sum()
    reference[-1] += counts[end:].sum()
    candidate = np.zeros_like(reference)
    bounds = np.arange(levels + 1) * (end - start) // levels
    for first, last in pairwise(bounds):
        filled = reference[first:last] > 0
        if filled.any():
            candidate[first:last][filled] = inside[first:last].sum() / filled.sum()
    reference /= reference.sum()
    candidate /= candidate.sum()
    filled = reference > 0
    ratio = np.log(reference[filled] / candidate[filled])
    return float((reference[filled] * ratio).sum())


def test_divergence_is_the_published_one() -> None:
    """Sums over levels give what spreading each level over its bins gives."""
    counts = np.random.default_rng(0).poisson(3, 300)
    starts, ends = np.array([0, 0, 10, 40]), np.array([300, 200, 290, 177])
    got = _divergence(counts, starts, ends, 16)
    expected = [
        slow_divergence(counts, start, end, 16)
        for start, end in zip(starts, ends, strict=True)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["normal", "laplace", "student"])
def test_threshold_is_near_that_of_onnxruntime(kind: str) -> None:
    """On bell-shaped numbers onnxruntime's own collector chooses much the same."""
    values = drawn(kind)
    collector = HistogramCollector("entropy", True, 2001, 128, 99.99, "same")  # noqa: FBT003
    collector.collect({"x": values})
    theirs = float(collector.compute_collection_result()["x"][1])
    ours = float(choose_range(values, SIGNED).high)
    # The minimum is flat: what tells them apart is where the bins lie.
    assert ours == pytest.approx(theirs, rel=0.25)


def test_an_outlier_is_cut_off() -> None:
    """One number far beyond all others does not decide the range."""
    values = np.append(drawn("normal"), np.float32(100))
    assert choose_range(values, SIGNED).high < 6
    assert choose_range(values, ASYMMETRIC).high < 6


@pytest.mark.parametrize("sign", [-1, 1])
def test_one_sided_numbers_have_all_codes(sign: int) -> None:
    """Behind a ReLU no code lies below zero, and its zeros do not shrink the range."""
    values = drawn("relu") * np.float32(sign)
    chosen = choose_range(values, ASYMMETRIC)
    assert min(-chosen.low, chosen.high) == 0
    assert max(-chosen.low, chosen.high) > 3
    zeros = np.concatenate([values, np.zeros(10 * values.size, np.float32)])
    same = choose_range(zeros, ASYMMETRIC)
    assert (same.low, same.high) == (chosen.low, chosen.high)


@pytest.mark.parametrize("scheme", [SIGNED, ASYMMETRIC])
@pytest.mark.parametrize("value", [3.0, -3.0, 1e-30, 1e30])
def test_a_constant_is_within_the_range(scheme: Scheme, value: float) -> None:
    """Numbers that are all alike, or nearly, are covered: nothing else would be."""
    noise = np.random.default_rng(5).normal(size=1000) * 1e-5
    for values in (np.full(1, value), np.full(500, value), value * (1 + noise)):
        chosen = choose_range(values.astype(np.float32), scheme)
        assert chosen.low <= values.min() * (1 - 1e-6)
        assert chosen.high >= values.max() * (1 - 1e-6)


def test_a_spike_does_not_cut_off_the_rest() -> None:
    """Most numbers alike and a tenth far larger: the larger ones are kept."""
    values = np.concatenate([np.full(900, 0.05), np.full(100, 5.0)]).astype(np.float32)
    for scheme in (SIGNED, ASYMMETRIC, Scheme(bits=4, method="entropy")):
        assert choose_range(values, scheme).high == 5


def test_a_saturated_end_is_kept() -> None:
    """Numbers clipped at six pile up there: the range ends at six."""
    values = np.clip(drawn("normal") * 5, 0, 6)
    assert choose_range(values, ASYMMETRIC).high == 6


def test_sixteen_bits_keep_all() -> None:
    """A histogram cannot tell 65,536 codes apart: nothing is clipped."""
    values = drawn("student")
    chosen = choose_range(values, Scheme(bits=16, method="entropy"))
    assert chosen.high == np.abs(values).max()


def test_each_channel_is_chosen_alone() -> None:
    """Channels of other scales do not move each other's ends."""
    values = np.stack([drawn("laplace") * size for size in (1e-3, 1.0, 1e3)])
    together = choose_range(values, Scheme(method="entropy", axis=0))
    for channel in range(3):
        pair = np.repeat(values[channel : channel + 1], 2, axis=0)
        alone = choose_range(pair, Scheme(method="entropy", axis=0))
        assert together.high[channel] == alone.high[0]


def test_eight_bits_are_far_from_minmax_where_tails_are_long() -> None:
    """The choice differs from the whole range where that is mostly empty."""
    values = drawn("student")
    whole = choose_range(values, UINT8_ACTIVATIONS)
    assert choose_range(values, ASYMMETRIC).high < 0.6 * whole.high
