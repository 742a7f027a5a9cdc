"""What a sample must keep to fit the model and the task."""

from __future__ import annotations

import numpy as np

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.tasks.metrics import Label
from skerry.tasks.task import Task, TaskKind


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
    """Turn a stored label into the index of a class or a line of text.

    Args:
        value: A whole number or text, of Python or numpy.
        task: What labels mean; None leaves the label as it is.
        name: Whose label it is, for messages.

    Raises:
        DataError: The label is not one of the task's.
    """
    if isinstance(value, int | np.integer):
        return _index(int(value), task, name)
    if isinstance(value, str):
        return _text(str(value), task, name)
    raise DataError(
        f"the label of {name} is {value!r}, expected a whole number or text",
        hint="Store labels as integers or as text, one a sample.",
    )


def _index(index: int, task: Task | None, name: str) -> Label:
    if task is None:
        return index
    if task.kind is TaskKind.TEXT:
        raise DataError(
            f"the label of {name} is the number {index}, expected a line of text",
            hint="Store labels as text.",
        )
    if index < 0 or (task.labels and index >= len(task.labels)):
        classes = f"0 to {len(task.labels) - 1}" if task.labels else "0 or more"
        raise DataError(
            f"the label of {name} is {index}, expected {classes}",
            hint="Labels count the classes from 0, in the order of the task's labels.",
        )
    return index


def _text(text: str, task: Task | None, name: str) -> Label:
    if task is None or task.kind is TaskKind.TEXT:
        return text
    if text in task.labels:
        return task.labels.index(text)
    if not task.labels and text.isascii() and text.isdecimal():
        return int(text)
    raise DataError(
        f"the label of {name} is {text!r}, which is no class of the task",
        hint=did_you_mean(text, task.labels)
        if task.labels
        else "The task names no classes: give its labels, or labels that are numbers.",
    )
