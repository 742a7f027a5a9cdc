from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from skerry.compress.train.prune import channels
from skerry.compress.train.prune.channels import PruneChannels
from skerry.compress.train.prune.cost import layer_costs, total
from skerry.compress.train.prune.importance import Criterion
from skerry.compress.train.prune.judge import Round
from skerry.compress.train.prune.limits import broken_limits
from skerry.compress.train.prune.recover import Recovery
from skerry.compress.train.training import TrainContext
from skerry.core import plugins
from skerry.core.budget import Budget
from skerry.core.errors import ModelError, UsageError
from skerry.core.seams import Runtime
from skerry.runtimes.torch import nn, torch

ANY = Budget()
QUICK = {"ratio": 0.5, "rounds": 2, "multiple": 4}


def costs(module: nn.Module, context: TrainContext) -> int:
    """All multiply-accumulates of one sample."""
    return total(layer_costs(module, context.training.example))


@pytest.mark.parametrize("criterion", get_args(Criterion))
def test_half_of_the_work_goes_and_the_budget_holds(
    context: TrainContext, criterion: Criterion
) -> None:
    """By each criterion a smaller module is found that still tells the classes."""
    step = PruneChannels(criterion=criterion, **QUICK)  # type: ignore[arg-type]
    pruned = step.prune(context.training.module, context)
    assert costs(pruned.module, context) <= 0.55 * costs(
        context.training.module, context
    )
    assert [one.is_kept for one in pruned.rounds] == [True] * len(pruned.rounds)
    assert pruned.rounds[-1].score == context.evaluate(pruned.module).value


def test_channels_stay_in_blocks(context: TrainContext) -> None:
    """Every layer keeps a multiple of the block."""
    module = PruneChannels(ratio=0.6, rounds=1, multiple=8, epochs=0).apply(
        context.training.module, TrainContext(training=context.training, budget=ANY)
    )
    made = [one.made for one in layer_costs(module, context.training.example).values()]
    assert [one % 8 for one in made[:-1]] == [0] * len(made[:-1])


def test_the_same_seed_gives_the_same_module(context: TrainContext) -> None:
    """Two runs of one step give the same weights."""
    step = PruneChannels(**QUICK)  # type: ignore[arg-type]
    first, second = (
        step.apply(context.training.module, context).state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_broken_budget_steps_back(
    context: TrainContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a round breaks the budget, half a step is tried from the one before."""
    seen: list[float] = []

    def told(what: str, gone: float, *_rest: object) -> Round:
        seen.append(gone)
        return Round(what=what, gone=gone, score=0, lost=0, is_kept=gone < 0.4)

    monkeypatch.setattr(channels, "judge", told)
    step = PruneChannels(ratio=0.6, rounds=2, multiple=1, epochs=0)
    pruned = step.prune(context.training.module, context)
    kept = [one for one in pruned.rounds if one.is_kept]
    assert kept
    assert not pruned.rounds[-1].is_kept or len(pruned.rounds) > 2
    left = 1 - costs(pruned.module, context) / costs(context.training.module, context)
    assert left == pytest.approx(kept[-1].gone)
    # The step after the one that broke was half as large.
    assert seen[2] < seen[1]


def test_what_a_broken_budget_leaves_is_trained_as_the_last_one(
    context: TrainContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only for the epochs of a round in between."""

    def told(what: str, gone: float, *_rest: object) -> Round:
        return Round(what=what, gone=gone, score=0, lost=0, is_kept=gone < 0.4)

    monkeypatch.setattr(channels, "judge", told)
    epochs: list[int] = []

    def train(self: Recovery, module: nn.Module, count: int) -> None:  # noqa: ARG001
        epochs.append(count)

    monkeypatch.setattr(Recovery, "train", train)
    step = PruneChannels(ratio=0.6, rounds=2, multiple=1, epochs=1, last_epochs=5)
    pruned = step.prune(context.training.module, context)
    assert epochs[:2] == [1, 6]
    assert epochs[-1] == 5
    assert pruned.rounds[-1].what.endswith("trained longer")
    assert pruned.rounds[-1].gone < 0.4


def test_a_budget_that_cannot_be_met_says_what_came_closest(
    strict: TrainContext,
) -> None:
    """Where the first channels break it already, how far it was is told."""
    step = PruneChannels(epochs=0, **QUICK)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"metric falls by .*, allowed -1"):
        step.apply(strict.training.module, strict)


def test_a_sensitive_layer_keeps_its_channels(
    context: TrainContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that cannot lose a quarter alone loses nothing."""
    monkeypatch.setattr(
        channels,
        "largest_parts",
        lambda _module, groups, *_rest, **_more: {
            one.root: 0.0 if one.root == "depth" else 0.75 for one in groups
        },
    )
    step = PruneChannels(sensitivity=0.01, epochs=0, **QUICK)  # type: ignore[arg-type]
    open_context = TrainContext(training=context.training, budget=ANY)
    found = layer_costs(
        step.apply(context.training.module, open_context), context.training.example
    )
    assert found["stem"].made == 16
    assert found["point"].made < 16


def test_sensitivity_is_measured(context: TrainContext) -> None:
    """With limits from the net itself the step ends with a smaller module."""
    step = PruneChannels(sensitivity=0.5, **QUICK)  # type: ignore[arg-type]
    module = step.apply(context.training.module, context)
    assert costs(module, context) < costs(context.training.module, context)


def test_the_sparsity_phase_shrinks_factors(context: TrainContext) -> None:
    """After it, batch norms' factors are nearer 0, some of them 0."""
    before = sum_of_factors(context.training.module)
    step = PruneChannels(
        sparsity_epochs=1, sparsity=0.5, ratio=0.2, rounds=1, epochs=0, multiple=1
    )
    open_context = TrainContext(training=context.training, budget=ANY)
    module = step.apply(context.training.module, open_context)
    assert sum_of_factors(module) < 0.8 * before


def sum_of_factors(module: nn.Module) -> float:
    """The mean size of batch norms' factors, added up over layers."""
    return sum(
        float(layer.weight.detach().abs().mean())
        for layer in module.modules()
        if isinstance(layer, nn.BatchNorm2d)
    )


def test_a_module_without_channels_inside_is_refused(context: TrainContext) -> None:
    """A module whose channels are all answers has none that could go."""
    lone = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(ModelError, match="no channel"):
        PruneChannels().apply(lone, context)


def test_batch_norms_must_be_there_to_judge(context: TrainContext) -> None:
    """The criterion of factors needs factors."""
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
    with pytest.raises(ModelError, match="no batch norms"):
        PruneChannels(criterion="bn").apply(bare, context)


@pytest.mark.parametrize(
    "params",
    [
        {"criterion": "l3"},
        {"schedule": "soon"},
        {"ratio": 1.0},
        {"rounds": 0},
        {"most": 0.0},
        {"teach": 1.5},
        {"learning_rate": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused(params: dict[str, Any]) -> None:
    """Each parameter says what it takes."""
    with pytest.raises(UsageError, match=next(iter(params))):
        PruneChannels(**params)


def test_the_step_is_registered() -> None:
    """A recipe finds the step by its name."""
    assert plugins.find(plugins.TRAIN_STEPS, "prune") is PruneChannels


def test_a_budget_is_a_goal(context: TrainContext, runtime: Runtime) -> None:
    """Channels go until the exported module is small enough, and no further."""
    small = replace(context, budget=Budget(size_bytes=6000), runtime=runtime)
    step = PruneChannels(goal="budget", ratio=0.3, rounds=1, multiple=1, epochs=0)
    found = step.prune(context.training.module, small)
    assert broken_limits(context.training.module, small)
    assert not broken_limits(found.module, small)
    assert found.rounds
    assert step.prune(found.module, small).rounds == ()


def test_a_goal_that_is_not_reached_says_what_came_closest(
    context: TrainContext, runtime: Runtime
) -> None:
    """How much was gone by then, and the limit that is still broken."""
    small = replace(context, budget=Budget(size_bytes=100), runtime=runtime)
    step = PruneChannels(goal="budget", ratio=0.5, rounds=1, multiple=1, epochs=0)
    with pytest.raises(ModelError, match="what came closest is size_bytes"):
        step.prune(context.training.module, small)


def test_a_goal_needs_a_limit_and_what_measures(
    context: TrainContext, runtime: Runtime
) -> None:
    """Accuracy alone is no goal, and latency needs a runtime."""
    step = PruneChannels(goal="budget", epochs=0)
    with pytest.raises(UsageError, match="no latency"):
        step.prune(context.training.module, replace(context, runtime=runtime))
    with pytest.raises(UsageError, match="no runtime"):
        step.prune(
            context.training.module, replace(context, budget=Budget(latency_ms=1.0))
        )
