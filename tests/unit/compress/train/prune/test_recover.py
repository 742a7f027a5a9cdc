from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from skerry.compress.train.prune.recover import Recovery, taught_by
from skerry.compress.train.training import TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.errors import ModelError
from skerry.runtimes.torch import Tensor, nn, torch
from tests.training import ToyNet


def test_the_original_teaches_without_labels(trained: Training) -> None:
    """A new module learns what the original answers, from its answers alone."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        student = ToyNet(16)
    unlabelled = replace(trained, loss=lambda outputs, _labels: outputs.sum() * 0)
    context = TrainContext(training=unlabelled, budget=Budget())
    before = trained.score(student).value
    Recovery(
        original=trained.module, context=context, learning_rate=1e-2, weight=1.0
    ).train(student, 4)
    assert trained.score(student).value > max(before, 0.8)


@pytest.mark.parametrize("head", [nn.Identity(), nn.Softmax(dim=1)])
def test_who_answers_as_the_original_has_nothing_to_learn(
    trained: Training, head: nn.Module
) -> None:
    """Logits and probabilities are compared as what they are: 0 where equal."""
    net = nn.Sequential(copy.deepcopy(trained.module), head).eval()
    loss = taught_by(net, trained, 1.0)
    inputs = trained.example
    labels = torch.zeros(len(inputs[0]), dtype=torch.long)
    far = loss(net, inputs, net(*inputs), labels)
    assert float(far.detach()) == pytest.approx(0, abs=1e-5)
    other = nn.Sequential(ToyNet(16), head).eval()
    assert float(loss(other, inputs, other(*inputs), labels).detach()) > 1e-3


def test_answers_that_are_no_classes_are_compared_by_their_squares(
    trained: Training,
) -> None:
    """A module of maps is as far as the relative squared error says."""
    net = nn.Conv2d(1, 2, 3)
    squares = replace(trained, module=net, loss=lambda outputs, _: outputs.sum() * 0)
    loss = taught_by(net, squares, 1.0)
    told = net(*trained.example).detach()
    assert float(loss(net, trained.example, told * 2, None)) == pytest.approx(1.0)


def test_a_loop_that_diverges_keeps_the_original(trained: Training) -> None:
    """Where the loss is no number, the error says so and the original is whole."""
    before = copy.deepcopy(trained.module.state_dict())

    def broken(outputs: Tensor, _labels: Tensor) -> Tensor:
        return outputs.sum() * float("nan")

    context = TrainContext(training=replace(trained, loss=broken), budget=Budget())
    recovery = Recovery(
        original=trained.module, context=context, learning_rate=1e-2, weight=0.5
    )
    with pytest.raises(ModelError, match="diverged"):
        recovery.train(copy.deepcopy(trained.module), 1)
    after = trained.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
