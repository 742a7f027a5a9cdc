"""How far a replacement may be from what it replaces, as a thing that can be checked.

The word *rounding* is meant as N. J. Higham means it ("Accuracy and Stability of
Numerical Algorithms", 2nd edition, SIAM 2002): float32 has the unit roundoff u = 2⁻²⁴,
and a sum of n products, in whichever order, is off by at most γ(n) = n u / (1 − n u)
times the sum of the absolute values of the products (section 3.1). Two forms of one
sum therefore differ by at most twice that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skerry.core.seams import Array

UNIT_ROUNDOFF = 2.0**-24
"""Of float32, rounded to nearest."""

FUNCTION_ERROR = 2.0**-19
"""Most that a runtime's exp, log, sigmoid, tanh or erf is taken to be off, relative to
1 + |result|; onnxruntime's own polynomials are off by a few 10⁻⁷."""

Inputs = Sequence[Array]
"""The arrays that a replacement reads, constants left out, in its own order."""


def one(_inputs: Inputs, _result: Array) -> float:
    """The scale of an absolute error."""
    return 1.0


def of_result(_inputs: Inputs, result: Array) -> Array:
    """The scale of an error relative to each element of the result."""
    return np.abs(result)


def of_peak(inputs: Inputs, _result: Array) -> float:
    """One more than the largest magnitude among all inputs."""
    return 1.0 + max((float(np.abs(x).max(initial=0)) for x in inputs), default=0.0)


def of_peak_squared(inputs: Inputs, result: Array) -> float:
    """The square of `of_peak`, for products of two inputs."""
    return of_peak(inputs, result) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """How far a replacement may be from what it replaces.

    |new − old| ≤ `error` × `scale`, for each element of the results, where all inputs
    lie between `low` and `high`.

    Attributes:
        text: The same in words, for people.
        error: In units of the scale; 0 where each bit is the same.
        scale: What the error is relative to, given the inputs and the old result.
        low: Least input for which it holds.
        high: Largest input for which it holds.
        is_approximation: Whether another function is computed; where not, it is the
            same function of real numbers, and floats round differently.
    """

    text: str
    error: float
    scale: Callable[[Inputs, Array], Array | float] = one
    low: float = -np.inf
    high: float = np.inf
    is_approximation: bool = False

    def allowed(self, inputs: Inputs, result: Array) -> Array:
        """The largest error allowed, an element of the old result each."""
        wide = [array.astype(np.float64) for array in inputs]
        scale = self.scale(wide, result.astype(np.float64))
        return np.asarray(self.error * scale, np.float64)


EXACT = Bound(text="the same, bit by bit", error=0.0)


def gamma(terms: int) -> float:
    """Higham's γ(n): the rounding of a sum of n products, relative to its terms."""
    return terms * UNIT_ROUNDOFF / (1 - terms * UNIT_ROUNDOFF)


def rounding(error: float, scale: Callable[[Inputs, Array], Array | float]) -> Bound:
    """The same function of real numbers, rounded differently."""
    words = {
        one: "",
        of_result: " × |result|",
        of_peak: " × (1 + largest |input|)",
        of_peak_squared: " × (1 + largest |input|)²",
    }
    relative = words.get(scale, " × the condition number")
    return Bound(
        text=f"equal but for float rounding: within {error:.1e}{relative}",
        error=error,
        scale=scale,
    )


def same_sum(terms: int, gain: float, *, squared: bool = False) -> Bound:
    """Two orders of one sum.

    Args:
        terms: How many products are summed, and how many roundings follow.
        gain: The largest sum of absolute values of the constant factors of one
            element of the result, a bias among them; the number of products where
            both factors vary.
        squared: Whether both factors vary.
    """
    error = 2 * gamma(terms + 4) * max(gain, 1.0)
    return rounding(error, of_peak_squared if squared else of_peak)


def approximation(
    error: float, *, low: float = -np.inf, high: float = np.inf, of: str = ""
) -> Bound:
    """Another function, whose distance from the first is at most an absolute error."""
    where = "for every input"
    if np.isfinite(low) or np.isfinite(high):
        where = f"for inputs from {low:g} to {high:g}"
    return Bound(
        text=f"within {error:.3g} (absolute) {where}{f': {of}' if of else ''}",
        error=error + FUNCTION_ERROR,
        scale=lambda inputs, result: (
            1.0 + FUNCTION_ERROR / (error + FUNCTION_ERROR) * of_peak(inputs, result)
        ),
        low=low,
        high=high,
        is_approximation=True,
    )
