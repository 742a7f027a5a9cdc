"""Figures as people read them."""

from __future__ import annotations

import pytest

from skerry.app import figures


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1.00 KiB"),
        (10_240, "10.0 KiB"),
        (102_400, "100 KiB"),
        (1 << 20, "1.00 MiB"),
        (1_047_000, "1022 KiB"),
        (1_048_500, "1.00 MiB"),
        (10_857_958, "10.4 MiB"),
        (3 << 30, "3.00 GiB"),
    ],
)
def test_bytes(size_bytes: int | None, shown: str) -> None:
    """A size has three digits, four under a whole unit, and never 1024 of one."""
    assert figures.show_bytes(size_bytes) == shown


@pytest.mark.parametrize(
    ("latency_ms", "shown"),
    [
        (None, "–"),
        (0.0, "0 ms"),
        (0.0123, "12.3 µs"),
        (4.205, "4.21 ms"),
        (123.4, "123 ms"),
        (2500, "2.50 s"),
    ],
)
def test_times(latency_ms: float | None, shown: str) -> None:
    """A time is in the unit that suits it."""
    assert figures.show_ms(latency_ms) == shown


def test_counts() -> None:
    """A count has three digits; nouns follow numbers."""
    assert figures.show_count(None) == "–"
    assert figures.show_count(7) == "7"
    assert figures.show_count(701_999_999) == "702 M"
    assert figures.show_number(1, "thread") == "1 thread"
    assert figures.show_number(1000, "sample") == "1,000 samples"


def test_fractions() -> None:
    """Fractions are shown as percentages, differences as points with a real minus."""
    assert figures.show_percent(0.7512) == "75.1 %"
    assert figures.show_percent(None) == "–"
    assert figures.show_points(-0.005) == "−0.50 points"
    assert figures.show_points(0.0125) == "+1.25 points"
    assert figures.show_points(-0.00001) == "0.00 points"


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (39, 10, "3.9 × smaller"),
        (10, 39, "3.9 × larger"),
        (1.5, 1, "1.50 × smaller"),
        (1000, 1001, "the same"),
        (0, 1, "–"),
        (1, 0, "–"),
    ],
)
def test_ratios(before: float, after: float, shown: str) -> None:
    """A ratio is always at least one, and says which way."""
    assert figures.show_ratio(before, after, less="smaller", more="larger") == shown


@pytest.mark.parametrize(
    ("metric", "value", "change", "shown", "end"),
    [
        ("map", 0.3331, -0.005, "33.3 %", "−0.50"),
        ("of-tomorrow", 0.5, 0.0, "50.0 %", "0.00"),
        ("rmse", 17.3049, -0.012345, "17.3", "−0.0123"),
        ("mae", 0.00012346, 0.0, "0.0001235", "0"),
        ("mae", 12.0, 1.5, "12", "+1.5"),
        ("rmse", None, 2.0, "–", "+2"),
    ],
)
def test_scores_have_the_unit_of_their_metric(
    metric: str, value: float | None, change: float, shown: str, end: str
) -> None:
    """Shares are percentages and change by points; errors are plain numbers."""
    assert figures.show_score(metric, value) == shown
    assert figures.show_end(metric, change) == end
    word = " points" if figures.is_share(metric) else ""
    assert figures.show_change(metric, change) == end + word
