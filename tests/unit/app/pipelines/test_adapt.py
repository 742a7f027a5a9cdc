"""How far a rewritten model's answers are from those of the model it was."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.rewrite import adapt
from skerry.adapt.target_files import load_target
from skerry.app.pipelines.adapt import compare_answers, wants_int8
from skerry.core.seams import Tensors
from skerry.graph import Graph, parse_graph
from tests.models import model_bytes, random_weights
from tests.rewriting import NPU

TARGET = load_target(NPU)
INPUTS: tuple[Tensors, ...] = tuple(
    {"x": array}
    for array in np.random.default_rng(0).normal(size=(8, 1, 4, 8, 8)).astype("f4")
)


def net(body: str, *, domains: str = "") -> Graph:
    """A convolution, and something after it."""
    text = f"""net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {{
      a = Conv<pads = [1, 1, 1, 1]>(x, w) {body} }}"""
    weights = {
        **random_weights({"w": (4, 4, 3, 3)}),
        "s": np.array(0.1, np.float32),
        "z": np.array(0, np.int8),
    }
    content = model_bytes(text, weights, opset=18, domains=domains)
    return parse_graph(content, name="net")


def test_equal_operators_move_nothing_but_int8_does() -> None:
    """And as much of it as quantizing the model as it was does."""
    before = net("y = Mish(a)")
    after = adapt(before, TARGET).graph
    found = compare_answers(before, after, INPUTS, as_int8=True)
    assert found.samples == len(INPUTS)
    assert found.rewritten == pytest.approx(0, abs=1e-10)
    assert found.quantized is not None
    assert found.quantized_before is not None
    assert 0 < found.quantized_before < 1e-2
    assert found.quantized < 1e-2
    assert found.missing == ""


def test_another_function_moves_them() -> None:
    """By so much is told."""
    before, other = net("y = Mish(a)"), net("y = HardSwish(a)")
    found = compare_answers(before, other, INPUTS, as_int8=False)
    assert found.rewritten is not None
    assert found.rewritten > 1e-4
    assert (found.quantized, found.quantized_before) == (None, None)


def test_what_no_runtime_knows_is_not_compared() -> None:
    """It says why."""
    before = net("y = com.example.Odd(a)", domains=', "com.example": 1')
    found = compare_answers(before, net("y = Relu(a)"), INPUTS, as_int8=True)
    assert (found.samples, found.rewritten) == (0, None)
    assert "Odd" in found.missing


def test_int8_is_asked_where_hardware_has_no_floats() -> None:
    """Of a model of floats; one of codes is what it is."""
    floats = net("y = Relu(a)")
    assert wants_int8(floats, TARGET)
    assert not wants_int8(floats, load_target("x86-64"))
    codes = net("q = QuantizeLinear(a, s, z) y = DequantizeLinear(q, s, z)")
    assert not wants_int8(codes, TARGET)
