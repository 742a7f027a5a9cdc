from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skerry.compress import (
    QuantizedTensor,
    Range,
    Scheme,
    choose_range,
    quantization_error,
    quantize_layer,
    quantize_tensor,
    scale_and_zero_point,
)
from skerry.core.seams import Array

LARGEST = float(np.finfo(np.float32).max) / 2
OPSET = 21
IR_VERSION = 10

shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
numbers = st.floats(-LARGEST, LARGEST, width=32) | st.floats(-4, 4, width=32)
arrays = hnp.arrays(np.float32, shapes, elements=numbers)
whole_schemes = st.builds(
    Scheme,
    bits=st.integers(2, 16),
    signed=st.booleans(),
    symmetric=st.booleans(),
    narrow=st.booleans(),
    method=st.sampled_from(["minmax", "percentile", "mse", "entropy"]),
    percentile=st.sampled_from([99.0, 99.99, 100.0]),
)


@st.composite
def quantizable(draw: st.DrawFn) -> tuple[Array, Scheme]:
    """Draw a tensor, and a scheme with no axis or one of the tensor's."""
    values = draw(arrays)
    axis = draw(st.none() | st.integers(-values.ndim, values.ndim - 1))
    return values, replace(draw(whole_schemes), axis=axis)


@st.composite
def with_range(draw: st.DrawFn) -> tuple[Array, Scheme, Range]:
    """Draw a tensor, a scheme, and a range that need not fit the tensor."""
    values, scheme = draw(quantizable())
    shape = () if scheme.axis is None else (values.shape[scheme.axis],)
    limits = st.floats(0, LARGEST, width=32) | st.floats(0, 8, width=32)
    low, high = (draw(hnp.arrays(np.float32, shape, elements=limits)) for _ in "lh")
    return values, scheme, Range(low=-low, high=high)


@given(with_range())
def test_codes_and_numbers_are_those_of_onnxruntime(
    drawn: tuple[Array, Scheme, Range],
) -> None:
    """QuantizeLinear and DequantizeLinear give the same bits, whatever the numbers."""
    assert_same_as_onnxruntime(*drawn)


@given(whole_schemes, st.floats(2.0**-40, 2.0**40, width=32))
@settings(max_examples=300)
def test_near_ties_round_as_in_onnxruntime(scheme: Scheme, high: float) -> None:
    """Halfway between two codes, and one float32 to either side, to the same code.

    Dividing by the scale and multiplying by its reciprocal differ just there.
    """
    range_ = Range(low=np.asarray(-high / 3), high=np.asarray(high))
    scale, _ = scale_and_zero_point(range_, scheme)
    ties = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) * scale
    sides = [np.nextafter(ties, np.float32(end)) for end in (-np.inf, np.inf)]
    assert_same_as_onnxruntime(np.concatenate([ties, *sides]), scheme, range_)


def assert_same_as_onnxruntime(values: Array, scheme: Scheme, range_: Range) -> None:
    """Compare codes, and the numbers they stand for, bit for bit."""
    quantized = quantize_tensor(values, scheme, range_)
    rank, axis = (values.ndim, scheme.axis) if scheme.axis is not None else (None, None)
    reference = {"scale": quantized.scale, "zero": quantized.zero_point}
    both = qdq_session(scheme.dtype.name, rank, axis)
    (codes,) = both["quantize"].run(None, {"x": values, **reference})
    # Fewer bits, or one code less, saturate sooner than the dtype does.
    codes = np.clip(codes, scheme.qmin, scheme.qmax)
    np.testing.assert_array_equal(quantized.values, codes)
    (back,) = both["dequantize"].run(None, {"x": quantized.values, **reference})
    np.testing.assert_array_equal(quantized.dequantize(), back)


@cache
def qdq_session(
    dtype: str, rank: int | None, axis: int | None
) -> dict[str, ort.InferenceSession]:
    """Make the two operators as models, with the scale and zero point as inputs."""
    code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    real = onnx.TensorProto.FLOAT
    sessions = {}
    for name, operator, source, target in (
        ("quantize", "QuantizeLinear", real, code),
        ("dequantize", "DequantizeLinear", code, real),
    ):
        per_channel = [] if axis is None else ["channels"]
        shape = None if rank is None else [None] * rank
        attributes = {} if axis is None else {"axis": axis}
        inputs = [
            onnx.helper.make_tensor_value_info("x", source, shape),
            onnx.helper.make_tensor_value_info("scale", real, per_channel),
            onnx.helper.make_tensor_value_info("zero", code, per_channel),
        ]
        output = onnx.helper.make_tensor_value_info("y", target, shape)
        node = onnx.helper.make_node(
            operator, ["x", "scale", "zero"], ["y"], **attributes
        )
        model = onnx.helper.make_model(
            onnx.helper.make_graph([node], name, inputs, [output]),
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        sessions[name] = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    return sessions


@given(quantizable())
def test_chosen_range_holds_zero_and_lies_within_the_samples(
    drawn: tuple[Array, Scheme],
) -> None:
    """Zero is in it, and no method goes beyond the largest number (or zero)."""
    values, scheme = drawn
    chosen = choose_range(values, scheme)
    assert np.all((chosen.low <= 0) & (chosen.high >= 0))
    whole = choose_range(values, replace(scheme, method="minmax"))
    assert np.all((whole.low <= chosen.low) & (chosen.high <= whole.high))
    if scheme.symmetric:
        np.testing.assert_array_equal(chosen.low, -chosen.high)


@given(quantizable())
def test_zero_is_exact(drawn: tuple[Array, Scheme]) -> None:
    """Whatever else is in the tensor, zero comes back as zero."""
    values, scheme = drawn
    values.flat[0] = 0
    assert quantize_tensor(values, scheme).dequantize().flat[0] == 0


@given(quantizable())
def test_minmax_keeps_each_number_within_half_a_step(
    drawn: tuple[Array, Scheme],
) -> None:
    """Nothing is clipped, and rounding moves no number by more than half a step."""
    values, scheme = drawn
    quantized = quantize_tensor(values, replace(scheme, method="minmax"))
    assert np.all(distance(values, quantized) <= half_step(values, quantized))
    assert quantization_error(values, quantized).clipping == 0


@given(with_range())
def test_only_clipped_numbers_are_off_by_more_than_half_a_step(
    drawn: tuple[Array, Scheme, Range],
) -> None:
    """Clipping is the error of the numbers beyond reach, rounding that of the rest."""
    values, scheme, range_ = drawn
    quantized = quantize_tensor(values, scheme, range_)
    error = quantization_error(values, quantized)
    assert error.total == error.rounding + error.clipping
    assert min(error.rounding, error.clipping, error.wasted_range) >= 0
    assert error.wasted_range < 1
    off = distance(values, quantized)
    near = off <= half_step(values, quantized)
    np.testing.assert_allclose(error.rounding, (off[near] ** 2).sum(), rtol=1e-9)
    np.testing.assert_allclose(error.clipping, (off[~near] ** 2).sum(), rtol=1e-9)


@given(with_range())
def test_representable_numbers_have_no_error(
    drawn: tuple[Array, Scheme, Range],
) -> None:
    """What came out of the codes once goes through them unchanged."""
    values, scheme, range_ = drawn
    once = quantize_tensor(values, scheme, range_)
    again = quantize_tensor(once.dequantize(), scheme, range_)
    np.testing.assert_array_equal(once.values, again.values)
    assert quantization_error(once.dequantize(), again).total == 0


@given(with_range())
def test_scale_can_be_divided_by_and_ends_are_finite(
    drawn: tuple[Array, Scheme, Range],
) -> None:
    """A scale is a normal float32, and the outermost codes stand for finite numbers."""
    _, scheme, range_ = drawn
    scale, zero_point = scale_and_zero_point(range_, scheme)
    assert scale.dtype == np.float32
    assert np.all(scale >= np.finfo(np.float32).tiny)
    assert zero_point.dtype == scheme.dtype
    assert np.all((zero_point >= scheme.qmin) & (zero_point <= scheme.qmax))
    for code in (scheme.qmin, scheme.qmax):
        assert np.isfinite((code - zero_point.astype(np.float32)) * scale).all()


@given(st.integers(0, 10**6), whole_schemes, st.sampled_from("nlut"))
@settings(max_examples=40)
def test_mse_range_is_no_worse_than_minmax(
    seed: int, scheme: Scheme, shape: str
) -> None:
    """On the samples it was chosen from, the error is at most that of minmax.

    The histogram takes numbers as evenly spread in their bin, so what it finds no
    worse can be worse by the noise of that: with this many numbers far below 1 %.
    """
    rng = np.random.default_rng(seed)
    draws = {"n": rng.normal, "l": rng.laplace, "u": rng.uniform}
    count = 20_000
    drawn = draws[shape](size=count) if shape in draws else rng.standard_t(3, count)
    values = drawn.astype(np.float32)

    def error(scheme: Scheme) -> float:
        return quantization_error(values, quantize_tensor(values, scheme)).total

    whole = error(replace(scheme, method="minmax"))
    assert error(replace(scheme, method="mse")) <= whole * 1.01


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(-12, 12), min_size=2, max_size=6),
    whole_schemes,
)
@settings(max_examples=40)
def test_channels_of_their_own_are_no_worse_than_one_scale(
    seed: int, exponents: list[float], scheme: Scheme
) -> None:
    """With minmax, a scale a channel has at most the error of one for all.

    Steps are no larger then, but a single number may by chance lie nearer to one of
    the larger steps; over this many numbers chance is below 5 %.
    """
    sizes = np.exp2(exponents)[:, None]
    values = np.random.default_rng(seed).normal(size=(len(exponents), 8000)) * sizes
    one = replace(scheme, method="minmax")
    errors = [
        quantization_error(values, quantize_tensor(values, chosen)).total
        for chosen in (replace(one, axis=0), one)
    ]
    assert errors[0] <= errors[1] * 1.05


@given(
    hnp.arrays(np.float32, (4, 3), elements=st.floats(-1e6, 1e6, width=32)),
    hnp.arrays(np.float32, (3,), elements=st.floats(-(2.0**90), 2.0**90, width=32)),
    whole_schemes,
    st.sampled_from([None, 1]),
)
def test_a_bias_always_fits_int32(
    weights: Array, bias: Array, scheme: Scheme, axis: int | None
) -> None:
    """However large the bias, it comes back within half a unit."""
    inputs = np.linspace(-1, 3, 50, dtype=np.float32)
    layer = quantize_layer(weights, inputs, replace(scheme, axis=axis), bias=bias)
    assert layer.bias is not None
    unit = layer.bias_scale.astype(float)
    off = np.abs(layer.bias * unit - bias.astype(float))
    assert np.all(off <= unit * 0.5 * (1 + 1e-9))


@given(quantizable(), st.integers(1, 4))
def test_samples_may_come_in_any_number_of_parts(
    drawn: tuple[Array, Scheme], parts: int
) -> None:
    """A stream of pieces gives the range of the whole."""
    values, scheme = drawn
    other = 0 if scheme.axis is None else (scheme.axis + 1) % values.ndim
    assume(scheme.axis is None or values.ndim > 1)
    whole = choose_range(values, scheme)
    pieces = np.array_split(values, min(parts, values.shape[other]), axis=other)
    again = choose_range(pieces[::-1], scheme)
    np.testing.assert_array_equal(whole.low, again.low)
    np.testing.assert_array_equal(whole.high, again.high)


def distance(values: Array, quantized: QuantizedTensor) -> Array:
    """Measure how far each number was moved, in float64."""
    return np.abs(values.astype(float) - quantized.dequantize().astype(float))


def half_step(values: Array, quantized: QuantizedTensor) -> Array:
    """Half a step for each number, and a little for the float32 it is computed in."""
    scale = quantized.scale.astype(float)
    if quantized.scheme.axis is not None:
        shape = [1] * values.ndim
        shape[quantized.scheme.axis] = -1
        scale = scale.reshape(shape)
    # Dividing and multiplying in float32 are each off by 2^-24 of the number.
    return np.asarray(scale / 2 + np.abs(values) * 2.0**-22)
