"""Three clusters of points, a linear classifier of them, and a world that moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.models import model_bytes

SIZE = 12
CLASSES = 3
Floats = NDArray[np.float32]

CENTRES = np.zeros((CLASSES, SIZE), np.float32)
for _index in range(CLASSES):
    CENTRES[_index, _index * 4 : _index * 4 + 4] = 3.0

WEIGHT = CENTRES / 3
BIAS = np.zeros(CLASSES, np.float32)
SHIFT = np.zeros(SIZE, np.float32)
SHIFT[:4], SHIFT[4:] = 2.8, -0.3
"""Moves every cluster towards the first one's side of the borders."""


def draw(
    n: int, rng: np.random.Generator, *, shift: float = 0.0
) -> tuple[Floats, NDArray[np.int64]]:
    """Draw points float32 [n, 12] and their classes, int64 [n]."""
    labels = rng.integers(0, CLASSES, n)
    points = CENTRES[labels] + rng.normal(0, 1, (n, SIZE)) + shift * SHIFT
    return np.maximum(points, 0).astype(np.float32), labels


def confidences(points: Floats) -> NDArray[np.float64]:
    """How sure the classifier is of each point."""
    logits = (points @ WEIGHT.T + BIAS).astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    best: NDArray[np.float64] = powers.max(axis=1) / powers.sum(axis=1)
    return best


def classes(points: Floats) -> NDArray[np.int64]:
    """What the classifier takes each point for."""
    return np.asarray((points @ WEIGHT.T + BIAS).argmax(axis=1), np.int64)


def net(*, embedding: bool = True) -> bytes:
    """The classifier: `x` float32 [batch, 12], Relu, Gemm; logits float32 [batch, 3].

    With `embedding`, what the Relu gives is an output too.
    """
    more = f", float[batch, {SIZE}] embedding" if embedding else ""
    return model_bytes(
        f"net (float[batch, {SIZE}] x) => (float[batch, {CLASSES}] logits{more}) "
        "{ embedding = Relu(x) logits = Gemm<transB=1>(embedding, weight, bias) }",
        {"weight": WEIGHT, "bias": BIAS},
    )
