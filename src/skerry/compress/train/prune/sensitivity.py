"""How much each group of channels would be missed alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from skerry.compress.train.prune.dependency import ChannelGraph, Group
from skerry.compress.train.prune.importance import Scores as Importance
from skerry.compress.train.prune.judge import fall
from skerry.compress.train.training import TrainContext
from skerry.runtimes.torch import nn
from skerry.tasks.evaluate import Scores

PARTS = (0.75, 0.5, 0.25)
"""The parts of a group that are tried, the largest first."""


def largest_parts(
    module: nn.Module,
    groups: Sequence[Group],
    scores: Importance,
    context: TrainContext,
    *,
    before: Scores,
    allowed: float,
) -> Mapping[str, float]:
    """Find which part of each group can go alone, before any training.

    H. Li et al., "Pruning Filters for Efficient ConvNets" (2017), section 3.2.

    Args:
        module: Left as it was.
        groups: Its channels.
        scores: Their importance: the least important go.
        context: What the module is scored on.
        before: Its own scores.
        allowed: How much of the metric may be lost by one group.

    Returns:
        The largest of `PARTS` that costs no more, or 0, by root of the group.
    """
    found = {}
    for group in groups:
        order = scores[group.root].argsort().tolist()
        found[group.root] = 0.0
        for part in PARTS:
            tried = copy.deepcopy(module)
            graph = ChannelGraph(tried, context.training.example)
            graph.remove({group.root: order[: int(group.size * part)]})
            if fall(before, context.evaluate(tried)) <= allowed:
                found[group.root] = part
                break
    return found
