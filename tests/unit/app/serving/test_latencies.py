"""Latencies: percentiles to a hundredth, whatever their size, in bounded memory."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.app.serving.latencies import LEAST_MS, Latencies, merge


def _counted(latencies_ms: list[float]) -> Latencies:
    counted = Latencies()
    for latency_ms in latencies_ms:
        counted.add(latency_ms)
    return counted


@given(
    st.lists(st.floats(LEAST_MS, 9e5), min_size=1, max_size=40),
    st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_a_percentile_is_near_the_exact_one(
    latencies_ms: list[float], share: float
) -> None:
    """It differs from the sample of that rank by at most a bucket, 1.2 %."""
    exact = sorted(latencies_ms)[max(1, math.ceil(share * len(latencies_ms))) - 1]
    found = _counted(latencies_ms).percentile(share)
    assert found == pytest.approx(exact, rel=0.012)


@given(
    st.lists(st.floats(0, 1e12), min_size=1, max_size=30),
    st.integers(1, 60),
    st.integers(1, 40),
)
def test_buckets_lose_none(latencies_ms: list[float], most: int, fewer: int) -> None:
    """Whatever the width, each latency is in one bucket, and they lie side by side."""
    buckets = _counted(latencies_ms).buckets(most=most)
    for shown in (buckets, merge(buckets, most=fewer)):
        assert sum(bucket.count for bucket in shown) == len(latencies_ms)
        for one, other in itertools.pairwise(shown):
            assert one.high_ms == other.low_ms
        widths = [bucket.high_ms / bucket.low_ms for bucket in shown[:-1]]
        assert widths == pytest.approx(widths[:1] * len(widths))
    assert len(merge(buckets, most=fewer)) <= fewer


def test_nothing_has_no_percentile() -> None:
    """Without a latency there is nothing to tell."""
    assert Latencies().percentile(0.5) is None
    assert Latencies().buckets() == ()
    assert merge((), most=3) == ()


def test_a_known_distribution() -> None:
    """Of 1 to 1,000 ms in equal parts, the percentiles are where they must be."""
    counted = _counted(np.linspace(1, 1000, 1000).tolist())
    assert counted.percentile(0.5) == pytest.approx(500, rel=0.01)
    assert counted.percentile(0.99) == pytest.approx(990, rel=0.01)
    assert counted.most_ms == 1000
    assert len(counted.buckets(most=12)) <= 12
