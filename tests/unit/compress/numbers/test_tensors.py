from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skerry.compress import (
    INT8_WEIGHTS,
    UINT8_ACTIVATIONS,
    Range,
    Scheme,
    choose_range,
    quantize_tensor,
)
from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array


def ends(low: float | list[float], high: float | list[float]) -> Range:
    """Make a range of plain numbers."""
    return Range(low=np.asarray(low), high=np.asarray(high))


def test_halves_round_to_even() -> None:
    """Ties go to the even code, as QuantizeLinear has it."""
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    codes = quantize_tensor(values, Scheme(), ends(-127, 127)).values
    np.testing.assert_array_equal(codes, [0, 2, 2, 0, -2, -2])


@pytest.mark.parametrize(
    ("scheme", "lowest", "highest"),
    [
        (Scheme(), -128, 127),
        (Scheme(narrow=True), -127, 127),
        (Scheme(bits=4), -8, 7),
        (Scheme(signed=False), 0, 255),
        (Scheme(bits=16), -32768, 32767),
        (UINT8_ACTIVATIONS, 0, 255),
    ],
)
def test_numbers_beyond_the_range_saturate(
    scheme: Scheme, lowest: int, highest: int
) -> None:
    """The largest floats give the outermost codes, without wrapping around."""
    values = np.array([-3e38, 3e38], np.float32)
    codes = quantize_tensor(values, scheme, ends(-1, 1)).values
    assert codes.tolist() == [lowest, highest]
    assert codes.dtype == scheme.dtype


def test_zero_is_exact_and_zero_point_is_its_code() -> None:
    """Real zero becomes the zero point and comes back as zero."""
    quantized = quantize_tensor(
        np.array([0.0, 1.0], np.float32), UINT8_ACTIVATIONS, ends(-0.37, 1.21)
    )
    assert quantized.values[0] == quantized.zero_point
    assert quantized.dequantize()[0] == 0


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channels_are_quantized_like_tensors_of_their_own(axis: int) -> None:
    """A channel's codes and numbers do not depend on the other channels."""
    values = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)
    scheme = replace(UINT8_ACTIVATIONS, axis=axis)
    whole = quantize_tensor(values, scheme)
    assert whole.scale.shape == whole.zero_point.shape == (values.shape[axis],)
    for channel in range(values.shape[axis]):
        part = quantize_tensor(values.take(channel, axis), UINT8_ACTIVATIONS)
        np.testing.assert_array_equal(whole.values.take(channel, axis), part.values)
        np.testing.assert_array_equal(
            whole.dequantize().take(channel, axis), part.dequantize()
        )


def test_a_single_number_is_a_tensor() -> None:
    """Shape () goes in and comes out."""
    quantized = quantize_tensor(np.float32(-2.0), Scheme())  # type: ignore[arg-type]
    assert quantized.values.shape == quantized.dequantize().shape == ()
    assert quantized.dequantize() == -2


def test_values_are_left_as_they_were() -> None:
    """Neither the values nor the range given are changed."""
    values = np.array([0.2, -3.4], np.float32)
    quantize_tensor(values, Scheme(), ends(-1, 1))
    np.testing.assert_array_equal(values, np.array([0.2, -3.4], np.float32))


@pytest.mark.parametrize(
    ("scheme", "range_"),
    [
        (INT8_WEIGHTS, ends(-1, 1)),
        (INT8_WEIGHTS, ends([-1, -1, -1], [1, 1, 1])),
        (Scheme(), ends([-1, -1], [1, 1])),
    ],
)
def test_range_of_other_channels_is_refused(scheme: Scheme, range_: Range) -> None:
    """The range must have one entry a channel, or be a single one."""
    with pytest.raises(DataError, match="the range has shape"):
        quantize_tensor(np.ones((2, 4), np.float32), scheme, range_)


@pytest.mark.parametrize(
    "values",
    [np.array([1, 2]), np.array([]), np.array([np.nan]), np.array([None])],
)
def test_values_that_are_no_floats_are_refused(values: Array) -> None:
    """Integers, nothing, NaN and objects are refused even with a range."""
    with pytest.raises(DataError, match=r"^values: ") as caught:
        quantize_tensor(values, Scheme(), ends(-1, 1))
    assert caught.value.hint


def test_axis_that_is_not_there_is_refused() -> None:
    """The error comes before the range is looked at."""
    with pytest.raises(UsageError, match="axis is 1"):
        quantize_tensor(np.ones(3), Scheme(axis=1), ends([-1], [1]))


def test_chosen_range_and_default_range_agree() -> None:
    """Leaving the range out means choosing it from the values."""
    values = np.random.default_rng(5).normal(size=(4, 9)).astype(np.float32)
    scheme = replace(INT8_WEIGHTS, method="mse")
    by_hand = quantize_tensor(values, scheme, choose_range(values, scheme))
    np.testing.assert_array_equal(
        by_hand.values, quantize_tensor(values, scheme).values
    )
