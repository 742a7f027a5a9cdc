"""Bounds say how far off, relative to what, and where."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.rewrite.bounds import (
    EXACT,
    UNIT_ROUNDOFF,
    approximation,
    gamma,
    of_peak,
    of_result,
    rounding,
    same_sum,
)

X = np.array([1, -7], np.float32)
Y = np.array([2, 4], np.float32)


def test_exact_allows_nothing() -> None:
    """Not one bit may differ."""
    assert (EXACT.allowed([X], Y) == 0).all()


def test_an_error_is_relative_to_what_the_bound_says() -> None:
    """To the result, or to one more than the largest input."""
    np.testing.assert_allclose(rounding(0.5, of_result).allowed([X], Y), [1, 2])
    assert rounding(0.5, of_peak).allowed([X], Y) == 4
    assert "largest |input|" in rounding(0.5, of_peak).text


def test_gamma_is_highams() -> None:
    """N u / (1 − n u)."""
    assert gamma(3) == pytest.approx(3 * UNIT_ROUNDOFF / (1 - 3 * UNIT_ROUNDOFF))


def test_two_orders_of_one_sum_stay_within_the_bound() -> None:
    """A sum of a thousand numbers of both signs, forwards and backwards, in float32."""
    numbers = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    forwards, backwards = (
        np.add.accumulate(one, dtype=np.float32)[-1] for one in (numbers, numbers[::-1])
    )
    bound = same_sum(1000, 1000.0)
    assert abs(forwards - backwards) <= bound.allowed([numbers], forwards)


def test_an_approximation_says_its_error_and_its_range() -> None:
    """In words, and as numbers."""
    bound = approximation(0.01, low=-2, high=2, of="a line")
    assert bound.text == "within 0.01 (absolute) for inputs from -2 to 2: a line"
    assert bound.is_approximation
    assert 0.01 <= float(bound.allowed([X], Y)) < 0.0101
