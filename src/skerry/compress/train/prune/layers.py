"""The step `prune_layers`: whole blocks less, as long as the budget holds."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Literal, get_args

from skerry.compress.train.prune.blocks import Block, fade, leave_out, removable
from skerry.compress.train.prune.checks import check_choice, check_numbers
from skerry.compress.train.prune.cost import layer_costs, total
from skerry.compress.train.prune.inherit import bequeath
from skerry.compress.train.prune.judge import Pruned, Round, check_any, fall, judge
from skerry.compress.train.prune.limits import broken_limits
from skerry.compress.train.prune.recover import Recovery
from skerry.compress.train.training import TrainContext
from skerry.core.budget import Breach
from skerry.core.errors import ModelError
from skerry.core.recipe import Space, Span
from skerry.runtimes.torch import nn

LayersGoal = Literal["most", "budget"]
"""What ends it: so many blocks that are gone, or a budget that holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneLayers:
    """Leave out layers and whole blocks of a trained module, and train what is left.

    A block can go where it gives the shape that it takes: what follows reads what it
    read. Where it is a layer that alone reads another, that one takes over what it can
    of its work (`bequeath`). Each is left out alone first, and the rest is trained on a
    few batches, to see what the block contributes; then the one that costs least of the
    metric for what it saves goes, the rest is trained in earnest, and so on. A block
    whose absence breaks the budget stays, and the next one is tried.

    Attributes:
        most: So many blocks go at most.
        goal: `most` blocks; or `budget`, which stops before where the exported module's
            measured latency, its size and its memory are what the budget allows.
        tries: So many blocks may break the budget before that is all.
        probe: On so many batches what is left is trained to see what a block
            contributes: without any, all but the blocks of a residual net seem needed.
        epochs: How long the module is trained for each block. One without an heir
            fades in the first half, and is gone in the second.
        learning_rate: At the beginning of each training; 0 takes the training's.
        teach: The original's part in the loss, 0 to 1.

    Raises:
        UsageError: A number is out of range.
    """

    SPACE: ClassVar[Space] = {"most": Span(low=1, high=4, is_integer=True)}

    most: int = 1
    goal: LayersGoal = "most"
    tries: int = 2
    probe: int = 32
    epochs: int = 4
    learning_rate: float = 0.0
    teach: float = 0.9

    def __post_init__(self) -> None:
        check_choice("prune_layers", "goal", self.goal, get_args(LayersGoal))
        check_numbers(
            "prune_layers",
            {
                "most": (self.most, self.most >= 1),
                "tries": (self.tries, self.tries >= 1),
                "probe": (self.probe, self.probe >= 0),
                "epochs": (self.epochs, self.epochs >= 0),
                "learning_rate": (self.learning_rate, 0 <= self.learning_rate < 1e3),
                "teach": (self.teach, 0 <= self.teach <= 1),
            },
            hint="Use most = 1, tries = 2, epochs = 2, teach = 0.9.",
        )

    def apply(self, module: nn.Module, context: TrainContext) -> nn.Module:
        """Return a copy of fewer layers; the module given stays as it was.

        Raises:
            ModelError: No block can be left out, the training diverges, the budget
                breaks without each of those tried, or it is the goal and is not
                reached; the message says what came closest.
            UsageError: The budget is the goal, and limits nothing that can be measured.
        """
        return self.prune(module, context).module

    def prune(self, module: nn.Module, context: TrainContext) -> Pruned:
        """Do the same, and tell of each round.

        Raises:
            ModelError: As `apply` does.
        """
        example = context.training.example
        before = context.evaluate(copy.deepcopy(module))
        kept, rounds = copy.deepcopy(module), list[Round]()
        whole = total(layer_costs(kept, example))
        refused, broken = set[Block](), list[Breach]()
        if self.goal == "budget" and not (broken := broken_limits(kept, context)):
            return Pruned(module=kept, rounds=())
        recovery = Recovery(
            original=copy.deepcopy(module),
            context=context,
            learning_rate=self.learning_rate,
            weight=self.teach,
        )
        while len(rounds) - len(refused) < self.most and len(refused) < self.tries:
            block = self._next(kept, recovery, refused)
            if block is None:
                break
            found = copy.deepcopy(kept)
            epochs = self.epochs
            if block.heir is None:
                epochs -= self._fade_out(found, block, recovery)
            _take_out(found, block, context)
            recovery.train(found, epochs)
            gone = 1 - total(layer_costs(found, example)) / whole
            rounds.append(judge(str(block), gone, before, found, context))
            if not rounds[-1].is_kept:
                refused.add(block)
                continue
            kept = found
            if broken and not (broken := broken_limits(kept, context)):
                break
        if not rounds:
            raise ModelError(
                f"no block of {type(module).__name__} gives the shape that it takes",
                hint="Leave out channels instead: the step prune.",
            )
        check_any(rounds, context, broken)
        return Pruned(module=kept, rounds=tuple(rounds))

    def _next(
        self, module: nn.Module, recovery: Recovery, refused: set[Block]
    ) -> Block | None:
        """The block that costs least of the metric for what it saves."""
        context = recovery.context
        training = context.training
        blocks = removable(
            module, training.example, layer_costs(module, training.example)
        )
        short = replace(
            training,
            batches=lambda epoch: [*islice(training.batches(epoch), self.probe)],
        )
        brief = replace(recovery, context=replace(context, training=short))
        before = context.evaluate(module)
        found: list[tuple[float, int, Block]] = []
        for block in (one for one in blocks if one not in refused):
            tried = copy.deepcopy(module)
            _take_out(tried, block, context)
            brief.train(tried, min(self.probe, 1))
            lost = max(fall(before, context.evaluate(tried)), 0.0)
            found.append((lost / block.cost, -block.cost, block))
        # What holds others is called after them: of those alike it is taken.
        return min(reversed(found), key=lambda one: one[:2])[2] if found else None

    def _fade_out(self, found: nn.Module, block: Block, recovery: Recovery) -> int:
        """Let a block fade while the rest is trained; returns for how many epochs."""
        fading, epochs = fade(found, block), self.epochs // 2
        steps = epochs * sum(1 for _ in recovery.context.training.batches(0))

        def after_step(_: nn.Module) -> None:
            fading.left = max(fading.left - 1 / steps, 0.0)

        recovery.train(found, epochs, after_step=after_step, keep_best=False)
        return epochs


def _take_out(module: nn.Module, block: Block, context: TrainContext) -> None:
    """Leave a block out at once; its heir, if it has one, takes over."""
    if block.heir is None:
        leave_out(module, block)
    else:
        bequeath(module, block, context.training.batches(0), context.seed)
