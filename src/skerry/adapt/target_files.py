"""Targets as files: TOML in which each figure names where it was read, word for word.

```toml
schema = "skerry.target/2"
name = "my-board"
title = "My board: an NPU beside a CPU"

[[processors]]                     # most wanted first
name = "npu"
kind = "npu"                       # cpu, gpu, npu or dsp

[processors.peak_gops]             # a figure, and the words that carry it
value = 512
source = "My NPU, data sheet, page 1"
url = "https://example.com/npu.pdf"
quote = "256 MACs per cycle at 1 GHz"
computed = "256 * 1 * 2"           # where the number itself is not in the quote
date = "2026-11-21"

[processors.memory_bytes]
value = "unknown"                  # nothing found: the source says where one looked
source = "My NPU, data sheet: not said"
url = "https://example.com/npu.pdf"
date = "2026-11-21"

[processors.operators_source]      # whence the rules
source = "My NPU, programmer's guide, table 3"
url = "https://example.com/guide.html"
quote = "The following operators are supported"
date = "2026-11-21"

[[processors.rules]]               # an operator runs if one rule that names it holds
operators = ["Conv"]
dtypes = ["int8"]
constant_weights = true
limits = [{ quantity = "strides", at_most = 3 }]

[[processors]]
name = "cpu"
kind = "cpu"
runs_everything = true

[[buses]]
between = ["npu", "cpu"]
```

Where the public table is partial or missing, `rules_complete = false`; what is known to
be refused all the same is named under `[[processors.refusals]]`, with its `evidence`.

The fields are those of `skerry.core.target`; a key that is none of them is refused.
Files of `skerry.target/1`, whose figures name a source and no more, are read too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from skerry.adapt.citations import citation_faults
from skerry.core.config import parse_toml, read_toml
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.target import (
    Bus,
    Citation,
    Figure,
    Limit,
    OperatorRule,
    Processor,
    Refusal,
    Sparsity,
    SparsityKind,
    Target,
)

TARGET_SCHEMA = "skerry.target/2"
FIRST_SCHEMA = "skerry.target/1"

UNKNOWN = "unknown"
"""Stands in a file for a figure's value that no document gives."""

TAKEN = frozenset({"", "unknown"})
"""Names that an audit gives to no processor, and to one that nobody knows."""

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
    return _from_document(target_document(name_or_path), name=str(name_or_path))


def target_document(name_or_path: str | Path) -> dict[str, Any]:
    """Read a target's file as it is written, without a look at what it says.

    Raises:
        UsageError: No such target, or the file is not TOML.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        return read_toml(Path(name_or_path))
    known = _built_in()
    if text not in known:
        raise UsageError(
            f"there is no target called {text!r}",
            hint=f"{did_you_mean(text, known)} Or give the path of a TOML file.",
        )
    return parse_toml(known[text].read_bytes(), name=text)


def parse_target(content: bytes, *, name: str) -> Target:
    """Parse the content of a target file.

    Args:
        content: TOML text in UTF-8.
        name: Whose it is, for messages.

    Raises:
        UsageError: It is not TOML, of another schema, has a key that is not known, a
            value of the wrong type, a figure whose words do not carry it, or
            contradicts itself.
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
    if schema not in (TARGET_SCHEMA, FIRST_SCHEMA):
        raise UsageError(
            f"{name}: schema is {schema!r}, expected {TARGET_SCHEMA!r}",
            hint=f'Begin the file with: schema = "{TARGET_SCHEMA}"',
        )
    if schema == FIRST_SCHEMA:
        table = _from_first(table)
    try:
        target = msgspec.convert(_checked(table, Target, where=name), Target)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{name}: {error}", hint="See the format in skerry.adapt.target_files."
        ) from error
    faults = _contradictions(target)
    if schema == TARGET_SCHEMA:
        faults += _citation_faults(target)
    for fault in faults:
        raise UsageError(f"{name}: {fault}", hint="Correct the file.")
    return target


def _from_first(table: dict[str, Any]) -> dict[str, Any]:
    """Move the one source of the first schema's operators to each processor."""
    words = table.pop("operators_source", None)
    processors = table.get("processors")
    if words is None or not isinstance(processors, list):
        return table
    return table | {
        "processors": [
            {"operators_source": {"source": words}, **one}
            if isinstance(one, Mapping)
            else one
            for one in processors
        ]
    }


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
    faults = [] if names else ["no processors, expected at least one"]
    faults += [f"two processors {name!r}" for name in names if names.count(name) > 1]
    faults += [
        f"no processor may be called {name!r}" for name in names if name in TAKEN
    ]
    for processor in target.processors:
        faults += [
            f"processor {processor.name!r}: {fault}"
            for fault in _processor_contradictions(processor, names)
        ]
    for bus in target.buses:
        faults += [
            f"a bus ends at {name!r}, which is no processor"
            for name in bus.between
            if name not in names
        ]
    faults += [
        f"{where}: {fault}"
        for where, citation in _citations(target)
        for fault in _value_faults(citation)
    ]
    return faults


def _processor_contradictions(processor: Processor, names: list[str]) -> list[str]:
    faults = []
    source = processor.operators_source
    if not processor.runs_everything:
        if not processor.rules and processor.rules_complete:
            faults.append(
                "no rules, and it does not run everything; where no operator table is "
                "public, say rules_complete = false"
            )
        if source is None:
            faults.append("no operators_source: say where its operators were read")
    shared = processor.shares_memory_with
    if shared is not None and (shared not in names or shared == processor.name):
        faults.append(f"shares memory with {shared!r}, which is no other processor")
    lists = [one.operators for one in processor.rules]
    lists += [one.operators for one in processor.refusals]
    if frozenset() in lists:
        faults.append("a rule without operators")
    for rule in processor.rules:
        named = ", ".join(sorted(rule.operators))
        faults += [
            f"rule for {named}: unknown dtype {dtype!r}. {did_you_mean(dtype, DTYPES)}"
            for dtype in sorted(rule.dtypes | (rule.weight_dtypes or frozenset()))
            if dtype not in DTYPES
        ]
        faults += [
            f"rule for {named}: a limit on {limit.quantity!r} that nothing can keep"
            for limit in rule.limits
            if _is_impossible(limit)
        ]
    return faults


def _citations(
    within: Target | Processor | OperatorRule | Refusal | Bus, where: str = ""
) -> Iterator[tuple[str, Citation]]:
    """Find every citation, with the way to it such as `npu: peak_gops`."""
    for field in fields(within):
        entry = getattr(within, field.name)
        for one in entry if isinstance(entry, tuple) else (entry,):
            if isinstance(one, Citation):
                yield f"{where}{field.name}", one
            elif isinstance(one, Processor):
                yield from _citations(one, f"{one.name}: ")
            elif isinstance(one, Bus):
                yield from _citations(one, f"bus {'-'.join(one.between)}: ")
            elif isinstance(one, OperatorRule | Refusal):
                named = ", ".join(sorted(one.operators))
                yield from _citations(one, f"{where}{field.name} of {named}: ")


def _citation_faults(target: Target) -> list[str]:
    """Say which citations cannot be read again."""
    unquoted = {
        id(processor.operators_source)
        for processor in target.processors
        if not processor.rules
    }
    faults = []
    for where, citation in _citations(target):
        faults += [f"{where}: {fault}" for fault in citation_faults(citation)]
        silent = isinstance(citation, Figure) or id(citation) in unquoted
        if isinstance(citation, Sparsity):
            silent = citation.kind is SparsityKind.UNKNOWN
        if not silent and not citation.quote.strip():
            faults.append(f"{where}: quote is empty: give the words that say so")
    return faults


def _value_faults(citation: Citation) -> list[str]:
    faults = []
    if not citation.source.strip():
        faults.append("it needs a source: name the document")
    value = citation.value if isinstance(citation, Figure) else None
    if value is not None and not (math.isfinite(value) and value > 0):
        faults.append(f"value is {value:g}, expected a number above 0")
    return faults


def _is_impossible(limit: Limit) -> bool:
    if limit.at_least is not None and limit.at_most is not None:
        return not limit.at_least <= limit.at_most
    return limit.one_of == ()
