from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress.search.ranking import Standing
from skerry.compress.tune.front import find_front, gains, hypervolume, nondominated
from tests.tuning import trial

SOURCE = Standing(latency=1.0, size_bytes=1000, drop=0.0)
costs = st.tuples(*[st.floats(0, 1.2)] * 3)


@settings(max_examples=40)
@given(rows=st.lists(costs, max_size=7))
def test_the_hypervolume_is_the_share_of_points_that_are_beaten(
    rows: list[tuple[float, float, float]],
) -> None:
    """Counted on random points of the cube."""
    points = np.random.default_rng(0).uniform(size=(4000, 3))
    beaten = np.zeros(len(points), np.bool_)
    for row in rows:
        beaten |= (points >= row).all(axis=1)
    assert hypervolume(rows, (1, 1, 1)) == pytest.approx(beaten.mean(), abs=0.05)


@given(rows=st.lists(costs, max_size=12))
def test_what_is_beaten_adds_nothing(rows: list[tuple[float, float, float]]) -> None:
    """The front alone covers what all cover."""
    front = [rows[k] for k in nondominated(rows)]
    assert hypervolume(front, (1, 1, 1)) == pytest.approx(hypervolume(rows, (1, 1, 1)))


@given(front=st.lists(costs, max_size=6), rows=st.lists(costs, min_size=1, max_size=6))
def test_a_gain_is_what_the_hypervolume_grows_by(
    front: list[tuple[float, float, float]], rows: list[tuple[float, float, float]]
) -> None:
    """Row by row, each without the others."""
    ends = (1, 1, 1)
    grown = [
        hypervolume([*front, row], ends) - hypervolume(front, ends) for row in rows
    ]
    assert gains(front, np.array(rows), ends) == pytest.approx(grown, abs=1e-9)


def test_the_front_leaves_out_what_is_beaten_or_refused() -> None:
    """The fastest of those that hold is chosen, and it is said why."""
    trials = [
        trial(0, 0.001, 0.6, 0.3),
        trial(1, 0.002, 0.7, 0.3),
        trial(2, 0.000, 0.9, 0.2),
        trial(3, 0.500, 0.1, 0.1),
    ]
    front = find_front(trials, "latency", SOURCE)
    assert [one.number for one in front.trials] == [0, 2]
    assert front.chosen == trials[0]
    assert "Trial 0 is the fastest of 3 that hold" in front.why
    assert "Trial 2 is the smallest" in front.why
    assert front.closest is None
    assert find_front(trials, "size", SOURCE).chosen == trials[2]


def test_where_nothing_holds_the_closest_is_named() -> None:
    """Of those that were measured, the one that breaks the budget least."""
    trials = [trial(0, 0.30, 0.5, 0.3), trial(1, 0.02, 0.5, 0.3)]
    front = find_front(trials, "latency", SOURCE)
    assert front.chosen is None
    assert front.closest == trials[1]
    assert front.why == "No recipe that was tried holds the budget."


def test_the_source_is_a_candidate() -> None:
    """What holds and is slower and larger than the source is not taken."""
    front = find_front([trial(0, 0.0, 1.4, 1.2)], "latency", SOURCE)
    assert front.chosen is None
    assert "better than the source" in front.why
