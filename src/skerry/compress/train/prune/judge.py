"""Whether what pruning left keeps the budget, and what came closest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from skerry.compress.train.training import TrainContext
from skerry.core.budget import Breach
from skerry.core.errors import ModelError
from skerry.runtimes.torch import nn
from skerry.tasks.evaluate import Scores
from skerry.tasks.metrics import find_metric

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round of pruning came to.

    Attributes:
        what: What is gone by then, for people.
        gone: The part of the multiply-accumulates, or of the weights, that is gone.
        score: The metric on the selection samples after training.
        lost: How much of it is lost, as `Budget.accuracy_drop` counts it.
        is_kept: Whether the budget holds.
    """

    what: str
    gone: float
    score: float
    lost: float
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pruned:
    """A pruned module, and how it came about.

    Attributes:
        module: The last one that keeps the budget.
        rounds: All that were tried, in order.
    """

    module: nn.Module
    rounds: tuple[Round, ...]


def fall(before: Scores, after: Scores) -> float:
    """How much of the metric is lost, as `Budget.accuracy_drop` counts it."""
    return find_metric(before.metric).drop(before.value, after.value - before.value)


def judge(
    what: str, gone: float, before: Scores, module: nn.Module, context: TrainContext
) -> Round:
    """Score a round on the selection samples.

    Args:
        what: What is gone by then.
        gone: Which part that is.
        before: The original's scores.
        module: What pruning left, trained.
        context: Its budget must hold; without one for accuracy, all does.
    """
    after = context.evaluate(module)
    lost, allowed = fall(before, after), context.budget.accuracy_drop
    is_kept = allowed is None or lost <= allowed
    log.info("prune.round", extra={"what": what, "lost": lost, "kept": is_kept})
    return Round(what=what, gone=gone, score=after.value, lost=lost, is_kept=is_kept)


def check_any(
    rounds: Sequence[Round], context: TrainContext, broken: Sequence[Breach] = ()
) -> None:
    """Refuse a result where no round kept the budget.

    Args:
        rounds: All that were tried.
        context: Its budget.
        broken: What the last one kept was to reach, and does not.

    Raises:
        ModelError: None did; what came closest is named.
    """
    kept = [one for one in rounds if one.is_kept]
    if kept and broken:
        raise ModelError(
            f"pruning does not reach the budget: without {kept[-1].what}, at a loss of "
            f"{kept[-1].lost:.4f}, what came closest is {broken[0]}",
            hint="Allow a larger drop, train longer, or quantize as well.",
        )
    if kept:
        return
    if not rounds:
        raise ModelError(
            "nothing can be pruned within these limits",
            hint="Let more of each layer go, or keep channels in smaller blocks.",
        )
    best = min(rounds, key=lambda one: one.lost)
    allowed = context.budget.accuracy_drop or 0.0
    raise ModelError(
        f"pruning breaks the budget at once: without {best.what} the metric falls by "
        f"{best.lost:.4f}, allowed {allowed:g}; nothing else came closer",
        hint="Train longer, prune less in more rounds, or allow a larger drop.",
    )
