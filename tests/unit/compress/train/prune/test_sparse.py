from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress.train.prune.masks import (
    apply_masks,
    part_of_zeros,
    patterned,
    smallest,
    weights_of,
)
from skerry.compress.train.prune.sparse import Sparsify
from skerry.compress.train.training import TrainContext, Training
from skerry.core import plugins
from skerry.core.budget import Budget
from skerry.core.errors import ModelError, UsageError
from skerry.runtimes.torch import nn
from tests.training import ToyNet


@settings(max_examples=10, deadline=None)
@given(st.floats(0.0, 1.0))
def test_so_many_weights_become_zero(sparsity: float) -> None:
    """The part of zeros is what was asked for; no zero is larger than what stays."""
    net = ToyNet()
    masks = smallest(net, sparsity)
    apply_masks(net, masks)
    assert part_of_zeros(net) == pytest.approx(sparsity, abs=0.01)
    assert set(masks) == {"stem", "point", "block.0", "classifier"}


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([(1, 2), (2, 4), (1, 4), (4, 8)]))
def test_a_pattern_holds_in_each_block(pattern: tuple[int, int]) -> None:
    """Of each M weights that an output reads in a row, the N largest stay."""
    kept, among = pattern
    net = ToyNet()
    weights = {name: one.detach().clone() for name, one in weights_of(net).items()}
    apply_masks(net, patterned(net, kept, among))
    for name, weight in weights_of(net).items():
        rows, old = weight.flatten(1), weights[name].flatten(1)
        whole = rows.shape[1] // among * among
        blocks = rows[:, :whole].reshape(-1, among)
        assert ((blocks != 0).sum(1) == kept).all()
        before = old[:, :whole].reshape(-1, among).abs()
        assert (blocks.abs().sum(1) == before.topk(kept, 1).values.sum(1)).all() or (
            blocks.abs().sum(1) - before.topk(kept, 1).values.sum(1)
        ).abs().max() < 1e-5
        assert (rows[:, whole:] == old[:, whole:]).all()


@pytest.mark.parametrize("schedule", ["gradual", "one-shot"])
def test_masked_weights_stay_zero_while_the_rest_is_trained(
    context: TrainContext, schedule: str
) -> None:
    """After training as many weights are 0 as were asked for, and the budget holds."""
    step = Sparsify(sparsity=0.6, epochs=2, schedule=schedule)  # type: ignore[arg-type]
    pruned = step.prune(context.training.module, context)
    assert part_of_zeros(pruned.module) == pytest.approx(0.6, abs=0.01)
    assert pruned.rounds[0].is_kept
    assert "60% of the weights" in pruned.rounds[0].what


def test_a_pattern_grows_too(context: TrainContext) -> None:
    """2:4 leaves half of the weights, but for what is left over at ends of rows."""
    pruned = Sparsify(pattern="2:4", epochs=2).prune(context.training.module, context)
    assert part_of_zeros(pruned.module) == pytest.approx(0.5, abs=0.02)


def test_a_broken_budget_is_refused(strict: TrainContext) -> None:
    """What came closest is told."""
    with pytest.raises(ModelError, match="breaks the budget"):
        Sparsify(epochs=0).apply(strict.training.module, strict)


def test_a_module_without_weights_is_refused(trained: Training) -> None:
    """A module that has nothing to set to 0 says so."""
    lone = nn.Sequential(nn.MaxPool2d((8, 4)), nn.Flatten())
    context = TrainContext(training=trained, budget=Budget())
    with pytest.raises(ModelError, match="no weights"):
        Sparsify().apply(lone, context)


@pytest.mark.parametrize(
    "params",
    [
        {"pattern": "4:2"},
        {"pattern": "half"},
        {"schedule": "soon"},
        {"sparsity": 1.0},
        {"epochs": -1},
    ],
)
def test_numbers_out_of_range_are_refused(params: dict[str, Any]) -> None:
    """Each parameter says what it takes."""
    with pytest.raises(UsageError, match=next(iter(params))):
        Sparsify(**params)


def test_the_step_is_registered() -> None:
    """A recipe finds the step by its name."""
    assert plugins.find(plugins.TRAIN_STEPS, "sparsify") is Sparsify
