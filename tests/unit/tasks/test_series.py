"""Steps for time series: rates, gaps, windows, scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError, UsageError
from skerry.tasks.series import (
    LARGEST_SERIES,
    GapFill,
    Resample,
    Reshape,
    Scale,
    Window,
    taper_of,
)

NAN = np.nan


def _sine(frequency_hz: float, rate_hz: float, rows: int) -> np.ndarray:
    moments = np.arange(rows) / rate_hz
    return np.sin(2 * np.pi * frequency_hz * moments)[:, None].astype(np.float32)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [(16000, 8000), (44100, 16000), (8000, 16000), (12000, 16000), (0.3, 0.1)],
)
def test_resample_keeps_what_both_rates_can_hold(from_hz: float, to_hz: float) -> None:
    """A slow sine is the same sine at the other rate, away from both ends."""
    slow_hz = 0.15 * min(from_hz, to_hz)
    found = Resample(from_hz=from_hz, to_hz=to_hz).apply(_sine(slow_hz, from_hz, 3000))
    assert found.shape == (int(np.ceil(3000 * to_hz / from_hz)), 1)
    assert found.dtype == np.float32
    inside = slice(len(found) // 10, -len(found) // 10)
    expected = _sine(slow_hz, to_hz, len(found))
    np.testing.assert_allclose(found[inside], expected[inside], atol=3e-3)


def test_resample_makes_no_aliases() -> None:
    """What the lower rate cannot hold is 60 dB down; picking samples leaves it."""
    fast = _sine(0.7 * 8000, 24000, 3000)
    found = Resample(from_hz=24000, to_hz=8000).apply(fast)[100:-100]
    assert np.abs(found).max() < 1e-3
    assert np.abs(fast[::3]).max() > 0.8


@given(
    up=st.integers(1, 40),
    down=st.integers(1, 40),
    rows=st.integers(0, 60),
    level=st.floats(-5, 5),
)
def test_resample_keeps_a_constant(up: int, down: int, rows: int, level: float) -> None:
    """Each phase of the filter adds up to 1, and the ends are held."""
    found = Resample(from_hz=down, to_hz=up).apply(np.full((rows, 2), level))
    assert found.shape == (-(-rows * up // down), 2)
    np.testing.assert_allclose(found, level, atol=1e-5)


def test_resample_agrees_with_its_definition() -> None:
    """The sum over all samples, written out, for one output of a small ratio."""
    series = np.random.default_rng(0).normal(size=(90, 1))
    found = Resample(from_hz=3, to_hz=2).apply(series)
    place = 30 * 3 / 2  # of output 30, in samples of the input
    distance = (np.arange(90) - place) * 2 / 3
    inside = np.abs(distance) <= 10
    kaiser = np.i0(5 * np.sqrt(np.clip(1 - (distance / 10) ** 2, 0, None)))
    taps = np.where(inside, np.sinc(distance) * kaiser, 0)
    assert found[30, 0] == pytest.approx((taps / taps.sum()) @ series[:, 0], abs=1e-6)


def test_resample_needs_a_rate_it_can_reach() -> None:
    """Rates unknown, odd, or far too long in the end are refused."""
    with pytest.raises(DataError, match="how many samples a second"):
        Resample(to_hz=16000).apply(np.zeros((9, 1)))
    with pytest.raises(UsageError, match="expected a ratio"):
        Resample(from_hz=44101, to_hz=16000)
    with pytest.raises(DataError, match="numbers, expected at most"):
        Resample(from_hz=1, to_hz=4000).apply(np.zeros((LARGEST_SERIES // 3999, 1)))


def test_gaps_are_filled_channel_by_channel() -> None:
    """Held or on a line; the ends are held either way."""
    series = np.array([[NAN, 1], [2, NAN], [NAN, NAN], [6, 4], [np.inf, 5]])
    held = GapFill(kind="hold").apply(series)
    assert held.tolist() == [[2, 1], [2, 1], [2, 1], [6, 4], [6, 5]]
    drawn = GapFill(kind="linear").apply(series)
    assert drawn.tolist() == [[2, 1], [2, 2], [4, 3], [6, 4], [6, 5]]
    assert np.isnan(series[0, 0])  # what was given is left as it was


@pytest.mark.parametrize(
    "column", [[1, NAN, NAN, NAN, 2], [NAN] * 3 + [1], [1, *[NAN] * 3]]
)
def test_a_gap_that_is_too_long_is_refused(column: list[float]) -> None:
    """In the middle and at either end."""
    series = np.array(column)[:, None]
    GapFill(largest_gap=3).apply(series)
    with pytest.raises(DataError, match="lacks 3 values in a row, expected at most 2"):
        GapFill(largest_gap=2).apply(series)
    with pytest.raises(DataError, match="channel 0 lacks 4"):
        GapFill(largest_gap=9).apply(np.full((4, 1), NAN))


@given(
    rows=st.integers(1, 50),
    holes=st.sets(st.integers(0, 49)),
    kind=st.sampled_from(["hold", "linear"]),
)
def test_what_is_known_stays(rows: int, holes: set[int], kind: Any) -> None:
    """Filled values lie between those known; the known ones are not touched."""
    series = np.random.default_rng(rows).normal(size=(rows, 1))
    gaps = [hole for hole in holes if hole < rows]
    known = np.delete(series, gaps)
    if not len(known):
        return
    broken = series.copy()
    broken[gaps] = NAN
    filled = GapFill(kind=kind, largest_gap=50).apply(broken)
    assert np.delete(filled, gaps).tolist() == known.tolist()
    assert known.min() <= filled.min() <= filled.max() <= known.max()


def test_one_window_is_the_first_or_the_last() -> None:
    """Without a hop there is no axis of windows."""
    series = np.arange(14).reshape(7, 2)
    assert Window(length=3).apply(series).tolist() == series[-3:].tolist()
    first = Window(length=3, keep="first").apply(series)
    assert first.tolist() == series[:3].tolist()


def test_windows_overlap_by_what_the_hop_leaves() -> None:
    """Only whole windows are cut."""
    series = np.arange(8)[:, None]
    cut = Window(length=4, hop=3).apply(series)
    assert cut[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]


def test_a_short_series_is_filled_or_refused() -> None:
    """Zeros come at the end, and only when asked for."""
    series = np.ones((2, 1))
    assert Window(length=4, pad=True).apply(series)[:, 0].tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match="has 2 samples, the window takes 4"):
        Window(length=4).apply(series)


def test_tapers_are_the_periodic_ones() -> None:
    """Hann and Hamming of four points, by hand."""
    tapered = Window(length=4, taper="hann").apply(np.ones((4, 1)))
    np.testing.assert_allclose(tapered[:, 0], [0, 0.5, 1, 0.5], atol=1e-7)
    np.testing.assert_allclose(taper_of("hamming", 4), [0.08, 0.54, 1, 0.54])


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("deviation", [-1.3416, -0.4472, 0.4472, 1.3416]),
        ("range", [0, 1 / 3, 2 / 3, 1]),
        ("magnitude", [-1, -1 / 3, 1 / 3, 1]),
        ("maximum", [-1, -1 / 3, 1 / 3, 1]),
    ],
)
def test_scale_measures_each_channel(by: Any, expected: list[float]) -> None:
    """A second channel without spread becomes zeros, or stays below its largest."""
    series = np.array([[-3, 7], [-1, 7], [1, 7], [3, 7]])
    scaled = Scale(by=by).apply(series)
    np.testing.assert_allclose(scaled[:, 0], expected, atol=1e-4)
    flat = 0 if by in ("deviation", "range") else 1
    assert (scaled[:, 1] == flat).all()
    assert scaled.dtype == np.float32


def test_scale_by_the_largest_value_looks_at_its_sign() -> None:
    """As the reference features of MLPerf Tiny divide: not by the magnitude."""
    series = np.array([[-4.0], [2.0]])
    assert Scale(by="maximum").apply(series)[:, 0].tolist() == [-2, 1]
    assert Scale(by="magnitude").apply(series)[:, 0].tolist() == [-1, 0.5]


def test_scale_takes_the_numbers_of_the_training() -> None:
    """One a channel, or one for all."""
    series = np.array([[3.0, 10.0]])
    step = Scale(centre=(1.0, 0.0), spread=(2.0, 5.0))
    assert step.apply(series).tolist() == [[1, 2]]
    assert Scale(centre=(1.0,), spread=(1.0,)).apply(series).tolist() == [[2, 9]]
    with pytest.raises(DataError, match="for 3 channels"):
        step.apply(np.zeros((1, 3)))


def test_reshape_gives_the_models_sizes() -> None:
    """With a batch axis in front, channels first where asked for."""
    series = np.arange(6).reshape(3, 2)
    assert Reshape(sizes=(3, 2, 1)).apply(series).shape == (1, 3, 2, 1)
    turned = Reshape(sizes=(2, 3), transpose=True).apply(series)
    assert turned.tolist() == [[[0, 2, 4], [1, 3, 5]]]
    with pytest.raises(DataError, match="expected as many numbers as 7"):
        Reshape(sizes=(7,)).apply(series)


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (Resample, {"to_hz": 0}),
        (Resample, {"to_hz": 1, "from_hz": NAN}),
        (GapFill, {"largest_gap": -1}),
        (Window, {"length": 0}),
        (Window, {"length": 4, "hop": -1}),
        (Scale, {"centre": (1.0,)}),
        (Scale, {"centre": (1.0,), "spread": (0.0,)}),
        (Scale, {"centre": (NAN,), "spread": (1.0,)}),
        (Reshape, {"sizes": (3, 0)}),
    ],
)
def test_wrong_parameters_are_refused(make: Any, params: dict[str, Any]) -> None:
    """Numbers that no such step has."""
    with pytest.raises(UsageError) as caught:
        make(**params)
    assert caught.value.hint


@pytest.mark.parametrize(
    "step", [Resample(from_hz=1, to_hz=2), GapFill(), Window(length=1)]
)
@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2, 2)), np.array([["a"]])])
def test_only_series_are_taken(step: Any, array: np.ndarray) -> None:
    """Rows × channels of numbers."""
    with pytest.raises(DataError, match="takes a series"):
        step.apply(array)


def test_windows_are_bounded() -> None:
    """A hop of 1 over a long series would fill the memory."""
    with pytest.raises(DataError, match="numbers, expected at most"):
        Window(length=5000, hop=1).apply(np.zeros((10000, 1), np.float32))
