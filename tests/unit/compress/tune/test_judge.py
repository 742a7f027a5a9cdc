from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from skerry.compress.search.cache import Cache
from skerry.compress.search.making import Trainer
from skerry.compress.search.request import Refuse, Search
from skerry.compress.search.trials import Trials
from skerry.compress.tune.judge import FAILED, Judge
from skerry.compress.tune.ranges import quantize_ranges, templates
from skerry.compress.tune.space import default_space
from skerry.compress.tune.trial import Trial
from skerry.core.budget import Budget
from skerry.core.errors import ModelError
from skerry.core.recipe import Recipe, StepSpec
from skerry.core.seams import Runtime
from skerry.graph import Graph
from tests.tuning import trial
from tests.unit.compress.conftest import Workplace

PLAIN = Recipe(steps=(StepSpec(name="quantize"),))
MakeJudge = Callable[..., Judge]


@pytest.fixture
def make_judge(
    workplace: Workplace,
    runtime: Runtime,
    fixed_latency: Callable[[dict[str, float]], None],
) -> MakeJudge:
    """Judge recipes of the small classifier; each candidate takes 0.9 of its time."""
    fixed_latency({})

    def make(
        budget: Budget,
        *,
        is_kept: bool = False,
        trainer: Trainer | None = None,
        refuse: Refuse | None = None,
    ) -> Judge:
        search = Search(
            calibration=workplace.calibration,
            selection=workplace.selection,
            task=workplace.task,
            runtime=runtime,
            budget=budget,
            cache=Cache(workplace.folder / "cache" if is_kept else None),
            trainer=trainer,
            refuse=refuse,
        )
        trials = Trials(workplace.model, workplace.graph, search, workplace.folder)
        return Judge(trials)

    return make


def test_a_recipe_that_holds_has_all_its_costs(make_judge: MakeJudge) -> None:
    """Loss, time, size, and how long the trial took."""
    found = make_judge(Budget(accuracy_drop=1.0))(PLAIN, [])
    assert found.holds
    assert found.costs is not None
    assert found.costs[1] == 0.9
    assert found.violation == 0
    assert found.seen == 10
    assert found.took_s > 0


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(accuracy_drop=1.0, size_bytes=10), "size_bytes"),
        (Budget(accuracy_drop=1.0, latency_ms=1e-9), "latency_ms"),
        (Budget(accuracy_drop=1.0, memory_bytes=10), "memory_bytes"),
    ],
)
def test_what_breaks_the_budget_anyway_is_not_scored(
    make_judge: MakeJudge, budget: Budget, said: str
) -> None:
    """Its size, its time or its memory says so before any sample is run."""
    found = make_judge(budget)(PLAIN, [])
    assert said in found.refusal
    assert found.seen == 0
    assert found.drop is None
    assert found.violation > 0


def test_what_another_surely_beats_is_not_seen_to_the_end(
    make_judge: MakeJudge,
) -> None:
    """The loss of one that is as small and as fast is the limit."""
    judge = make_judge(Budget(accuracy_drop=1.0))
    worst = StepSpec(
        name="quantize",
        params={"operators": "all", "per_channel": False, "weight_bits": 4},
    )
    rival = trial(0, -1.0, 0.5, 0.001)
    gate_drop = judge(Recipe(steps=(worst,)), [rival])
    alone = judge(Recipe(steps=(worst,)), [])
    assert alone.seen == 10
    assert gate_drop.seen <= alone.seen


def test_a_recipe_that_cannot_be_made_is_refused_not_raised(
    make_judge: MakeJudge,
) -> None:
    """Parameters that do not go together, and a step that trains without a trainer."""
    judge = make_judge(Budget(accuracy_drop=1.0))
    odd = StepSpec(name="quantize", params={"keep_float": ["no such node"]})
    found = judge(Recipe(steps=(odd,)), [])
    assert found.refusal.startswith("refused: ")
    assert found.violation == FAILED
    assert found.costs is None


def test_the_model_says_which_operators_may_stay_float(make_judge: MakeJudge) -> None:
    """None, the worst, the two worst; and templates are told in the space's words."""
    trials = make_judge(Budget(accuracy_drop=1.0))._trials
    ranges = quantize_ranges(trials)
    kept = ranges["keep_float"].values  # type: ignore[union-attr]
    assert [len(names) for names in kept] == [0, 1, 2]
    assert set(kept[1]) < set(kept[2])
    space = default_space(ranges={"quantize": ranges})
    found = templates(space)
    assert len(found) == 9
    assert all(space.point(one) is not None for one in found)


def test_a_second_look_finds_everything_in_the_cache(make_judge: MakeJudge) -> None:
    """The same recipe is not made, timed or scored again, whoever asks."""
    first = make_judge(Budget(accuracy_drop=1.0), is_kept=True)(PLAIN, [])
    again = make_judge(Budget(accuracy_drop=1.0), is_kept=True)
    assert replace(again(PLAIN, []), took_s=0) == replace(first, took_s=0)
    assert again._trials.search.cache.misses == 0


def test_a_trial_under_way_is_no_rival(make_judge: MakeJudge) -> None:
    """It has no costs yet."""
    found = make_judge(Budget(accuracy_drop=1.0))(
        PLAIN, [Trial(number=0, recipe=PLAIN)]
    )
    assert found.holds


def test_a_training_that_failed_is_not_tried_again(make_judge: MakeJudge) -> None:
    """Its reason is kept, for other recipes that begin with it and after a restart."""
    tried: list[Recipe] = []

    def train(recipe: Recipe) -> Graph:
        tried.append(recipe)
        raise ModelError("the loss is NaN", hint="Take a smaller rate.")

    first = StepSpec(name="prune", params={"ratio": 0.5})
    for steps in ((first,), (first, StepSpec(name="quantize")), (first,)):
        judge = make_judge(
            Budget(), is_kept=True, trainer=Trainer(train=train, key="same")
        )
        found = judge(Recipe(steps=steps), [])
        assert found.refusal == "refused: the loss is NaN"
        assert found.violation == FAILED
    assert len(tried) == 1


def test_what_cannot_run_there_is_not_timed(make_judge: MakeJudge) -> None:
    """Hardware that is not here refuses by its data sheets; the source too."""
    judge = make_judge(Budget(), refuse=lambda *_: "no Conv there")
    found = judge(PLAIN, [])
    assert found.refusal == "refused: no Conv there"
    assert found.latency is None
    assert not judge.source_holds


def test_a_source_over_the_memory_does_not_hold(make_judge: MakeJudge) -> None:
    """Size, time and memory decide whether it is among those to be chosen."""
    assert make_judge(Budget()).source_holds
    assert not make_judge(Budget(memory_bytes=10)).source_holds
