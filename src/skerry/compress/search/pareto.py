"""Mark what nothing else that was tried beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from skerry.core.report import Attempt
from skerry.tasks.metrics import find_metric


def mark_pareto(
    attempts: Sequence[Attempt], *, metric: str | None, source_bytes: int
) -> tuple[Attempt, ...]:
    """Mark the attempts on the front of accuracy, size and latency.

    An attempt leaves the front where another is at least as good in all three and
    better in one. One that was not timed cannot beat one that was.

    Args:
        attempts: What was tried; those without an accuracy are not marked.
        metric: What the accuracy is, for which way is better; None marks nothing.
        source_bytes: The size of those that have none: the source model's.
    """
    if metric is None:
        return tuple(attempts)
    rows = [_costs(attempt, metric, source_bytes) for attempt in attempts]
    return tuple(
        replace(
            attempt,
            pareto=row is not None
            and not any(_beats(other, row) for other in rows if other is not None),
        )
        for attempt, row in zip(attempts, rows, strict=True)
    )


_Costs = tuple[float, float, float | None]


def _costs(attempt: Attempt, metric: str, source_bytes: int) -> _Costs | None:
    """Loss, size and time of an attempt: less is better in each."""
    if attempt.accuracy is None:
        return None
    is_more = find_metric(metric).higher_is_better
    loss = -attempt.accuracy if is_more else attempt.accuracy
    size_bytes = attempt.size_bytes or source_bytes
    return loss, float(size_bytes), attempt.latency_ratio


def _beats(one: _Costs, other: _Costs) -> bool:
    if other[2] is not None and one[2] is None:
        return False
    pairs = [
        (mine, theirs)
        for mine, theirs in zip(one, other, strict=True)
        if mine is not None and theirs is not None
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
