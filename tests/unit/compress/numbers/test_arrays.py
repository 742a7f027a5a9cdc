from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.numbers.arrays import along_axis, as_floats, by_channel
from skerry.core.errors import DataError


def test_float32_is_taken_as_it_is() -> None:
    """Nothing is copied that need not be."""
    values = np.ones((2, 3), np.float32)
    assert as_floats(values, "values") is values
    assert as_floats(values.astype(">f4"), "values").dtype == np.float32


def test_the_error_counts_each_kind() -> None:
    """NaN, infinity and what is beyond float32 are told apart."""
    values = np.array([np.nan, np.inf, -np.inf, 1e39, 1.0])
    expected = r"^x: 4 of 5 .*\(1 NaN, 2 infinite, 1 beyond float32\)$"
    with pytest.raises(DataError, match=expected):
        as_floats(values, "x")


def test_integers_are_refused_unless_allowed() -> None:
    """Integers are numbers for the ends of a range, but not for a tensor."""
    assert as_floats(3, "low", allow_integers=True) == 3
    with pytest.raises(DataError, match="got dtype int64"):
        as_floats(np.array([3], np.int64), "values")
    with pytest.raises(DataError, match="got dtype bool"):
        as_floats(np.array([True]), "low", allow_integers=True)


def test_rows_are_channels_and_parameters_broadcast_over_them() -> None:
    """What is a row for choosing a range is a slice for applying it."""
    values = np.arange(24.0).reshape(2, 3, 4)
    rows = by_channel(values, 1)
    assert rows.shape == (3, 8)
    shifted = values - along_axis(rows.min(axis=1), values, 1)
    np.testing.assert_array_equal(shifted.min(axis=(0, 2)), 0)
    assert by_channel(values, None).shape == (1, 24)
