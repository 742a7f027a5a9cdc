"""Search spaces as TOML, schema `skerry.search/1`.

A search file looks like this; a step without `search` varies all that it may be tuned
over, and what stands beside `step` is as it is:

schema = "skerry.search/1"

[[slot]]
optional = true

[[slot.step]]
step = "quantize"
operators = "weights"
search.method = ["minmax", "mse"]
search.smooth = { low = 0.0, high = 0.8 }

[[slot.step]]
step = "half"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.compress.tune.space import (
    SearchSpace,
    Slot,
    StepSpace,
    declared_space,
    step_defaults,
)
from skerry.core.config import from_table, parse_toml
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Choices, ParamValue, Space, Span

SEARCH_SCHEMA = "skerry.search/1"

_SLOT_KEYS = ("optional", "step")
_HINT = "See the module skerry.compress.tune.space_files for an example."


def parse_space(content: bytes, *, name: str) -> SearchSpace:
    """Read a search file.

    Args:
        content: Its bytes.
        name: Whose they are, for messages.

    Raises:
        UsageError: It is not TOML, of another schema, or names a step, a parameter or
            a range that there is not.
    """
    table = parse_toml(content, name=name)
    if table.pop("schema", None) != SEARCH_SCHEMA:
        raise UsageError(f"{name} is not of the schema {SEARCH_SCHEMA}", hint=_HINT)
    slots = table.pop("slot", None)
    if table:
        key = next(iter(table))
        raise UsageError(
            f"{name}: unknown key {key!r}", hint=did_you_mean(key, ("schema", "slot"))
        )
    if not isinstance(slots, list) or not slots:
        raise UsageError(f"{name} has no slot", hint="Begin each with [[slot]].")
    return SearchSpace(slots=tuple(_slot(one, name) for one in slots))


def _slot(table: object, name: str) -> Slot:
    if not isinstance(table, dict):
        raise UsageError(f"{name}: a slot is no table", hint=_HINT)
    for key in table:
        if key not in _SLOT_KEYS:
            raise UsageError(
                f"{name}: unknown key {key!r}", hint=did_you_mean(key, _SLOT_KEYS)
            )
    steps, optional = table.get("step"), table.get("optional", True)
    if not isinstance(steps, list) or not steps or not isinstance(optional, bool):
        raise UsageError(f"{name}: a slot needs steps, each [[slot.step]]", hint=_HINT)
    found = tuple(_step(one, name) for one in steps)
    if len({one.name for one in found}) < len(found):
        raise UsageError(
            f"{name}: a slot names a step twice", hint="Give one wider ranges."
        )
    return Slot(steps=found, may_skip=optional)


def _step(table: object, name: str) -> StepSpace:
    if not isinstance(table, dict) or not isinstance(table.get("step"), str):
        raise UsageError(f'{name}: a step has no name, step = "…"', hint=_HINT)
    step = table["step"]
    known = step_defaults(step)
    search = table.get("search")
    if search is not None and not isinstance(search, dict):
        raise UsageError(f"{name}: search of {step!r} is no table", hint=_HINT)
    fixed = {k: v for k, v in table.items() if k not in {"step", "search"}}
    for key in (*fixed, *(search or {})):
        if key not in known:
            raise UsageError(
                f"{name}: the step {step!r} has no parameter {key!r}",
                hint=did_you_mean(key, known),
            )
    own = declared_space(step) if search is None else _ranges(search, name, step)
    searched = {key: one for key, one in own.items() if key not in fixed}
    return StepSpace(name=step, fixed=_checked(fixed, name), searched=searched)


def _ranges(table: Mapping[str, Any], name: str, step: str) -> Space:
    found: dict[str, Choices | Span] = {}
    for key, value in table.items():
        where = f"{name}: {step}.{key}"
        if isinstance(value, list):
            found[key] = Choices(values=tuple(_value(one, where) for one in value))
        elif isinstance(value, dict):
            found[key] = from_table(Span, value, name=where)
        else:
            found[key] = Choices(values=(_value(value, where),))
    return found


def _checked(fixed: Mapping[str, Any], name: str) -> dict[str, ParamValue]:
    return {key: _value(value, f"{name}: {key}") for key, value in fixed.items()}


def _value(value: object, where: str) -> ParamValue:
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    raise UsageError(
        f"{where} is {type(value).__name__}",
        hint="Values are numbers, words, true or false, or lists of words.",
    )
