"""Target files: what is written is read, and garbage is refused politely."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from skerry.adapt.target_files import DTYPES, TARGET_SCHEMA, UNKNOWN, parse_target
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


def _written(target: Target) -> str:
    """Write a target as TOML; what is None is left out, or is `unknown` in a figure."""
    table = _without_none(msgspec.to_builtins(target))
    return tomli_w.dumps({"schema": TARGET_SCHEMA, **table})


def _without_none(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_none(one) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"value", "source"} and value["value"] is None:
        return {**value, "value": UNKNOWN}
    return {key: _without_none(one) for key, one in value.items() if one is not None}


@given(_targets)
def test_what_is_written_is_read(target: Target) -> None:
    """A target written as TOML comes back equal."""
    assert parse_target(_written(target).encode(), name="written") == target


@given(st.binary(max_size=200))
def test_bytes_are_refused_politely(content: bytes) -> None:
    """Arbitrary bytes are no target and raise nothing but a UsageError."""
    with pytest.raises(UsageError) as caught:
        parse_target(content, name="bytes")
    assert caught.value.hint


_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner),
    max_leaves=6,
)
_keys = st.sampled_from(
    ["name", "title", "processors", "operators_source", "rules", "kind", "limits"]
)


@given(st.dictionaries(_keys, _values | st.lists(st.dictionaries(_keys, _values))))
def test_tables_of_wrong_types_are_refused_politely(table: dict[str, Any]) -> None:
    """Known keys with arbitrary values raise nothing but a UsageError."""
    text = tomli_w.dumps({"schema": TARGET_SCHEMA, **table})
    with pytest.raises(UsageError) as caught:
        parse_target(text.encode(), name="table")
    assert caught.value.hint
