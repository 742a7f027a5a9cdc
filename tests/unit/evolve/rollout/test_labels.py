from __future__ import annotations

from collections.abc import Mapping

import pytest

from skerry.core.errors import UsageError
from skerry.evolve.rollout.labels import LONGEST_QUERY, Query, parse_query

FLEET: Mapping[str, Mapping[str, str]] = {
    "a": {"site": "oslo", "model": "x1", "tier": "prod"},
    "b": {"site": "oslo", "model": "x2", "tier": "test"},
    "c": {"site": "bergen", "model": "x1", "retired": ""},
    "d": {},
}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", "abcd"),
        ("site=oslo", "ab"),
        ("site==oslo", "ab"),
        ("site!=oslo", "cd"),
        ("site in (oslo,bergen)", "abc"),
        ("site in ( oslo , bergen ) , model=x1", "ac"),
        ("site notin (oslo)", "cd"),
        ("retired", "c"),
        ("!retired", "abd"),
        ("retired=", "c"),
        ("site=oslo,tier!=test,model in (x1,x2),!retired", "a"),
        (" site = oslo ", "ab"),
    ],
)
def test_a_query_means_what_kubernetes_means(text: str, meant: str) -> None:
    """Each kind of requirement; `!=` and `notin` hold where there is no such label."""
    query = parse_query(text)
    assert "".join(name for name in FLEET if query.matches(FLEET[name])) == meant


@pytest.mark.parametrize(
    "text",
    ["=", "a=b,", "a=b,,c", "a in b", "a in (b", "a=b c", "a in (b;c)", "(", "a b"],
)
def test_what_is_no_query_shows_where_it_goes_wrong(text: str) -> None:
    """The message holds the rest that makes no sense."""
    with pytest.raises(UsageError, match="label query"):
        parse_query(text)


def test_a_query_has_a_limit() -> None:
    """A text without end is refused unread."""
    with pytest.raises(UsageError, match="characters"):
        parse_query("a," * LONGEST_QUERY)
    assert parse_query("  ") == Query()
