"""What would help, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.audit import audit
from skerry.adapt.target_files import load_target
from skerry.graph import parse_graph
from tests.models import Weights, model_bytes

ETHOS = load_target(Path(__file__).with_name("npu.toml"))


def advice(body: str, weights: Weights, *, opset: int = 20) -> list[str]:
    """Audit a net from x [1, 4, 8, 8] to y of the same shape; list what is advised."""
    text = f"net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {{ {body} }}"
    content = model_bytes(text, weights, opset=opset)
    return [one.advice for one in audit(parse_graph(content, name="n"), ETHOS).remedies]


def plane(value: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """One number a channel."""
    return np.full(4, value, np.float32)


NORM = {"s": plane(2), "t": plane(1), "m": plane(0), "v": plane(1)}


@pytest.mark.parametrize(
    ("body", "weights", "start"),
    [
        (
            "a = Relu(x) b = Div(a, six) y = Relu(b)",
            {"six": np.array(6, np.float32)},
            "Replace Div by a constant with Mul",
        ),
        (
            "a = Relu(x) b = Pow(a, two) y = Relu(b)",
            {"two": np.array(2, np.float32)},
            "Replace Pow with exponent 2",
        ),
        (
            "a = Relu(x) b = HardSigmoid(a) y = Relu(b)",
            {},
            "Write HardSigmoid out",
        ),
        (
            "a = Relu(x) b = BatchNormalization(a, s, t, m, v) y = Relu(b)",
            NORM,
            "Write BatchNormalization out",
        ),
        (
            "a = Relu(x) b = Erf(a) y = Relu(b)",
            {},
            "Replace the activation by straight pieces",
        ),
    ],
)
def test_operators_that_others_can_stand_in_for_are_named(
    body: str, weights: Weights, start: str
) -> None:
    """Each rewrite moves its operator, and saves two changes of processor."""
    quantizing, rewriting = advice(body, weights)
    assert quantizing.startswith("Quantize to INT8: 2 of 3 operators")
    assert rewriting.startswith(f"Once quantized: {start}")
    assert rewriting.endswith(
        "1 of 3 operators would move to ethos-u55, 2 fewer changes of processor."
    )


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Pow(x, odd)", {"odd": np.array(1.3, np.float32)}),
        ("a = Relu(x) y = Div(x, a)", {}),
        ("y = Sin(x)", {}),
    ],
    ids=[
        "a power with a fraction",
        "a quotient of two activations",
        "no other operator",
    ],
)
def test_what_nothing_can_stand_in_for_is_not_advised(
    body: str, weights: Weights
) -> None:
    """No rewrite is named that the NPU would not take."""
    assert not any("Once quantized" in one for one in advice(body, weights))


def test_a_model_that_int8_does_not_help_gets_no_such_advice() -> None:
    """Where no operator would move and all fits, quantizing is not named."""
    assert advice("y = Sin(x)", {}) == []
