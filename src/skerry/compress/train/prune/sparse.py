"""The step `sparsify`: single weights become 0, in a pattern or in none.

What that buys is another matter: onnxruntime, OpenVINO and LiteRT multiply by zeros as
by any number. `skerry.compress.train.prune.gains` measures it.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from skerry.compress.train.prune.checks import check_choice, check_numbers
from skerry.compress.train.prune.judge import Pruned, check_any, judge
from skerry.compress.train.prune.masks import (
    Masks,
    apply_masks,
    part_of_zeros,
    patterned,
    read_pattern,
    smallest,
    weights_of,
)
from skerry.compress.train.prune.recover import Recovery
from skerry.compress.train.training import TrainContext
from skerry.core.errors import ModelError
from skerry.core.recipe import Choices, Space, Span
from skerry.runtimes.torch import nn

Growth = Literal["gradual", "one-shot"]
"""Whether more and more weights become 0 while the module is trained, or all before."""

UPDATES = 32
"""About so many times masks are chosen anew while sparsity grows."""

_GROWING = 0.7
"""The part of the training in which sparsity grows; in the rest the masks stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsify:
    """Set the smallest weights to 0, and train those that are left.

    Attributes:
        sparsity: The part of the weights that becomes 0; not looked at with a pattern.
        pattern: `N:M` lets N of each M weights in a row stay, such as `2:4`, which
            some accelerators compute twice as fast; empty for no pattern.
        schedule: `gradual` lets sparsity grow as 1 - (1 - t)³ over the first 70 % of
            the training (M. Zhu & S. Gupta, "To prune, or not to prune", 2017, equation
            1); `one-shot` sets all to 0 at the beginning.
        epochs: How long the module is trained.
        learning_rate: At the beginning; 0 takes the training's.
        teach: The original's part in the loss, 0 to 1.

    Raises:
        UsageError: A choice or a number is out of range.
    """

    SPACE: ClassVar[Space] = {
        "sparsity": Span(low=0.3, high=0.95),
        "pattern": Choices(values=("", "2:4")),
    }

    sparsity: float = 0.8
    pattern: str = ""
    schedule: Growth = "gradual"
    epochs: int = 3
    learning_rate: float = 0.0
    teach: float = 0.9

    def __post_init__(self) -> None:
        read_pattern(self.pattern)
        check_choice("sparsify", "schedule", self.schedule, get_args(Growth))
        check_numbers(
            "sparsify",
            {
                "sparsity": (self.sparsity, 0 < self.sparsity < 1),
                "epochs": (self.epochs, self.epochs >= 0),
                "learning_rate": (self.learning_rate, 0 <= self.learning_rate < 1e3),
                "teach": (self.teach, 0 <= self.teach <= 1),
            },
            hint="Use sparsity = 0.8, epochs = 3, teach = 0.9.",
        )

    def apply(self, module: nn.Module, context: TrainContext) -> nn.Module:
        """Return a copy with weights of 0; the module given stays as it was.

        Raises:
            ModelError: There are no weights, the training diverges, or the budget
                breaks.
        """
        return self.prune(module, context).module

    def prune(self, module: nn.Module, context: TrainContext) -> Pruned:
        """Do the same, and tell what came of it.

        Raises:
            ModelError: As `apply` does.
        """
        before = context.evaluate(copy.deepcopy(module))
        found = copy.deepcopy(module)
        if not weights_of(found):
            raise ModelError(
                f"{type(module).__name__} has no weights that could become 0",
                hint="Give a module with convolutions or dense layers.",
            )
        recovery = Recovery(
            original=copy.deepcopy(module),
            context=context,
            learning_rate=self.learning_rate,
            weight=self.teach,
        )
        growing = math.ceil(_GROWING * self.epochs) if self.schedule == "gradual" else 0
        self._grow(found, recovery, growing)
        masks = self._masks(found, 1.0)
        apply_masks(found, masks)
        recovery.train(
            found,
            self.epochs - growing,
            after_step=lambda net: apply_masks(net, masks),
        )
        gone = part_of_zeros(found)
        rounds = (judge(f"{gone:.0%} of the weights", gone, before, found, context),)
        check_any(rounds, context)
        return Pruned(module=found, rounds=rounds)

    def _grow(self, found: nn.Module, recovery: Recovery, epochs: int) -> None:
        """Train while more and more weights become 0."""
        steps = epochs * sum(1 for _ in recovery.context.training.batches(0))
        done, masks = 0, self._masks(found, 0.0)

        def after_step(net: nn.Module) -> None:
            nonlocal done, masks
            done += 1
            if done % max(steps // UPDATES, 1) == 0:
                masks = self._masks(net, min(done / steps, 1.0))
            apply_masks(net, masks)

        recovery.train(found, epochs, after_step=after_step, keep_best=False)

    def _masks(self, module: nn.Module, share: float) -> Masks:
        """The masks after a share of the growth, 0 to 1."""
        grown = 1 - (1 - share) ** 3
        pattern = read_pattern(self.pattern)
        if pattern is None:
            return smallest(module, self.sparsity * grown)
        kept, among = pattern
        return patterned(module, among - round((among - kept) * grown), among)
