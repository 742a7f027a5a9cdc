"""The last steps that read one number or one vector out of a model's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array
from skerry.tasks.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Read a vector that says whom or what a sample shows.

    Attributes:
        normalize: Whether it is brought to length 1, so that only its direction counts.
    """

    version: ClassVar[int] = 1

    normalize: bool = True

    def decode(self, scores: Array, labels: Sequence[str]) -> Prediction:
        """Read all numbers as one vector; labels are not looked at."""
        del labels
        vector = scores.reshape(-1).astype(np.float64)
        if not vector.size:
            raise DataError(
                "the output holds no numbers", hint="Name the output in the task."
            )
        length = float(np.sqrt(np.square(vector).sum()))
        is_ok = bool(np.isfinite(length)) and (length > 0 or not self.normalize)
        if self.normalize and is_ok:
            vector = vector / length
        return Prediction(
            label=f"{vector.size} numbers" if is_ok else "",
            name=f"{vector.size} numbers" if is_ok else "",
            confidence=float(is_ok),
            vector=vector if is_ok else np.full(vector.size, np.nan),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Read a value to predict, or how abnormal a sample is.

    Attributes:
        index: Which of the output's numbers is read.
        scale: The factor that gives it the labels' unit.
        offset: What is added after that.
    """

    version: ClassVar[int] = 1

    index: int = 0
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what gives the same value for each sample."""
        if self.index < 0 or not np.isfinite([self.scale, self.offset]).all():
            raise UsageError(
                f"value: got index {self.index}, scale {self.scale}, offset "
                f"{self.offset}; expected 0 or more, and finite numbers",
                hint="Use a scale of -1 where low numbers are abnormal.",
            )

    def decode(self, scores: Array, labels: Sequence[str]) -> Prediction:
        """Read one number; labels are not looked at."""
        del labels
        flat = scores.reshape(-1)
        if self.index >= flat.size:
            raise DataError(
                f"value reads number {self.index}, the output has {flat.size}",
                hint="Indices count from 0.",
            )
        return predict_value(float(flat[self.index]) * self.scale + self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructionError:
    """How badly a model repeats its input: an autoencoder's measure of the abnormal.

    Attributes:
        input: Name of the input to compare with; the first one where empty.
    """

    version: ClassVar[int] = 1

    input: str = ""

    def compare(self, given: Array, output: Array) -> Prediction:
        """Compute the mean squared difference of an input and an output.

        Raises:
            DataError: They do not have as many numbers.
        """
        if given.size != output.size or not given.size:
            raise DataError(
                f"the output has {output.size} numbers, the input {given.size}; "
                "expected as many",
                hint="reconstruction_error is for a model that repeats its input.",
            )
        change = output.reshape(-1).astype(np.float64) - given.reshape(-1)
        return predict_value(float(np.square(change).mean()))


def predict_value(value: float) -> Prediction:
    """Make the prediction of a number."""
    if not np.isfinite(value):
        return Prediction(label="", name="", confidence=0.0, value=float("nan"))
    name = f"{value:.4g}"
    return Prediction(label=name, name=name, confidence=1.0, value=value)
