"""A bandit over recipes: what is like what was good is tried, and so is the unknown.

Each cost is a Gaussian process over recipes (`likely`), and the candidate is proposed
that is expected to add most to the front within the budget (M. Emmerich et al.,
"Single- and multiobjective evolutionary optimization assisted by Gaussian random field
metamodels", IEEE TEC 10(4), 2006; by chance draws as in S. Daulton et al.,
"Differentiable Expected Hypervolume Improvement", NeurIPS 2020, section 3). Candidates
are drawn from the whole space, and near the best so far. It needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skerry.compress.tune.front import gains, nondominated
from skerry.compress.tune.likely import Array, Likely, likely
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

DRAWS = 64
"""Draws of what is likely that an expectation is taken over."""

REFERENCE = (1.0, 1.0, 1.0)
"""Where the budget's room ends: the loss allowed, the source's time, its size."""


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
        under_way = [one.recipe for one in known if one.outcome is None]
        places = self._places([*(one.recipe for one in done), *under_way, *candidates])
        found = [
            likely(
                [one[: len(done)] for one in places],
                [one[len(done) :] for one in places],
                values,
            )
            for values in self._measured(done)
        ]
        return candidates[self._best(found, done, len(under_way), rng)]

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

    def _measured(self, done: Sequence[Trial]) -> list[Array]:
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

    def _best(
        self,
        found: Sequence[Likely],
        done: Sequence[Trial],
        skipped: int,
        rng: np.random.Generator,
    ) -> int:
        """The candidate that adds most to the front; if none does, the cheapest.

        What is under way, the first of what was found, is taken to be as expected.
        """
        mean = np.stack([one.mean for one in found], axis=1)
        deviation = np.stack([one.deviation for one in found], axis=1)
        # All candidates have the same luck: only what is known of them tells.
        luck = rng.normal(size=(DRAWS, 1, len(found)))
        drawn = _costs(mean[skipped:] + luck * deviation[skipped:])
        expected = _costs(mean)
        front = [*self._held(done), *expected[:skipped].tolist()]
        gained = gains(front, drawn.reshape(-1, len(found)), REFERENCE)
        gained = gained.reshape(DRAWS, -1).mean(axis=0)
        if gained.max() > 0:
            return int(gained.argmax())
        # What is within the budget by far is no better than what is just within.
        return int(np.maximum(expected[skipped:], 0.5).sum(axis=1).argmin())

    def _held(self, done: Sequence[Trial]) -> list[Sequence[float]]:
        """The front within the budget, its losses as parts of the loss allowed."""
        held = [
            (max(one.costs[0], 0.0) / self._allowed, *one.costs[1:])
            for one in holding(done)
        ]
        return [held[k] for k in nondominated(held)]

    def _places(self, recipes: Sequence[Recipe]) -> list[Array]:
        """Recipes as points, by name of a choice, each `[recipes, columns]`.

        Squared distances count the choices that differ. Lists differ by so many of
        their words; words that go together in all lists count as one.
        """
        ranges: dict[str, Choices | Span] = {}
        points = []
        for recipe in recipes:
            point = self._space.point(recipe) or {}
            points.append(point)

            def note(
                name: str, one: Choices | Span, point: Point = point
            ) -> ParamValue:
                ranges[name] = one
                return point[name]

            self._space.recipe(note)
        return [
            np.array([_row(point.get(name), one) for point in points])
            for name, one in ranges.items()
        ]


def _costs(scaled: Array) -> Array:
    """Costs, `[…, 3]`, as `hypervolume` takes them, of what is easier to foresee."""
    costs: Array = np.stack(
        [
            np.maximum(np.sinh(scaled[..., 0]), 0.0),
            np.exp(scaled[..., 1]),
            np.exp(scaled[..., 2]),
        ],
        axis=-1,
    )
    return costs


def _row(value: ParamValue | None, one: Choices | Span) -> list[float]:
    """A value as a point; None, where the choice is not met with, is one of its own."""
    if isinstance(one, Span):
        if value is None:
            return [0.0, 1.0]
        ends = np.array([one.low, one.high, value], np.float64)
        low, high, at = np.log(ends) if one.is_log else ends
        return [float((at - low) / (high - low)) if high > low else 0.0, 0.0]
    if all(isinstance(each, list) for each in one.values):
        words = value if isinstance(value, list) else []
        return [float(part in words) for part in _parts(one)] + [float(value is None)]
    half = float(np.sqrt(0.5))
    return [half * (value == each) for each in one.values]


def _parts(one: Choices) -> list[str]:
    """One word of each group of words that are together in all lists."""
    lists = [each for each in one.values if isinstance(each, list)]
    found: dict[tuple[bool, ...], str] = {}
    for word in sorted({word for each in lists for word in each}):
        found.setdefault(tuple(word in each for each in lists), word)
    return list(found.values())
