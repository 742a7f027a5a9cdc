from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skerry.compress import INT8_WEIGHTS, Scheme, quantization_error, quantize_tensor
from skerry.compress.ptq.weight_ranges import least_error_range, quantize_weights
from skerry.core.errors import DataError
from skerry.graph import make_node, make_value

LEAST = replace(INT8_WEIGHTS, method="mse")


def conv() -> object:
    """A convolution that is in no graph."""
    values = [make_value(name, "float32", None or ()) for name in ("x", "w")]
    return make_node("Conv", values)


@pytest.mark.parametrize("axis", [0, None])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_error_is_never_above_that_of_minmax(axis: int | None, bits: int) -> None:
    """Per channel and per tensor; with outliers it is well below."""
    weights = np.random.default_rng(0).standard_t(3, (16, 9)).astype(np.float32)
    scheme = replace(LEAST, axis=axis, bits=bits)
    plain = quantize_tensor(weights, replace(scheme, method="minmax"))
    least = quantize_tensor(weights, scheme, least_error_range(weights, scheme))
    before = np.square(weights - plain.dequantize())
    after = np.square(weights - least.dequantize())
    if axis is not None:
        assert (after.sum(axis=1) <= before.sum(axis=1) + 1e-9).all()
    assert after.sum() < before.sum()
    assert quantization_error(weights, least).total == pytest.approx(after.sum())


def test_layers_are_quantized_by_their_method() -> None:
    """The scheme's own axis does not matter: the layer says where channels are."""
    weights = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    node = conv()
    for method in ("minmax", "mse"):
        scheme = replace(INT8_WEIGHTS, method=method, axis=None)
        each = quantize_weights(node, weights, scheme, per_channel=True)
        one = quantize_weights(node, weights, scheme, per_channel=False)
        assert (each.scale.shape, one.scale.shape) == ((4,), ())
    plain = quantize_weights(node, weights, INT8_WEIGHTS, per_channel=True)
    np.testing.assert_array_equal(
        plain.values, quantize_tensor(weights, INT8_WEIGHTS).values
    )


def test_zeros_have_a_range_too() -> None:
    """A channel of zeros stays one, with a scale that can be divided by."""
    weights = np.zeros((2, 4), np.float32)
    weights[1] = [1, -2, 3, 4]
    least = quantize_tensor(weights, LEAST, least_error_range(weights, LEAST))
    assert (least.scale > 0).all()
    assert not least.values[0].any()


def test_broken_weights_are_refused() -> None:
    """NaN is an error."""
    with pytest.raises(DataError, match="NaN"):
        least_error_range(np.full((2, 2), np.nan, np.float32), LEAST)


def test_four_bits_may_cut_off_most_of_the_range() -> None:
    """One weight of ten times the others is given up where codes are few."""
    weights = np.random.default_rng(6).normal(size=5000).astype(np.float32)
    weights[0] = 60
    scheme = Scheme(bits=4, narrow=True, method="mse")
    chosen = least_error_range(weights, scheme)
    assert chosen.high < 0.4 * 60
