"""Figures in sentences."""

from __future__ import annotations

import pytest

from skerry.adapt.wording import show_bytes, show_counts, show_share


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (2949120, "2.81 MiB"),
        (5 << 30, "5 GiB"),
        (5 << 40, "5120 GiB"),
    ],
)
def test_sizes_are_written_in_the_unit_that_suits_them(
    size_bytes: int, text: str
) -> None:
    """Three digits, and never a power of ten."""
    assert show_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1e-6, "under 1 %"),
        (0.5, "50 %"),
        (0.999, "over 99 %"),
        (1, "100 %"),
    ],
)
def test_only_none_and_all_are_0_and_100_percent(share: float, text: str) -> None:
    """Rounding does not make a part the whole."""
    assert show_share(share) == text


def test_words_are_counted_most_frequent_first() -> None:
    """What is rare is summed up."""
    assert show_counts(["b", "a", "b"]) == "b ×2, a"
    assert show_counts(["a", "b", "c"], at_most=2) == "a, b and 1 more"
