"""Train a module for some epochs, and keep the best of them."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import length_hint
from typing import Any

from skerry.compress.train.training import Training
from skerry.core.errors import ModelError, UsageError
from skerry.runtimes.torch import Optimizer, Tensor, nn, torch
from skerry.tasks.evaluate import Progress
from skerry.tasks.metrics import find_metric

log = logging.getLogger(__name__)

MOST_RESTARTS = 3
"""So often a loop that diverges is begun again from the best weights."""
_SLOWER = 0.1
"""What the learning rate is multiplied by then."""

Loss = Callable[[nn.Module, tuple[Tensor, ...], Any, Any], Tensor]
"""From the module, its inputs, its outputs and the labels to a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLog:
    """One epoch that was trained through.

    Attributes:
        epoch: Its number, from 0.
        loss: The mean loss of its batches.
        score: The metric on the selection samples; None where it was not asked for.
    """

    epoch: int
    loss: float
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLog:
    """What training did.

    Attributes:
        epochs: Those that were trained through, in order.
        best: The epoch whose weights were kept; None where those from before were.
        restarts: How often the loop diverged.
    """

    epochs: tuple[EpochLog, ...]
    best: int | None
    restarts: int


class _DivergedError(Exception):
    """The loss is no number any more."""


def fit(
    module: nn.Module,
    training: Training,
    *,
    epochs: int,
    learning_rate: float | None = None,
    loss: Loss | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    keep_best: bool = True,
) -> FitLog:
    """Train a module in place: a cosine schedule, from the learning rate down to 0.

    Where the loss becomes NaN or infinite, training goes on from the best weights so
    far at a tenth of the learning rate, at most three times. An interrupted run leaves
    the best weights in the module. (I. Loshchilov & F. Hutter, "SGDR: Stochastic
    Gradient Descent with Warm Restarts", ICLR 2017, equation 5, without restarts.)

    Args:
        module: What is trained; it is in eval mode afterwards.
        training: Batches, loss and samples; its own module is not looked at.
        epochs: How often to go through the batches; 0 changes nothing.
        learning_rate: At the beginning; that of `training` by default.
        loss: Replaces that of `training`, which knows outputs and labels only.
        after_step: Called with the module after each step of the optimizer.
        seed: Makes dropout and the like repeatable; torch's own generator is left as
            it was.
        progress: Told of each batch.
        keep_best: Whether the epoch that scores best on the selection samples is kept,
            the weights from before among them; otherwise the last one is.

    Raises:
        UsageError: The epochs are fewer than 0, the learning rate is not above 0, or
            there are no batches.
        ModelError: It diverged a fourth time; the module has its best weights.
    """
    rate = training.learning_rate if learning_rate is None else learning_rate
    if epochs < 0 or not 0 < rate < math.inf:
        raise UsageError(
            f"cannot train {epochs} epochs at a learning rate of {rate:g}",
            hint="Give 0 or more epochs, and a learning rate above 0, such as 0.001.",
        )
    if not epochs:
        return FitLog(epochs=(), best=None, restarts=0)
    run = _Run(module, training, loss or _plain(training), after_step, progress)
    try:
        with _seeded(seed):
            run.train(epochs, rate, keep_best=keep_best)
    finally:
        run.restore()
    return FitLog(epochs=tuple(run.epochs), best=run.best, restarts=run.restarts)


class _Run:
    """One training, and the best weights that it has seen."""

    def __init__(
        self,
        module: nn.Module,
        training: Training,
        loss: Loss,
        after_step: Callable[[nn.Module], None] | None,
        progress: Progress | None,
    ) -> None:
        self._module = module
        self._training = training
        self._loss = loss
        self._after_step = after_step
        self._progress = progress
        self._state = copy.deepcopy(module.state_dict())
        self._best_score: float | None = None
        self._count = 0
        self.best: int | None = None
        self.epochs: list[EpochLog] = []
        self.restarts = 0

    def restore(self) -> None:
        """Put the best weights into the module."""
        self._module.load_state_dict(self._state)
        self._module.eval()

    def train(self, epochs: int, rate: float, *, keep_best: bool) -> None:
        """Train through all epochs, from the best weights again where it diverges."""
        optimizer, epoch = self._optimizer(rate), 0
        self._best_score = self._score() if keep_best else None
        while epoch < epochs:
            try:
                mean = self._epoch(epoch, epochs, optimizer)
            except _DivergedError:
                rate *= _SLOWER
                self._restart(epoch, rate)
                optimizer = self._optimizer(rate)
                continue
            score = self._score() if keep_best else None
            self.epochs.append(EpochLog(epoch=epoch, loss=mean, score=score))
            if self._is_best(score):
                self._best_score, self.best = score, epoch
                self._state = copy.deepcopy(self._module.state_dict())
            epoch += 1

    def _optimizer(self, rate: float) -> Optimizer:
        wanted = [one for one in self._module.parameters() if one.requires_grad]
        if not wanted:
            raise UsageError(
                "the module has no parameters to train",
                hint="Let some parameters require gradients.",
            )
        optimizer = self._training.optimizer(wanted, rate)
        for group in optimizer.param_groups:
            # Groups that the user's optimizer makes keep the ratios of their rates.
            group["initial_lr"] = group["lr"]
        return optimizer

    def _epoch(self, epoch: int, epochs: int, optimizer: Optimizer) -> float:
        """Train through the batches of one epoch; returns their mean loss."""
        batches = self._training.batches(epoch)
        # What is generated has no length: it is gone through once to count it.
        count = length_hint(batches) or self._count
        count = count or sum(1 for _ in self._training.batches(epoch))
        self._module.train()
        total, done = 0.0, 0
        for inputs, labels in batches:
            share = min((epoch + done / count) / epochs, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * (1 + math.cos(math.pi * share)) / 2
            total += self._step(inputs, labels, optimizer)
            done += 1
            if self._progress is not None:
                self._progress("train", epoch * count + done, epochs * count)
        if not done:
            raise UsageError(
                f"epoch {epoch} has no batches", hint="Give at least one an epoch."
            )
        if not _is_finite(self._module):
            raise _DivergedError
        self._count = done
        return total / done

    def _step(
        self, inputs: tuple[Tensor, ...], labels: Any, optimizer: Optimizer
    ) -> float:
        optimizer.zero_grad()
        loss = self._loss(self._module, inputs, self._module(*inputs), labels)
        if loss.numel() != 1:
            raise UsageError(
                f"the loss has shape {tuple(loss.shape)}, expected one number",
                hint="Take the mean over the batch.",
            )
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _DivergedError
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if self._after_step is not None:
            self._after_step(self._module)
        return value

    def _restart(self, epoch: int, rate: float) -> None:
        """Go back to the best weights.

        Raises:
            ModelError: That was done too often.
        """
        self.restore()
        if self.restarts == MOST_RESTARTS:
            raise ModelError(
                f"training diverged {MOST_RESTARTS + 1} times, the last time in epoch "
                f"{epoch}: the loss or a weight is no finite number",
                hint="Look for NaN in the samples, and begin at a lower learning rate.",
            )
        self.restarts += 1
        log.warning("training.diverged", extra={"epoch": epoch, "rate": rate})

    def _score(self) -> float:
        return self._training.score(self._module, self._progress).value

    def _is_best(self, score: float | None) -> bool:
        if score is None or self._best_score is None:
            return True
        metric = find_metric(self._training.task.metric)
        # Of two that score alike the one that was trained longer is kept.
        if metric.higher_is_better:
            return score >= self._best_score
        return score <= self._best_score


def _plain(training: Training) -> Loss:
    return lambda _module, _inputs, outputs, labels: training.loss(outputs, labels)


def _is_finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(one).all()) for one in module.parameters())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's generator, and put it back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
