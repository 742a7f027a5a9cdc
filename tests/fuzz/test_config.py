from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.config import from_table, parse_toml
from skerry.core.errors import UsageError
from skerry.core.target import Target

WORDS = [*b"a [ ] [[ ]] = ' \" 1 e \\u { }".split(), b"\n"]
TOML_LIKE = st.lists(st.sampled_from(WORDS) | st.binary(max_size=3)).map(b"".join)
KEYS = st.sampled_from(["name", "title", "processors", "operators_source", "kind", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6)
    ),
    max_leaves=12,
)


@given(st.binary() | TOML_LIKE)
def test_any_bytes_are_a_table_or_an_error_of_ours(content: bytes) -> None:
    """The parser never leaks another exception."""
    with contextlib.suppress(UsageError):
        assert isinstance(parse_toml(content, name="x"), dict)


@given(st.dictionaries(KEYS, VALUES))
def test_any_table_is_a_target_or_an_error_of_ours(table: dict[str, object]) -> None:
    """So does the conversion to a dataclass."""
    with contextlib.suppress(UsageError):
        assert isinstance(from_table(Target, table, name="x"), Target)
