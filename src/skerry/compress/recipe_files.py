"""Recipes as TOML, schema `skerry.recipe/1`.

A recipe file looks like this:

schema = "skerry.recipe/1"

[[step]]
step = "quantize"
operators = "weights"
method = "percentile"
keep_float = ["Conv_3"]
"""

from __future__ import annotations

from dataclasses import is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import tomli_w

from skerry.core.config import parse_toml, read_toml
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.plugins import STEPS, TRAIN_STEPS, find, names
from skerry.core.recipe import ParamValue, Recipe, StepSpec

RECIPE_SCHEMA = "skerry.recipe/1"
_KEYS = ("schema", "step")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        UsageError: It cannot be read, is not TOML, or is no recipe.
    """
    return _from_table(read_toml(path), name=str(path))


def parse_recipe(content: bytes, *, name: str) -> Recipe:
    """Read a recipe from the bytes of a file.

    Raises:
        UsageError: It is not TOML, or no recipe; `name` says whose it is.
    """
    return _from_table(parse_toml(content, name=name), name=name)


def recipe_to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML."""
    steps = [{"step": step.name, **step.params} for step in recipe.steps]
    return tomli_w.dumps({"schema": RECIPE_SCHEMA, "step": steps})


def make_step(spec: StepSpec, group: str = STEPS) -> Any:
    """Make the step that a recipe names, its parameters checked.

    Args:
        spec: As a recipe holds it; nothing of it is believed.
        group: `STEPS` or `TRAIN_STEPS` of `skerry.core.plugins`.

    Returns:
        The step, of the class that is registered under its name.

    Raises:
        UsageError: There is no such step or parameter (the nearest known one is
            named), or the value of one is wrong.
        StateError: The step is registered but cannot be imported.
    """
    part = find(group, spec.name)
    known = list(signature(part).parameters)
    kinds = get_type_hints(part) if is_dataclass(part) else {}
    for key, value in spec.params.items():
        if key not in known:
            raise UsageError(
                f"the step {spec.name!r} has no parameter {key!r}",
                hint=did_you_mean(key, known),
            )
        if key in kinds:
            _check_kind(spec.name, key, value, kinds[key])
    return part(**spec.params)


def split_steps(recipe: Recipe) -> tuple[tuple[StepSpec, ...], tuple[StepSpec, ...]]:
    """Tell the steps that train from those that follow.

    Raises:
        UsageError: There is no step of a name, or one that trains comes after one that
            does not.
    """
    training, others = names(TRAIN_STEPS), names(STEPS)
    first: list[StepSpec] = []
    second: list[StepSpec] = []
    for spec in recipe.steps:
        if spec.name not in (*training, *others):
            raise UsageError(
                f"there is no step called {spec.name!r}",
                hint=did_you_mean(spec.name, [*training, *others]),
            )
        if spec.name in others:
            second.append(spec)
        elif second:
            raise UsageError(
                f"the step {spec.name!r} trains, and comes after {second[-1].name!r}, "
                "which changes the exported graph",
                hint="Put the steps that train first.",
            )
        else:
            first.append(spec)
    return tuple(first), tuple(second)


def _check_kind(step: str, key: str, value: ParamValue, kind: Any) -> None:
    """Check the type of a parameter; which words it may be the step itself says."""
    words = get_args(kind) if get_origin(kind) is Literal else ()
    try:
        msgspec.convert(value, type(words[0]) if words else kind)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"the parameter {key!r} of the step {step!r} is {value!r}: {error}",
            hint=f"Use one of {', '.join(map(str, words))}."
            if words
            else "Parameters are numbers, words, true or false, or lists of words.",
        ) from error


def _from_table(table: dict[str, Any], *, name: str) -> Recipe:
    for key in table:
        if key not in _KEYS:
            raise UsageError(
                f"{name}: unknown key {key!r}", hint=did_you_mean(key, _KEYS)
            )
    if table.get("schema") != RECIPE_SCHEMA:
        raise UsageError(
            f"{name} has schema {table.get('schema')!r}, expected {RECIPE_SCHEMA!r}",
            hint="A newer recipe needs a newer Skerry.",
        )
    steps = table.get("step", [])
    if not isinstance(steps, list):
        raise UsageError(f"{name}: step is no list", hint="Begin each with [[step]].")
    return Recipe(steps=tuple(_step(step, name) for step in steps))


def _step(table: object, name: str) -> StepSpec:
    if not isinstance(table, dict) or not isinstance(table.get("step"), str):
        raise UsageError(
            f'{name}: a step has no name, expected step = "…"',
            hint='The first line after [[step]] is such as: step = "quantize".',
        )
    params: dict[str, ParamValue] = {}
    for key, value in table.items():
        if key == "step":
            continue
        is_names = isinstance(value, list) and all(isinstance(v, str) for v in value)
        if not is_names and not isinstance(value, str | int | float | bool):
            raise UsageError(
                f"{name}: the parameter {key!r} is {type(value).__name__}",
                hint="Parameters are numbers, words, true or false, or lists of words.",
            )
        params[key] = value
    return StepSpec(name=table["step"], params=params)
