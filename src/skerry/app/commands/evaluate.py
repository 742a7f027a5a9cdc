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
    from collections.abc import Sequence

    from rich.console import RenderableType

    from skerry.app.project import Project
    from skerry.core.seams import LoadOptions, Runtime
    from skerry.tasks.conditions import Condition
    from skerry.tasks.evaluate import Scores

AS_TAKEN = "as taken"
"""The row of the pictures that no condition spoils."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """The other model on the same samples.

    Attributes:
        model: Its file.
        value: The metric; a fraction, or in the unit of the labels.
        paired_delta: The first model's value − its value.
        ci95: 95 % interval of `paired_delta`.
        differ: How many samples the two models read differently.
        verdict: Whether there is a difference, in plain words.
    """

    model: Path
    value: float
    paired_delta: float
    ci95: tuple[float, float]
    differ: int
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioned:
    """The score on pictures that a condition spoils.

    Attributes:
        condition: Its name.
        value: The metric; a fraction, or in the unit of the labels.
        against: The other model on the same pictures; None if none was given.
    """

    condition: str
    value: float
    against: Against | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A model's score on labelled samples.

    Attributes:
        model: Its file.
        runtime: What ran it.
        metric: The task's metric.
        value: Its value; a fraction, or in the unit of the labels.
        n: Number of samples.
        against: Another model on the same samples; None if none was given.
        conditions: The same under each condition asked for.
    """

    model: Path
    runtime: str
    metric: str
    value: float
    n: int
    against: Against | None
    conditions: tuple[Conditioned, ...] = ()


def evaluate(
    model: Path | None = None,
    samples: Path | None = None,
    /,
    *,
    task: Path | None = None,
    against: Path | None = None,
    conditions: str = "",
    runtime: str = "onnxruntime",
    threads: int = 1,
    output: Annotated[Output, Parameter(parse=False)],
) -> Evaluation:
    """Score a model on labelled samples, and against another.

    Args:
        model: An ONNX, TFLite or ncnn file; that of skerry.toml by default.
        samples: An .npz file or a folder of pictures, with labels; those of
            skerry.toml by default.
        task: A task file (schema skerry.task/1); the task of skerry.toml by default.
        against: Another model file, scored on the same samples.
        conditions: What spoils the pictures for further rows: all, or some of dark,
            glare, blur, noise, rain, gain, re-encoding with commas between.
        runtime: What runs the models; litert takes TFLite files, ncnn its own.
        threads: CPU threads for one inference.
        output: Where progress is shown.
    """
    from skerry.core.seams import LoadOptions
    from skerry.runtimes import get_runtime
    from skerry.tasks.conditions import parse_conditions

    asked = require(complete(model, samples, task, folder=Path()))
    wanted = parse_conditions(conditions) if conditions else ()
    engine, options = get_runtime(runtime), LoadOptions(threads=threads)
    plan = _Plan(asked=asked, conditions=wanted, engine=engine, options=options)
    scores = _score(asked.model, plan, output)
    compared: list[Against | None] = [None] * len(scores)
    if against:
        others = _score(against, plan, output)
        compared = [
            _compare(against, *pair) for pair in zip(scores, others, strict=True)
        ]
    return Evaluation(
        model=asked.model,
        runtime=runtime,
        metric=scores[0].metric,
        value=scores[0].value,
        n=len(scores[0].names),
        against=compared[0],
        conditions=tuple(
            Conditioned(condition=condition.value, value=found.value, against=other)
            for condition, found, other in zip(
                wanted, scores[1:], compared[1:], strict=True
            )
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """On what, and how, each model is run."""

    asked: Project
    conditions: Sequence[Condition]
    engine: Runtime
    options: LoadOptions


def _score(path: Path, plan: _Plan, output: Output) -> list[Scores]:
    """Score on the samples as they are, then under each condition."""
    from skerry.runtimes import open_any
    from skerry.tasks.evaluate import evaluate as run
    from skerry.tasks.samples import open_samples, under

    model = open_any(path)
    task = plan.asked.task
    source = open_samples(plan.asked.samples, model.inputs, task)
    sources = [source, *(under(source, condition) for condition in plan.conditions)]
    session = plan.engine.load(model, plan.options)
    try:
        with output.progress() as progress:
            return [run(session, one, task, progress) for one in sources]
    finally:
        session.close()


def _compare(path: Path, scores: Scores, other: Scores) -> Against:
    from skerry.tasks.evaluate import compare_scores

    delta = compare_scores(other, scores)
    return Against(
        model=path,
        value=other.value,
        paired_delta=delta.delta,
        ci95=(delta.low, delta.high),
        differ=sum(
            mine.label != theirs.label
            for mine, theirs in zip(scores.predictions, other.predictions, strict=True)
        ),
        verdict=str(delta),
    )


def render_evaluate(found: Evaluation) -> RenderableType:
    """Render one line a model, the difference with its interval, the conditions."""
    from rich.console import Group

    from skerry.app.tables import plain_table

    samples = figures.show_number(found.n, "sample")
    metric = figures.show_metric(found.metric)
    table = plain_table(f"{metric}, {samples}, {found.runtime}", "#")
    table.add_row(found.model.name, figures.show_score(found.metric, found.value))
    parts: list[RenderableType] = [table]
    if other := found.against:
        value = figures.show_score(found.metric, other.value)
        table.add_row(other.model.name, value)
        differ = f"{other.differ} of {found.n} samples are read differently"
        parts += ["", f"{_difference(found.metric, other)}; {differ}", other.verdict]
    if found.conditions:
        parts += ["", _condition_table(found)]
    return Group(*parts) if len(parts) > 1 else table


def _difference(metric: str, other: Against) -> str:
    low, high = (figures.show_end(metric, end) for end in other.ci95)
    change = figures.show_change(metric, other.paired_delta)
    return f"{change} (95 %: {low} to {high})"


def _condition_table(found: Evaluation) -> RenderableType:
    from skerry.app.tables import plain_table

    other = found.against
    columns = ["condition", f"#{found.model.name}"]
    if other:
        columns += [f"#{other.model.name}", "#difference", "95 %", ""]
    table = plain_table(*columns)
    taken = Conditioned(condition=AS_TAKEN, value=found.value, against=other)
    for row in (taken, *found.conditions):
        cells = [row.condition, figures.show_score(found.metric, row.value)]
        if row.against:
            low, high = (figures.show_end(found.metric, x) for x in row.against.ci95)
            cells += [
                figures.show_score(found.metric, row.against.value),
                figures.show_end(found.metric, row.against.paired_delta),
                f"{low} to {high}",
                row.against.verdict.partition(":")[0],
            ]
        table.add_row(*cells)
    return table
