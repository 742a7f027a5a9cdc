"""How far predicted values are from the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.tally import Counts, Quotient, divide


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RootMeanSquare:
    """The root of the mean squared error.

    Attributes:
        squares: Squared errors, float64 [n].
    """

    squares: NDArray[np.float64]

    @property
    def units(self) -> int:
        """The samples."""
        return len(self.squares)

    @property
    def size(self) -> int:
        """One square a sample."""
        return self.units

    def values(self, counts: Counts) -> NDArray[np.float64]:
        """√(Σ squares / n)."""
        return np.sqrt(divide(counts @ self.squares, counts.sum(axis=1)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Determination:
    """R²: the share of the labels' variance that the predictions explain.

    Attributes:
        squares: Squared errors, float64 [n].
        labels: float64 [n].
    """

    squares: NDArray[np.float64]
    labels: NDArray[np.float64]

    @property
    def units(self) -> int:
        """The samples."""
        return len(self.squares)

    @property
    def size(self) -> int:
        """An error and a label a sample."""
        return 2 * self.units

    def values(self, counts: Counts) -> NDArray[np.float64]:
        """1 − Σ squares / Σ (label − mean)²; NaN where all labels are the same."""
        total = counts.sum(axis=1)
        # From the middle of all labels, so that little is lost in the difference.
        moved = self.labels - self.labels.mean()
        spread = counts @ np.square(moved) - divide((counts @ moved) ** 2, total)
        tiny = 1e-12 * (counts @ np.square(moved))
        return 1 - divide(counts @ self.squares, np.where(spread > tiny, spread, 0))


def tally_mae(predictions: Sequence[Prediction], labels: Sequence[Label]) -> Quotient:
    """Keep the absolute errors."""
    errors = np.abs(_errors(predictions, labels)[0])
    return Quotient(scores=errors, weights=np.ones_like(errors))


def tally_rmse(
    predictions: Sequence[Prediction], labels: Sequence[Label]
) -> RootMeanSquare:
    """Keep the squared errors."""
    return RootMeanSquare(squares=np.square(_errors(predictions, labels)[0]))


def tally_r2(
    predictions: Sequence[Prediction], labels: Sequence[Label]
) -> Determination:
    """Keep the squared errors and the labels."""
    errors, truths = _errors(predictions, labels)
    return Determination(squares=np.square(errors), labels=truths)


def _errors(
    predictions: Sequence[Prediction], labels: Sequence[Label]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors and labels; what is not finite is wrong by the labels' whole span."""
    truths = np.array([cast("float", label) for label in labels], dtype=np.float64)
    values = np.array([one.value for one in predictions], dtype=np.float64)
    span = float(np.ptp(truths)) if len(truths) else 0.0
    errors = np.where(np.isfinite(values), values, 0) - truths
    return np.where(np.isfinite(values), errors, span or 1.0), truths
