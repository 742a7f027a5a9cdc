from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.compress.search.pareto import mark_pareto
from skerry.core.report import Attempt


def marks(attempts: list[Attempt], metric: str = "top1") -> list[bool]:
    """Say which of them are on the front."""
    marked = mark_pareto(attempts, metric=metric, source_bytes=100)
    return [one.pareto for one in marked]


def test_what_another_beats_is_not_on_the_front() -> None:
    """Worse in one figure and better in none; what has no accuracy is left out."""
    attempts = [
        Attempt(name="source", accuracy=0.9, latency_ratio=1.0),
        Attempt(name="small", accuracy=0.8, size_bytes=30, latency_ratio=0.5),
        Attempt(name="worse", accuracy=0.7, size_bytes=30, latency_ratio=0.5),
        Attempt(name="untimed", accuracy=0.75, size_bytes=20),
        Attempt(name="not tried"),
    ]
    assert marks(attempts) == [True, True, False, True, False]


def test_an_untimed_one_cannot_beat_a_timed_one() -> None:
    """It may be slow; a timed one can beat it though."""
    untimed = Attempt(name="a", accuracy=0.9, size_bytes=10)
    timed = Attempt(name="b", accuracy=0.8, size_bytes=20, latency_ratio=0.5)
    assert marks([untimed, timed]) == [True, True]
    better = Attempt(name="c", accuracy=0.95, size_bytes=10, latency_ratio=0.5)
    assert marks([untimed, better]) == [False, True]


def test_an_error_counts_the_other_way() -> None:
    """Of two errors the smaller is better."""
    attempts = [Attempt(name="a", accuracy=0.1), Attempt(name="b", accuracy=0.2)]
    assert marks(attempts, "character_error") == [True, False]
    assert marks(attempts) == [False, True]


def test_without_labels_nothing_is_marked() -> None:
    """There is no accuracy to compare."""
    attempts = (Attempt(name="a", size_bytes=3),)
    assert mark_pareto(attempts, metric=None, source_bytes=1) == attempts


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4)), min_size=1
    )
)
def test_the_front_is_never_empty(rows: list[tuple[int, int, int]]) -> None:
    """The best of some are beaten by none, and all else by one of them."""
    attempts = [
        Attempt(name="x", accuracy=a / 3, size_bytes=s, latency_ratio=t / 4)
        for a, s, t in rows
    ]
    assert any(marks(attempts))
