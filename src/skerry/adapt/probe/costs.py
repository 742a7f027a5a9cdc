"""Fit what operators cost: a fixed part, a part a multiply-add, a part a byte."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from skerry.core.target import OperatorCost

Sample = tuple[float, float, float]
"""Multiply-accumulates, bytes, and microseconds of one operator."""

_MILLION = 1e6
_DIGITS = 4


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
    weighted = terms / times[:, None]
    best, least = np.zeros(3), np.inf
    for count in range(1, 4):
        for chosen in combinations(range(3), count):
            places = list(chosen)
            found, *_ = np.linalg.lstsq(
                weighted[:, places], np.ones(len(table)), rcond=None
            )
            left = float(np.sum((weighted[:, places] @ found - 1) ** 2))
            if (found >= 0).all() and left < least - 1e-12:
                best, least = np.zeros(3), left
                best[places] = found
    errors = np.abs(terms @ best - times) / times
    fixed, macs, size = (float(f"{one:.{_DIGITS}g}") for one in best)
    return OperatorCost(
        fixed_us=fixed,
        us_per_million_macs=macs,
        us_per_mb=size,
        samples=len(samples),
        error=round(float(np.median(errors)), 3),
    )
