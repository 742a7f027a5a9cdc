"""A budget, joined from what was typed and what a file demands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from skerry.core.budget import Budget
from skerry.core.config import from_table, read_toml
from skerry.core.errors import UsageError

BUDGET_SCHEMA = "skerry.budget/1"


def read_budget(path: Path) -> Budget:
    """Read a budget's TOML file: the fields of `Budget`, each a limit.

    Raises:
        UsageError: It cannot be read or is no budget, or a limit is below 0.
    """
    table = read_toml(path)
    schema = table.pop("schema", BUDGET_SCHEMA)
    if schema != BUDGET_SCHEMA:
        raise UsageError(
            f"{path} has the schema {schema!r}, expected {BUDGET_SCHEMA!r}",
            hint="A newer one needs a newer Skerry.",
        )
    budget = from_table(Budget, table, name=str(path))
    for name, limit in budget.limits.items():
        if not limit >= 0:
            raise UsageError(
                f"{path}: {name} is {limit:g}, expected 0 or more",
                hint="A loss is a fraction: accuracy_drop = 0.01 is one point.",
            )
    return budget


def join_budgets(*budgets: Budget) -> Budget:
    """Join budgets: the first that has a limit says what it is."""
    joined = Budget()
    for budget in reversed(budgets):
        given: dict[str, Any] = {
            name: limit for name, limit in budget.limits.items() if "." not in name
        }
        conditions = {**joined.conditions, **budget.conditions}
        joined = replace(joined, **given, conditions=conditions)
    return joined


def parse_conditions(texts: Iterable[str]) -> dict[str, float]:
    """Parse limits of the loss under conditions, such as `dark=0.02`.

    Raises:
        UsageError: One is no such pair, or names no condition.
    """
    from skerry.tasks.conditions import Condition
    from skerry.tasks.conditions import parse_conditions as parse_names

    found: dict[Condition, float] = {}
    for text in texts:
        name, sign, limit = text.partition("=")
        try:
            value = float(limit)
        except ValueError:
            value = float("nan")
        if not sign or not abs(value) <= 1:
            raise UsageError(
                f"--condition got {text[:80]!r}, expected a name and the largest loss "
                "allowed, a fraction",
                hint="Write --condition dark=0.02: two points may be lost in the dark.",
            )
        found |= dict.fromkeys(parse_names(name), value)
    return {condition.value: limit for condition, limit in found.items()}
