"""A bandit over recipes: what is like what was good is tried, and so is the unknown.

Each cost is a Gaussian process over recipes; one function is drawn from each (Thompson
sampling: O. Chapelle and L. Li, NIPS 2011; with Gaussian processes and several costs:
E. Bradford et al., "Efficient multiobjective optimization employing Gaussian processes,
spectral sampling and a genetic algorithm", J. Glob. Optim. 71, 2018), and the candidate
whose drawn costs would add most to the front within the budget is proposed. Candidates
are drawn from the whole space, and near the best so far. It needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skerry.compress.tune.front import hypervolume, nondominated
from skerry.compress.tune.space import Point, SearchSpace, draw, near
from skerry.compress.tune.trial import Trial, holding
from skerry.core.recipe import Choices, ParamValue, Recipe, Span

STARTUP = 4
"""Trials drawn at random before anything is concluded."""

DRAWN = 120
"""Candidates drawn from the whole space."""

NEIGHBOURS = 120
"""Candidates drawn near the best so far."""

BEST = 6
"""Trials that count as the best so far where fewer hold the budget."""

NOISE = 0.1
"""Standard deviation of what is measured, of the spread between recipes."""

REACH = 2.0
"""Choices that differ until two recipes have little to do with each other."""

REFERENCE = (1.0, 1.0, 1.0)
"""Where the budget's room ends: the loss allowed, the source's time, its size."""

_Array = NDArray[np.float64]


class BanditSampler:
    """Proposes what a draw of what is likely says is best.

    Args:
        space: What recipes there are.
        allowed_drop: The largest loss that holds; None where any does.
    """

    def __init__(self, space: SearchSpace, *, allowed_drop: float | None) -> None:
        self._space = space
        self._allowed = allowed_drop or 1.0

    def suggest(self, trials: Sequence[Trial], rng: np.random.Generator) -> Recipe:
        """Propose a recipe."""
        known = [one for one in trials if self._space.point(one.recipe) is not None]
        done = [one for one in known if one.outcome is not None]
        if len(done) < STARTUP:
            return self._space.recipe(lambda _, one: draw(rng, one))
        candidates = self._candidates(known, rng)
        recipes = [*(one.recipe for one in done), *candidates]
        places = self._places(recipes)
        drawn = np.stack(
            [
                _drawn(places[: len(done)], places[len(done) :], found, rng)
                for found in self._measured(done)
            ],
            axis=1,
        )
        return candidates[self._best(drawn, done)]

    def _candidates(
        self, trials: Sequence[Trial], rng: np.random.Generator
    ) -> list[Recipe]:
        """What was not tried yet: from all of the space, and near the best."""
        space, best = self._space, self._best_so_far(trials)
        found = [space.recipe(lambda _, one: draw(rng, one)) for _ in range(DRAWN)]
        for count in range(NEIGHBOURS):
            start = best[count % len(best)].recipe
            found.append(near(space, start, 1 + count % 2, rng))
        tried = [one.recipe for one in trials]
        new = [one for one in found if one.steps and one not in tried]
        return new or found

    def _best_so_far(self, trials: Sequence[Trial]) -> list[Trial]:
        held = holding(trials)
        front = [held[k] for k in nondominated([one.costs for one in held])]
        others = sorted(
            (one for one in trials if one.outcome is not None and one not in front),
            key=lambda one: one.outcome.violation if one.outcome else 0.0,
        )
        return [*front, *others[: max(0, BEST - len(front))]]

    def _measured(self, done: Sequence[Trial]) -> list[_Array]:
        """The three costs of each trial, NaN where unknown, on scales that add up."""
        rows = np.full((len(done), 3), np.nan)
        for row, one in zip(rows, done, strict=True):
            outcome = one.outcome
            if outcome is None or outcome.size is None or outcome.latency is None:
                continue
            row[1:] = np.log(outcome.latency.median), np.log(outcome.size)
            if outcome.drop is not None:
                row[0] = np.arcsinh(outcome.drop / self._allowed)
        return list(rows.T)

    def _best(self, drawn: _Array, done: Sequence[Trial]) -> int:
        """The candidate that adds most to the front; if none does, the cheapest."""
        drop, latency, size = drawn.T
        costs = np.stack([np.sinh(drop), np.exp(latency), np.exp(size)], axis=1)
        costs[:, 0] = np.maximum(costs[:, 0], 0.0)
        held = [
            (max(one.costs[0], 0.0) / self._allowed, *one.costs[1:])
            for one in holding(done)
        ]
        front = [held[k] for k in nondominated(held)]
        covered = hypervolume(front, REFERENCE)
        gains = np.array(
            [hypervolume([*front, row], REFERENCE) - covered for row in costs.tolist()]
        )
        if gains.max() > 0:
            return int(gains.argmax())
        # What is within the budget by far is no better than what is just within.
        return int(np.maximum(costs, 0.5).sum(axis=1).argmin())

    def _places(self, recipes: Sequence[Recipe]) -> _Array:
        """Recipes as points whose squared distances count the choices that differ."""
        columns: dict[tuple[str, int], int] = {}
        rows: list[dict[int, float]] = []
        for recipe in recipes:
            point = self._space.point(recipe) or {}
            row: dict[int, float] = {}

            def note(
                name: str,
                one: Choices | Span,
                row: dict[int, float] = row,
                point: Point = point,
            ) -> ParamValue:
                arm, height = _arm(point[name], one)
                row[columns.setdefault((name, arm), len(columns))] = height
                return point[name]

            self._space.recipe(note)
            rows.append(row)
        places = np.zeros((len(rows), len(columns)))
        for place, row in zip(places, rows, strict=True):
            place[list(row)] = list(row.values())
        return places


def _arm(value: ParamValue, one: Choices | Span) -> tuple[int, float]:
    """Which column a value has, and how high it stands there."""
    if isinstance(one, Choices):
        return one.values.index(value), float(np.sqrt(0.5))
    ends = np.array([one.low, one.high, value], np.float64)
    low, high, at = np.log(ends) if one.is_log else ends
    return 0, float((at - low) / (high - low)) if high > low else 0.0


def _drawn(
    known: _Array, wanted: _Array, values: _Array, rng: np.random.Generator
) -> _Array:
    """Draw the values of a Gaussian process at some places, given those at others.

    Args:
        known: `[n, features]`.
        wanted: `[m, features]`.
        values: `[n]`, NaN where nothing is known.
        rng: Where chance comes from.

    Returns:
        `[m]`.
    """
    is_known = np.isfinite(values)
    if not is_known.any():
        return np.zeros(len(wanted))
    known, values = known[is_known], values[is_known]
    middle, spread = values.mean(), values.std() or 1.0
    among = _alike(known, known) + NOISE**2 * np.eye(len(known))
    across = _alike(known, wanted)
    weights = np.linalg.solve(among, across).T
    mean = weights @ ((values - middle) / spread)
    covariance = _alike(wanted, wanted) - weights @ across
    vectors, scales, _ = np.linalg.svd(covariance, hermitian=True)
    noise = vectors @ (np.sqrt(scales) * rng.normal(size=len(wanted)))
    drawn: _Array = (mean + noise) * spread + middle
    return drawn


def _alike(one: _Array, other: _Array) -> _Array:
    """How much places have in common: 1 where they are the same."""
    squares = ((one[:, None] - other[None]) ** 2).sum(axis=2)
    alike: _Array = np.exp(-squares / (2 * REACH**2))
    return alike
