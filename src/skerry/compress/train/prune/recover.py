"""Train what pruning left, with what the whole module answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recovery:
    """How a pruned module is trained.

    Attributes:
        original: What it learns from; it is put into eval mode.
        context: The training, its seed and who is told.
        learning_rate: At the beginning; 0 takes the training's.
        weight: The original's part in the loss; 0 leaves it out.
    """

    original: nn.Module
    context: TrainContext
    learning_rate: float
    weight: float

    def train(
        self,
        module: nn.Module,
        epochs: int,
        *,
        after_step: Callable[[nn.Module], None] | None = None,
        keep_best: bool = True,
    ) -> FitLog:
        """Train a pruned module in place.

        Args:
            module: What is trained.
            epochs: How often to go through the batches.
            after_step: Called with the module after each step of the optimizer.
            keep_best: Whether the epoch that scores best is kept, or the last one.

        Raises:
            ModelError: The training diverges; the module has its best weights.
        """
        training, taught = self.context.training, None
        if self.weight:
            taught = taught_by(self.original, training, self.weight)
        return fit(
            module,
            training,
            epochs=epochs,
            learning_rate=self.learning_rate or None,
            loss=taught,
            after_step=after_step,
            seed=self.context.seed,
            progress=self.context.progress,
            keep_best=keep_best,
        )


def _far(own: Tensor, told: Tensor) -> Tensor:
    if own.ndim == 2 and own.shape[1] > 1:
        flag = is_probability(told)
        rows = (as_logits(one, is_probability=flag) for one in (own, told))
        return softened(*rows, temperature=TEMPERATURE).mean()
    return matched(own, told).mean()
