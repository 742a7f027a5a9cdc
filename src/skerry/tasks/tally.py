"""What a metric keeps of the samples, so that it can be computed for any resample.

A bootstrap draws units: samples, or the people that some samples show. A resample is
told by how often each unit was drawn, so nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""How often each unit was drawn, [r, units], one row a resample."""


class Tally(Protocol):
    """What a metric keeps of all samples."""

    @property
    def units(self) -> int:
        """How many units a resample draws."""
        ...

    @property
    def size(self) -> int:
        """How many numbers one resample looks at, for an idea of its cost."""
        ...

    def values(self, counts: Counts) -> NDArray[np.float64]:
        """The metric's value for each resample, [r]; NaN where it has none."""
        ...


def value_of(tally: Tally) -> float:
    """The metric's value over all samples, each taken once."""
    return float(tally.values(np.ones((1, tally.units)))[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quotient:
    """A metric that is the sum of the scores divided by the sum of the weights.

    Attributes:
        scores: One a sample, float64 [n].
        weights: One a sample, float64 [n].
    """

    scores: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def units(self) -> int:
        """The samples."""
        return len(self.scores)

    @property
    def size(self) -> int:
        """One score a sample."""
        return self.units

    def values(self, counts: Counts) -> NDArray[np.float64]:
        """Σ scores / Σ weights."""
        total = counts @ self.weights
        return divide(counts @ self.scores, total)


def divide(
    upper: NDArray[np.float64], lower: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Divide; NaN where the divisor is not above 0."""
    unknown = np.full(np.broadcast_shapes(upper.shape, lower.shape), np.nan)
    return np.asarray(np.divide(upper, lower, out=unknown, where=lower > 0))
