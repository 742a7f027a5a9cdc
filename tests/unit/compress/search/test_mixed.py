from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.compress.search.mixed import (
    LEAST_SAVED,
    MOST_RETURNED,
    order_by_effect,
    slower_in_integers,
    smallest_set,
)


def test_effect_is_divided_by_cost() -> None:
    """Of two that hurt alike, the one that integers hardly speed up goes first."""
    errors = {"a": 0.1, "b": 0.1, "c": 0.001}
    saved = {"a": 0.2, "b": 0.01, "c": 0.3}
    assert order_by_effect(errors, saved) == ["b", "a", "c"]


def test_what_the_metric_loses_goes_before_what_moves_outputs() -> None:
    """A loss that was measured comes first; nothing lost leaves the order as it was."""
    errors = {"a": 0.3, "b": 0.2, "c": 0.1}
    assert order_by_effect(errors, {}, {"c": 0.05, "a": 0.0}) == ["c", "a", "b"]
    assert order_by_effect(errors, {}, {"a": 0.0}) == ["a", "b", "c"]
    assert order_by_effect(errors, {"c": 0.5}, {"c": 0.1, "b": 0.05})[0] == "b"


def test_one_that_integers_slow_down_costs_nothing() -> None:
    """Its error counts in full, however much slower it is."""
    errors = {"a": 0.1, "b": 0.2}
    assert order_by_effect(errors, {"a": -5.0, "b": -0.1}) == ["b", "a"]
    saved = {"a": -0.1, "b": LEAST_SAVED, "c": -1e-9, "d": -5.0}
    assert slower_in_integers(saved, {}) == ["d", "a"]
    assert slower_in_integers(saved, {"a": 0.2, "d": 0.2}) == ["d"]


def test_the_set_grows_until_it_holds_and_then_shrinks() -> None:
    """What holds is taken; what turns out needless is quantized again."""
    order = [f"n{k}" for k in range(20)]
    saved = dict.fromkeys(order, 0.05)
    tried: list[frozenset[str]] = []

    def holds(kept: frozenset[str]) -> bool:
        tried.append(kept)
        return {"n3", "n4"} <= kept

    found = smallest_set(order, saved, holds)
    assert found is not None
    assert [len(kept) for kept in tried[:4]] == [1, 2, 3, 5]
    assert found == {"n3", "n4"}
    assert len(tried) <= 4 + MOST_RETURNED + 1


@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.floats(0, 1))
def test_what_is_returned_was_seen_to_hold(
    size: int, needed: set[int], share: float
) -> None:
    """Whatever is needed: a set that was tried and holds, or none; never the source."""
    order = [f"n{k}" for k in range(size)]
    held: set[frozenset[str]] = set()

    def holds(kept: frozenset[str]) -> bool:
        assert kept
        is_enough = {f"n{k}" for k in needed} <= kept
        if is_enough:
            held.add(kept)
        return is_enough

    found = smallest_set(order, dict.fromkeys(order, share), holds)
    assert found in held if found is not None else not held
