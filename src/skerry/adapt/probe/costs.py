"""Fit what operators cost: a fixed part, a part a multiply-add, a part a byte."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from skerry.core.target import OperatorCost

Floats = NDArray[np.float64]

Sample = tuple[float, float, float]
"""Multiply-accumulates, bytes, and microseconds of one operator."""

_MILLION = 1e6
_DIGITS = 4
_ROUNDS = 8
_FARTHEST = 100.0


def _non_negative(terms: Floats, times: Floats, unit: Floats) -> Floats:
    """Least squares, in some unit a sample, without negative parts."""
    weighted, wanted = terms / unit[:, None], times / unit
    best, least = np.zeros(3), np.inf
    for count in range(1, 4):
        for chosen in combinations(range(3), count):
            places = list(chosen)
            found, *_ = np.linalg.lstsq(weighted[:, places], wanted, rcond=None)
            left = float(np.sum((weighted[:, places] @ found - wanted) ** 2))
            if (found >= 0).all() and left < least - 1e-12:
                best, least = np.zeros(3), left
                best[places] = found
    return best


def fit_cost(samples: Sequence[Sample]) -> OperatorCost | None:
    """Fit the three parts by least squares of the relative errors; none is negative.

    With three unknowns, the non-negative optimum is the best of the eight solutions in
    which some of them are zero.

    Returns:
        None without samples.
    """
    if not samples:
        return None
    table = np.array(samples, np.float64)
    times = table[:, 2]
    terms = np.column_stack([np.ones(len(table)), table[:, 0], table[:, 1]])
    terms[:, 1:] /= _MILLION
    guess = times
    best = np.zeros(3)
    for _ in range(_ROUNDS):
        # Errors relative to the mean of time and guess: neither doubling nor halving
        # a time is the lesser error.
        best = _non_negative(terms, times, np.sqrt(times * guess))
        guess = np.maximum(terms @ best, times / _FARTHEST)
    errors = np.abs(terms @ best - times) / times
    fixed, macs, size = (float(f"{one:.{_DIGITS}g}") for one in best)
    return OperatorCost(
        fixed_us=fixed,
        us_per_million_macs=macs,
        us_per_mb=size,
        samples=len(samples),
        error=round(float(np.median(errors)), 3),
    )
