"""Train what pruning left, with what the whole module answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from skerry.compress.train.distil.losses import matched, softened
from skerry.compress.train.distil.response import as_logits, is_probability
from skerry.compress.train.fit import FitLog, Loss, fit
from skerry.compress.train.training import TrainContext, Training
from skerry.runtimes.torch import Tensor, nn, output_tensors, torch

TEMPERATURE = 4.0
"""At which classes are compared."""


def taught_by(original: nn.Module, training: Training, weight: float) -> Loss:
    """The loss of a module that learns from labels and from its original.

    G. Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), for outputs
    [n, C], C above 1; the relative squared error for others.

    Args:
        original: What the module was; it is put into eval mode.
        training: Its loss is that of the labels.
        weight: The original's part, 0 to 1.
    """
    original.eval()

    def loss(
        module: nn.Module,  # noqa: ARG001 (what `fit` gives)
        inputs: tuple[Tensor, ...],
        outputs: Any,
        labels: Any,
    ) -> Tensor:
        own = training.loss(outputs, labels)
        with torch.no_grad():
            told = output_tensors(original(*inputs))
        pairs = zip(output_tensors(outputs), told, strict=True)
        far = torch.stack([_far(*pair) for pair in pairs]).mean()
        return (1 - weight) * own + weight * far

    return loss


def recover(
    module: nn.Module,
    original: nn.Module,
    context: TrainContext,
    *,
    epochs: int,
    learning_rate: float,
    weight: float,
    after_step: Callable[[nn.Module], None] | None = None,
    keep_best: bool = True,
) -> FitLog:
    """Train a pruned module in place.

    Args:
        module: What is trained.
        original: What it learns from.
        context: The training, its seed and who is told.
        epochs: How often to go through the batches.
        learning_rate: At the beginning; 0 takes the training's.
        weight: The original's part in the loss; 0 leaves it out.
        after_step: Called with the module after each step of the optimizer.
        keep_best: Whether the epoch that scores best is kept, or the last one.

    Raises:
        ModelError: The training diverges; the module has its best weights.
    """
    training = context.training
    return fit(
        module,
        training,
        epochs=epochs,
        learning_rate=learning_rate or None,
        loss=taught_by(copy.deepcopy(original), training, weight) if weight else None,
        after_step=after_step,
        seed=context.seed,
        progress=context.progress,
        keep_best=keep_best,
    )


def _far(own: Tensor, told: Tensor) -> Tensor:
    if own.ndim == 2 and own.shape[1] > 1:
        flag = is_probability(told)
        rows = (as_logits(one, is_probability=flag) for one in (own, told))
        return softened(*rows, temperature=TEMPERATURE).mean()
    return matched(own, told).mean()
