"""Round the weights of a layer together, for the least error of what it makes.

The squared error of a layer's output is quadratic in its weights, and all that samples
have to say about it is the Gram matrix of what the layer reads: with E the error of a
row of weights it is E·H·Eᵀ (Nagel et al., "Up or Down? Adaptive Rounding for
Post-Training Quantization", arXiv:2004.10568, section 3). Rounding to the nearest code
makes the entries of E small one by one; here each weight makes up for those rounded
before it (Frantar et al., "GPTQ", arXiv:2210.17323, section 3.3), then single weights
are moved for as long as that helps.

What the layer should make is known from the float graph, and what it reads from the
quantized one, so the weights that are rounded are first fitted to make up for what
layers before them lost: by least squares, drawn to the weights as trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from skerry.core.seams import Array

MOST_SWEEPS = 4
"""How often all weights are gone through; few move after the first time."""

_STIFFNESS = 0.01
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """What samples show of a layer, float64; all begin with the layer's groups.

    Attributes:
        count: Number of positions.
        read: Sum of what is read, `[groups, k]`.
        made: Sum of what should be made, `[groups, outputs]`.
        gram: Sum of products of what is read, `[groups, k, k]`.
        cross: Of what should be made with what is read, `[groups, outputs, k]`.
        energy: Sum of squares of what should be made, `[groups, outputs]`.
    """

    count: int
    read: Array
    made: Array
    gram: Array
    cross: Array
    energy: Array

    @classmethod
    def of(cls, read: Array, made: Array, *, products: bool = True) -> Self:
        """Look at some positions.

        Args:
            read: What is read there, `[groups, positions, k]`.
            made: What should be made, `[groups, positions, outputs]`.
            products: Whether products are summed too; if not, gram and cross are
                empty, and only the means are known.
        """
        paired = read if products else read[:, :, :0]
        return cls(
            count=read.shape[1],
            read=read.sum(axis=1, dtype=np.float64),
            made=made.sum(axis=1, dtype=np.float64),
            gram=(paired.swapaxes(1, 2) @ paired).astype(np.float64),
            cross=(made.swapaxes(1, 2) @ paired).astype(np.float64),
            energy=np.square(made).sum(axis=1, dtype=np.float64),
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            count=self.count + other.count,
            read=self.read + other.read,
            made=self.made + other.made,
            gram=self.gram + other.gram,
            cross=self.cross + other.cross,
            energy=self.energy + other.energy,
        )

    def centered(self) -> Moments:
        """The same about the mean, per position: for layers whose bias is free."""
        read, made = self.read / self.count, self.made / self.count
        return Moments(
            count=1,
            read=read,
            made=made,
            gram=self.gram / self.count - read[:, :, None] * read[:, None, :],
            cross=self.cross / self.count - made[:, :, None] * read[:, None, :],
            energy=np.maximum(self.energy / self.count - made**2, 0),
        )

    def error(self, weights: Array) -> Array:
        """Squared error of what weights make, `[groups, outputs]`."""
        through = weights @ self.gram - 2 * self.cross
        error = (through * weights).sum(axis=2) + self.energy
        return np.asarray(np.maximum(error, 0))


def fit(weights: Array, moments: Moments, stiffness: float) -> Array:
    """Fit weights to what should be made, by least squares.

    Args:
        weights: As trained, `[groups, outputs, k]`.
        moments: Of what is read and should be made.
        stiffness: How strongly weights are drawn to what they were, as a part of the
            energy of what each reads (ridge regression).
    """
    missing = moments.cross - weights @ moments.gram
    held = _damped(moments.gram, stiffness)
    # With a diagonal of ones the digits of float32 are enough, and twice as fast.
    size = 1 / np.sqrt(np.einsum("gii->gi", held))
    alike = (held * size[:, :, None] * size[:, None, :]).astype(np.float32)
    wanted = (missing * size[:, None, :]).swapaxes(1, 2).astype(np.float32)
    moved = np.linalg.solve(alike, wanted).swapaxes(1, 2)
    return np.asarray(weights + moved * size[:, None, :])


def round_together(
    weights: Array,
    gram: Array,
    low: Array,
    high: Array,
    *,
    sweeps: int = MOST_SWEEPS,
) -> Array:
    """Round weights that are given in steps, so that their sums are least wrong.

    Args:
        weights: In units of a step, `[groups, outputs, k]`.
        gram: Of what they are multiplied with, `[groups, k, k]`.
        low: The lowest code of each output, `[groups, outputs]`.
        high: The highest.
        sweeps: How often each weight is looked at again.

    Returns:
        Whole numbers from low to high, float64; their error under the Gram matrix is
        at most that of rounding to the nearest.
    """
    metric = _damped(gram, _STIFFNESS)
    nearest = np.clip(np.rint(weights), low[:, :, None], high[:, :, None])
    greedy = _greedy(weights, metric, low, high)
    rounded = _better(weights, metric, greedy, nearest)
    for _ in range(sweeps):
        if not _descend(weights, metric, rounded, low, high):
            break
    return _better(weights, gram, rounded, nearest)


def _damped(gram: Array, stiffness: float) -> Array:
    """Add to the diagonal, so that what samples do not show is left alone."""
    damped = np.array(gram)
    diagonal = np.einsum("gii->gi", damped)
    mean = diagonal.mean(axis=1, keepdims=True)
    diagonal += stiffness * (diagonal + 0.01 * mean) + _TINY
    return damped


def _better(weights: Array, gram: Array, first: Array, second: Array) -> Array:
    """The one of two roundings with less error, for each output."""

    def error(rounded: Array) -> Array:
        wrong = rounded - weights
        return np.asarray(((wrong @ gram) * wrong).sum(axis=2, keepdims=True))

    return np.where(error(first) <= error(second), first, second)


def _greedy(weights: Array, metric: Array, low: Array, high: Array) -> Array:
    """Round one column after the other; those that follow make up for its error.

    The largest first, since they have most left to make up for them.
    """
    groups, _, k = weights.shape
    order = np.argsort(-np.einsum("gii->gi", metric), axis=1, kind="stable")
    rows = np.arange(groups)[:, None]
    sorted_metric = metric[rows[:, :, None], order[:, :, None], order[:, None, :]]
    upper = _inverse_factor(sorted_metric)
    left = np.take_along_axis(weights, order[:, None, :], axis=2)
    rounded = np.empty_like(left)
    for column in range(k):
        here = left[:, :, column]
        code = np.clip(np.rint(here), low, high)
        rounded[:, :, column] = code
        wrong = (here - code) / upper[:, column, column, None]
        tail = upper[:, column, column + 1 :]
        left[:, :, column + 1 :] -= wrong[:, :, None] * tail[:, None, :]
    back = np.argsort(order, axis=1, kind="stable")
    return np.take_along_axis(rounded, back[:, None, :], axis=2)


def _inverse_factor(metric: Array) -> Array:
    """The upper triangle U with Uᵀ·U = metric⁻¹."""
    # With J the reversal, J·M·J = L·Lᵀ gives M⁻¹ = (J·L⁻¹·J)ᵀ·(J·L⁻¹·J).
    lower = np.linalg.cholesky(metric[:, ::-1, ::-1])
    eye = np.broadcast_to(np.eye(lower.shape[1]), lower.shape)
    return np.asarray(np.linalg.solve(lower, eye)[:, ::-1, ::-1])


def _descend(
    weights: Array, metric: Array, rounded: Array, low: Array, high: Array
) -> bool:
    """Move each weight to the code that is best given all others, in place.

    Returns:
        Whether any moved.
    """
    slope = (rounded - weights) @ metric
    curve = np.einsum("gii->gi", metric)
    moved = False
    for column in range(weights.shape[2]):
        ideal = rounded[:, :, column] - slope[:, :, column] / curve[:, None, column]
        step = np.clip(np.rint(ideal), low, high) - rounded[:, :, column]
        group, row = np.nonzero(step)
        if len(row):
            moved = True
            by = step[group, row]
            rounded[group, row, column] += by
            slope[group, row] += by[:, None] * metric[group, column]
    return moved
