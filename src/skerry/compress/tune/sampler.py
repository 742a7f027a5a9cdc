"""Propose the next recipe from what the earlier ones came to.

Samplers keep nothing between two calls: all they know are the trials they are given.
So an experiment goes on after a kill as if nothing had been, and several workers, each
with a sampler of its own, search as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, get_args

import numpy as np

from skerry.compress.tune.front import nondominated
from skerry.compress.tune.space import Point, SearchSpace, draw
from skerry.compress.tune.trial import Trial, holding
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Choices, ParamValue, Recipe, Span

SamplerName = Literal["tpe", "bandit", "random"]

MOST_DRAWS = 200
"""Draws that may all have been tried before, until the space counts as used up."""


class Sampler(Protocol):
    """Proposes recipes."""

    def suggest(self, trials: Sequence[Trial], rng: np.random.Generator) -> Recipe:
        """Propose a recipe; one that was tried already is asked for again.

        Args:
            trials: Everything claimed so far, those under way without an outcome.
            rng: Where chance comes from.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposer:
    """Proposes what was not tried yet: the templates, then what a sampler says.

    Attributes:
        space: What recipes there are.
        sampler: What proposes.
        templates: What is known to be good elsewhere, tried first.
        seed: Of all chance.
    """

    space: SearchSpace
    sampler: Sampler
    templates: tuple[Recipe, ...] = ()
    seed: int = 0

    def __call__(self, trials: Sequence[Trial]) -> Recipe | None:
        """The next recipe, or None where the space is used up."""
        tried = [trial.recipe for trial in trials]
        for recipe in self.templates:
            if recipe not in tried:
                return recipe
        rng = np.random.default_rng([self.seed, len(trials)])
        by_chance = RandomSampler(self.space)
        for attempt in range(MOST_DRAWS):
            # A sampler that is sure of itself says the same again and again.
            source = self.sampler if attempt < MOST_DRAWS // 20 else by_chance
            recipe = source.suggest(trials, rng)
            if recipe not in tried:
                return recipe
        return None


class RandomSampler:
    """Draws each choice at random: what all others are compared with.

    Args:
        space: What recipes there are.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def suggest(
        self,
        trials: Sequence[Trial],  # noqa: ARG002 - it learns nothing
        rng: np.random.Generator,
    ) -> Recipe:
        """Draw a recipe."""
        return self._space.recipe(lambda _, one: draw(rng, one))


class BanditSampler:
    """Chooses each value as one arm of a bandit, and now and then one at random.

    Of the values of a name it takes the one with the largest upper confidence bound of
    the reward (UCB1: P. Auer et al., "Finite-time Analysis of the Multiarmed Bandit
    Problem", Machine Learning 47, 2002, section 2; ε-greedy: the same, section 3). A
    trial on the front is worth 1, one behind it half, and so on; one that breaks the
    budget nothing. Needs no library, and says why it proposes what it does.

    Args:
        space: What recipes there are.
        epsilon: The share of choices made at random.
        eagerness: How much an arm gains by being little known.
    """

    BINS = 4
    """Arms of a range of numbers."""

    def __init__(
        self, space: SearchSpace, *, epsilon: float = 0.1, eagerness: float = 0.3
    ) -> None:
        self._space = space
        self._epsilon = epsilon
        self._eagerness = eagerness

    def suggest(self, trials: Sequence[Trial], rng: np.random.Generator) -> Recipe:
        """Propose what the arms with the largest bounds make up."""
        known = _rewards(self._space, trials)

        def choose(name: str, one: Choices | Span) -> ParamValue:
            if rng.random() < self._epsilon:
                return draw(rng, one)
            drawn = [draw(rng, arm) for arm in _arms(one, self.BINS)]
            bounds = [self._bound(name, value, one, known) for value in drawn]
            best = max(bounds)
            return drawn[
                int(rng.choice([k for k, b in enumerate(bounds) if b == best]))
            ]

        return self._space.recipe(choose)

    def _bound(
        self,
        name: str,
        value: ParamValue,
        one: Choices | Span,
        known: Sequence[tuple[Point, float]],
    ) -> float:
        arms = _arms(one, self.BINS)
        mine = _arm_of(value, arms)
        asked = [(point[name], reward) for point, reward in known if name in point]
        found = [reward for got, reward in asked if _arm_of(got, arms) == mine]
        explored = math.sqrt(math.log(len(asked) + 2) / (len(found) + 1))
        mean = sum(found) / len(found) if found else 1.0
        return mean + self._eagerness * explored


def _arms(one: Choices | Span, bins: int) -> list[Choices | Span]:
    if isinstance(one, Choices):
        return [Choices(values=(value,)) for value in one.values]
    scale = np.geomspace if one.is_log else np.linspace
    ends = [float(end) for end in scale(one.low, one.high, bins + 1)]
    ends[0], ends[-1] = one.low, one.high
    return [
        Span(low=low, high=high, is_integer=one.is_integer, is_log=one.is_log)
        for low, high in pairwise(ends)
    ]


def _arm_of(value: ParamValue, arms: Sequence[Choices | Span]) -> int:
    for index, arm in enumerate(arms):
        if isinstance(arm, Choices):
            if value == arm.values[0]:
                return index
        elif isinstance(value, int | float) and value <= arm.high:
            return index
    return len(arms) - 1


def _rewards(space: SearchSpace, trials: Sequence[Trial]) -> list[tuple[Point, float]]:
    """The points of all that came to something, each with its reward."""
    worth = {one.number: 0.0 for one in trials if one.outcome is not None}
    left, reward = holding(trials), 1.0
    while left:
        front = {left[k].number for k in nondominated([one.costs for one in left])}
        worth |= dict.fromkeys(front, reward)
        left = [one for one in left if one.number not in front]
        reward /= 2
    points = [(space.point(one.recipe), one.number) for one in trials]
    return [
        (point, worth[number])
        for point, number in points
        if point is not None and number in worth
    ]


def make_sampler(name: SamplerName, space: SearchSpace) -> Sampler:
    """Make the sampler of a name.

    Raises:
        UsageError: There is none.
        MissingExtraError: `tpe` needs Optuna, which is not installed.
    """
    if name == "tpe":
        from skerry.compress.tune._optuna import TpeSampler

        return TpeSampler(space)
    if name == "bandit":
        return BanditSampler(space)
    if name == "random":
        return RandomSampler(space)
    raise UsageError(
        f"there is no sampler {name!r}", hint=did_you_mean(name, get_args(SamplerName))
    )
