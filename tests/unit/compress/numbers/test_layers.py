from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skerry.compress import (
    INT8_ACTIVATIONS,
    INT8_WEIGHTS,
    UINT8_ACTIVATIONS,
    QuantizedLayer,
    Scheme,
    quantize_layer,
    quantize_tensor,
)
from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array

MATMUL = replace(INT8_WEIGHTS, axis=1)


def normal(*shape: int, seed: int = 11) -> Array:
    """Make bell-shaped numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run_in_integers(layer: QuantizedLayer, inputs: Array) -> Array:
    """Multiply as an integer kernel does: int32 sums, scaled once at the end."""
    zero_point = layer.activation_zero_point
    steps = np.rint(inputs / layer.activation_scale) + zero_point
    limits = layer.activation_scheme.qmin, layer.activation_scheme.qmax
    codes = np.clip(steps, *limits).astype(np.int64) - zero_point.astype(np.int64)
    weights = layer.weights.values.astype(np.int64) - layer.weights.zero_point
    sums = codes @ weights
    if layer.bias is not None:
        sums = sums + layer.bias
    return np.asarray(sums * layer.bias_scale.astype(float))


@pytest.mark.parametrize("activations", [UINT8_ACTIVATIONS, INT8_ACTIVATIONS])
@pytest.mark.parametrize(
    "scheme", [MATMUL, Scheme(), Scheme(axis=1, signed=False, symmetric=False)]
)
def test_integers_compute_what_floats_compute(
    scheme: Scheme, activations: Scheme
) -> None:
    """The layer run in integers is as near to the float layer as 8 bits allow."""
    weights, inputs, bias = normal(32, 10), np.abs(normal(200, 32, seed=1)), normal(10)
    layer = quantize_layer(weights, inputs, scheme, activations=activations, bias=bias)
    expected = inputs @ weights + bias
    error = run_in_integers(layer, inputs) - expected
    assert np.sqrt(np.mean(error**2)) < 0.02 * expected.std()


def test_three_arguments_are_enough_for_a_convolution() -> None:
    """Weights OIHW, calibration and scheme give codes and their parameters."""
    weights, inputs = normal(8, 3, 3, 3), normal(5, 3, 16, 16)
    layer = quantize_layer(weights, inputs, INT8_WEIGHTS)
    assert layer.weights.values.dtype == np.int8
    assert layer.weights.values.shape == weights.shape
    assert layer.weights.scale.shape == layer.weights.zero_point.shape == (8,)
    assert layer.activation_scale == np.float32(np.ptp(inputs).astype(float) / 255)
    assert layer.activation_zero_point.dtype == np.uint8
    assert layer.bias is None


def test_calibration_may_be_a_stream() -> None:
    """A generator of parts gives what one array gives."""
    weights, inputs = normal(8, 4), normal(60, 8)
    activations = replace(UINT8_ACTIVATIONS, method="mse")
    whole = quantize_layer(weights, inputs, MATMUL, activations=activations)
    parts = quantize_layer(
        weights,
        (inputs[i : i + 9] for i in range(0, 60, 9)),
        MATMUL,
        activations=activations,
    )
    assert whole.activation_scale == parts.activation_scale
    assert whole.activation_zero_point == parts.activation_zero_point


def test_bias_is_int32_at_the_scale_of_the_sum() -> None:
    """A bias comes back within half a unit, and weights are as without it."""
    weights, inputs, bias = normal(16, 6), normal(50, 16), normal(6) * 10
    layer = quantize_layer(weights, inputs, MATMUL, bias=bias)
    assert layer.bias is not None
    assert layer.bias.dtype == np.int32
    assert np.all(np.abs(layer.bias * layer.bias_scale - bias) <= layer.bias_scale)
    np.testing.assert_array_equal(
        layer.weights.values, quantize_tensor(weights, MATMUL).values
    )


@pytest.mark.parametrize(
    "scheme",
    [MATMUL, Scheme(axis=1, symmetric=False), Scheme(bits=4, axis=1), Scheme()],
)
def test_bias_beyond_int32_raises_the_scale(scheme: Scheme) -> None:
    """Dead channels with a large bias keep it, and the others keep their scale."""
    weights, inputs = normal(16, 4), normal(50, 16)
    weights[:, 1] *= np.float32(1e-12)
    weights[:, 2] = 0
    if scheme.axis is None:
        weights *= np.float32(1e-12)
    bias = np.array([1.0, -50.0, 1e9, 0.0], np.float32)
    layer = quantize_layer(weights, inputs, scheme, bias=bias)
    assert layer.bias is not None
    off = np.abs(layer.bias * layer.bias_scale.astype(float) - bias)
    assert np.all(off <= 0.5 * layer.bias_scale * (1 + 1e-6))
    if scheme.axis is not None:
        plain = quantize_tensor(weights, scheme)
        assert layer.weights.scale[0] == plain.scale[0]
        assert layer.weights.scale[1] > plain.scale[1]


@pytest.mark.parametrize("shape", [(5,), (1, 6), ()])
def test_bias_of_other_channels_is_refused(shape: tuple[int, ...]) -> None:
    """One number an output channel, in one row."""
    with pytest.raises(DataError, match="the bias has shape") as caught:
        quantize_layer(normal(16, 6), normal(9, 16), MATMUL, bias=np.ones(shape))
    assert caught.value.hint


def test_activations_along_an_axis_are_refused() -> None:
    """Integer sums need one scale for the whole input."""
    with pytest.raises(UsageError, match="axis 0"):
        quantize_layer(normal(4, 4), normal(9, 4), MATMUL, activations=Scheme(axis=0))


@pytest.mark.parametrize("which", ["weights", "samples", "bias"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_are_refused_by_name(which: str, bad: float) -> None:
    """The error says in which of the three arrays the NaN is."""
    arrays = {"weights": normal(4, 4), "samples": normal(9, 4), "bias": normal(4)}
    arrays[which].flat[0] = bad
    with pytest.raises(DataError, match=f"^{which}: 1 of"):
        quantize_layer(
            arrays["weights"], arrays["samples"], MATMUL, bias=arrays["bias"]
        )
