from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compress.numbers.ranges import Range, scale_and_zero_point
from skerry.compress.numbers.schemes import (
    UINT8_ACTIVATIONS,
    Scheme,
)
from skerry.compress.numbers.tensors import quantize_tensor
from skerry.compress.train.qat.fake import FakeQuantizer, Ranges, Sums
from skerry.compress.train.rounding import Pair
from skerry.core.seams import Array
from skerry.graph import (
    make_graph,
    make_initializer,
    make_node,
    make_value,
)
from skerry.runtimes.torch import torch
from tests import running

INT4 = Scheme(bits=4, narrow=True)
PER_TENSOR = Scheme(narrow=True)


def fake(
    scheme: Scheme,
    scale: Array | float = 0.1,
    zero: Array | int = 0,
    ranges: Ranges = "learned",
) -> FakeQuantizer:
    """A quantizer with these scales, of weights where codes are signed."""
    pair = Pair(
        name="scale",
        kind="weight" if scheme.signed else "activation",
        source="x",
        consumers=(),
        scale=np.asarray(scale, np.float32),
        zero_point=np.asarray(zero, np.int64),
        axis=scheme.axis,
        dtype=scheme.dtype.name,
    )
    return FakeQuantizer(pair, scheme, ranges)


def of_onnx(values: Array, scale: Array, zero: Array, axis: int | None) -> Array:
    """What the runtime's QuantizeLinear and DequantizeLinear leave of an array."""
    parameters = [make_initializer(scale, "scale"), make_initializer(zero, "zero")]
    given_value = make_value("x", "float32", values.shape)
    attributes = {} if axis is None else {"axis": axis}
    codes = make_node("QuantizeLinear", [given_value, *parameters], attributes)
    floats = make_node(
        "DequantizeLinear",
        [codes.outputs[0], *parameters],
        attributes,
        outputs=[make_value("y", "float32", values.shape)],
    )
    graph = make_graph(
        [codes, floats],
        inputs=[given_value],
        outputs=list(floats.outputs),
        initializers=parameters,
        opset=17,
        name="pair",
    )
    return running.run(graph, {"x": values})["y"]


@given(
    seed=st.integers(0, 2**16),
    spread=st.floats(1e-3, 1e3),
    low=st.floats(-10, 0),
    high=st.floats(0.01, 10),
)
def test_activations_are_rounded_as_onnx_rounds_them(
    seed: int, spread: float, low: float, high: float
) -> None:
    """Bit for bit, within the range and beyond it, in training and in evaluation."""
    values = np.random.default_rng(seed).normal(0, spread, (3, 5)).astype(np.float32)
    scale, zero = scale_and_zero_point(
        Range(low=np.float32(low), high=np.float32(high)), UINT8_ACTIVATIONS
    )
    quantizer = fake(UINT8_ACTIVATIONS, scale, zero)
    expected = of_onnx(values, scale, zero, None)
    for mode in (True, False):
        quantizer.train(mode)
        found = quantizer(torch.tensor(values)).detach().numpy()
        assert np.array_equal(found, expected)


def test_ties_go_to_the_even_code() -> None:
    """0.5 → 0, 1.5 → 2, 2.5 → 2, as the ONNX standard rounds, on both sides of zero."""
    halves = torch.arange(-4, 5) + 0.5
    found = fake(PER_TENSOR, 1.0)(halves).detach()
    assert found.tolist() == [-4, -2, -2, 0, 0, 2, 2, 4, 4]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis", [0, 1])
def test_weights_are_rounded_as_the_quantizer_rounds_them(bits: int, axis: int) -> None:
    """Codes, scales and floats of weights are those of `quantize_tensor`."""
    scheme = Scheme(bits=bits, axis=axis, narrow=True)
    weights = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    right = quantize_tensor(weights, scheme)
    quantizer = fake(scheme, right.scale, right.zero_point)
    tensor = torch.tensor(weights)
    assert np.array_equal(quantizer.codes(tensor), right.values)
    assert np.array_equal(quantizer(tensor).detach().numpy(), right.dequantize())
    assert np.array_equal(quantizer.step().detach().numpy(), right.scale)


def test_the_gradient_passes_within_the_range_only() -> None:
    """Straight through where codes exist, nothing where the tensor is clipped."""
    values = torch.tensor([-2.0, -0.31, 0.0, 0.42, 3.0], requires_grad=True)
    fake(INT4)(values).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 1, 0]


def test_the_scale_learns_by_the_step_sizes_gradient() -> None:
    """Equation 3 of the paper: round(v) - v inside, the bound outside, as one sum."""
    scale = 0.1
    values = torch.tensor([-2.0, -0.31, 0.0, 0.42, 3.0])
    quantizer = fake(INT4, scale)
    quantizer(values).sum().backward()
    steps = values.numpy() / np.float32(scale)
    each = np.where(
        np.abs(steps) <= 7, np.rint(steps) - steps, np.clip(steps, -7, 7)
    ).sum()
    expected = each / np.sqrt(5 * 7) * scale
    assert quantizer.growth.grad is not None
    assert float(quantizer.growth.grad) == pytest.approx(expected, rel=1e-4)


def test_scales_of_channels_learn_apart() -> None:
    """Each channel's scale has a gradient from its own numbers alone."""
    quantizer = fake(Scheme(bits=4, axis=1, narrow=True), np.full(2, 0.1), np.zeros(2))
    values = torch.tensor([[0.1, 9.0], [0.2, 9.0]])
    quantizer(values).sum().backward()
    assert quantizer.growth.grad is not None
    assert quantizer.growth.grad[0].abs() < 1e-5
    assert quantizer.growth.grad[1] > 0


def test_what_is_off_rounds_in_evaluation_only() -> None:
    """A quantizer that is not on yet still shows what will be exported."""
    quantizer, values = fake(INT4), torch.tensor([0.14])
    quantizer.is_on = False
    assert quantizer.train()(values) is values
    assert quantizer.eval()(values).item() == pytest.approx(0.1)


def test_frozen_scales_have_no_gradient() -> None:
    """They stand still whatever the optimizer does."""
    quantizer = fake(INT4)
    quantizer.freeze(is_frozen=True)
    assert not quantizer.growth.requires_grad
    quantizer.freeze(is_frozen=False)
    assert quantizer.growth.requires_grad


def test_observed_activations_move_the_range_slowly() -> None:
    """The range goes towards what passes in training, and not in evaluation."""
    quantizer = fake(UINT8_ACTIVATIONS, 1 / 255, 0, ranges="observed")
    batch = torch.tensor([0.0, 2.0])
    quantizer.eval()(batch)
    assert float(quantizer.step()) == pytest.approx(1 / 255)
    quantizer.train()(batch)
    assert float(quantizer.step()) == pytest.approx(1.01 / 255, rel=1e-3)
    for _ in range(1000):
        quantizer(batch)
    assert float(quantizer.step()) == pytest.approx(2 / 255, rel=1e-3)
    quantizer.freeze(is_frozen=True)
    quantizer(batch * 10)
    assert float(quantizer.step()) == pytest.approx(2 / 255, rel=1e-3)


def test_observed_weights_fill_their_codes() -> None:
    """The largest weight of each channel gets the highest code."""
    scheme = Scheme(bits=4, axis=0, narrow=True)
    quantizer = fake(scheme, np.ones(2), np.zeros(2), ranges="observed")
    weights = torch.tensor([[0.6, -1.0], [0.02, 0.015]])
    quantizer.train()(weights)
    assert quantizer.codes(weights).tolist() == [[4, -7], [7, 5]]


def test_whole_sums_are_scaled_once() -> None:
    """In evaluation behind a layer: codes are round(sum · one float32 factor)."""
    rng = np.random.default_rng(0)
    of_read, of_made = np.float32(0.0117), np.float32(0.0231)
    of_weights = rng.uniform(1e-3, 1e-2, 5).astype(np.float32)
    sums = rng.integers(0, 2**17, (4, 5, 200)).astype(np.float32)
    of_sums = (of_read * of_weights)[:, None]
    quantizer = fake(UINT8_ACTIVATIONS, of_made)
    quantizer.layer = Sums(
        fake(UINT8_ACTIVATIONS, of_read),
        fake(Scheme(axis=0, narrow=True), of_weights, np.zeros(5)),
        1,
    )
    expected = np.rint(np.clip(sums * (of_sums / of_made), 0, 255)) * of_made
    missed = sums * of_sums * (1 + rng.normal(0, 1e-7, sums.shape))
    given_tensor = torch.tensor(missed.astype(np.float32))
    assert np.array_equal(quantizer.eval()(given_tensor).detach().numpy(), expected)


def test_what_was_rounded_already_stays() -> None:
    """Values that come to a quantizer again, moved by others, keep their codes."""
    quantizer = fake(UINT8_ACTIVATIONS, 0.02)
    weights = fake(Scheme(axis=0, narrow=True), np.full(3, 0.004), np.zeros(3))
    quantizer.layer = Sums(fake(UINT8_ACTIVATIONS, 0.7), weights, 1)
    rounded = quantizer.eval()(torch.rand(2, 3, 5, 5) * 5).detach()
    assert torch.equal(quantizer(rounded), rounded)
    assert torch.equal(quantizer(rounded.reshape(2, -1)), rounded.reshape(2, -1))
