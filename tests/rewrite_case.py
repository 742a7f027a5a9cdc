"""One model for a rewrite rule, and how its parts are drawn by a random generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tests.models import Weights

Array = NDArray[np.generic]
Reference = Callable[[Sequence[Array]], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model of which one operator is to be replaced.

    Attributes:
        text: The nodes; inputs are `x` and `z`, the result `y`.
        shape: Of `x`.
        second: Of `z`; None where there is none.
        rank: Of `y`; None where it has the shape of `x`.
        weights: Constants by name.
        opset: Of the standard.
        domains: More opset imports.
        at: The operator to replace; the first of this type.
        low: Least element of the inputs.
        high: Largest element of the inputs.
        dtype: Of `x` and `y`, in ONNX's text form.
        reference: What an operator computes that onnxruntime has not.
    """

    text: str
    shape: tuple[int, ...]
    at: str
    second: tuple[int, ...] | None = None
    rank: int | None = None
    weights: Weights = field(default_factory=dict)
    opset: int = 17
    domains: str = ""
    low: float = -8.0
    high: float = 8.0
    dtype: str = "float"
    reference: Reference | None = None


def floats(rng: Generator, *shape: int, scale: float = 1.0) -> Array:
    """Draw constants."""
    return rng.normal(scale=scale, size=shape).astype(np.float32)


def sizes(rng: Generator, rank: int, most: int = 6) -> tuple[int, ...]:
    """Draw a shape."""
    return tuple(int(one) for one in rng.integers(1, most + 1, rank))


def picture(rng: Generator, most: int = 9) -> tuple[int, int, int, int]:
    """Draw the shape of a few pictures of a few channels."""
    batch, channels = rng.integers(1, 4, 2)
    height, width = rng.integers(2, most + 1, 2)
    return int(batch), int(channels), int(height), int(width)


def unary(call: str, *, opset: int = 20, domains: str = "") -> Callable[..., Case]:
    """Draw a model of one call on `x`, of any shape."""
    op_type = (
        call.split("(", maxsplit=1)[0]
        .split("<", maxsplit=1)[0]
        .rsplit(".", maxsplit=1)[-1]
    )

    def draw(rng: Generator) -> Case:
        return Case(
            text=f"y = {call}",
            shape=sizes(rng, int(rng.integers(1, 5))),
            at=op_type,
            opset=opset,
            domains=domains,
        )

    return draw
