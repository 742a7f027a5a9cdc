from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from skerry.compress import (
    INT8_WEIGHTS,
    UINT8_ACTIVATIONS,
    Method,
    Range,
    RangeObserver,
    Scheme,
    choose_range,
    quantization_error,
    quantize_tensor,
    scale_and_zero_point,
)
from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array

METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse", "entropy")


def normal(*shape: int, seed: int = 7) -> Array:
    """Make bell-shaped numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_minmax_is_the_smallest_and_largest_number() -> None:
    """Without symmetry the range is that of the samples, exactly."""
    chosen = choose_range(np.array([-0.3, 0.1, 2.5], np.float32), UINT8_ACTIVATIONS)
    assert (chosen.low, chosen.high) == (np.float32(-0.3), np.float32(2.5))


def test_symmetric_range_reaches_as_far_below_as_above() -> None:
    """A symmetric scheme takes the largest magnitude on both sides."""
    chosen = choose_range(np.array([-0.3, 2.5]), Scheme())
    assert (chosen.low, chosen.high) == (-2.5, 2.5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_range_includes_zero(sign: int) -> None:
    """Samples on one side of zero still get a range with zero in it."""
    chosen = choose_range(np.array([3.0, 4.0]) * sign, UINT8_ACTIVATIONS)
    assert sorted([abs(chosen.low), abs(chosen.high)]) == [0, 4]


def test_each_channel_has_its_own_range() -> None:
    """With an axis, what one channel holds does not matter to another."""
    values = np.array([[[1.0, -2.0], [10.0, 20.0]]], np.float32)
    for axis in (1, -2):
        chosen = choose_range(values, replace(UINT8_ACTIVATIONS, axis=axis))
        np.testing.assert_array_equal(chosen.low, [-2, 0])
        np.testing.assert_array_equal(chosen.high, [1, 20])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("symmetric", [True, False])
def test_splitting_and_ordering_samples_changes_nothing(
    method: Method, axis: int | None, *, symmetric: bool
) -> None:
    """One array, or its parts in another order: the same range to the last bit."""
    scheme = Scheme(method=method, axis=axis, symmetric=symmetric, percentile=99)
    values = normal(60, 3, 50) * np.geomspace(1e-3, 1e3, 60)[:, None, None]
    whole = choose_range(values, scheme)
    parts = choose_range((values[i : i + 7] for i in range(56, -1, -7)), scheme)
    np.testing.assert_array_equal(whole.low, parts.low)
    np.testing.assert_array_equal(whole.high, parts.high)


@pytest.mark.parametrize("method", METHODS)
def test_memory_does_not_grow_with_the_number_of_samples(method: Method) -> None:
    """Ten times the samples, from a generator, take the same memory at the peak."""

    def peak(count: int) -> int:
        def stream() -> Iterator[Array]:
            return (normal(100_000, seed=seed) for seed in range(count))

        tracemalloc.start()
        choose_range(stream(), Scheme(method=method))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # whatever is imported or cached on the first call
    assert peak(40) < 1.1 * peak(4)


@pytest.mark.parametrize("method", METHODS)
def test_one_large_array_takes_little_memory_besides(method: Method) -> None:
    """Eight megabytes of samples are not copied whole."""
    values = normal(2_000_000)
    tracemalloc.start()
    choose_range(values, Scheme(method=method))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < values.nbytes


@pytest.mark.parametrize("symmetric", [True, False])
def test_percentile_leaves_out_the_outermost(*, symmetric: bool) -> None:
    """The part of the samples kept is the percentile, within a bin of the histogram."""
    values = normal(200_000)
    scheme = Scheme(method="percentile", percentile=98, symmetric=symmetric)
    chosen = choose_range(values, scheme)
    kept = np.mean((values >= chosen.low) & (values <= chosen.high))
    assert kept == pytest.approx(0.98, abs=2e-4)
    if not symmetric:
        assert np.mean(values < chosen.low) == pytest.approx(0.01, abs=2e-4)


def test_percentile_of_all_is_minmax() -> None:
    """Percentile 100 leaves out nothing."""
    values = normal(1000)
    scheme = Scheme(method="percentile", percentile=100, symmetric=False)
    chosen = choose_range(values, scheme)
    assert chosen.low == pytest.approx(values.min(), abs=4e-3)
    assert chosen.high == pytest.approx(values.max(), abs=4e-3)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_range_is_near_the_best_there_is(bits: int, *, symmetric: bool) -> None:
    """A brute-force search on the samples themselves finds hardly anything better."""
    values = np.random.default_rng(1).laplace(size=20_000).astype(np.float32)
    scheme = Scheme(bits=bits, method="mse", symmetric=symmetric)

    def error(range_: Range) -> float:
        return quantization_error(values, quantize_tensor(values, scheme, range_)).total

    whole = choose_range(values, replace(scheme, method="minmax"))
    brute = min(
        error(Range(low=whole.low * factor, high=whole.high * factor))
        for factor in np.linspace(0.02, 1, 200)
    )
    found = error(choose_range(values, scheme))
    assert found <= brute * 1.02
    assert found < 0.97 * error(whole)


@pytest.mark.parametrize("sign", [-1, 1])
def test_mse_moves_the_end_that_has_the_outlier(sign: int) -> None:
    """An outlier on one side is cut off; the other side, full to its end, is kept."""
    values = np.random.default_rng(4).uniform(-1, 1, 20_000).astype(np.float32)
    values[0] = 30
    scheme = Scheme(bits=4, method="mse", symmetric=False)
    chosen = choose_range(values * np.float32(sign), scheme)
    far, near = sorted([-chosen.low, chosen.high], reverse=True)
    assert far < 4
    assert near > 0.6
    assert (chosen.high > -chosen.low) == (sign > 0)


def test_mse_chooses_for_each_channel_alone() -> None:
    """Channels searched together give what each gives alone."""
    values = normal(3, 5000) * np.array([[1e-6], [1], [1e6]], np.float32)
    values[1, 0] = 40
    scheme = Scheme(bits=4, axis=0, method="mse", symmetric=False)
    together = choose_range(values, scheme)
    for channel in range(3):
        # Two equal channels: the histogram's width depends on there being several.
        pair = np.repeat(values[channel : channel + 1], 2, axis=0)
        alone = choose_range(pair, scheme)
        assert together.low[channel] == alone.low[0]
        assert together.high[channel] == alone.high[0]


def test_scale_and_zero_point_are_the_textbooks() -> None:
    """Asymmetric and symmetric parameters are those of the formulas."""
    range_ = Range(low=-1.0, high=3.0)
    scale, zero_point = scale_and_zero_point(range_, UINT8_ACTIVATIONS)
    assert scale == np.float32(4 / 255)
    assert (zero_point, zero_point.dtype) == (64, np.uint8)
    scale, zero_point = scale_and_zero_point(range_, replace(INT8_WEIGHTS, axis=None))
    assert scale == np.float32(3 / 127)
    assert zero_point == 0
    scale, zero_point = scale_and_zero_point(range_, Scheme(signed=False))
    assert scale == np.float32(3 / 127)
    assert zero_point == 128


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_channel_has_scale_one(method: Method, *, symmetric: bool) -> None:
    """A channel of nothing but zero neither divides by zero nor loses zero."""
    values = np.stack([np.zeros(50, np.float32), normal(50)])
    scheme = Scheme(axis=0, method=method, symmetric=symmetric)
    quantized = quantize_tensor(values, scheme)
    assert quantized.scale[0] == 1
    np.testing.assert_array_equal(quantized.dequantize()[0], 0)


def test_subnormal_range_gives_a_normal_scale() -> None:
    """A range too small for a normal float32 scale still gets one to divide by."""
    scale, _ = scale_and_zero_point(Range(low=0.0, high=1e-40), Scheme())
    assert scale == np.finfo(np.float32).tiny


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_taken_as_float32(method: Method, dtype: type) -> None:
    """float16 and float64 give what their float32 gives."""
    values, scheme = normal(500).astype(dtype), Scheme(method=method)
    got = choose_range(values, scheme)
    assert got.high == choose_range(values.astype(np.float32), scheme).high
    assert got.high.dtype == np.float32


def test_an_array_of_another_library_is_one_array() -> None:
    """What can become an array is not taken for a stream of its rows."""

    class Foreign:
        def __init__(self, values: Array) -> None:
            self._values = values

        def __array__(self, dtype: object = None, copy: object = None) -> Array:
            del dtype, copy
            return self._values

        def __iter__(self) -> Iterator[Array]:
            return iter(self._values)

    values = normal(2, 5)
    scheme = Scheme(axis=1)
    got = choose_range(Foreign(values), scheme)
    np.testing.assert_array_equal(got.high, choose_range(values, scheme).high)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_nan_and_infinity_are_counted(bad: float, method: Method) -> None:
    """The error says how many numbers of how many are no numbers."""
    values = normal(10)
    values[[2, 5]] = bad
    with pytest.raises(DataError, match="2 of 10"):
        choose_range([normal(10), values], Scheme(method=method))


@pytest.mark.parametrize(
    "samples",
    [
        [],
        np.zeros((0, 3), np.float32),
        np.arange(5),
        np.array([True]),
        np.array([1.0, None], object),
        np.array(["1"]),
        np.array([1 + 2j]),
        [[[1.0], [1.0, 2.0]]],
        None,
        "text",
        {"x": normal(3)},
        np.array([1e300]),
        np.array([3e38], np.float32),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_samples_that_are_no_floats_are_refused(samples: Array, method: Method) -> None:
    """Nothing, integers, objects, ragged lists …: an error with a hint."""
    with pytest.raises(DataError) as caught:
        choose_range(samples, Scheme(method=method))
    assert caught.value.hint


@pytest.mark.parametrize("axis", [2, -3])
def test_axis_that_is_not_there_is_refused(axis: int) -> None:
    """The error gives the axis and the shape."""
    with pytest.raises(UsageError, match=rf"axis is {axis}.*\(2, 3\)"):
        choose_range(normal(2, 3), Scheme(axis=axis))


def test_samples_of_other_channels_are_refused() -> None:
    """A stream whose number of channels changes is not of one tensor."""
    with pytest.raises(DataError, match=r"4 channels along axis 1.* had 3"):
        choose_range([normal(2, 3), normal(2, 4)], Scheme(axis=1))


def test_observer_without_samples_says_so() -> None:
    """Asking before anything was seen is an error."""
    with pytest.raises(DataError, match="no samples"):
        RangeObserver(Scheme()).range()


def test_a_refused_sample_leaves_the_observer_as_it_was() -> None:
    """A caller may skip a bad sample and go on."""
    observer = RangeObserver(Scheme(method="mse", axis=0))
    observer.update(normal(2, 30))
    before = observer.range()
    for bad in (normal(3, 4) * 100, np.full((2, 3), np.nan)):
        with pytest.raises(DataError):
            observer.update(bad)
    np.testing.assert_array_equal(observer.range().high, before.high)


def test_range_widens_to_zero_and_takes_plain_numbers() -> None:
    """A range given by hand gets zero in it."""
    assert Range(low=2, high=5).low == 0  # type: ignore[arg-type]
    assert Range(low=-5.0, high=-2.0).high == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (2.0, 1.0),
        ([0.0, 2.0], [1.0, 1.0]),
        ([0.0], [1.0, 1.0]),
        (0.0, [1.0]),
        ([[0.0]], [[1.0]]),
        (0.0, np.nan),
        (-np.inf, 0.0),
        (0.0, 3e38),
        ("0", "1"),
        ([0.0, [1.0]], 2.0),
    ],
)
def test_impossible_range_is_refused(low: Array, high: Array) -> None:
    """Ends swapped, of several shapes, not numbers or too far apart."""
    with pytest.raises(DataError) as caught:
        Range(low=low, high=high)
    assert caught.value.hint
