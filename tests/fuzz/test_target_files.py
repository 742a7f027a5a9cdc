"""Target files: what is written is read, and garbage is refused politely."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skerry.adapt.target_files import DTYPES, UNKNOWN, parse_target
from skerry.core.errors import UsageError
from skerry.core.target import (
    Figure,
    Limit,
    OperatorRule,
    Processor,
    ProcessorKind,
    Take,
    Target,
)

_words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)
_figures = st.builds(
    Figure,
    value=st.none() | st.floats(min_value=1e-6, max_value=1e15),
    source=_words,
)
_limits = st.builds(
    Limit,
    quantity=_words,
    take=st.sampled_from(Take),
    at_least=st.none() | st.floats(0, 10),
    at_most=st.none() | st.floats(10, 20),
    one_of=st.none() | st.lists(_words | st.floats(0, 9), min_size=1).map(tuple),
)
_dtypes = st.frozensets(st.sampled_from(DTYPES), min_size=1)
_rules = st.builds(
    OperatorRule,
    operators=st.frozensets(_words, min_size=1),
    dtypes=_dtypes,
    weight_dtypes=st.none() | _dtypes,
    constant_weights=st.booleans(),
    max_rank=st.none() | st.integers(1, 8),
    limits=st.lists(_limits, max_size=2).map(tuple),
)
_processors = st.builds(
    Processor,
    name=_words,
    kind=st.sampled_from(ProcessorKind),
    runs_everything=st.booleans(),
    rules=st.lists(_rules, min_size=1, max_size=2).map(tuple),
    peak_gops=st.none() | _figures,
    memory_bytes=st.none() | _figures,
)
_targets = st.builds(
    Target,
    name=_words,
    title=_words,
    processors=st.lists(
        _processors, min_size=1, max_size=2, unique_by=lambda one: one.name
    ).map(tuple),
    operators_source=_words,
)


def _inline(value: Any) -> str:
    """Write a value as inline TOML; what is None is left out of its table."""
    if isinstance(value, Figure):
        shown = UNKNOWN if value.value is None else value.value
        return f"{{ value = {_inline(shown)}, source = {_inline(value.source)} }}"
    if isinstance(value, str):
        return json.dumps(str(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | frozenset):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    return "{ " + ", ".join(_pairs(value)) + " }"


def _pairs(one: Any) -> list[str]:
    return [
        f"{field.name} = {_inline(getattr(one, field.name))}"
        for field in fields(one)
        if getattr(one, field.name) is not None
    ]


@given(_targets)
def test_what_is_written_is_read(target: Target) -> None:
    """A target written as TOML comes back equal."""
    text = "\n".join(['schema = "skerry.target/1"', *_pairs(target)])
    assert parse_target(text.encode(), name="written") == target


@given(st.binary(max_size=200))
def test_bytes_are_refused_politely(content: bytes) -> None:
    """Arbitrary bytes are no target and raise nothing but a UsageError."""
    try:
        parse_target(content, name="bytes")
    except UsageError as error:
        assert error.hint
    else:
        raise AssertionError


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner),
    max_leaves=6,
)
_keys = st.sampled_from(
    ["name", "title", "processors", "operators_source", "rules", "kind", "limits"]
)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return _inline("" if value is None else value)


@given(st.dictionaries(_keys, _values | st.lists(st.dictionaries(_keys, _values))))
def test_tables_of_wrong_types_are_refused_politely(table: dict[str, Any]) -> None:
    """Known keys with arbitrary values raise nothing but a UsageError."""
    lines = [f"{key} = {_toml(value)}" for key, value in table.items()]
    text = "\n".join(['schema = "skerry.target/1"', *lines])
    try:
        parse_target(text.encode(), name="table")
    except UsageError as error:
        assert error.hint
    else:
        raise AssertionError
