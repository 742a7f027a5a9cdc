"""Run a model over labelled samples and score it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError
from skerry.core.seams import Session, Tensors
from skerry.tasks.metrics import Label, aggregate
from skerry.tasks.prediction import Prediction
from skerry.tasks.samples import Sample, SampleSource
from skerry.tasks.task import Task

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while long work goes on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """A model's score on each sample, and overall.

    Attributes:
        metric: The name of the task's metric.
        per_sample: One score a sample, float64 [n].
        weights: One weight a sample, float64 [n]; see `skerry.tasks.metrics`.
        value: The metric over all samples.
        predictions: One a sample.
        labels: One a sample.
        names: The samples' names.
    """

    metric: str
    per_sample: NDArray[np.float64]
    weights: NDArray[np.float64]
    value: float
    predictions: tuple[Prediction, ...]
    labels: tuple[Label, ...]
    names: tuple[str, ...]


def evaluate(
    session: Session,
    source: SampleSource,
    task: Task,
    progress: Progress | None = None,
) -> Scores:
    """Run a model over labelled samples, one at a time, and score its predictions.

    A sample for which the model gives NaN or infinities counts as wrong.

    Args:
        session: The loaded model.
        source: The samples; each has a label.
        task: How outputs are decoded and scored.
        progress: Told after each sample.

    Raises:
        DataError: There are no samples, one has no label or does not fit the model,
            or the outputs do not fit the task.
        RuntimeFailure: The runtime failed.
    """
    metric = task.scoring
    predictions, labels, names, scores = [], [], [], []
    total = len(source)
    for sample in source:
        outputs = session.run(sample.inputs)
        label = _check_label(sample, task.read(outputs).size)
        prediction = task.decode(outputs)
        predictions.append(prediction)
        labels.append(label)
        names.append(sample.name)
        scores.append(metric.score(prediction, label))
        if progress is not None:
            progress("evaluate", len(scores), total)
    table = np.array(scores, dtype=np.float64).reshape(-1, 2)
    return Scores(
        metric=metric.name,
        per_sample=table[:, 0],
        weights=table[:, 1],
        value=aggregate(table[:, 0], table[:, 1]),
        predictions=tuple(predictions),
        labels=tuple(labels),
        names=tuple(names),
    )


def _check_label(sample: Sample, classes: int) -> Label:
    if sample.label is None:
        raise DataError(
            f"sample {sample.name} has no label",
            hint="Add an array called label, a labels.csv, or a sub-folder a class.",
        )
    if isinstance(sample.label, int) and sample.label >= classes:
        raise DataError(
            f"the label of {sample.name} is {sample.label}, the model has {classes} "
            "classes",
            hint="Labels count the classes from 0, in the model's order.",
        )
    return sample.label


def output_distance(reference_outputs: Tensors, outputs: Tensors) -> float:
    """Compare two models' outputs for the same inputs, without labels.

    Args:
        reference_outputs: Of the model that is right by definition.
        outputs: Of the other model; the same names and shapes.

    Returns:
        The relative squared error Σ (a - b)² / Σ a² over all outputs: 0 where they are
        equal; infinite where an output is missing, has another shape, or is not
        finite.
    """
    error = energy = 0.0
    if set(outputs) != set(reference_outputs):
        return float("inf")
    for name, reference in reference_outputs.items():
        output = outputs[name]
        if output.shape != reference.shape or not np.isfinite(output).all():
            return float("inf")
        wide = reference.astype(np.float64)
        energy += float(np.square(wide).sum())
        error += float(np.square(output.astype(np.float64) - wide).sum())
    if error == 0:
        return 0.0
    return error / energy if energy > 0 else float("inf")
