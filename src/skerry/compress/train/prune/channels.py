"""The step `prune`: fewer channels, a few at a time, trained again after each time."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from skerry.compress.train.fit import fit
from skerry.compress.train.prune.checks import check_choice, check_numbers
from skerry.compress.train.prune.choose import Limits, choose
from skerry.compress.train.prune.cost import layer_costs, total
from skerry.compress.train.prune.dependency import ChannelGraph
from skerry.compress.train.prune.importance import NORMS, Criterion, importance
from skerry.compress.train.prune.judge import Pruned, Round, check_any, judge
from skerry.compress.train.prune.limits import broken_limits
from skerry.compress.train.prune.recover import Recovery
from skerry.compress.train.prune.sensitivity import largest_parts
from skerry.compress.train.training import TrainContext
from skerry.core.budget import Breach
from skerry.core.errors import ModelError
from skerry.core.recipe import Choices, Space, Span
from skerry.runtimes.torch import nn, torch
from skerry.tasks.evaluate import Scores

Schedule = Literal["progressive", "one-shot"]
"""Whether channels go in rounds, each trained and scored, or all at once."""


Goal = Literal["ratio", "budget"]
"""What ends it: a part of the work that is gone, or a budget that holds."""

MOST_GONE = 0.95
"""The part of the multiply-accumulates that goes at most for a budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneChannels:
    """Remove channels of a trained module, and train what is left.

    Each round removes more, and trains the rest on labels and on what the original
    answers. Where the budget of accuracy breaks, the round before is what counts, and
    steps half as large are tried from there; where these break it too, that is all.

    Attributes:
        ratio: The part of the multiply-accumulates to remove, above 0 and below 1.
        goal: `budget` goes on in the same steps, beyond the ratio where it takes that,
            until the exported module's measured latency, its size and its memory are
            what the budget allows, and stops there. A budget that a later step is to
            meet, such as quantization, is no goal for this one.
        criterion: By what channels are judged.
        schedule: In rounds, or all at once.
        rounds: Into how many steps a progressive schedule is divided.
        epochs: How long each round is trained.
        last_epochs: How much longer the last one is trained; where a budget ends it,
            the last one that is kept.
        learning_rate: At the beginning of each round; 0 takes the training's.
        teach: The original's part in the loss, 0 to 1.
        multiple: Channels are kept in blocks of so many: kernels for CPUs compute whole
            blocks of 8 or 16, and what does not fill them is slower than the original.
        most: The largest part of a layer's channels that may go.
        sensitivity: Where above 0, a layer loses no more channels than cost this much
            of the metric, a fraction, without any training.
        sparsity_epochs: How long batch norms' factors are driven to 0 before.
        sparsity: By how much factors shrink in each of these epochs.

    Raises:
        UsageError: A choice or a number is out of range.
    """

    SPACE: ClassVar[Space] = {
        "ratio": Span(low=0.2, high=0.85),
        "criterion": Choices(values=get_args(Criterion)),
        "rounds": Span(low=1, high=6, is_integer=True),
    }

    ratio: float = 0.5
    goal: Goal = "ratio"
    criterion: Criterion = "taylor"
    schedule: Schedule = "progressive"
    rounds: int = 4
    epochs: int = 1
    last_epochs: int = 0
    learning_rate: float = 0.0
    teach: float = 0.9
    multiple: int = 8
    most: float = 0.75
    sensitivity: float = 0.0
    sparsity_epochs: int = 0
    sparsity: float = 0.05

    def __post_init__(self) -> None:
        check_choice("prune", "goal", self.goal, get_args(Goal))
        check_choice("prune", "criterion", self.criterion, get_args(Criterion))
        check_choice("prune", "schedule", self.schedule, get_args(Schedule))
        check_numbers(
            "prune",
            {
                "ratio": (self.ratio, 0 < self.ratio < 1),
                "rounds": (self.rounds, self.rounds >= 1),
                "epochs": (self.epochs, self.epochs >= 0),
                "last_epochs": (self.last_epochs, self.last_epochs >= 0),
                "learning_rate": (self.learning_rate, 0 <= self.learning_rate < 1e3),
                "teach": (self.teach, 0 <= self.teach <= 1),
                "multiple": (self.multiple, self.multiple >= 1),
                "most": (self.most, 0 < self.most < 1),
                "sensitivity": (self.sensitivity, 0 <= self.sensitivity < 1),
                "sparsity_epochs": (self.sparsity_epochs, self.sparsity_epochs >= 0),
                "sparsity": (self.sparsity, 0 <= self.sparsity < 1e3),
            },
            hint="Use ratio = 0.5, rounds = 4, multiple = 8, most = 0.75.",
        )

    def apply(self, module: nn.Module, context: TrainContext) -> nn.Module:
        """Return a smaller copy; the module given stays as it was.

        Raises:
            ModelError: The channels cannot be followed, none can go, the training
                diverges, the budget breaks with the first of them, or it is the goal
                and is not reached; the message says what came closest.
            UsageError: The budget is the goal, and limits nothing that can be measured.
        """
        return self.prune(module, context).module

    def prune(self, module: nn.Module, context: TrainContext) -> Pruned:
        """Do the same, and tell of each round.

        Raises:
            ModelError: As `apply` does.
        """
        training = context.training
        before = context.evaluate(copy.deepcopy(module))
        recovery = Recovery(
            original=copy.deepcopy(module),
            context=context,
            learning_rate=self.learning_rate,
            weight=self.teach,
        )
        kept = self._sparsified(module, context)
        limits = self._limits(kept, context, before)
        whole = total(layer_costs(kept, training.example), self.multiple)
        rounds: list[Round] = []
        reached, left, step, is_ended = 0.0, whole, self._step, False
        most, broken = self.ratio, list[Breach]()
        if self.goal == "budget":
            most, broken = MOST_GONE, broken_limits(kept, context)
            if not broken:
                return Pruned(module=kept, rounds=())
        while reached < most and step >= self._step / 2:
            wish = min(reached + step, most)
            found = self._smaller(kept, context, limits, whole * (1 - wish))
            cost = total(layer_costs(found, training.example), self.multiple)
            if cost >= left:
                # Blocks are large: the round before took what this one was to take.
                reached = wish
                continue
            recovery.train(found, self.epochs + self.last_epochs * (wish == most))
            gone = 1 - cost / whole
            what = f"{gone:.0%} of the multiply-accumulates"
            rounds.append(judge(what, gone, before, found, context))
            if rounds[-1].is_kept:
                kept, reached, left, is_ended = found, wish, cost, wish == most
                if broken and not (broken := broken_limits(kept, context)):
                    break
            else:
                step /= 2
        check_any(rounds, context, broken)
        if self.last_epochs and not is_ended:
            recovery.train(kept, self.last_epochs)
            last = next(one for one in reversed(rounds) if one.is_kept)
            what = f"{last.what}, trained longer"
            rounds.append(judge(what, last.gone, before, kept, context))
        return Pruned(module=kept, rounds=tuple(rounds))

    @property
    def _step(self) -> float:
        return self.ratio / (1 if self.schedule == "one-shot" else self.rounds)

    def _sparsified(self, module: nn.Module, context: TrainContext) -> nn.Module:
        """A copy whose batch norms' factors were driven to 0, as far as is wanted.

        The l1 penalty of network slimming (Z. Liu et al., 2017, equation 1) as its
        proximal step: factors shrink by a constant after each step of the optimizer.
        """
        work = copy.deepcopy(module)
        steps = sum(1 for _ in context.training.batches(0))
        shrink = self.sparsity / max(steps, 1)

        def after_step(net: nn.Module) -> None:
            with torch.no_grad():
                for layer in net.modules():
                    if isinstance(layer, NORMS) and layer.affine:
                        small = (layer.weight.abs() - shrink).clamp_min(0)
                        layer.weight.copy_(layer.weight.sign() * small)

        fit(
            work,
            context.training,
            epochs=self.sparsity_epochs,
            learning_rate=self.learning_rate or None,
            after_step=after_step,
            seed=context.seed,
            progress=context.progress,
            keep_best=False,
        )
        return work

    def _limits(
        self, module: nn.Module, context: TrainContext, before: Scores
    ) -> Limits:
        """How many channels of each group stay at least.

        Raises:
            ModelError: The channels cannot be followed, or none can go.
        """
        training = context.training
        groups = ChannelGraph(copy.deepcopy(module), training.example).groups
        if not groups:
            raise ModelError(
                f"no channel of {type(module).__name__} can go: all are answers, or "
                "parts of grouped convolutions",
                hint="Prune a module with convolutions or dense layers inside.",
            )
        parts = dict.fromkeys((one.root for one in groups), self.most)
        if self.sensitivity:
            scores = importance(module, groups, training, self.criterion)
            alone = largest_parts(
                module, groups, scores, context, before=before, allowed=self.sensitivity
            )
            parts = {root: min(self.most, part) for root, part in alone.items()}
        least = {
            one.root: math.ceil(one.size * (1 - parts[one.root])) for one in groups
        }
        return Limits(multiple=self.multiple, least=least)

    def _smaller(
        self, module: nn.Module, context: TrainContext, limits: Limits, target: float
    ) -> nn.Module:
        """A copy with fewer channels, of so many multiply-accumulates if it can be."""
        found = copy.deepcopy(module)
        graph = ChannelGraph(found, context.training.example)
        scores = importance(found, graph.groups, context.training, self.criterion)
        costs = layer_costs(found, context.training.example)
        graph.remove(choose(graph.groups, scores, costs, limits, target))
        return found
