"""Samples mixed in pairs: a teacher can be asked about more than there is.

After H. Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018), equation 2,
and, for distillation, L. Beyer et al., "Knowledge distillation: A good teacher is
patient and consistent" (2022): student and teacher are shown the same mixed sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import numpy as np

from skerry.compress.train.distil.unlabelled import Batches
from skerry.compress.train.training import Batch
from skerry.core.errors import DataError
from skerry.runtimes.torch import Tensor, torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedLabels:
    """The labels of a mixed batch: those of the samples, and which were mixed in.

    Attributes:
        labels: Of the batch as it was.
        order: Which sample was mixed into each, int64 [n].
        share: How much of each is the sample itself, 0–1.
    """

    labels: Any
    order: Tensor
    share: float

    def loss(self, plain: Callable[[Any, Any], Tensor], outputs: Any) -> Tensor:
        """The loss on labels, mixed as the samples are.

        For cross-entropy, which is linear in its target, that is the loss on mixed
        labels.

        Args:
            plain: From outputs and labels to the mean over samples.
            outputs: Of the module, for the mixed samples.

        Raises:
            DataError: The labels are not a tensor of one row a sample.
        """
        if not isinstance(self.labels, Tensor) or self.labels.shape[:1] != (
            len(self.order),
        ):
            got = (
                list(self.labels.shape)
                if isinstance(self.labels, Tensor)
                else type(self.labels).__name__
            )
            raise DataError(
                f"cannot mix labels: got {got}, expected a tensor of "
                f"{len(self.order)} rows",
                hint="Use mixup = 0, or weight = 1, which needs no labels.",
            )
        others = self.labels[self.order.to(self.labels.device)]
        own, mixed_in = plain(outputs, self.labels), plain(outputs, others)
        return self.share * own + (1 - self.share) * mixed_in


def mixed_up(batches: Batches, *, strength: float, seed: int) -> Batches:
    """Mix each sample of a batch with another one of it.

    Args:
        batches: Inputs of floats. Labels become `MixedLabels`; None stays None.
        strength: α above 0: the share of each is drawn from Beta(α, α), once a batch;
            1 draws it evenly, less mixes less.
        seed: Of what is drawn, differently in each epoch.
    """
    return lambda epoch: _Epoch(
        batches=batches(epoch), strength=strength, seeds=(seed, epoch)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Epoch:
    """Mixed batches, as many as there were; the same each time they are gone through.

    Raises:
        DataError: An input is not of floats.
    """

    batches: Iterable[Batch]
    strength: float
    seeds: tuple[int, int]

    def __length_hint__(self) -> int:
        return length_hint(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng(self.seeds)
        for inputs, labels in self.batches:
            order = torch.from_numpy(rng.permutation(len(inputs[0])))
            share = float(rng.beta(self.strength, self.strength))
            mixed = tuple(_mixed(one, order, share) for one in inputs)
            yield (
                mixed,
                None
                if labels is None
                else MixedLabels(labels=labels, order=order, share=share),
            )


def _mixed(rows: Tensor, order: Tensor, share: float) -> Tensor:
    if not rows.is_floating_point():
        raise DataError(
            f"cannot mix inputs of {str(rows.dtype).removeprefix('torch.')}",
            hint="Use mixup = 0, or inputs of floats.",
        )
    return share * rows + (1 - share) * rows[order.to(rows.device)]
