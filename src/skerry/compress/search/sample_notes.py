"""What a reader of a report must know of the samples: values out of place, one class.

All of this is told, nothing is refused: a model may well be used on such samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from skerry.compress.search.request import Search
from skerry.core.errors import DataError
from skerry.core.seams import Array
from skerry.tasks.prediction import Label
from skerry.tasks.samples import NpzSource, SampleSource
from skerry.tasks.task import Task, TaskKind

LOOKED_AT = 8
"""Samples whose values are compared: a wrong scale shows in each of them."""

OUTSIDE = 0.5
"""Share of the declared width by which values may lie outside it."""

SHRUNK = 0.05
"""Share of the width of others that values must fill."""

SIDE = 32
"""Rows and columns of a picture that shows what the steps of a task make of values."""

Ends = tuple[float, float]


def sample_notes(search: Search, labels: Sequence[Label]) -> list[str]:
    """Look at a few samples of each kind.

    Args:
        search: Its calibration and selection samples, and its task.
        labels: Those of the report's samples; empty where there are none.

    Returns:
        Plain sentences.

    Raises:
        DataError: A sample cannot be read.
    """
    task, calibration = search.task, _ends(search.calibration)
    declared = None if task is None else declared_ends(task)
    notes: list[str] = []
    if isinstance(search.calibration, NpzSource):
        notes += _of_declared("calibration", calibration, declared)
    if search.selection is not search.calibration:
        selection = _ends(search.selection)
        if isinstance(search.selection, NpzSource):
            notes += _of_declared("evaluation", selection, declared)
        notes += _of_each_other(calibration, selection)
    if task is not None:
        notes += _of_classes(labels, task)
    return notes


def declared_ends(task: Task) -> Ends | None:
    """The least and the largest value that a task's `pre` steps make of a picture.

    Steps on pixels are monotonous in each channel: black, white and the three primary
    colours show their ends. None where the task prepares no pictures.
    """
    if not task.pre:
        return None
    found: list[Array] = []
    for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)):
        picture = np.full((SIDE, SIDE, 3), colour, np.uint8)
        try:
            found.append(task.prepare(picture))
        except DataError:
            # A step that wants larger pictures, or others.
            return None
    return min(float(one.min()) for one in found), max(
        float(one.max()) for one in found
    )


def _ends(samples: SampleSource) -> dict[str, Ends]:
    """By input of floats, the ends of the first few samples."""
    found: dict[str, Ends] = {}
    for sample in islice(samples, LOOKED_AT):
        for name, array in sample.inputs.items():
            if array.dtype.kind == "f" and array.size:
                low, high = found.get(name, (float("inf"), float("-inf")))
                found[name] = (
                    min(low, float(array.min())),
                    max(high, float(array.max())),
                )
    return found


def _of_declared(
    which: str, found: dict[str, Ends], declared: Ends | None
) -> Iterator[str]:
    """Arrays that are not what the steps of the task would have made of pictures."""
    if declared is None or len(found) != 1:
        return
    ((name, (low, high)),) = found.items()
    width = declared[1] - declared[0]
    is_outside = (
        low < declared[0] - OUTSIDE * width or high > declared[1] + OUTSIDE * width
    )
    if width > 0 and (is_outside or high - low < SHRUNK * width):
        yield (
            f"The {which} samples hold {name} from {low:.4g} to {high:.4g}; the pre "
            f"steps of the task give {declared[0]:.4g} to {declared[1]:.4g}: prepare "
            "the arrays as the task says."
        )


def _of_each_other(
    calibration: dict[str, Ends], selection: dict[str, Ends]
) -> list[str]:
    """Calibration and evaluation samples of different scales."""
    notes = []
    for name, (low, high) in calibration.items():
        if name not in selection:
            continue
        other_low, other_high = selection[name]
        widths = sorted((high - low, other_high - other_low))
        if widths[0] < SHRUNK * widths[1]:
            notes.append(
                f"The calibration samples hold {name} from {low:.4g} to {high:.4g}, "
                f"the evaluation samples from {other_low:.4g} to {other_high:.4g}: "
                "prepare both alike."
            )
    return notes


def _of_classes(labels: Sequence[Label], task: Task) -> list[str]:
    """Labels of one class alone, on which a constant answer is right."""
    if task.kind is not TaskKind.CLASSIFICATION or len(set(labels)) != 1:
        return []
    name = labels[0]
    if isinstance(name, int) and name < len(task.labels):
        name = task.labels[name]
    which = f"All {len(labels)} samples of the report are of the class {name!r}"
    return [f"{which}: the accuracy on others is not known."]
