from __future__ import annotations

import math
from dataclasses import fields

import pytest

from skerry.core.budget import Breach, Budget


def test_a_budget_that_demands_nothing_is_kept() -> None:
    """Without limits nothing is breached, whatever was measured."""
    assert Budget().breaches({"size_bytes": 1e12}) == []


def test_a_figure_at_the_limit_keeps_it() -> None:
    """Limits are inclusive."""
    assert Budget(latency_ms=5.0).breaches({"latency_ms": 5.0}) == []


@pytest.mark.parametrize("measured", [5.000001, math.inf, math.nan])
def test_a_figure_over_the_limit_breaches_it(measured: float) -> None:
    """Also what is not a number does not hold."""
    (breach,) = Budget(latency_ms=5.0).breaches({"latency_ms": measured})
    assert (breach.limit, breach.allowed) == ("latency_ms", 5.0)


def test_what_was_not_measured_is_a_breach() -> None:
    """A limit that nobody checked is not kept, and the text says so."""
    (breach,) = Budget(size_bytes=100).breaches({})
    assert breach == Breach(limit="size_bytes", allowed=100, measured=None)
    assert str(breach) == "size_bytes: not measured, allowed 100"


def test_breaches_come_in_the_order_of_the_fields() -> None:
    """Each limit is compared with the figure of its own name; conditions come last."""
    names = [field.name for field in fields(Budget) if field.name != "conditions"]
    budget = Budget(**dict.fromkeys(names, 1), conditions={"dark": 1, "blur": 1})
    names += ["conditions.dark", "conditions.blur"]
    found = budget.breaches(dict.fromkeys(reversed(names), 2.5))
    assert [breach.limit for breach in found] == names
    assert str(found[0]) == "accuracy_drop: 2.5, allowed 1"
    assert str(found[-1]) == "conditions.blur: 2.5, allowed 1"


def test_a_condition_is_a_limit_like_any_other() -> None:
    """It holds up to its limit, and does not where nobody looked."""
    budget = Budget(conditions={"dark": 0.02})
    assert budget.limits == {"conditions.dark": 0.02}
    assert budget.breaches({"conditions.dark": 0.02}) == []
    (breach,) = budget.breaches({"accuracy_drop": 0.0})
    assert str(breach) == "conditions.dark: not measured, allowed 0.02"
