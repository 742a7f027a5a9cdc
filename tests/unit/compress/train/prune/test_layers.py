from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from skerry.compress.train.prune.blocks import Fading, fade, leave_out, removable
from skerry.compress.train.prune.cost import layer_costs, total
from skerry.compress.train.prune.layers import PruneLayers
from skerry.compress.train.training import TrainContext, Training
from skerry.core import plugins
from skerry.core.budget import Budget
from skerry.core.errors import ModelError, UsageError
from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.runtimes.torch import nn, torch
from tests.training import ToyNet


def test_blocks_give_the_shape_that_they_take(trained: Training) -> None:
    """Whole blocks and layers inside are found, with the batch norms behind them."""
    costs = layer_costs(trained.module, trained.example)
    blocks = removable(trained.module, trained.example, costs)
    assert {one.layers for one in blocks} == {
        ("point", "point_norm"),
        ("block.0", "block.1"),
        ("block",),
    }
    cost = next(one.cost for one in blocks if one.layers == ("block",))
    assert cost == costs["block.0"].each * 16 * 16


def test_a_block_left_out_gives_what_it_takes(trained: Training) -> None:
    """What was a block is nothing any more, and the rest runs."""
    net = ToyNet(16)
    costs = layer_costs(net, trained.example)
    block = next(
        one
        for one in removable(net, trained.example, costs)
        if one.layers == ("point", "point_norm")
    )
    leave_out(net, block)
    assert isinstance(net.point, nn.Identity)
    assert isinstance(net.point_norm, nn.Identity)
    assert net(*trained.example).shape == (4, 2)


def test_a_block_fades(trained: Training) -> None:
    """Whole, the module computes what it did; gone, what it does without the block."""
    net, without = (copy.deepcopy(trained.module).eval() for _ in range(2))
    costs = layer_costs(net, trained.example)
    block = removable(net, trained.example, costs)[0]
    fading = fade(net, block).eval()
    torch.testing.assert_close(net(*trained.example), trained.module(*trained.example))
    leave_out(without, block)
    fading.left = 0.0
    torch.testing.assert_close(net(*trained.example), without(*trained.example))
    leave_out(net, block)
    assert not any(isinstance(one, Fading) for one in net.modules())


def test_the_block_that_saves_most_for_least_goes(context: TrainContext) -> None:
    """One block less, as much work less, and the budget holds."""
    net = context.training.module
    pruned = PruneLayers(epochs=2).prune(net, context)
    assert len(pruned.rounds) == 1
    example = context.training.example
    before, after = (total(layer_costs(one, example)) for one in (net, pruned.module))
    assert pruned.rounds[0].gone == pytest.approx(1 - after / before)
    assert pruned.rounds[0].gone > 0.5


def test_a_block_that_is_missed_stays(
    context: TrainContext, strict: TrainContext
) -> None:
    """Where each block breaks the budget, what came closest is told."""
    with pytest.raises(ModelError, match="breaks the budget at once"):
        PruneLayers(epochs=0, probe=0).apply(strict.training.module, strict)
    open_context = replace(context, budget=Budget())
    pruned = PruneLayers(most=9, epochs=0, probe=0).prune(
        context.training.module, open_context
    )
    assert len(pruned.rounds) == 2


def test_a_module_whose_blocks_all_change_shapes_is_refused(
    context: TrainContext,
) -> None:
    """A net in which no layer can be left out says so."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ModelError, match="no block"):
        PruneLayers().apply(net, context)


def test_a_latency_is_a_goal(context: TrainContext, runtime: Runtime) -> None:
    """Blocks go until it is reached, one by one; what is fast enough keeps them all."""
    net, budget = context.training.module, Budget(latency_ms=5.0)
    times_ms = iter((9.0, 7.0, 4.0))

    def latency_ms(model: Model, inputs: Tensors) -> float:
        assert runtime.load(model, LoadOptions()).run(inputs)
        return next(times_ms)

    asked = replace(context, budget=budget, runtime=runtime, latency_ms=latency_ms)
    step = PruneLayers(most=3, goal="budget", epochs=0, probe=0)
    assert len(step.prune(net, asked).rounds) == 2
    assert not list(times_ms)
    fast = replace(asked, latency_ms=lambda *_: 1.0)
    assert step.prune(net, fast).rounds == ()
    with pytest.raises(ModelError, match=r"does not reach the budget.*latency_ms"):
        step.prune(net, replace(asked, latency_ms=lambda *_: 9.0))


@pytest.mark.parametrize(
    "params", [{"most": 0}, {"tries": 0}, {"epochs": -1}, {"teach": 2.0}, {"goal": "x"}]
)
def test_numbers_out_of_range_are_refused(params: dict[str, Any]) -> None:
    """Each parameter says what it takes."""
    with pytest.raises(UsageError, match=next(iter(params))):
        PruneLayers(**params)


def test_the_step_is_registered() -> None:
    """A recipe finds the step by its name."""
    assert plugins.find(plugins.TRAIN_STEPS, "prune_layers") is PruneLayers
