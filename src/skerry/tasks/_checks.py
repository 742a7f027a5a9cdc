"""What a sample must keep to fit the model and the task."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.tasks.boxes import TrueBoxes, areas_of
from skerry.tasks.prediction import Label
from skerry.tasks.task import Task, TaskKind

BOX_COLUMNS = (5, 6, 7)
"""Numbers of a box in an array: corners, class, and perhaps crowd and area."""

LARGEST_NUMBER = 1e15
"""Beyond the corners and areas of any picture."""


def check_signature(expected: TensorSpec, got: TensorSpec, *, name: str) -> None:
    """Compare an array's dtype and shape, batch axis included, with an input.

    Args:
        expected: The model's input.
        got: What the array is; its shape is all numbers.
        name: Whose array it is, for messages.

    Raises:
        DataError: They do not fit.
    """
    shape = tuple(size for size in got.shape if isinstance(size, int))
    if got.dtype == expected.dtype and expected.accepts(shape):
        return
    hint = "The shape is the model's, with one sample in the batch axis."
    if got.dtype != expected.dtype:
        hint = f"Convert the array: array.astype({expected.dtype!r})."
    elif (
        expected.shape and isinstance(expected.shape[0], int) and expected.shape[0] > 1
    ):
        hint = (
            f"The model has a fixed batch of {expected.shape[0]}: "
            "export it with a batch of 1."
        )
    raise DataError(f"{name}: got {got}, expected {expected}", hint=hint)


def check_input(spec: TensorSpec, array: Array, *, name: str) -> None:
    """Check one sample's array, batch axis included.

    Raises:
        DataError: Its dtype or shape is not the input's, or it holds NaN or infinities.
    """
    got = TensorSpec(name=spec.name, dtype=array.dtype.name, shape=array.shape)
    check_signature(spec, got, name=name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        raise DataError(
            f"sample {name}: {count} of {array.size} values of {spec.name} are NaN or "
            "infinite, expected none",
            hint="Remove the sample, or repair what wrote it.",
        )


def to_label(value: object, task: Task | None, *, name: str) -> Label:
    """Turn a stored label into what the task's metric compares with.

    Args:
        value: A number or text, of Python or numpy; boxes [n, 5 to 7] as an array.
        task: What labels mean; None leaves the label as it is.
        name: Whose label it is, for messages.

    Raises:
        DataError: The label is not one of the task's.
    """
    kind = None if task is None else task.kind
    if kind is TaskKind.DETECTION:
        return _boxes(value, task, name)
    if kind is TaskKind.REGRESSION:
        return _number(value, name)
    if isinstance(value, float | np.floating) and task is None:
        return float(value)
    if isinstance(value, int | np.integer | np.bool_):
        return _index(int(value), task, name)
    if isinstance(value, str):
        return _text(str(value), task, name)
    raise DataError(
        f"the label of {name} is {value!r}, expected a whole number or text",
        hint="Store labels as integers or as text, one a sample.",
    )


def _index(index: int, task: Task | None, name: str) -> Label:
    if task is None or task.kind is TaskKind.EMBEDDING:
        return index
    if task.kind is TaskKind.TEXT:
        raise DataError(
            f"the label of {name} is the number {index}, expected a line of text",
            hint="Store labels as text.",
        )
    most = 2 if task.kind is TaskKind.ANOMALY else len(task.labels)
    if index < 0 or (most and index >= most):
        classes = f"0 to {most - 1}" if most else "0 or more"
        raise DataError(
            f"the label of {name} is {index}, expected {classes}",
            hint="Labels count the classes from 0, in the order of the task's labels.",
        )
    return index


def _text(text: str, task: Task | None, name: str) -> Label:
    if task is None or task.kind in (TaskKind.TEXT, TaskKind.EMBEDDING):
        return text
    if text in task.labels:
        return task.labels.index(text)
    if not task.labels and text.isascii() and text.isdecimal() and len(text) < 19:
        return _index(int(text), task, name)
    raise DataError(
        f"the label of {name} is {text!r}, which is no class of the task",
        hint=did_you_mean(text, task.labels)
        if task.labels
        else "The task names no classes: give its labels, or labels that are numbers.",
    )


def to_class(text: str, task: Task, *, name: str) -> int:
    """Turn the name or the number of a box's class into its index.

    Raises:
        DataError: The task has no such class.
    """
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    if is_number and text not in task.labels:
        return int(text)  # which `make_truth` checks with the rest of the box
    return cast("int", _text(text, task, name))


def _number(value: object, name: str) -> float:
    try:
        number = float(np.asarray(value)[()])
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(
            f"the label of {name} is {str(value)[:80]!r}, expected a finite number",
            hint="Store the value to predict, one a sample.",
        )
    return number


def _boxes(value: object, task: Task | None, name: str) -> TrueBoxes:
    table = np.asarray(value)
    if isinstance(value, TrueBoxes):
        return value
    if (
        table.ndim != 2
        or table.shape[1] not in BOX_COLUMNS
        or table.dtype.kind not in "fiu"
    ):
        raise DataError(
            f"the label of {name} is {table.dtype} {table.shape}, expected boxes: "
            "n × (x_min, y_min, x_max, y_max, class, and perhaps crowd and area)",
            hint="Rows of class -1 fill up pictures with fewer boxes.",
        )
    rows = table.astype(np.float64)
    return make_truth(rows[rows[:, 4] != -1], task, name=name)


def make_truth(rows: NDArray[np.float64], task: Task | None, *, name: str) -> TrueBoxes:
    """Make the objects of a picture from their rows.

    Args:
        rows: x_min, y_min, x_max, y_max, class, and perhaps whether it is a crowd and
            the area, [n, 5 to 7]; an area of 0 or none is the box's own.
        task: Its labels bound the classes.
        name: Whose boxes they are, for messages.

    Raises:
        DataError: A number is not finite, corners are turned, or a class is none.
    """
    classes = len(task.labels) if task else 0
    corners, labels = rows[:, :4], rows[:, 4]
    is_right = (np.abs(rows) < LARGEST_NUMBER).all(axis=1)
    is_right &= (labels >= 0) & (labels == np.rint(labels))
    # Far less than 2⁶³, which no number of classes comes near.
    is_right &= labels < (classes or 1 << 31)
    # COCO has objects whose box is a line: they have no area, and cannot be found.
    is_right &= (corners[:, 2:] >= corners[:, :2]).all(axis=1)
    if not is_right.all():
        wrong = rows[~is_right][0].tolist()
        raise DataError(
            f"a box of {name} is {wrong}; expected x_min ≤ x_max, y_min ≤ y_max and "
            f"a class of 0 to {classes - 1 if classes else 'some'}",
            hint="A box is x_min, y_min, x_max, y_max, class; classes count from 0.",
        )
    count = len(rows)
    crowd = rows[:, 5] != 0 if rows.shape[1] > 5 else np.zeros(count, dtype=bool)
    areas = areas_of(corners)
    if rows.shape[1] > 6:
        areas = np.where(rows[:, 6] > 0, rows[:, 6], areas)
    return TrueBoxes(
        corners=corners, labels=labels.astype(np.int64), is_crowd=crowd, areas=areas
    )
