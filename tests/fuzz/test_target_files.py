"""Target files: what is written is read, and garbage is refused politely."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from skerry.adapt.citations import compute, numbers_in
from skerry.adapt.target_files import DTYPES, TARGET_SCHEMA, UNKNOWN, parse_target
from skerry.core.errors import DataError, UsageError
from skerry.core.target import (
    Bus,
    Citation,
    Figure,
    Limit,
    OperatorRule,
    Processor,
    ProcessorKind,
    Refusal,
    Sparsity,
    SparsityKind,
    Take,
    Target,
)

_words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)
_where = {
    "source": _words,
    "url": st.just("https://example.com/") | _words.map("https://example.com/".__add__),
    "date": st.dates().map(str),
}
_citations = st.builds(Citation, quote=_words, **_where)
_known = st.floats(min_value=1e-6, max_value=1e15).flatmap(
    lambda value: st.builds(
        Figure, value=st.just(value), quote=st.just(f"it is {value!r}."), **_where
    )
)
_unknown = st.builds(Figure, value=st.none(), quote=st.just(""), **_where)
_figures = _known | _unknown
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
    evidence=st.none() | _citations,
)
_processors = st.builds(
    Processor,
    name=_words.filter(lambda name: name != "unknown"),
    kind=st.sampled_from(ProcessorKind),
    runs_everything=st.booleans(),
    rules=st.lists(_rules, min_size=1, max_size=2).map(tuple),
    rules_complete=st.booleans(),
    refusals=st.lists(
        st.builds(
            Refusal, operators=st.frozensets(_words, min_size=1), evidence=_citations
        ),
        max_size=2,
    ).map(tuple),
    first_subgraph_only=st.booleans(),
    cache_bytes=st.none() | _figures,
    operators_source=_citations,
    peak_gops=st.none() | _figures,
    memory_bytes=st.none() | _figures,
    sparsity=st.none()
    | st.builds(Sparsity, kind=st.sampled_from(SparsityKind), quote=_words, **_where),
)


def _buses(processors: tuple[Processor, ...]) -> st.SearchStrategy[tuple[Bus, ...]]:
    if len(processors) < 2:
        return st.just(())
    names = tuple(one.name for one in processors)
    bus = st.builds(
        Bus, between=st.just(names), bandwidth_gb_s=_figures, energy_pj_byte=_figures
    )
    return st.lists(bus, max_size=1).map(tuple)


_targets = (
    st.lists(_processors, min_size=1, max_size=2, unique_by=lambda one: one.name)
    .map(tuple)
    .flatmap(
        lambda processors: st.builds(
            Target,
            name=_words,
            title=_words,
            processors=st.just(processors),
            buses=_buses(processors),
            power_mw=st.none() | _figures,
        )
    )
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
    if "value" in value and value["value"] is None:
        value = {**value, "value": UNKNOWN}
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
    [
        "name",
        "title",
        "processors",
        "buses",
        "rules",
        "kind",
        "limits",
        "power_mw",
        "refusals",
    ]
)


@given(st.dictionaries(_keys, _values | st.lists(st.dictionaries(_keys, _values))))
def test_tables_of_wrong_types_are_refused_politely(table: dict[str, Any]) -> None:
    """Known keys with arbitrary values raise nothing but a UsageError."""
    text = tomli_w.dumps({"schema": TARGET_SCHEMA, **table})
    with pytest.raises(UsageError) as caught:
        parse_target(text.encode(), name="table")
    assert caught.value.hint


@given(st.text(max_size=250) | st.text("0123456789.+-*/() e_", max_size=40))
def test_computations_are_refused_politely(expression: str) -> None:
    """Any text is computed to a number, or raises nothing but a DataError."""
    with contextlib.suppress(DataError):
        result, numbers = compute(expression)
        assert isinstance(result, float)
        assert numbers


@given(st.text(max_size=200))
def test_numbers_are_found_in_any_text(text: str) -> None:
    """Whatever the words, what is found are finite numbers."""
    assert all(math.isfinite(one) for one in numbers_in(text))
