"""Boxes for tests of detection: scenes with crowds, ties and things missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from skerry.tasks.boxes import Boxes, TrueBoxes, areas_of
from skerry.tasks.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is in some pictures, and what a detector found."""

    predictions: list[Prediction]
    labels: list[TrueBoxes]
    classes: int


def found(corners: ArrayLike, labels: Sequence[int], scores: ArrayLike) -> Prediction:
    """What a detector found in one picture."""
    boxes = Boxes(
        corners=np.asarray(corners, np.float64).reshape(-1, 4),
        labels=np.asarray(labels, np.int64),
        scores=np.asarray(scores, np.float64),
    )
    return Prediction(label="", name="", confidence=0.5, boxes=boxes)


def true(
    corners: ArrayLike,
    labels: Sequence[int],
    *,
    is_crowd: Sequence[bool] | None = None,
    areas: ArrayLike | None = None,
) -> TrueBoxes:
    """What is in one picture."""
    boxes = np.asarray(corners, np.float64).reshape(-1, 4)
    return TrueBoxes(
        corners=boxes,
        labels=np.asarray(labels, np.int64),
        is_crowd=np.asarray(is_crowd or [False] * len(boxes), bool),
        areas=areas_of(boxes) if areas is None else np.asarray(areas, np.float64),
    )


def make_scene(
    seed: int, *, pictures: int = 12, classes: int = 4, crowds: float = 0.1
) -> Scene:
    """Random objects, and boxes near most of them, some twice, and some elsewhere."""
    generator = np.random.default_rng(seed)
    predictions, labels = [], []
    for _ in range(pictures):
        count = int(generator.integers(0, 9))
        sides = generator.choice([12.0, 60.0, 150.0], (count, 1)) * generator.uniform(
            0.5, 1.5, (count, 2)
        )
        corner = generator.uniform(0, 300, (count, 2))
        corners = np.hstack([corner, corner + sides])
        kinds = generator.integers(0, classes - 1, count)
        labels.append(
            true(
                corners,
                kinds.tolist(),
                is_crowd=(generator.random(count) < crowds).tolist(),
                areas=areas_of(corners) * generator.uniform(0.4, 1.0, count),
            )
        )
        again = generator.permutation(np.repeat(np.arange(count), 2))[: count + 2]
        near = corners[again] + generator.normal(0, 0.08, (len(again), 4)) * np.tile(
            sides[again], 2
        )
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        corner = generator.uniform(0, 300, (4, 2))
        stray = np.hstack([corner, corner + generator.uniform(5, 150, (4, 2))])
        kinds = np.concatenate([kinds[again], generator.integers(0, classes, 4)])
        scores = generator.uniform(0, 1, len(kinds)).round(2)  # some are equal
        predictions.append(found(np.vstack([near, stray]), kinds.tolist(), scores))
    return Scene(predictions=predictions, labels=labels, classes=classes)
