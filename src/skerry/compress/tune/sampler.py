"""Propose the next recipe from what the earlier ones came to.

Samplers keep nothing between two calls: all they know are the trials they are given.
So an experiment goes on after a kill as if nothing had been, and several workers, each
with a sampler of its own, search as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from skerry.compress.tune.space import SearchSpace, draw, near
from skerry.compress.tune.trial import Trial
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Recipe

SamplerName = Literal["bandit", "tpe", "random"]

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
        recipe = self.sampler.suggest(trials, rng)
        for draws in range(MOST_DRAWS):
            if recipe.steps and recipe not in tried:
                return recipe
            # A sampler that is sure of itself says the same again: look beside that,
            # and farther away the longer nothing new is found there.
            recipe = near(self.space, recipe, 1 + draws // 10, rng)
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


def make_sampler(
    name: SamplerName, space: SearchSpace, *, allowed_drop: float | None
) -> Sampler:
    """Make the sampler of a name.

    Args:
        name: Which.
        space: What recipes there are.
        allowed_drop: The largest loss that holds; None where any does.

    Raises:
        UsageError: There is none.
        MissingExtraError: `tpe` needs Optuna, which is not installed.
    """
    if name == "tpe":
        from skerry.compress.tune._optuna import TpeSampler

        return TpeSampler(space)
    if name == "bandit":
        from skerry.compress.tune.bandit import BanditSampler

        return BanditSampler(space, allowed_drop=allowed_drop)
    if name == "random":
        return RandomSampler(space)
    raise UsageError(
        f"there is no sampler {name!r}", hint=did_you_mean(name, get_args(SamplerName))
    )
