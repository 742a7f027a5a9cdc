"""Find the smallest set of operators in higher precision that holds the budget.

Operators are put back to float in the order of what that brings for what it costs: what
one loses of the task's metric alone, and after those that lose nothing measurable, the
error that one causes alone, divided by the time that integers save there. One that
integers do not make faster costs nothing, and comes first among its like. Errors of
operators partly cancel, so more in float is not always better: the set grows in small
steps, the first that holds is taken, and what is not needed in it is quantized again,
beginning where that saves most. Each step is measured; nothing is concluded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

MOST_FLOAT = 0.5
"""Over this share of operators in float there is no point in going on."""

LADDER = 1.6
"""How much longer the list of operators kept float gets from trial to trial."""

LEAST_SAVED = 0.002
"""Share of the model's time under which what an operator saves is not looked at."""

MOST_RETURNED = 4
"""Operators, at most, that are tried in integers again once a set holds."""

Attempt = Callable[[frozenset[str]], bool]
"""Keeps the operators of these names in float, and says whether that holds."""


def order_by_effect(
    errors: Mapping[str, float],
    saved: Mapping[str, float],
    losses: Mapping[str, float] | None = None,
) -> list[str]:
    """Order operators by what putting them back to float brings for what it costs.

    Args:
        errors: By name, the error that each causes alone.
        saved: By name, the share of the model's time that its integers save.
        losses: By name, what the task's metric loses by each alone, of those of which
            that was measured; they go first, unless it is nothing.

    Returns:
        The names of `errors`, those to put back first.
    """
    measured = losses or {}

    def worth(name: str) -> tuple[float, float]:
        cost = max(saved.get(name, 0.0), LEAST_SAVED)
        return measured.get(name, 0.0) / cost, errors[name] / cost

    return sorted(sorted(errors), key=worth, reverse=True)


def smallest_set(
    order: list[str], saved: Mapping[str, float], attempt: Attempt
) -> frozenset[str] | None:
    """Find a small set of operators to keep in float, each step measured.

    Args:
        order: Names, as `order_by_effect` returns them.
        saved: By name, the share of the model's time that its integers save.
        attempt: Tries a set.

    Returns:
        The set, or None where none that was tried holds.
    """
    count = 1
    while count <= len(order) * MOST_FLOAT:
        kept = frozenset(order[:count])
        if attempt(kept):
            return _without_needless(kept, saved, attempt)
        count = round(count * LADDER)
    return None


def _without_needless(
    kept: frozenset[str], saved: Mapping[str, float], attempt: Attempt
) -> frozenset[str]:
    paying = [name for name in kept if saved.get(name, 0.0) >= LEAST_SAVED]
    paying.sort(key=lambda name: (-saved[name], name))
    for name in paying[:MOST_RETURNED]:
        fewer = kept - {name}
        if fewer and attempt(fewer):
            kept = fewer
    return kept


def slower_in_integers(
    saved: Mapping[str, float], weights: Mapping[str, float]
) -> list[str]:
    """The operators that integers make slower, those first that lose most time.

    Args:
        saved: By name, the share of the model's time that its integers save.
        weights: By name, the share of the model's file that its weights are. One that
            would give up more of the file than it wins of the time is left out.

    Returns:
        Their names.
    """
    slower = [
        name
        for name, share in saved.items()
        if share <= -max(LEAST_SAVED, weights.get(name, 0.0))
    ]
    return sorted(slower, key=lambda name: (saved[name], name))
