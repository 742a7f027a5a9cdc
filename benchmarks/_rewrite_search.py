"""A random search for inputs that break what a rewrite rule says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.rewriting import CASES, excess, replacements

SEED = 6
MOST_CANDIDATES = 3
"""Replacements of one model that are tried; which ones is drawn too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What the search found out about one rule.

    Attributes:
        rule: Its name.
        tried: How many replacements were run beside the original.
        worst: The largest error, in units of what the rule allows; 0 where each was
            the same bit by bit.
        bounds: The different bounds that it stated.
    """

    rule: str
    tried: int
    worst: float
    bounds: tuple[str, ...]

    @property
    def is_broken(self) -> bool:
        """Whether something was further off than stated, or nothing was tried."""
        return self.tried == 0 or not self.worst <= 1


def search(rule: str, models: int) -> Searched:
    """Try a rule on random models, shapes, parameters and inputs.

    Args:
        rule: Its name.
        models: How many models of each kind are drawn.
    """
    tried, worst, bounds = 0, 0.0, set()
    for kind, draw in enumerate(CASES[rule]):
        for number in range(models):
            rng = np.random.default_rng([SEED, kind, number])
            case = draw(rng)
            drawn = list(replacements(rule, case))
            chosen = rng.permutation(len(drawn))[:MOST_CANDIDATES]
            for index in chosen:
                tried += 1
                worst = max(worst, excess(case, drawn[int(index)], rng))
                bounds.add(drawn[int(index)].bound.text.split(" for ")[0])
    return Searched(rule=rule, tried=tried, worst=worst, bounds=tuple(sorted(bounds)))
