"""Heal a drifted model: refit its head on labelled field samples, under gates.

What runs on the device is what is refitted: embeddings come from the released model
itself, quantized as it is, so only its float head changes and the candidate's file
differs from the old one by those few bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from skerry.app.pipelines.embedding import (
    Answers,
    ask,
    find_head,
    read_head,
    with_head,
)
from skerry.cloud.retraining import Assignment, Candidate, LabelledSample, Trainer
from skerry.core.durable import write_file
from skerry.core.errors import DataError, ModelError
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Runtime, Tensors
from skerry.evolve.drift import make_reference, write_reference
from skerry.evolve.refit import Labelled, Refit, RefitSettings, refit
from skerry.graph import open_model, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.prediction import Label
from skerry.tasks.samples import open_samples
from skerry.tasks.task import Task, TaskKind, parse_task

OLD_PER_FIELD = 3
"""Old samples a field sample in the candidate's drift reference."""


_Row = tuple[Tensors, Label | None]
"""A sample's inputs and its label."""


def make_trainer(
    *,
    runtime: Runtime | None = None,
    settings: RefitSettings | None = None,
    seed: int = 0,
) -> Trainer:
    """Make what a hub's retraining calls.

    Args:
        runtime: What computes embeddings; the release's own where None.
        settings: How the head is fitted and what it must prove.
        seed: Of the chance in folds.
    """

    def train(assignment: Assignment) -> Candidate:
        return heal(assignment, runtime=runtime, settings=settings, seed=seed)

    return train


def heal(
    assignment: Assignment,
    *,
    runtime: Runtime | None = None,
    settings: RefitSettings | None = None,
    seed: int = 0,
) -> Candidate:
    """Refit the head of a released model.

    Args:
        assignment: The release, its files, old samples and labelled field samples.
        runtime: What computes embeddings; the release's own where None.
        settings: How the head is fitted and what it must prove.
        seed: Of the chance in folds.

    Returns:
        The candidate's model and drift reference (made of old and field samples: the
        field is usual from now on), and the evidence.

    Raises:
        ModelError: The model has no embedding as an output, or no float head.
        DataError: The samples do not fit the model or the task, or are too few.
        RuntimeFailure: The runtime cannot run the model.
    """
    task = parse_task(assignment.task, name="the release's task")
    if task.kind is not TaskKind.CLASSIFICATION:
        raise ModelError(
            f"a {task.kind} model cannot be refitted, only a classifier",
            hint="Train it again.",
        )
    model = assignment.manifest.models[0]
    if not model.embedding:
        raise ModelError(
            f"{assignment.manifest.id} names no embedding",
            hint="Release it with its embedding as an output.",
        )
    runs = runtime or get_runtime(model.runtime)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        work = _Work(
            folder=Path(folder),
            task=task,
            embedding=model.embedding,
            runtime=runs,
        )
        return work.heal(assignment, rng, settings or RefitSettings())


class _Work:
    """One refit, in a folder of its own."""

    def __init__(
        self, *, folder: Path, task: Task, embedding: str, runtime: Runtime
    ) -> None:
        self._folder = folder
        self._task = task
        self._embedding = embedding
        self._runtime = runtime

    def heal(
        self,
        assignment: Assignment,
        rng: np.random.Generator,
        settings: RefitSettings,
    ) -> Candidate:
        path = self._folder / "released.onnx"
        write_file(path, assignment.model)
        released = open_model(path)
        graph = parse_graph(assignment.model, name=str(assignment.manifest.id))
        head = read_head(graph, find_head(graph, output=self._task.output))
        replayed = list(self._replayed(assignment.replay, released))
        fielded = [
            (sample.inputs, _to_class(sample, self._task))
            for sample in assignment.samples
        ]
        old, field = self._ask(released, replayed), self._ask(released, fielded)
        order = rng.permutation(len(replayed))
        result = refit(
            head,
            field=_labelled(field),
            old=_labelled(old),
            rng=rng,
            settings=settings,
        )
        candidate = write_graph(
            with_head(graph, result.head, output=self._task.output),
            self._folder / "candidate.onnx",
        )
        few = order[: OLD_PER_FIELD * len(fielded)]
        drift = self._reference(candidate, [replayed[i] for i in few], fielded, rng)
        return _candidate(result, candidate.path.read_bytes(), drift, assignment)

    def _replayed(self, content: bytes, model: Model) -> Iterator[_Row]:
        path = self._folder / "replay.npz"
        write_file(path, content)
        for sample in open_samples(path, model.inputs, self._task):
            if sample.label is None:
                raise DataError(
                    "the replay set has no labels",
                    hint="Add an array `label`, one a sample.",
                )
            yield sample.inputs, sample.label

    def _ask(self, model: Model, samples: Sequence[_Row]) -> Answers:
        session = self._runtime.load(model, LoadOptions())
        try:
            return ask(session, samples, embedding=self._embedding, task=self._task)
        finally:
            session.close()

    def _reference(
        self,
        candidate: Model,
        old: Sequence[_Row],
        field: Sequence[_Row],
        rng: np.random.Generator,
    ) -> bytes:
        answers = self._ask(candidate, [*old, *field])
        reference = make_reference(
            answers.embeddings,
            answers.confidences,
            rng=rng,
            labels=answers.classes,
            conditions=np.repeat([0, 1], [len(old), len(field)]),
        )
        return write_reference(reference)


def _labelled(answers: Answers) -> Labelled:
    return Labelled(
        embeddings=answers.embeddings,
        labels=np.array(answers.labels, dtype=np.int64),
    )


def _to_class(sample: LabelledSample, task: Task) -> int:
    """The class that a person named, by its name or its number."""
    if sample.label in task.labels:
        return task.labels.index(sample.label)
    text = sample.label
    is_number = text.isascii() and text.isdigit() and len(text) < 6
    if not is_number or (task.labels and int(text) >= len(task.labels)):
        raise DataError(
            f"the label {text[:80]!r} of sample {sample.id} is no class of the task",
            hint="Label it with the name of a class.",
        )
    return int(text)


def _candidate(
    result: Refit, model: bytes, drift: bytes, assignment: Assignment
) -> Candidate:
    kinds: Array = np.array([sample.kind for sample in assignment.samples])
    evidence = msgspec.to_builtins(result.evidence)
    return Candidate(
        passed=result.evidence.passed,
        reason=result.evidence.reason,
        evidence={
            **evidence,
            "n_uncertain": int((kinds == "uncertain").sum()),
            "n_random": int((kinds == "random").sum()),
            "release": str(assignment.manifest.id),
        },
        blobs={"model": model, "drift": drift},
    )
