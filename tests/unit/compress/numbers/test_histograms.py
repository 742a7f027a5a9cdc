from __future__ import annotations

import numpy as np

from skerry.compress.numbers.histograms import BINS, BINS_PER_CHANNEL, Histogram


def test_counts_what_numpy_counts() -> None:
    """After widening twice, the counts are those over the final edges."""
    rng = np.random.default_rng(3)
    parts = [rng.normal(size=(2, 500)) * size for size in (1e-3, 1, 900)]
    histogram = Histogram(channels=2)
    for part in parts:
        histogram.add(part.astype(np.float32))
    whole = np.concatenate(parts, axis=1).astype(np.float32)
    for channel in range(2):
        expected, _ = np.histogram(whole[channel], histogram.edges[channel])
        np.testing.assert_array_equal(histogram._counts[channel], expected)


def test_bins_are_as_narrow_as_promised() -> None:
    """A bin is no wider than 1/2048 of the largest magnitude, or 1/512."""
    for channels, most in ((1, 1 / 2048), (3, 1 / 512)):
        for largest in (1.0, 1.0625, 2.0**-149, 2.0**127):
            histogram = Histogram(channels=channels)
            histogram.add(np.full((channels, 1), -largest, np.float32))
            edges = histogram.edges
            assert np.all(np.diff(edges) <= most * largest)
            assert np.all(edges[:, 0] < -largest)
            assert edges.shape[1] == (BINS if channels == 1 else BINS_PER_CHANNEL) + 1


def test_large_arrays_are_counted_whole() -> None:
    """Counting in parts leaves no number out."""
    values = np.linspace(-1, 1, 700_001, dtype=np.float32)[None]
    histogram = Histogram(channels=1)
    histogram.add(values)
    assert histogram._counts.sum() == values.size


def test_error_is_that_of_evenly_spread_numbers() -> None:
    """The closed form agrees with quantizing a fine even grid of numbers."""
    values = np.linspace(-3, 5, 400_001, dtype=np.float32)
    histogram = Histogram(channels=1)
    histogram.add(values[None])
    for scale, lowest, highest in ((0.5, -4, 7), (1.7, -1, 2), (0.011, -128, 127)):
        steps = np.clip(np.rint(values.astype(float) / scale), lowest, highest)
        expected = np.mean((values - steps * scale) ** 2)
        got = histogram.mean_squared_error(
            np.array([scale]), lowest=np.array([lowest]), highest=np.array([highest])
        )
        np.testing.assert_allclose(got, expected, rtol=2e-3)
