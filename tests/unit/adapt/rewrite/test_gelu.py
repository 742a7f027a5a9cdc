"""The two constants of the GELU forms are bounds, not observations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from skerry.adapt.rewrite.gelu import CUBIC, SIGMOID_ERROR, SLOPE, TANH_ERROR

STEP = 2e-5
STEEPEST_DIFFERENCE = 0.1
"""Of the difference of two forms: the largest slope seen is 0.04 on this grid, and the
second derivatives (at most 1.2 each) let it be no more than 2.4 h higher between."""

X: NDArray[np.float64] = np.arange(0, 8, STEP)
NORMAL = 0.5 * np.vectorize(math.erfc, otypes=[float])(-X / math.sqrt(2))


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the logistic function."""
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("gate", "stated"),
    [
        (sigmoid(2 * SLOPE * (X + CUBIC * X**3)), TANH_ERROR),
        (sigmoid(1.702 * X), SIGMOID_ERROR),
    ],
    ids=["tanh", "sigmoid"],
)
def test_the_distance_from_the_exact_form_is_certified(
    gate: NDArray[np.float64], stated: float
) -> None:
    """The largest on a grid, and what it can grow between its points, is below."""
    # Both forms are x + f(−x) at −x, so their difference is even: x ≥ 0 is enough.
    difference = X * gate - X * NORMAL
    slopes = np.abs(np.diff(difference)) / STEP
    assert slopes.max() + 2.4 * STEP < STEEPEST_DIFFERENCE
    largest = np.abs(difference).max() + STEEPEST_DIFFERENCE * STEP
    assert largest <= stated < 1.03 * largest
    # Beyond the grid both are below x · e^(−1.702 x), which falls.
    assert 8 * math.exp(-1.702 * 8) < stated
