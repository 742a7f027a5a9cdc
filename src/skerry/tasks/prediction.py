"""What a model says of one sample."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One sample's answer, decoded.

    Attributes:
        label: The index of the class, or the line of text; -1 or the empty line where
            the model's output was not finite.
        name: The name of the class (its index where classes have no names), or the
            line of text.
        confidence: 0–1 where the scores are probabilities: the best class's score, or
            the mean over the characters read.
        ranked: Class indices with their scores, best first; empty for text.
    """

    label: int | str
    name: str
    confidence: float
    ranked: tuple[tuple[int, float], ...] = ()
