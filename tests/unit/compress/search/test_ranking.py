from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compress.search.ranking import Standing, best
from skerry.compress.search.timing import TIE

SOURCE = Standing(latency=1.0, size_bytes=1000, drop=0.0)


def standing(latency: float, size_bytes: int = 300, drop: float = 0.0) -> Standing:
    """A candidate that holds."""
    return Standing(latency=latency, size_bytes=size_bytes, drop=drop)


def test_the_fastest_is_chosen() -> None:
    """A tenth less time is worth any size below the source's."""
    assert best([standing(0.9, 100), standing(0.8, 900)], SOURCE, "latency") == 1


def test_of_two_as_fast_the_smaller_is_chosen() -> None:
    """Less than two per cent of time is none; the source itself can lose that way."""
    assert best([standing(0.800, 400), standing(0.805, 300)], SOURCE, "latency") == 1
    assert best([standing(1.01, 500)], SOURCE, "latency") == 0


def test_a_slower_one_is_not_returned() -> None:
    """The source is better than anything slower, however small that is."""
    assert best([standing(1.1, 1)], SOURCE, "latency") == -1
    assert best([], SOURCE, "latency") == -1


def test_size_may_be_asked_for() -> None:
    """Then time decides only between files of one size."""
    rivals = [standing(0.5, 400), standing(1.7, 300), standing(1.2, 300)]
    assert best(rivals, SOURCE, "size") == 2


def test_accuracy_may_be_asked_for() -> None:
    """The least loss, of what brings anything at all."""
    rivals = [standing(0.5, drop=0.01), standing(0.9, drop=0.001), standing(2.0)]
    assert best(rivals, SOURCE, "accuracy") == 1
    assert best([standing(2.0)], SOURCE, "accuracy") == -1


@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(1, 2000))))
def test_nothing_slower_is_ever_chosen_by_latency(
    rivals: list[tuple[float, int]],
) -> None:
    """Whatever there is, the choice takes no longer than the source, but for a tie."""
    index = best([standing(*rival) for rival in rivals], SOURCE, "latency")
    assert index == -1 or rivals[index][0] <= 1 + TIE
    fastest = min([1.0, *(latency for latency, _ in rivals)])
    chosen = 1.0 if index == -1 else rivals[index][0]
    assert chosen <= fastest * (1 + TIE) or chosen == pytest.approx(fastest)
