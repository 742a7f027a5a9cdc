from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from skerry.compress.tune.front import hypervolume
from skerry.compress.tune.sampler import Proposer, Sampler, make_sampler
from skerry.compress.tune.space import SearchSpace, Slot, StepSpace, draw
from skerry.compress.tune.trial import Trial, holding
from skerry.core.errors import UsageError
from skerry.core.recipe import Choices, Recipe, Span, StepSpec
from tests.tuning import ALLOWED, HALF, SPACE, outcome, score

NAMES = ("tpe", "bandit", "random")


def make(name: str, space: SearchSpace = SPACE) -> Sampler:
    """Make a sampler."""
    return make_sampler(name, space, allowed_drop=ALLOWED)  # type: ignore[arg-type]


def run(name: str, count: int, seed: int = 0) -> list[Trial]:
    """Try so many recipes one after another."""
    proposer = Proposer(space=SPACE, sampler=make(name), seed=seed)
    trials: list[Trial] = []
    for number in range(count):
        recipe = proposer(trials)
        assert recipe is not None
        trials.append(Trial(number=number, recipe=recipe, outcome=score(recipe)))
    return trials


def covered(trials: list[Trial]) -> float:
    """The share of the budget's room."""
    rows = [
        (max(d, 0) / ALLOWED, t, s) for d, t, s in (x.costs for x in holding(trials))
    ]
    return hypervolume(rows, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_no_recipe_is_proposed_twice_and_the_same_seed_proposes_the_same(
    name: str,
) -> None:
    """Whatever the sampler; an interrupted run goes on as it would have."""
    trials = run(name, 14)
    recipes = [one.recipe for one in trials]
    assert all(recipe not in recipes[:k] for k, recipe in enumerate(recipes))
    assert all(recipe.steps for recipe in recipes), "the source needs no trial"
    proposer = Proposer(space=SPACE, sampler=make(name))
    assert proposer(trials[:9]) == recipes[9]


@pytest.mark.parametrize("name", ["tpe", "bandit"])
def test_what_learns_finds_more_than_chance(name: str) -> None:
    """On the made-up score, the mean of some seeds."""
    learnt = np.mean([covered(run(name, 30, seed)) for seed in range(3)])
    chance = np.mean([covered(run("random", 30, seed)) for seed in range(3)])
    assert learnt > chance


def test_a_small_space_is_used_up() -> None:
    """Then there is nothing to propose, rather than the same again."""
    space = SearchSpace(slots=(Slot(steps=(HALF,)),))
    proposer = Proposer(space=space, sampler=make("random", space))
    trials: list[Trial] = []
    while (recipe := proposer(trials)) is not None:
        trials.append(Trial(number=len(trials), recipe=recipe))
    assert len(trials) == 2


def test_templates_come_first() -> None:
    """Each once, whoever claimed it."""
    templates = SPACE.own(
        [Recipe(steps=(StepSpec(name=name),)) for name in ("half", "quantize")]
    )
    sampler = make("random")
    proposer = Proposer(space=SPACE, sampler=sampler, templates=templates)
    first = proposer([])
    assert first == templates[0]
    assert proposer([Trial(number=0, recipe=first)]) == templates[1]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_and_lists_are_proposed_too(name: str) -> None:
    """Spans, whole, ratios, and values that are lists; trials under way, and failed."""
    step = StepSpace(
        name="quantize",
        searched={
            "keep_float": Choices(values=([], ["a"], ["a", "b"])),
            "smooth": Span(low=0.0, high=1.0),
            "weight_bits": Span(low=1, high=8, is_integer=True),
            "activation_bits": Span(low=1e-4, high=1.0, is_log=True),
        },
    )
    space = SearchSpace(slots=(Slot(steps=(step,)),))
    rng = np.random.default_rng(0)
    trials = []
    for number in range(12):
        recipe = space.recipe(lambda _, one: draw(rng, one))
        trials.append(Trial(number=number, recipe=recipe))
    sampler = make(name, space)
    for _ in range(4):
        assert space.point(sampler.suggest(trials, rng)) is not None


def test_lists_are_alike_by_their_words() -> None:
    """Words of which one list too many costs are not tried again in other lists."""
    words = [list(some) for size in range(6) for some in combinations("abcde", size)]
    step = StepSpace(
        name="quantize", searched={"keep_float": Choices(values=tuple(words))}
    )
    space = SearchSpace(slots=(Slot(steps=(step,), may_skip=False),))
    proposer = Proposer(space=space, sampler=make("bandit", space))
    trials: list[Trial] = []
    for number in range(12):
        recipe = proposer(trials)
        assert recipe is not None
        kept = recipe.steps[0].params["keep_float"]
        assert isinstance(kept, list)
        time = 0.5 + 0.3 * ("a" in kept) + 0.1 * len({*kept} ^ {"b", "c"})
        trials.append(
            Trial(number=number, recipe=recipe, outcome=outcome(0, time, 0.5))
        )
    assert min(one.costs[1] for one in trials) == 0.5


def test_what_is_under_way_is_not_looked_for_again() -> None:
    """A second worker tries something else than what is like the first one's."""
    trials = run("bandit", 12)
    sampler, rng = make("bandit"), np.random.default_rng(0)
    first = sampler.suggest(trials, rng)
    under_way = [*trials, Trial(number=12, recipe=first)]
    assert sampler.suggest(under_way, rng) != first


def test_an_unknown_sampler_is_refused() -> None:
    """The nearest one is named."""
    with pytest.raises(UsageError, match="tpee"):
        make("tpee")
