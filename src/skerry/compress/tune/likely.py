"""What a cost is likely to be of recipes not tried yet: a Gaussian process.

How far a choice reaches is learnt, name by name: what the recipes tried so far come to
is most likely under it (C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for
Machine Learning", 2006, sections 2.2 and 5.4.1). So choices that hardly matter do not
keep apart what is alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOISE = 0.1
"""Standard deviation of what is measured, of the spread between recipes."""

REACH = 2.0
"""How far a choice reaches before anything is known of it: so many that differ make
recipes have little to do with each other."""

REACHES = tuple(REACH * factor for factor in (0.35, 0.6, 1.0, 1.8, 3.0, 6.0))
"""Those that are compared."""

DOUBT = 1.0
"""Standard deviation of the logarithm of a reach that is expected."""

SWEEPS = 2
"""So often each name's reach is chosen anew, given the others'."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Likely:
    """What is likely of each of some places.

    Attributes:
        mean: `[m]`.
        deviation: Its standard deviation, `[m]`.
    """

    mean: Array
    deviation: Array


def likely(known: Sequence[Array], wanted: Sequence[Array], values: Array) -> Likely:
    """Conclude from the values at some places on those at others.

    Args:
        known: By name of a choice, `[n, columns]`.
        wanted: The same for the others, `[m, columns]`.
        values: `[n]`, NaN where nothing is known.
    """
    is_known = np.isfinite(values)
    count = len(wanted[0])
    if not is_known.any():
        return Likely(mean=np.zeros(count), deviation=np.ones(count))
    known, values = [one[is_known] for one in known], values[is_known]
    middle, spread = values.mean(), values.std() or 1.0
    among = np.stack([_squares(one, one) for one in known])
    scaled = (values - middle) / spread
    weights = _learnt(among, scaled)
    across = np.stack([_squares(*pair) for pair in zip(known, wanted, strict=True)])
    alike = _alike(across, weights)
    noisy = _alike(among, weights) + NOISE**2 * np.eye(len(values))
    solved = np.linalg.solve(noisy, alike)
    left = np.maximum(1.0 - (solved * alike).sum(axis=0), 0.0)
    return Likely(
        mean=middle + spread * (scaled @ solved), deviation=spread * np.sqrt(left)
    )


def _learnt(squares: Array, values: Array) -> Array:
    """How much each name's squared distances weigh, `[names]`."""
    reaches = np.full(len(squares), REACH)
    for _ in range(SWEEPS):
        for place in range(len(squares)):
            tried = np.repeat(reaches[None], len(REACHES), axis=0)
            tried[:, place] = REACHES
            said = [_likelihood(squares, one, values) for one in tried]
            reaches = tried[int(np.argmax(said))]
    return _weights(reaches)


def _likelihood(squares: Array, reaches: Array, values: Array) -> float:
    """The logarithm of how likely values and reaches are together, but for a sum."""
    noisy = _alike(squares, _weights(reaches)) + NOISE**2 * np.eye(len(values))
    lower = np.linalg.cholesky(noisy)
    whitened = np.linalg.solve(lower, values)
    doubts = np.log(reaches / REACH) / DOUBT
    found = whitened @ whitened / 2 + np.log(np.diag(lower)).sum() + doubts @ doubts / 2
    return -float(found)


def _weights(reaches: Array) -> Array:
    weights: Array = 1 / (2 * reaches**2)
    return weights


def _squares(one: Array, other: Array) -> Array:
    """Squared distances, `[n, m]`."""
    squares: Array = ((one[:, None] - other[None]) ** 2).sum(axis=2)
    return squares


def _alike(squares: Array, weights: Array) -> Array:
    """How much places have in common: 1 where they are the same."""
    alike: Array = np.exp(-np.tensordot(weights, squares, axes=1))
    return alike
