"""What two releases make of the same requests: for people, and for probation."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from skerry.core.release import ReleaseId
from skerry.core.seams import Array, Tensors
from skerry.evolve.probation import Impression
from skerry.tasks.evaluate import output_distance

LAST_KEPT = 8
"""How many of the latest disagreements are kept."""

_MOST_CLASSES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One request that both releases ran.

    Attributes:
        at_ms: When, milliseconds since 1970.
        distance: The relative squared error of the candidate's outputs; infinite where
            they are of other shapes or not finite.
        is_same_class: Whether both give each row the same class; None where no output
            looks like scores of classes.
    """

    at_ms: int
    distance: float
    is_same_class: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreements:
    """How far a candidate's answers are from those that were given.

    Attributes:
        stable: Which release answered.
        candidate: Which one ran the requests too.
        compared: Requests that both ran.
        differing: Those with another class, or with a distance beyond the tolerance.
        tolerance: Largest distance that is none.
        skipped: Requests that the candidate did not run, as it had too many to run.
        failed: Requests that it failed to answer.
        mean_distance: Over all whose distance is finite; 0 where there is none.
        worst_distance: The largest one; infinite where one was.
        other_class: Requests to which it gave another class.
        last: The latest that differ, the newest last.
    """

    stable: ReleaseId
    candidate: ReleaseId
    compared: int
    differing: int
    tolerance: float
    skipped: int
    failed: int
    mean_distance: float
    worst_distance: float
    other_class: int
    last: tuple[Comparison, ...]


class DisagreementRecord:
    """Adds up comparisons.

    Args:
        stable: Which release answers.
        candidate: Which one runs the requests too.
        tolerance: Largest distance that is no disagreement.
    """

    def __init__(
        self, stable: ReleaseId, candidate: ReleaseId, *, tolerance: float
    ) -> None:
        self.stable = stable
        self.candidate = candidate
        self.skipped = 0
        self.failed = 0
        self._tolerance = tolerance
        self._compared = self._differing = self._other_class = self._finite = 0
        self._sum = self._worst = 0.0
        self._last: deque[Comparison] = deque(maxlen=LAST_KEPT)

    def add(self, comparison: Comparison) -> None:
        """Add one."""
        distance = comparison.distance
        self._compared += 1
        self._worst = max(self._worst, distance)
        if math.isfinite(distance):
            self._finite += 1
            self._sum += distance
        is_other = comparison.is_same_class is False
        self._other_class += is_other
        if is_other or distance > self._tolerance:
            self._differing += 1
            self._last.append(comparison)

    def figures(self) -> Disagreements:
        """What they add up to."""
        return Disagreements(
            stable=self.stable,
            candidate=self.candidate,
            compared=self._compared,
            differing=self._differing,
            tolerance=self._tolerance,
            skipped=self.skipped,
            failed=self.failed,
            mean_distance=self._sum / max(1, self._finite),
            worst_distance=self._worst,
            other_class=self._other_class,
            last=tuple(self._last),
        )


def impression_of(outputs: Tensors, latency_ms: float) -> Impression:
    """Say in a few numbers what an answer was like.

    Outputs of floats, shaped [rows, 2 to 4096 columns], are taken as scores of classes.
    """
    classes, levels = {}, {}
    with np.errstate(all="ignore"):
        for name, output in outputs.items():
            if output.dtype.kind not in "fiu" or not output.size:
                continue
            levels[name] = float(output.mean(dtype=np.float64))
            if _is_scores(output):
                classes[name] = tuple(int(each) for each in output.argmax(axis=1))
    return Impression(latency_ms=latency_ms, classes=classes, levels=levels)


def compare(
    before: Impression, after: Impression, distance: float, *, at_ms: int
) -> Comparison:
    """Compare what was answered with what the candidate made of the same request."""
    names = before.classes.keys() & after.classes.keys()
    same = [before.classes[name] == after.classes[name] for name in names]
    return Comparison(
        at_ms=at_ms, distance=distance, is_same_class=all(same) if same else None
    )


def distance_of(answered: Tensors, ran: Tensors) -> float:
    """The relative squared error of outputs, whatever numbers they are of."""
    with np.errstate(all="ignore"):
        return output_distance(answered, ran)


def copy_tensors(tensors: Tensors) -> dict[str, Array]:
    """Copies that nobody else changes: the caller owns what it was answered."""
    return {name: tensor.copy() for name, tensor in tensors.items()}


def _is_scores(output: Array) -> bool:
    return (
        output.dtype.kind == "f"
        and output.ndim == 2
        and 2 <= output.shape[1] <= _MOST_CLASSES
    )
