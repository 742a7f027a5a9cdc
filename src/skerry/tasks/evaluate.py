"""Run a model over labelled samples and score it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError
from skerry.core.seams import Session, Tensors
from skerry.tasks.metrics import PairedDelta, compare_tallies, value_over
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.samples import Sample, SampleSource
from skerry.tasks.tally import Quotient, Tally
from skerry.tasks.task import Task, TaskKind

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while long work goes on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """A model's score on each sample, and overall.

    Attributes:
        metric: The name of the task's metric.
        tally: What the metric keeps of the samples.
        value: The metric over all samples.
        predictions: One a sample.
        labels: One a sample.
        names: The samples' names.
    """

    metric: str
    tally: Tally
    value: float
    predictions: tuple[Prediction, ...]
    labels: tuple[Label, ...]
    names: tuple[str, ...]

    @property
    def per_sample(self) -> NDArray[np.float64]:
        """One score a sample, float64 [n]; none where the metric is no sum of them."""
        return self.tally.scores if isinstance(self.tally, Quotient) else np.zeros(0)

    @property
    def weights(self) -> NDArray[np.float64]:
        """One weight a sample, float64 [n]; see `skerry.tasks.metrics`."""
        return self.tally.weights if isinstance(self.tally, Quotient) else np.zeros(0)


def evaluate(
    session: Session,
    source: SampleSource,
    task: Task,
    progress: Progress | None = None,
    *,
    batch: int = 1,
) -> Scores:
    """Run a model over labelled samples and score its predictions.

    A sample for which the model gives NaN or infinities counts as wrong: a value as
    wrong by the whole span of the labels.

    Args:
        session: The loaded model.
        source: The samples; each has a label.
        task: How outputs are decoded and scored.
        progress: Told after each sample.
        batch: How many samples of one shape to run at once, at most, where the model
            takes and gives any number along axis 0.

    Raises:
        DataError: There are no samples, one has no label or does not fit the model,
            or the outputs do not fit the task.
        RuntimeFailure: The runtime failed.
    """
    total = len(source)
    found: list[Answered] = []
    for one in answers(session, source, task, batch=batch):
        found.append(one)
        if progress is not None:
            progress("evaluate", len(found), total)
    return score(found, task)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answered:
    """What a model said of one sample, and what is true of it."""

    name: str
    prediction: Prediction
    label: Label


def answers(
    session: Session, source: SampleSource, task: Task, *, batch: int = 1
) -> Iterator[Answered]:
    """Run a model over labelled samples and decode what it says of each.

    Args:
        session: The loaded model.
        source: The samples; each has a label.
        task: How outputs are decoded.
        batch: How many samples to run at once, at most.

    Raises:
        DataError: A sample has no label or does not fit the model, or the outputs do
            not fit the task.
        RuntimeFailure: The runtime failed.
    """
    for sample, outputs in _outputs(session, source, batch):
        yield Answered(
            label=_check_label(sample, task, outputs),
            prediction=task.decode(outputs, sample.inputs),
            name=sample.name,
        )


def _outputs(
    session: Session, source: SampleSource, batch: int
) -> Iterator[tuple[Sample, Tensors]]:
    """Run samples, in batches of those that follow one another and are of one shape."""

    def shapes(sample: Sample) -> list[tuple[int, ...]]:
        return [array.shape for array in sample.inputs.values()]

    for _, alike in groupby(source, shapes):
        while samples := list(islice(alike, batch)):
            yield from zip(samples, _run_at_once(session, samples), strict=True)


def _run_at_once(session: Session, samples: Sequence[Sample]) -> Iterator[Tensors]:
    """Run samples as one batch; gives the outputs of each."""
    if len(samples) == 1:
        yield session.run(samples[0].inputs)
        return
    together = {
        name: np.concatenate([sample.inputs[name] for sample in samples])
        for name in samples[0].inputs
    }
    outputs = session.run(together)
    for name, array in outputs.items():
        if array.shape[:1] != (len(samples),):
            raise DataError(
                f"the output {name!r} of {len(samples)} samples has shape "
                f"{array.shape}, expected {len(samples)} along axis 0",
                hint="Run one sample at a time.",
            )
    for index in range(len(samples)):
        yield {name: array[index : index + 1] for name, array in outputs.items()}


def score(found: Sequence[Answered], task: Task) -> Scores:
    """Score what a model said.

    Raises:
        DataError: There are no samples, or too few for the metric.
    """
    metric = task.scoring
    predictions = tuple(one.prediction for one in found)
    labels = tuple(one.label for one in found)
    tally = metric.tally(predictions, labels)
    return Scores(
        metric=metric.name,
        tally=tally,
        value=value_over(tally),
        predictions=predictions,
        labels=labels,
        names=tuple(one.name for one in found),
    )


def compare_scores(before: Scores, after: Scores, *, seed: int = 0) -> PairedDelta:
    """Compare two models' scores on the same samples, with a 95 % interval.

    Args:
        before: Of one model.
        after: Of the other one.
        seed: Makes a bootstrap repeatable; see `skerry.tasks.metrics.compare_tallies`.

    Raises:
        DataError: They are not of the same samples.
    """
    return compare_tallies(before.tally, after.tally, seed=seed)


def _check_label(sample: Sample, task: Task, outputs: Tensors) -> Label:
    if sample.label is None:
        raise DataError(
            f"sample {sample.name} has no label",
            hint="Add an array called label, a labels.csv, or a sub-folder a class.",
        )
    if task.kind is not TaskKind.CLASSIFICATION:
        return sample.label
    classes = task.read(outputs).size
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
