"""The mean average precision of boxes, as COCO defines it.

T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, in the form of
`pycocotools.cocoeval.COCOeval` (boxes): at most 100 boxes a picture and class, matched
greedily from the surest; crowds and objects outside the range of areas are neither
demanded nor held against a model; precision is made monotone and read at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from skerry.tasks.boxes import Boxes, TrueBoxes, areas_of, overlaps
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.tally import Counts, divide

MOST_BOXES = 100
"""Most boxes of one class that count in one picture."""

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Overlaps from which a box counts as found, for mAP@[.5:.95]."""

AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of areas in pixels of the picture, both ends included."""

_RECALLS = np.linspace(0, 1, 101)
_NEARLY_ONE = 1 - 1e-10
_CHUNK = 1 << 20

_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rules:
    """What counts as found: overlaps, float64 [t, 1], and a range of areas."""

    steps: NDArray[np.float64]
    area: tuple[float, float]

    def is_outside(self, areas: NDArray[np.float64]) -> _Flags:
        low, high = self.area
        return np.asarray((areas < low) | (areas > high))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ClassTally:
    """One class: its boxes in order of score, over all pictures.

    Attributes:
        pictures: The picture of each box found, int64 [d].
        is_right: Whether a box matched an object, bool [t, d].
        is_ignored: Whether a box counts neither way, bool [t, d].
        wanted: How many objects of the class each picture has, float64 [pictures].
    """

    pictures: NDArray[np.int64]
    is_right: _Flags
    is_ignored: _Flags
    wanted: NDArray[np.float64]

    def precisions(self, counts: Counts) -> NDArray[np.float64]:
        """The average precision for each resample and threshold, [r, t]."""
        wanted = counts @ self.wanted
        rows = max(1, _CHUNK // max(1, self.is_right.size))
        parts = [
            self._precisions(counts[start : start + rows], wanted[start : start + rows])
            for start in range(0, len(counts), rows)
        ]
        return np.concatenate(parts)

    def _precisions(
        self, counts: Counts, wanted: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        drawn = counts[:, self.pictures][:, None]
        right = np.cumsum(drawn * (self.is_right & ~self.is_ignored), axis=2)
        wrong = np.cumsum(drawn * (~self.is_right & ~self.is_ignored), axis=2)
        recall = right / np.maximum(wanted, 1)[:, None, None]
        precision = right / (right + wrong + np.spacing(1))
        # What can be reached at this recall or at a higher one.
        best = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1]
        # How many of the recalls asked for are reached with each box, not before it.
        reached = np.searchsorted(_RECALLS, recall, side="right")
        steps = np.diff(reached, axis=2, prepend=0)
        average = (steps * best).sum(axis=2) / len(_RECALLS)
        return np.where(wanted[:, None] > 0, average, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeanPrecision:
    """The mean average precision over thresholds and the classes that are there.

    Attributes:
        pictures: How many there are.
        classes: One entry a class of which there is an object.
    """

    pictures: int
    classes: tuple[_ClassTally, ...]

    @property
    def units(self) -> int:
        """The pictures."""
        return self.pictures

    @property
    def size(self) -> int:
        """Each box at each threshold, summed a few times."""
        return 4 * sum(one.is_right.size for one in self.classes)

    def values(self, counts: Counts) -> NDArray[np.float64]:
        """The mean over the classes that are in each resample."""
        total, number = np.zeros(len(counts)), np.zeros(len(counts))
        for one in self.classes:
            average = one.precisions(counts).mean(axis=1)
            is_there = ~np.isnan(average)
            total += np.where(is_there, average, 0)
            number += is_there
        return divide(total, number)


def make_tally(
    thresholds: Sequence[float] = THRESHOLDS, area: str = "all"
) -> Callable[[Sequence[Prediction], Sequence[Label]], MeanPrecision]:
    """Make what keeps the boxes of all pictures for one of COCO's figures.

    Args:
        thresholds: Overlaps at which the precision is averaged.
        area: One of `AREAS`.
    """
    steps = np.minimum(np.array(thresholds), _NEARLY_ONE)[:, None]
    rules = _Rules(steps=steps, area=AREAS[area])

    def tally(
        predictions: Sequence[Prediction], labels: Sequence[Label]
    ) -> MeanPrecision:
        found = [cast("Boxes", one.boxes) for one in predictions]
        true = [cast("TrueBoxes", label) for label in labels]
        return MeanPrecision(
            pictures=len(true),
            classes=tuple(_tally_classes(found, true, rules)),
        )

    return tally


def _tally_classes(
    found: Sequence[Boxes],
    true: Sequence[TrueBoxes],
    rules: _Rules,
) -> Iterator[_ClassTally]:
    there = [one.labels for one in true]
    for label in np.unique(np.concatenate(there)) if there else ():
        matches, wanted = [], np.zeros(len(true))
        for picture, (ours, theirs) in enumerate(zip(found, true, strict=True)):
            ignored = theirs.is_crowd | rules.is_outside(theirs.areas)
            wanted[picture] = ((theirs.labels == label) & ~ignored).sum()
            matched = _match(ours, theirs, int(label), ignored, rules)
            if matched is not None:
                matches.append((picture, *matched))
        if wanted.any():
            yield _join(matches, wanted, len(rules.steps))


def _join(
    matches: Sequence[tuple[int, NDArray[np.float64], _Flags, _Flags]],
    wanted: NDArray[np.float64],
    steps: int,
) -> _ClassTally:
    none = np.zeros((steps, 0), dtype=bool)
    scores = np.concatenate([np.zeros(0), *(one[1] for one in matches)])
    order = np.argsort(-scores, kind="stable")
    pictures = [np.full(len(one[1]), one[0], dtype=np.int64) for one in matches]
    return _ClassTally(
        pictures=np.concatenate([np.zeros(0, np.int64), *pictures])[order],
        is_right=np.hstack([none, *(one[2] for one in matches)])[:, order],
        is_ignored=np.hstack([none, *(one[3] for one in matches)])[:, order],
        wanted=wanted,
    )


def _match(
    found: Boxes,
    true: TrueBoxes,
    label: int,
    ignored: _Flags,
    rules: _Rules,
) -> tuple[NDArray[np.float64], _Flags, _Flags] | None:
    """Match one picture's boxes of a class with its objects, greedily.

    Returns:
        Scores [d]; whether a box matched an object, and whether it is ignored, [t, d];
        None where there are no boxes.
    """
    chosen, steps = np.flatnonzero(found.labels == label), rules.steps
    if not len(chosen):
        return None
    chosen = chosen[np.argsort(-found.scores[chosen], kind="stable")][:MOST_BOXES]
    corners = found.corners[chosen]
    is_right = np.zeros((len(steps), len(chosen)), dtype=bool)
    is_ignored = np.zeros_like(is_right)
    objects = np.flatnonzero(true.labels == label)
    if len(objects):
        crowd, ignore = true.is_crowd[objects], ignored[objects]
        table = overlaps(corners, true.corners[objects], crowd)
        is_taken = np.zeros((len(steps), len(objects)), dtype=bool)
        rows = np.arange(len(steps))
        for place in np.flatnonzero(table.max(axis=1) >= steps.min()):
            can = (table[place] >= steps) & (~is_taken | crowd)
            # An object that counts goes before any that is ignored.
            counts = can & ~ignore
            can = np.where(counts.any(axis=1, keepdims=True), counts, can)
            overlap = np.where(can, table[place], -1.0)
            # Of objects with the same overlap COCO takes the last.
            best = len(objects) - 1 - overlap[:, ::-1].argmax(axis=1)
            hit = can.any(axis=1)
            is_right[:, place] = hit
            is_ignored[:, place] = hit & ignore[best]
            is_taken[rows[hit], best[hit]] = True
    is_ignored |= ~is_right & rules.is_outside(areas_of(corners) / true.pixel_area)
    return found.scores[chosen], is_right, is_ignored
