"""Targets as files: TOML in which each figure names where it was read.

```toml
schema = "skerry.target/1"
name = "my-board"
title = "My board: an NPU beside a CPU"
operators_source = "My NPU, programmer's guide, table 3"

[[processors]]                     # most wanted first
name = "npu"
kind = "npu"                       # cpu, gpu, npu or dsp
peak_gops = { value = 512, source = "My NPU, data sheet, page 1" }
memory_bytes = { value = "unknown", source = "not published" }

[[processors.rules]]               # an operator runs if one rule that names it holds
operators = ["Conv"]
dtypes = ["int8"]
constant_weights = true
limits = [{ quantity = "strides", at_most = 3 }]

[[processors]]
name = "cpu"
kind = "cpu"
runs_everything = true
shares_memory_with = "npu"
```

The fields are those of `skerry.core.target`; a key that is none of them is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from skerry.core.config import parse_toml, read_toml
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.target import Figure, Limit, Processor, Target

TARGET_SCHEMA = "skerry.target/1"

UNKNOWN = "unknown"
"""Stands in a file for a figure's value that no document gives."""

DTYPES = (
    "bool",
    "bfloat16",
    "float16",
    "float32",
    "float64",
    "int4",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint4",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
)
"""The dtype names that an operator rule may list."""


def target_names() -> list[str]:
    """Name the targets that come with Skerry, sorted."""
    return sorted(_built_in())


def load_target(name_or_path: str | Path) -> Target:
    """Load a target that comes with Skerry, or one from a file of the user's.

    Args:
        name_or_path: One of `target_names()`, or the path of a TOML file: a `Path`,
            or text that ends in `.toml` or holds a separator.

    Raises:
        UsageError: No such target, or the file is not a target.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        return _from_document(read_toml(Path(name_or_path)), name=text)
    known = _built_in()
    if text not in known:
        raise UsageError(
            f"there is no target called {text!r}",
            hint=f"{did_you_mean(text, known)} Or give the path of a TOML file.",
        )
    return parse_target(known[text].read_bytes(), name=text)


def parse_target(content: bytes, *, name: str) -> Target:
    """Parse the content of a target file.

    Args:
        content: TOML text in UTF-8.
        name: Whose it is, for messages.

    Raises:
        UsageError: It is not TOML, of another schema, has a key that is not known, a
            value of the wrong type, a figure without a source, or contradicts itself.
    """
    return _from_document(parse_toml(content, name=name), name=name)


def _built_in() -> dict[str, Traversable]:
    folder = files("skerry.adapt") / "targets"
    return {
        entry.name.removesuffix(".toml"): entry
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }


def _from_document(document: Mapping[str, Any], *, name: str) -> Target:
    table = dict(document)
    schema = table.pop("schema", None)
    if schema != TARGET_SCHEMA:
        raise UsageError(
            f"{name}: schema is {schema!r}, expected {TARGET_SCHEMA!r}",
            hint=f'Begin the file with: schema = "{TARGET_SCHEMA}"',
        )
    try:
        target = msgspec.convert(_checked(table, Target, where=name), Target)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{name}: {error}", hint="See the format in skerry.adapt.target_files."
        ) from error
    for problem in _contradictions(target):
        raise UsageError(f"{name}: {problem}", hint="Correct the file.")
    return target


def _checked(table: object, wanted: type, *, where: str) -> object:
    """Refuse unknown keys at every depth; `unknown` values of figures become None."""
    if not isinstance(table, Mapping):
        return table  # not a table: msgspec says what it should have been
    hints = get_type_hints(wanted)
    known = [field.name for field in fields(wanted)]
    checked = {}
    for key, entry in table.items():
        if key not in known:
            raise UsageError(
                f"{where}: unknown key {key!r}", hint=did_you_mean(key, known)
            )
        inner = _dataclass_within(hints[key])
        if inner is None:
            checked[key] = entry
        elif isinstance(entry, list):
            checked[key] = [
                _checked(item, inner, where=f"{where}, {key}[{index}]")
                for index, item in enumerate(entry)
            ]
        else:
            checked[key] = _checked(entry, inner, where=f"{where}, {key}")
    if wanted is Figure and checked.get("value") == UNKNOWN:
        checked["value"] = None
    return checked


def _dataclass_within(hint: Any) -> type | None:
    """Find the dataclass in `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    if get_origin(hint) in (UnionType, tuple):
        for argument in get_args(hint):
            if (found := _dataclass_within(argument)) is not None:
                return found
    return None


def _contradictions(target: Target) -> list[str]:
    """Say what is well-formed and yet cannot be meant."""
    names = [processor.name for processor in target.processors]
    problems = [] if names else ["no processors, expected at least one"]
    problems += [f"two processors {name!r}" for name in names if names.count(name) > 1]
    if not target.operators_source.strip():
        problems.append("operators_source is empty: say where the table was read")
    for processor in target.processors:
        problems += [
            f"processor {processor.name!r}: {problem}"
            for problem in _processor_contradictions(processor, names)
        ]
    return problems


def _processor_contradictions(processor: Processor, names: list[str]) -> list[str]:
    problems = []
    if not processor.rules and not processor.runs_everything:
        problems.append("no rules, and it does not run everything")
    shared = processor.shares_memory_with
    if shared is not None and (shared not in names or shared == processor.name):
        problems.append(f"shares memory with {shared!r}, which is no other processor")
    for field in fields(processor):
        figure = getattr(processor, field.name)
        if isinstance(figure, Figure):
            problems += [
                f"{field.name}: {problem}" for problem in _figure_faults(figure)
            ]
    for rule in processor.rules:
        named = ", ".join(sorted(rule.operators))
        if not rule.operators:
            problems.append("a rule without operators")
        problems += [
            f"rule for {named}: unknown dtype {dtype!r}. {did_you_mean(dtype, DTYPES)}"
            for dtype in sorted(rule.dtypes | (rule.weight_dtypes or frozenset()))
            if dtype not in DTYPES
        ]
        problems += [
            f"rule for {named}: a limit on {limit.quantity!r} that nothing can keep"
            for limit in rule.limits
            if _is_impossible(limit)
        ]
    return problems


def _figure_faults(figure: Figure) -> list[str]:
    faults = []
    if not figure.source.strip():
        faults.append("a figure needs a source: name the document or URL")
    if figure.value is not None and not (
        math.isfinite(figure.value) and figure.value > 0
    ):
        faults.append(f"value is {figure.value:g}, expected a number above 0")
    return faults


def _is_impossible(limit: Limit) -> bool:
    if limit.at_least is not None and limit.at_most is not None:
        return not limit.at_least <= limit.at_most
    return limit.one_of == ()
