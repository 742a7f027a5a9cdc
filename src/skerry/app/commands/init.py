"""`skerry init`: find out how a model and its samples fit, and write it down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app import figures
from skerry.app.project import PROJECT_FILE, Project, write_project
from skerry.app.tables import indent, plain_table
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.core.seams import Session
    from skerry.tasks.prediction import Label
    from skerry.tasks.samples import SampleSource
    from skerry.tasks.task import Task

SHOWN_SAMPLES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A sample and what the model says of it.

    Attributes:
        sample: Where it is from.
        label: What it is; None where it has no label.
        prediction: What the model says.
        confidence: How sure it is, 0–1.
    """

    sample: str
    label: str | None
    prediction: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A project that was begun.

    Attributes:
        path: The project file.
        kind: What the model is for.
        metric: What counts.
        steps: What is done before and after the model, in order.
        reasons: Why this was guessed.
        confidence: How well the guess does on some samples, 0–1.
        shown: Some samples with predictions, for a person to judge.
    """

    path: Path
    kind: str
    metric: str
    steps: tuple[str, ...]
    reasons: tuple[str, ...]
    confidence: float
    shown: tuple[Shown, ...]


def init(
    model: Path, samples: Path, /, *, runtime: str = "onnxruntime", force: bool = False
) -> Begun:
    """Guess what a model is for, show it on six samples, and write skerry.toml.

    Args:
        model: An ONNX file.
        samples: An .npz file or a folder of pictures.
        runtime: What runs the model.
        force: Write over a skerry.toml that is there.
    """
    from skerry.core.seams import LoadOptions
    from skerry.graph import open_model, read_graph
    from skerry.runtimes import get_runtime
    from skerry.tasks.guess import guess_task
    from skerry.tasks.samples import open_samples, take

    path = Path(PROJECT_FILE)
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already", hint="Write over it with --force.")
    opened = open_model(model)
    session = get_runtime(runtime).load(opened, LoadOptions())
    try:
        guess = guess_task(
            samples,
            inputs=opened.inputs,
            outputs=opened.outputs,
            metadata=read_graph(model).metadata,
            run=session.run,
            model_path=model,
        )
        source = open_samples(samples, opened.inputs, guess.task)
        shown = tuple(_show(session, take(source, SHOWN_SAMPLES), guess.task))
    finally:
        session.close()
    write_project(Project(model=model, samples=samples, task=guess.task), path)
    return Begun(
        path=path,
        kind=guess.task.kind,
        metric=guess.task.metric,
        steps=_name_steps(guess.task),
        reasons=guess.reasons,
        confidence=guess.confidence,
        shown=shown,
    )


def _show(session: Session, source: SampleSource, task: Task) -> Iterator[Shown]:
    for sample in source:
        prediction = task.decode(session.run(sample.inputs), sample.inputs)
        label = sample.label
        yield Shown(
            sample=sample.name,
            label=None if label is None else _name_label(label, task),
            prediction=prediction.name,
            confidence=prediction.confidence,
        )


def _name_label(label: Label, task: Task) -> str:
    from skerry.tasks.boxes import TrueBoxes

    if isinstance(label, int) and 0 <= label < len(task.labels):
        return task.labels[label]
    if isinstance(label, TrueBoxes):
        return figures.show_number(len(label), "object")
    return str(label)


def _name_steps(task: Task) -> tuple[str, ...]:
    from skerry.tasks.task import task_to_table

    table = task_to_table(task)
    before = [step["step"] for step in table["pre"]]
    return (*before, "model", *(step["step"] for step in table["post"]))


def render_init(begun: Begun) -> RenderableType:
    """Render the guess and its reasons, then the samples, for a person to judge."""
    from rich.console import Group
    from rich.text import Text

    table = plain_table("sample", "label", "prediction", "#sure")
    for shown in begun.shown:
        is_wrong = shown.label is not None and shown.label != shown.prediction
        table.add_row(
            shown.sample,
            figures.NOT_MEASURED if shown.label is None else shown.label,
            Text(shown.prediction, "red" if is_wrong else ""),
            figures.show_percent(shown.confidence),
        )
    return Group(
        Text(f"{begun.kind}, scored by {figures.show_metric(begun.metric)}", "bold"),
        indent(" → ".join(begun.steps)),
        *(indent(reason) for reason in begun.reasons),
        "",
        table,
        "",
        f"Written: {begun.path}. If the predictions look wrong, edit its [task].",
    )
