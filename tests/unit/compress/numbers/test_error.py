from __future__ import annotations

import math

import numpy as np
import pytest

from skerry.compress import (
    INT8_WEIGHTS,
    UINT8_ACTIVATIONS,
    Range,
    Scheme,
    quantization_error,
    quantize_tensor,
)
from skerry.core.errors import DataError

INT8_WEIGHTS_FLAT = Scheme(narrow=True)


def ends(low: float, high: float) -> Range:
    """Make a range of plain numbers."""
    return Range(low=np.asarray(low), high=np.asarray(high))


def test_each_number_is_rounded_or_clipped() -> None:
    """By hand, with steps of one: beyond 127.5 is clipped, the rest is rounded."""
    values = np.array([0.25, -3.5, 127.25, 130.0, -131.0], np.float32)
    quantized = quantize_tensor(values, INT8_WEIGHTS_FLAT, ends(-127, 127))
    error = quantization_error(values, quantized)
    assert error.rounding == 0.0625 + 0.25 + 0.0625
    assert error.clipping == 9 + 16
    assert error.total == error.rounding + error.clipping


def test_representable_numbers_have_no_error() -> None:
    """Numbers on the steps come back exactly, and the ratio to no noise is infinite."""
    values = np.arange(-127, 128, dtype=np.float32) * 0.5
    error = quantization_error(values, quantize_tensor(values, INT8_WEIGHTS_FLAT))
    assert (error.total, error.wasted_range) == (0, 0)
    assert error.sqnr_db == math.inf


@pytest.mark.parametrize("scheme", [Scheme(), UINT8_ACTIVATIONS, Scheme(signed=False)])
def test_minmax_clips_nothing(scheme: Scheme) -> None:
    """The range of all samples leaves only rounding, ties at its ends included."""
    thirds = np.array([-1, 1 / 3, 1])
    for values in (
        np.random.default_rng(0).normal(size=999).astype(np.float32),
        *(thirds.astype(np.float32) * np.float32(size) for size in range(1, 300)),
    ):
        error = quantization_error(values, quantize_tensor(values, scheme))
        assert error.clipping == 0
        assert error.rounding > 0


def test_wasted_range_counts_codes_outside_those_used() -> None:
    """Two of the four codes lie above the highest used, in one channel of two."""
    values = np.array([[0.0, 1.0], [0.0, 3.0]], np.float32)
    scheme = Scheme(bits=2, signed=False, symmetric=False, axis=0)
    range_ = Range(low=np.zeros(2), high=np.array([3.0, 3.0]))
    error = quantization_error(values, quantize_tensor(values, scheme, range_))
    assert error.wasted_range == 0.25
    assert error.total == 0


def test_relu_wastes_half_of_a_symmetric_range() -> None:
    """Numbers of one sign leave the codes of the other unused."""
    values = np.linspace(0, 6, 100, dtype=np.float32)
    symmetric = quantization_error(values, quantize_tensor(values, INT8_WEIGHTS_FLAT))
    assert symmetric.wasted_range == pytest.approx(127 / 255)
    fitting = quantization_error(values, quantize_tensor(values, UINT8_ACTIVATIONS))
    assert fitting.wasted_range == 0


def test_sqnr_of_uniform_noise_is_six_decibels_a_bit() -> None:
    """For evenly spread numbers the ratio is about 6.02 dB a bit."""
    values = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    for bits in (4, 8, 12):
        scheme = Scheme(bits=bits, symmetric=False)
        error = quantization_error(values, quantize_tensor(values, scheme))
        assert error.sqnr_db == pytest.approx(6.02 * bits, abs=0.7)


def test_noise_without_signal_is_minus_infinity() -> None:
    """Codes that invent a signal are reported as infinitely bad."""
    quantized = quantize_tensor(np.ones(3, np.float32), Scheme())
    error = quantization_error(np.zeros(3, np.float32), quantized)
    assert error.sqnr_db == -math.inf


def test_other_shape_is_refused() -> None:
    """Values must be those that were quantized."""
    quantized = quantize_tensor(np.ones((2, 3), np.float32), INT8_WEIGHTS)
    with pytest.raises(DataError, match=r"\(3, 2\).*\(2, 3\)"):
        quantization_error(np.ones((3, 2), np.float32), quantized)


def test_nan_is_refused() -> None:
    """A sum over NaN would say nothing."""
    quantized = quantize_tensor(np.ones(3, np.float32), Scheme())
    with pytest.raises(DataError, match="1 of 3"):
        quantization_error(np.array([1.0, np.nan, 1.0]), quantized)
