"""Training: the best weights are kept, whatever happens."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from skerry.compress.train.fit import MOST_RESTARTS, fit
from skerry.compress.train.training import Batch, Training
from skerry.core.errors import ModelError, UsageError
from skerry.runtimes.torch import Tensor, functional, nn, torch
from tests.training import toy_training


def state(module: nn.Module) -> list[list[float]]:
    """All numbers of a module, to compare."""
    return [one.flatten().tolist() for one in module.state_dict().values()]


def test_training_learns_and_keeps_what_scores_best() -> None:
    """Three epochs bring a toy net to 90 %; the log says how it went."""
    training = toy_training()
    module = copy.deepcopy(training.module)
    told: list[tuple[str, int, int]] = []
    log = fit(module, training, epochs=3, progress=lambda *step: told.append(step))
    scores = [epoch.score for epoch in log.epochs]
    assert training.score(module).value == max(filter(None, scores)) > 0.9
    assert log.best is not None
    assert scores[log.best] == max(filter(None, scores))
    assert log.epochs[2].loss < log.epochs[0].loss
    assert ("train", 48, 48) in told
    assert not module.training


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_alone() -> None:
    """Training is repeatable, and does not disturb other users of chance."""
    training = toy_training()
    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2))
    found = []
    before = torch.get_rng_state()
    for seed in (1, 1, 2):
        module = copy.deepcopy(dropping)
        fit(module, training, epochs=1, seed=seed, keep_best=False)
        found.append(state(module))
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_no_epochs_change_nothing() -> None:
    """Zero is a number of epochs too."""
    training = toy_training()
    module = copy.deepcopy(training.module)
    log = fit(module, training, epochs=0)
    assert (log.epochs, log.best, state(module)) == ((), None, state(training.module))


def test_weights_that_training_makes_worse_are_put_back() -> None:
    """Where no epoch scores as well as before, the module is what it was."""
    training = toy_training()
    module = copy.deepcopy(training.module)
    fit(module, training, epochs=2)
    before = state(module)

    def backwards(_module: Any, _inputs: Any, outputs: Any, labels: Any) -> Tensor:
        return -functional.cross_entropy(outputs, labels)

    log = fit(module, training, epochs=1, loss=backwards)
    assert log.best is None
    assert state(module) == before


def test_the_last_epoch_is_kept_where_that_is_asked_for() -> None:
    """A phase that must lose accuracy for a while is not thrown away."""
    training = toy_training()
    module = copy.deepcopy(training.module)
    log = fit(module, training, epochs=2, keep_best=False)
    assert log.best == 1
    assert [epoch.score for epoch in log.epochs] == [None, None]
    assert state(module) != state(training.module)


def test_what_is_given_replaces_the_loss_and_follows_each_step() -> None:
    """Distillation sees module and inputs; masks are put back after each step."""
    training = toy_training(n=64)
    seen = []

    def zero(module: nn.Module) -> None:
        module.get_parameter("classifier.bias").detach().zero_()

    def loss(module: nn.Module, inputs: Any, outputs: Any, labels: Any) -> Tensor:
        seen.append((module is own, inputs[0].shape, outputs.shape, labels.shape))
        return functional.cross_entropy(outputs, labels)

    own = copy.deepcopy(training.module)
    fit(own, training, epochs=1, loss=loss, after_step=zero, keep_best=False)
    assert seen[0] == (True, (32, 1, 8, 8), (32, 2), (32,))
    assert own.get_parameter("classifier.bias").tolist() == [0.0, 0.0]


def test_the_learning_rate_falls_along_a_cosine() -> None:
    """From the rate asked for down to almost 0; groups keep their ratios."""
    rates: list[list[float]] = []

    class Noting(torch.optim.SGD):
        def step(self, *_args: object) -> None:  # type: ignore[override]
            rates.append([group["lr"] for group in self.param_groups])

    def two_groups(parameters: Any, rate: float) -> torch.optim.Optimizer:
        first, *rest = parameters
        return Noting([{"params": [first]}, {"params": rest, "lr": rate / 10}], lr=rate)

    training = toy_training(n=64, optimizer=two_groups)
    fit(copy.deepcopy(training.module), training, epochs=2, learning_rate=0.4)
    expected = [0.2 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert [rate for rate, _ in rates] == pytest.approx(expected)
    assert [rate for _, rate in rates] == pytest.approx([one / 10 for one in expected])


def generated(training: Training) -> Training:
    """The same batches, of which nobody knows how many there are."""

    def batches(epoch: int) -> Iterator[Batch]:
        yield from training.batches(epoch)

    return replace(training, batches=batches)


def test_batches_may_be_generated() -> None:
    """An epoch whose length nobody knows is trained as one whose length is known."""
    found = []
    for training in (toy_training(n=64), generated(toy_training(n=64))):
        module = copy.deepcopy(training.module)
        fit(module, training, epochs=1)
        found.append(state(module))
    assert found[0] == found[1]


def failing(times: int, answer: Callable[[Tensor], Tensor]) -> Any:
    """A loss that is no number in the second batch, the first few times."""
    calls = iter(range(10**6))
    bad = set(range(1, 1 + 2 * times, 2))

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        value = functional.cross_entropy(outputs, labels)
        return answer(value) if next(calls) in bad else value

    return loss


def test_a_loop_that_diverges_goes_on_slower_from_the_best_weights() -> None:
    """Twice infinity costs two restarts, and the result is finite."""
    training = toy_training(n=64, loss=failing(2, lambda value: value * math.inf))
    module = copy.deepcopy(training.module)
    log = fit(module, training, epochs=1)
    assert log.restarts == 2
    assert all(math.isfinite(one) for tensor in state(module) for one in tensor)


def test_weights_that_become_no_number_in_the_last_step_are_seen() -> None:
    """A loss that is finite may still have gradients that are not."""

    def poison(module: nn.Module) -> None:
        module.get_parameter("classifier.bias").detach().fill_(math.nan)

    training = toy_training(n=32)
    with pytest.raises(ModelError, match="diverged"):
        fit(copy.deepcopy(training.module), training, epochs=1, after_step=poison)


def test_a_loop_that_always_diverges_is_given_up_with_the_best_weights() -> None:
    """After the fourth time an error says so; the module is as it was at its best."""
    training = toy_training(n=64, loss=failing(99, lambda value: value * math.nan))
    module = copy.deepcopy(training.module)
    with pytest.raises(ModelError, match=f"diverged {MOST_RESTARTS + 1} times"):
        fit(module, training, epochs=1)
    assert state(module) == state(training.module)


def test_an_interrupted_run_leaves_the_best_weights() -> None:
    """Ctrl-C in the second epoch: the first one's weights are there, and it goes on."""
    training = toy_training()
    alone, module = (copy.deepcopy(training.module) for _ in range(2))

    def interrupt(what: str, done: int, _total: int) -> None:
        if (what, done) == ("train", 20):
            raise KeyboardInterrupt

    fit(alone, training, epochs=2, progress=None, keep_best=False)
    with pytest.raises(KeyboardInterrupt):
        fit(module, training, epochs=2, progress=interrupt, keep_best=False)
    first = copy.deepcopy(training.module)
    stop = replace(training, batches=lambda e: training.batches(e) if e < 1 else [])
    with pytest.raises(UsageError):
        fit(first, stop, epochs=2, keep_best=False)
    assert state(module) == state(first) != state(alone)


@pytest.mark.parametrize(
    ("changes", "options", "what"),
    [
        ({}, {"epochs": -1}, "-1 epochs"),
        ({}, {"epochs": 1, "learning_rate": 0.0}, "learning rate of 0"),
        ({}, {"epochs": 1, "learning_rate": math.nan}, "learning rate of nan"),
        ({"batches": lambda _epoch: []}, {"epochs": 1}, "epoch 0 has no batches"),
        ({"loss": lambda outputs, _labels: outputs}, {"epochs": 1}, "expected one num"),
    ],
)
def test_training_that_makes_no_sense_is_refused(
    changes: dict[str, Any], options: dict[str, Any], what: str
) -> None:
    """What is wrong is said before, or at the first batch."""
    training = toy_training(n=32, **changes)
    with pytest.raises(UsageError, match=what):
        fit(copy.deepcopy(training.module), training, **options)


def test_a_module_without_parameters_is_refused() -> None:
    """There is nothing to train in it."""
    training = toy_training(n=32)
    frozen = copy.deepcopy(training.module).requires_grad_(requires_grad=False)
    with pytest.raises(UsageError, match="no parameters to train"):
        fit(frozen, training, epochs=1)
