"""What nothing beats, how much of the budget's room it covers, and which to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skerry.compress.search.ranking import Standing, best
from skerry.compress.search.request import Preference
from skerry.compress.tune.trial import Trial, holding


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What an experiment has come to.

    Attributes:
        trials: Those that hold the budget and that nothing beats, the fastest first.
        chosen: The one to take; None for the source as it is.
        why: Why that one, as a sentence.
        closest: Where none holds: the one that came closest to the budget.
    """

    trials: tuple[Trial, ...]
    chosen: Trial | None
    why: str
    closest: Trial | None = None


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is as good in everything and better in something; less is better."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def nondominated(rows: Sequence[Sequence[float]]) -> list[int]:
    """The indices of the rows that no other beats; less is better."""
    return [
        index
        for index, row in enumerate(rows)
        if not any(beats(other, row) for other in rows)
    ]


def hypervolume(rows: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The room that rows cover below a reference; less is better.

    By slicing along the last cost (L. While et al., "A faster algorithm for
    calculating hypervolume", IEEE TEC 10(1), 2006, section III: HSO): exact, and quick
    enough for fronts of some hundred rows of three costs.

    Args:
        rows: Costs, each of as many figures as the reference.
        reference: The worst that counts; rows beyond it cover nothing.

    Example:
        >>> hypervolume([(0.0, 0.5), (0.5, 0.0)], (1.0, 1.0))
        0.75
    """
    inside = [row for row in rows if all(map(_is_below, row, reference))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(row[0] for row in inside)
    order = sorted(inside, key=lambda row: row[-1])
    ends = [*(row[-1] for row in order[1:]), reference[-1]]
    total = 0.0
    for count, (row, end) in enumerate(zip(order, ends, strict=True), 1):
        if end > row[-1]:
            below = [one[:-1] for one in order[:count]]
            area = hypervolume([below[k] for k in nondominated(below)], reference[:-1])
            total += area * (end - row[-1])
    return total


def gains(
    front: Sequence[Sequence[float]],
    rows: NDArray[np.float64],
    reference: Sequence[float],
) -> NDArray[np.float64]:
    """How much each row alone would add to the hypervolume of a front.

    The front's costs cut the room into boxes; a row adds what it covers of each box
    that the front does not.

    Args:
        front: Costs, of three figures each.
        rows: `[n, 3]`.
        reference: The worst that counts.

    Returns:
        `[n]`.
    """
    inside = [row for row in front if all(map(_is_below, row, reference))]
    lows, lengths = [], []
    for axis, end in enumerate(reference):
        cuts = np.unique([row[axis] for row in inside])
        low, high = np.array([-np.inf, *cuts]), np.array([*cuts, end])
        lows.append(low)
        starts = np.maximum(low, rows[:, axis, None])
        lengths.append(np.maximum(high - starts, 0.0))
    is_free = np.ones([len(low) for low in lows], dtype=bool)
    for row in inside:
        covered = [low >= cost for low, cost in zip(lows, row, strict=True)]
        is_free &= ~np.einsum("i,j,k->ijk", *covered)
    first, second, third = lengths
    found = np.einsum("ni,ijk->njk", first, is_free.astype(np.float64), optimize=True)
    found = np.einsum("njk,nj,nk->n", found, second, third, optimize=True)
    return np.asarray(found, np.float64)


def _is_below(value: float, limit: float) -> bool:
    return value < limit


def find_front(trials: Sequence[Trial], prefer: Preference, source: Standing) -> Front:
    """Find what nothing beats, and which of it to take.

    Args:
        trials: Of an experiment; those under way do not count.
        prefer: What counts among those that hold the budget.
        source: The source model, which is a candidate too.
    """
    held = holding(trials)
    rows = [one.costs for one in held]
    kept = sorted((held[k] for k in nondominated(rows)), key=lambda one: one.costs[1])
    sure = [one for one in kept if one.outcome and one.outcome.is_sure] or kept
    at = best([_standing(one) for one in sure], source, prefer)
    chosen = None if at < 0 else sure[at]
    return Front(
        trials=tuple(kept),
        chosen=chosen,
        why=_why(chosen, kept, len(held), prefer),
        closest=None if held else _closest(trials),
    )


_BEST = {"latency": "the fastest", "size": "the smallest", "accuracy": "the closest"}


def _standing(trial: Trial) -> Standing:
    drop, latency, _ = trial.costs
    size_bytes = trial.outcome.size_bytes if trial.outcome is not None else None
    return Standing(latency=latency, size_bytes=size_bytes or 0, drop=drop)


def _why(
    chosen: Trial | None, front: Sequence[Trial], held: int, prefer: Preference
) -> str:
    if chosen is None:
        return (
            "No recipe that was tried holds the budget and is better than the source."
            if held
            else "No recipe that was tried holds the budget."
        )
    drop, latency, size = chosen.costs
    said = (
        f"Trial {chosen.number} is {_BEST[prefer]} of {held} that hold the budget"
        f" ({len(front)} of them nothing beats): {latency:.2f} × the source's time,"
        f" {size:.2f} × its size, {round(drop, 4) + 0.0:.2%} lost on the samples that"
        " choose."
    )
    smaller = min(front, key=lambda one: one.costs[2])
    if smaller is not chosen and prefer != "size":
        said += (
            f" Trial {smaller.number} is the smallest: {smaller.costs[2]:.2f} ×, at"
            f" {smaller.costs[1]:.2f} × the time."
        )
    return said


def _closest(trials: Sequence[Trial]) -> Trial | None:
    """The trial that breaks the budget least of those that were measured at all."""
    known = [one for one in trials if one.outcome and one.outcome.size is not None]
    return min(
        known, key=lambda one: one.outcome.violation if one.outcome else 0, default=None
    )
