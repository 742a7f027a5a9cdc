"""What a model says of one sample, and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skerry.tasks.boxes import Boxes, TrueBoxes

Label = int | str | float | TrueBoxes
"""The index of a class, whether a sample is abnormal (0 or 1) or who it shows; a line
of text or the name of who it shows; the value to predict; or the objects in a picture.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One sample's answer, decoded.

    Attributes:
        label: The index of the class, or the line of text; -1 or the empty line where
            the model's output was not finite. Other answers have their name here.
        name: The name of the class (its index where classes have no names), the line
            of text, or in a few words what else the answer is.
        confidence: 0–1 where the scores are probabilities: the best class's score, the
            mean over the characters read, or that over the objects found.
        ranked: Class indices with their scores, best first; empty for other kinds.
        boxes: The objects found; None for other kinds.
        value: The value predicted, or how abnormal the sample is; NaN where the model's
            output was not finite; None for other kinds.
        vector: The embedding, float64 [D]; NaN where the model's output was not finite;
            None for other kinds.
    """

    label: int | str
    name: str
    confidence: float
    ranked: tuple[tuple[int, float], ...] = ()
    boxes: Boxes | None = None
    value: float | None = None
    # Arrays have no truth value when compared; `name` says what matters.
    vector: NDArray[np.float64] | None = field(default=None, compare=False)
