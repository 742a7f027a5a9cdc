"""Write what a probe learnt into a target's TOML file.

All else in the file stays as it is: the figures, and what they cite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import tomli_w

from skerry.core.target import Citation, Limit, OperatorCost, OperatorRule, Take

_REPLACED = frozenset({"refusals", "rules_complete"})
"""What a table that names all that runs makes void."""


def with_rules(
    document: Mapping[str, Any],
    processor: str,
    rules: Sequence[OperatorRule],
    source: Citation,
) -> dict[str, Any]:
    """Return a target file's content with another operator table.

    Args:
        document: The file's content.
        processor: The name of the processor whose table it is.
        rules: The new table.
        source: Who says so.
    """
    processors = [
        {
            **{key: kept for key, kept in one.items() if key not in _REPLACED},
            "operators_source": _without(source, ()),
            "rules": [rule_table(rule) for rule in rules],
        }
        if one.get("name") == processor
        else one
        for one in document["processors"]
    ]
    return {**document, "processors": processors}


def target_toml(document: Mapping[str, Any], *, remarks: Sequence[str]) -> str:
    """Write a target file; the remarks stand as comments before all else."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in remarks)
    return head + tomli_w.dumps(document)


def rule_table(rule: OperatorRule) -> dict[str, Any]:
    """One rule as TOML has it, without what is as by default."""
    table: dict[str, Any] = {
        "operators": sorted(rule.operators),
        "dtypes": sorted(rule.dtypes),
    }
    if rule.weight_dtypes is not None:
        table["weight_dtypes"] = sorted(rule.weight_dtypes)
    if rule.constant_weights:
        table["constant_weights"] = True
    if rule.max_rank is not None:
        table["max_rank"] = rule.max_rank
    if rule.limits:
        table["limits"] = [_limit_table(limit) for limit in rule.limits]
    if rule.cost is not None:
        table["cost"] = _without(rule.cost, (0.0, 0))
    return table


def _limit_table(limit: Limit) -> dict[str, Any]:
    table: dict[str, Any] = {"quantity": limit.quantity}
    if limit.take is not Take.EACH:
        table["take"] = limit.take.value
    for name in ("at_least", "at_most"):
        if (value := getattr(limit, name)) is not None:
            table[name] = _plain(value)
    if limit.one_of is not None:
        table["one_of"] = [_plain(one) for one in limit.one_of]
    return table


def _without(
    record: Citation | OperatorCost, left_out: tuple[float, ...]
) -> dict[str, Any]:
    """The fields of a record but for empty ones and those of some values."""
    return {
        name: _plain(value)
        for name, value in asdict(record).items()
        if value not in left_out and value != ""
    }


def _plain(value: Any) -> Any:
    """Whole numbers without a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
