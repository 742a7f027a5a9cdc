"""Dimensions that stay neighbours are one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skerry.adapt.rewrite.transposes import merge


def test_neighbours_are_joined() -> None:
    """Height and width move together: three dimensions, not five."""
    shape, order = merge((1, 3, 4, 5, 1), [0, 2, 3, 4, 1])
    assert (shape, order) == ((3, 20), [1, 0])


def test_a_transpose_of_ones_is_none() -> None:
    """Nothing is left to move."""
    assert merge((1, 1), [1, 0]) == ((1,), [0])


@given(st.integers(1, 6).flatmap(lambda n: st.permutations(range(n))), st.randoms())
def test_merging_moves_the_same_numbers(order: list[int], random: object) -> None:
    """The transpose of what was joined is that of the whole, number by number."""
    shape = tuple(random.randint(1, 3) for _ in order)  # type: ignore[attr-defined]
    x = np.arange(np.prod(shape)).reshape(shape)
    merged, merged_order = merge(shape, order)
    got = x.reshape(merged).transpose(merged_order)
    np.testing.assert_array_equal(got.ravel(), x.transpose(order).ravel())
