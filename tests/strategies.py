"""Hypothesis strategies that several rooms' tests share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests import models

_UNARY = ("Relu", "Neg", "Abs", "Identity", "Sigmoid")
_BINARY = ("Add", "Mul", "Sub", "Max")


@st.composite
def small_models(draw: st.DrawFn) -> bytes:
    """A valid model of a few nodes on float32 [2, 3]: forks, constants, dead ends.

    Inputs `x` and `z`; one to three outputs, among them always the last node's.
    """
    values = ["x", "z", "w", "c"]
    lines = [
        "c = Constant<value = float[3] {0.5, -1.0, 2.0}>()",
    ]
    for index in range(draw(st.integers(1, 10))):
        operand = st.sampled_from(values)
        if draw(st.booleans()):
            call = f"{draw(st.sampled_from(_UNARY))}({draw(operand)})"
        else:
            op_type = draw(st.sampled_from(_BINARY))
            call = f"{op_type}({draw(operand)}, {draw(operand)})"
        lines.append(f"n{index} = {call}")
        values.append(f"n{index}")
    made = values[4:]
    outputs = sorted({made[-1], *draw(st.lists(st.sampled_from(made), max_size=2))})
    # An output of a constant would not have the shape [2, 3]: all go through the input.
    lines += [f"out_{name} = Add({name}, x)" for name in outputs]
    signature = ", ".join(f"float[2, 3] out_{name}" for name in outputs)
    body = "\n".join(lines)
    return models.model_bytes(
        f"net (float[2, 3] x, float[2, 3] z) => ({signature}) {{ {body} }}",
        {"w": np.array([[1.0, -2.0, 0.25]], dtype=np.float32)},
        opset=13,
    )


@st.composite
def damaged(draw: st.DrawFn, contents: tuple[bytes, ...]) -> bytes:
    """Bytes of a file with a few bytes flipped, cut out, or spliced in from another."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.sampled_from(("byte", "cut", "splice", "truncate")))
        if kind == "byte" and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[place : place + draw(st.integers(1, 40))]
        elif kind == "splice":
            other = draw(st.sampled_from(contents))
            start = draw(st.integers(0, len(other) - 1))
            content[place:place] = other[start : start + draw(st.integers(1, 200))]
        elif kind == "truncate":
            del content[place:]
    return bytes(content)
