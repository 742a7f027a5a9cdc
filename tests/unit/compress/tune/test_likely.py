from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.tune.likely import Array, likely

TWO = np.array([[0.0], [1.0]])


def grid() -> list[Array]:
    """Four choices of two each, all combinations: 16 places."""
    rows = np.array(np.meshgrid(*[[0.0, 1.0]] * 4)).reshape(4, -1)
    return [row[:, None] for row in rows]


def test_what_was_measured_is_likely_where_it_was() -> None:
    """And nothing is known for sure, least of all far away."""
    places = grid()
    values = 3.0 + places[0][:, 0] - 2.0 * places[1][:, 0]
    found = likely([one[:8] for one in places], places, values[:8])
    assert found.mean[:8] == pytest.approx(values[:8], abs=0.1)
    assert (found.deviation > 0).all()
    assert found.deviation[:8].max() < found.deviation[8:].max()


def test_what_does_not_matter_is_learnt() -> None:
    """One choice decides: places that differ from it in others are known as well."""
    places = grid()
    values = 5.0 * places[2][:, 0]
    known = np.array([0, 1, 2, 4, 7, 8, 10, 13])
    others = np.setdiff1d(np.arange(16), known)
    found = likely(
        [one[known] for one in places], [one[others] for one in places], values[known]
    )
    assert found.mean == pytest.approx(values[others], abs=0.5)


def test_nothing_known_is_anything() -> None:
    """Values that are not known do not count; without any, zero as good as one."""
    found = likely([TWO], [TWO], np.array([np.nan, np.nan]))
    assert found.mean.tolist() == [0.0, 0.0]
    assert found.deviation.tolist() == [1.0, 1.0]
    found = likely([TWO], [TWO], np.array([np.nan, 7.0]))
    assert found.mean.tolist() == pytest.approx([7.0, 7.0])
