"""How often each camera is looked at, when the machine cannot do all that is wanted.

What is given up comes in a stated order:

1. `full`: all get the rate that they want.
2. `slower`: cameras on which something moves share what there is, none below its least
   rate, by weight (weighted max-min fairness: D. Bertsekas, R. Gallager, "Data
   Networks", 2nd ed., section 6.5.2).
3. `checks`: cameras on which nothing moves are checked less often, too.
4. `overload`: even the least rates are too much: all go down, and none to nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

RAREST_CHECKS = 1 / 6
"""Checks become at most so much rarer before least rates are touched."""

KeyT = TypeVar("KeyT", bound=Hashable)


class Level(StrEnum):
    """How much had to be given up."""

    FULL = "full"
    SLOWER = "slower"
    CHECKS = "checks"
    OVERLOAD = "overload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one camera wants of one model.

    Attributes:
        rate: Looks a second.
        least: The least that will do while something moves; 0 where only a check is
            wanted.
        cost_s: What one look takes.
        weight: Its share beside others'.
    """

    rate: float
    least: float
    cost_s: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted(Generic[KeyT]):
    """What was shared out.

    Attributes:
        level: How much had to be given up.
        rates: Looks a second of each.
    """

    level: Level
    rates: Mapping[KeyT, float]


def share_out(demands: Mapping[KeyT, Demand], capacity: float) -> Granted[KeyT]:
    """Share out a machine.

    Args:
        demands: What is wanted.
        capacity: Seconds of looks in a second: how many go on at once.

    Example:
        >>> wanted = {c: Demand(rate=5, least=1, cost_s=0.1) for c in "ab"}
        >>> share_out(wanted, 0.5).rates
        {'a': 2.5, 'b': 2.5}
    """
    wanted = {key: one.rate for key, one in demands.items()}
    if _cost(demands, wanted) <= capacity:
        return Granted(level=Level.FULL, rates=wanted)
    checks = {key: one.rate for key, one in demands.items() if not one.least}
    moving = {key: one for key, one in demands.items() if one.least}
    least = {key: min(one.least, one.rate) for key, one in moving.items()}
    left = capacity - _cost(demands, checks)
    if _cost(demands, least) <= left:
        return Granted(
            level=Level.SLOWER, rates={**checks, **_fill(moving, least, left)}
        )
    left = capacity - _cost(demands, least)
    needed = _cost(demands, checks)
    if left > 0 and needed and left / needed >= RAREST_CHECKS:
        scale = left / needed
        rates = {key: rate * scale for key, rate in checks.items()}
        return Granted(level=Level.CHECKS, rates={**rates, **least})
    rarest = {key: rate * RAREST_CHECKS for key, rate in checks.items()}
    needed = _cost(demands, rarest) + _cost(demands, least)
    scale = max(capacity, 1e-6) / needed
    rates = {key: rate * scale for key, rate in {**rarest, **least}.items()}
    return Granted(level=Level.OVERLOAD, rates=rates)


def _cost(demands: Mapping[KeyT, Demand], rates: Mapping[KeyT, float]) -> float:
    return sum(demands[key].cost_s * rate for key, rate in rates.items())


def _fill(
    demands: Mapping[KeyT, Demand], least: Mapping[KeyT, float], capacity: float
) -> dict[KeyT, float]:
    """Raise a common level, times each one's weight, until the capacity is used."""
    ends = sorted({one.rate / one.weight for one in demands.values()})
    low, high = 0.0, ends[-1]

    def rates(level: float) -> dict[KeyT, float]:
        return {
            key: min(one.rate, max(least[key], level * one.weight))
            for key, one in demands.items()
        }

    for _ in range(24):  # to a ten-millionth of the highest rate
        middle = (low + high) / 2
        if _cost(demands, rates(middle)) <= capacity:
            low = middle
        else:
            high = middle
    return rates(low)
