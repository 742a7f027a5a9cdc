from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import UsageError
from skerry.evolve.rollout.gates import parse_metric_gate
from skerry.evolve.rollout.labels import parse_query
from skerry.evolve.window import parse_window

KEYS = st.from_regex(r"\A[a-z][a-z0-9./-]{0,8}\Z").filter(
    lambda key: key not in {"in", "notin"}
)
VALUES = st.from_regex(r"\A[\w.:/+-]{0,8}\Z")
LABELS = st.dictionaries(KEYS, VALUES, max_size=4)
SYNTAX = st.text(alphabet="ab=!,() in.notx<>*12e-:\t\n", max_size=40)


@given(text=st.text(max_size=60) | SYNTAX, labels=LABELS)
def test_any_text_is_a_query_or_is_refused(text: str, labels: dict[str, str]) -> None:
    """No text makes the readers of what people type fail otherwise."""
    for read in (parse_query, parse_metric_gate, parse_window):
        try:
            read(text)
        except UsageError:
            continue
    try:
        query = parse_query(text)
    except UsageError:
        return
    assert query.matches(labels) in {True, False}


@given(
    key=KEYS, value=VALUES, values=st.lists(VALUES, min_size=1, max_size=3), here=LABELS
)
def test_each_requirement_and_its_contrary(
    key: str, value: str, values: list[str], here: dict[str, str]
) -> None:
    """For any labels exactly one of a requirement and its contrary holds."""
    many = ",".join(values)
    for one, other in (
        (f"{key}={value}", f"{key}!={value}"),
        (f"{key} in ({many})", f"{key} notin ({many})"),
        (key, f"!{key}"),
    ):
        assert parse_query(one).matches(here) != parse_query(other).matches(here)
    assert parse_query(f"{key}={value}").matches(here) == (here.get(key) == value)
