"""`skerry evaluate`: score a model on labelled samples, and against another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.output import Output
from skerry.app.project import complete, require

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.project import Project
    from skerry.core.seams import LoadOptions, Runtime
    from skerry.tasks.evaluate import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """The other model on the same samples.

    Attributes:
        model: Its file.
        value: The metric, as a fraction.
        paired_delta: The first model's value − its value.
        ci95: 95 % interval of `paired_delta`.
        differ: How many samples the two models read differently.
    """

    model: Path
    value: float
    paired_delta: float
    ci95: tuple[float, float]
    differ: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A model's score on labelled samples.

    Attributes:
        model: Its file.
        runtime: What ran it.
        metric: The task's metric.
        value: Its value, as a fraction.
        n: Number of samples.
        against: Another model on the same samples; None if none was given.
    """

    model: Path
    runtime: str
    metric: str
    value: float
    n: int
    against: Against | None


def evaluate(
    model: Path | None = None,
    samples: Path | None = None,
    /,
    *,
    task: Path | None = None,
    against: Path | None = None,
    runtime: str = "onnxruntime",
    threads: int = 1,
    output: Annotated[Output, Parameter(parse=False)],
) -> Evaluation:
    """Score a model on labelled samples, and against another.

    Args:
        model: An ONNX file; that of skerry.toml by default.
        samples: An .npz file or a folder of pictures, with labels; those of
            skerry.toml by default.
        task: A task file (schema skerry.task/1); the task of skerry.toml by default.
        against: Another ONNX file, scored on the same samples.
        runtime: What runs the models.
        threads: CPU threads for one inference.
        output: Where progress is shown.
    """
    from skerry.core.seams import LoadOptions
    from skerry.runtimes import get_runtime

    asked = require(complete(model, samples, task, folder=Path()))
    engine, options = get_runtime(runtime), LoadOptions(threads=threads)
    scores = _score(asked.model, asked, engine, options, output)
    other = _score(against, asked, engine, options, output) if against else None
    return Evaluation(
        model=asked.model,
        runtime=runtime,
        metric=scores.metric,
        value=scores.value,
        n=len(scores.names),
        against=_compare(against, scores, other) if against and other else None,
    )


def _score(
    path: Path, asked: Project, engine: Runtime, options: LoadOptions, output: Output
) -> Scores:
    from skerry.graph import open_model
    from skerry.tasks.evaluate import evaluate as run
    from skerry.tasks.samples import open_samples

    model = open_model(path)
    source = open_samples(asked.samples, model.inputs, asked.task)
    session = engine.load(model, options)
    try:
        with output.progress() as progress:
            return run(session, source, asked.task, progress)
    finally:
        session.close()


def _compare(path: Path, scores: Scores, other: Scores) -> Against:
    from skerry.tasks.metrics import paired_interval

    delta = paired_interval(other.per_sample, scores.per_sample, scores.weights)
    return Against(
        model=path,
        value=other.value,
        paired_delta=delta.delta,
        ci95=(delta.low, delta.high),
        differ=sum(
            mine.label != theirs.label
            for mine, theirs in zip(scores.predictions, other.predictions, strict=True)
        ),
    )


def render_evaluate(found: Evaluation) -> RenderableType:
    """Render one line a model, then the difference with its interval."""
    from rich.console import Group

    from skerry.app.tables import plain_table

    samples = figures.show_number(found.n, "sample")
    metric = figures.show_metric(found.metric)
    table = plain_table(f"{metric}, {samples}, {found.runtime}", "#")
    table.add_row(found.model.name, figures.show_percent(found.value))
    other = found.against
    if other is None:
        return table
    table.add_row(other.model.name, figures.show_percent(other.value))
    low, high = (figures.show_signed(end * 100, digits=2) for end in other.ci95)
    return Group(
        table,
        "",
        f"{figures.show_points(other.paired_delta)} (95 %: {low} to {high}); "
        f"{other.differ} of {found.n} samples are read differently",
    )
