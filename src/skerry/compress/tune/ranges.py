"""What a model itself says of the space: which operators may stay float, which runtime.

And the recipes to begin with: those that a search without a tuner tries.
"""

from __future__ import annotations

from skerry.compress.ptq.patterns import PATTERNS
from skerry.compress.ptq.quantize import ACCURATE
from skerry.compress.search.candidates import recipe_of
from skerry.compress.search.choose import FUSED, HALF, HALVES, PLAIN, WEIGHTS
from skerry.compress.search.trials import Trials
from skerry.compress.tune.space import SearchSpace
from skerry.core.errors import ModelError
from skerry.core.recipe import Choices, Recipe, Space, StepSpec

QUANTIZE = "quantize"

MOST_FLOAT = 8
"""Operators, at most, that a recipe of the default space leaves in float."""


def quantize_ranges(trials: Trials) -> Space:
    """What the parameters of `quantize` may be that depend on the model.

    Operators stay in float in the order of the error that each causes alone: none, the
    worst, the two worst, and so on, each twice as many as before.
    """
    name = trials.search.runtime.name
    ranges: dict[str, Choices] = {}
    if name in PATTERNS:
        ranges["runtime"] = Choices(values=(name,))
    try:
        errors = trials.sensitivity(ACCURATE)
    except ModelError:
        # The runtime does not bear what it takes to tell, or nothing can be quantized:
        # there is no order to leave operators in float by.
        return ranges
    order = sorted(sorted(errors), key=lambda one: errors[one], reverse=True)
    counts = [0, 1]
    while counts[-1] * 2 <= min(MOST_FLOAT, len(order) // 2):
        counts.append(counts[-1] * 2)
    kept = tuple(sorted(order[:count]) for count in counts)
    return {**ranges, "keep_float": Choices(values=kept)}


def templates(space: SearchSpace) -> tuple[Recipe, ...]:
    """What to begin with, as far as the space holds it, in the space's own words."""
    steps = [*WEIGHTS.values(), *FUSED.values(), *PLAIN.values()]
    recipes = [recipe_of(step) for step in steps]
    recipes += [
        Recipe(steps=(StepSpec(name=HALF, params={"dtype": dtype}),))
        for dtype in HALVES.values()
    ]
    return space.own(recipes)
