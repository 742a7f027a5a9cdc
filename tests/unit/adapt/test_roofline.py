"""The longer of computing and moving is what an operator takes."""

from __future__ import annotations

import pytest

from skerry.adapt.roofline import Bound, computing_us, moving_us, roof


def test_times_are_in_microseconds() -> None:
    """A million multiply-adds at 2 GOPS and a megabyte at 1 GB/s take 1 ms each."""
    assert computing_us(1_000_000, 2.0) == pytest.approx(1000)
    assert moving_us(1_000_000, 1.0) == pytest.approx(1000)


@pytest.mark.parametrize(
    ("computing", "moving", "bound"),
    [(3.0, 2.0, Bound.COMPUTE), (2.0, 3.0, Bound.MEMORY), (2.0, 2.0, Bound.COMPUTE)],
)
def test_the_longer_one_is_the_roof(
    computing: float, moving: float, bound: Bound
) -> None:
    """Where both are as long, computing is."""
    assert roof(computing, moving) == (max(computing, moving), bound)
