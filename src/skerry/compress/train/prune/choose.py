"""Which channels go first: those that cost much and are missed little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.compress.train.prune.cost import Costs, total, without
from skerry.compress.train.prune.dependency import Group
from skerry.compress.train.prune.importance import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far pruning may go.

    Attributes:
        multiple: Channels are kept in blocks of so many.
        least: By root of a group, how many channels stay at least.
    """

    multiple: int
    least: Mapping[str, int]


def choose(
    groups: Sequence[Group], scores: Scores, costs: Costs, limits: Limits, target: float
) -> dict[str, list[int]]:
    """Choose channels to remove until the multiply-accumulates fall to a target.

    Block by block, from the group where the least importance is lost for each
    multiply-accumulate saved.

    Args:
        groups: Of channels that go together.
        scores: Importance, one number a channel.
        costs: Of the module as it is.
        limits: How far it may go.
        target: Multiply-accumulates, of channels rounded up to the blocks.

    Returns:
        The channels to remove by root of their group; too few where the limits forbid
        more.
    """
    orders = {one.root: scores[one.root].argsort().tolist() for one in groups}
    gone = dict.fromkeys(orders, 0)
    now = total(costs, limits.multiple)
    while now > target:
        best: tuple[float, Group, int, Costs, int] | None = None
        for group in groups:
            left = group.size - gone[group.root]
            block = left % limits.multiple or limits.multiple
            if left - block < max(limits.least[group.root], 1):
                continue
            start = gone[group.root]
            places = orders[group.root][start : start + block]
            smaller = without(costs, group, block)
            cost = total(smaller, limits.multiple)
            if cost >= now:
                continue
            lost = float(scores[group.root][places].sum()) / (now - cost)
            if best is None or lost < best[0]:
                best = lost, group, block, smaller, cost
        if best is None:
            break
        _, group, block, costs, now = best
        gone[group.root] += block
    return {root: orders[root][:n] for root, n in gone.items() if n}
