"""`skerry optimize`: make a model faster here without touching its weights."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.arguments import check_here
from skerry.app.budgets import join_budgets
from skerry.app.output import Output
from skerry.app.project import complete, require, require_model
from skerry.app.tables import indent, plain_table
from skerry.core.budget import Breach, Budget
from skerry.core.seams import Precision

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.adapt.optimize import Alone, Trial
    from skerry.core.model import Model
    from skerry.tasks.measure import Ratio

SEED = 0
"""Splits evaluation data: the same samples are always in the same half."""

DEFAULT_BUDGET = Budget(accuracy_drop=0.01)
DEFAULT_DISTANCE = 0.001

TIMED_INPUTS = 4
"""Samples that one timed call runs, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeResult:
    """How the model is to be run, and what that brought.

    Attributes:
        model: The file to run: the one given, or a rewritten one in `out`.
        runtime: What to run it with.
        threads: CPU threads for one inference.
        precision: What the runtime may compute float tensors in.
        remedies: What was changed, in order.
        latency_ms: Median latency of one inference, before and after.
        ratio: After ÷ before: median and the ends of its 95 % interval.
        against_best_single: After ÷ the fastest single remedy's; None without one.
        accuracy: What is said of the answers on the samples nothing was chosen by.
        trials: What was tried, in order.
        alone: What each remedy that helped is worth without the others.
        missing: What was not tried, and why.
        notes: What a reader must know.
        breaches: Limits of the budget that do not hold.
        exit_code: 21 where the budget does not hold, else 0.
    """

    model: Path
    runtime: str
    threads: int
    precision: Precision
    remedies: tuple[str, ...]
    latency_ms: tuple[float, float]
    ratio: Ratio
    against_best_single: Ratio | None
    accuracy: str
    trials: tuple[Trial, ...]
    alone: tuple[Alone, ...]
    missing: dict[str, str]
    notes: tuple[str, ...]
    breaches: tuple[Breach, ...]
    exit_code: int


def optimize(
    model: Path | None = None,
    samples: Path | None = None,
    /,
    *,
    target: str = "",
    task: Path | None = None,
    runtime: str = "",
    candidate: tuple[str, ...] = (),
    most_threads: int = 0,
    accuracy_drop: float | None = None,
    output_distance: float = DEFAULT_DISTANCE,
    latency_ms: float | None = None,
    out: Path = Path("out"),
    output: Annotated[Output, Parameter(parse=False)],
) -> OptimizeResult:
    """Make a model faster on this machine without touching its weights.

    Profiles it, tries what promises most (another runtime or precision, more threads,
    fixed sizes, rewrites), keeps what measures faster and answers as well, and begins
    anew.

    Args:
        model: An ONNX or TFLite file; that of skerry.toml by default.
        samples: Real inputs; with labels and a task half of them choose and half
            report, else outputs are compared. Those of skerry.toml by default.
        target: The target this machine is; it must have a CPU that runs everything.
        task: A task file (schema skerry.task/1); the task of skerry.toml by default.
        runtime: What runs the model now; the usual one of its format by default.
        candidate: A runtime that may be tried; repeat it for several. All that take
            the format by default.
        most_threads: CPU threads that one inference may have; those of this machine
            by default.
        accuracy_drop: The largest loss allowed, as a fraction: 0.01, one point, by
            default. This limit and the next may stand in skerry.toml too.
        output_distance: The same without labels: the largest mean relative squared
            error of the outputs.
        latency_ms: The largest median latency allowed.
        out: The folder that a rewritten model is written to.
        output: Where progress is shown.
    """
    from skerry.adapt.optimize.deployment import Deployment
    from skerry.adapt.optimize.loop import optimize as run
    from skerry.adapt.optimize.remedies import Workshop, remedies_for
    from skerry.adapt.optimize.validate import SELECTION_MARGIN, Validator
    from skerry.runtimes import DEFAULT_RUNTIMES, get_runtime, open_any
    from skerry.tasks.samples import open_samples, split, take

    check_here(target, "optimize")
    given = complete(model, samples, task, folder=Path())
    opened = open_any(require_model(given.model, folder=Path()))
    samples = given.samples or require(given).samples
    source = open_samples(samples, opened.inputs, given.task)
    is_labelled = given.task is not None and next(iter(source)).label is not None
    selection, reported = split(source, SEED) if is_labelled else (source, source)
    purpose = given.task if is_labelled else None
    flags = Budget(accuracy_drop=accuracy_drop, latency_ms=latency_ms)
    budget = join_budgets(flags, given.budget, DEFAULT_BUDGET)
    limit = (budget.accuracy_drop or 0.0) if is_labelled else output_distance
    allowed = SELECTION_MARGIN * limit if is_labelled else limit
    start = Deployment(
        model=opened, runtime=get_runtime(runtime or DEFAULT_RUNTIMES[opened.format])
    )
    inputs = [one.inputs for one in take(selection, TIMED_INPUTS)]
    with tempfile.TemporaryDirectory() as folder, output.progress() as progress:
        shop = Workshop(
            inputs=inputs,
            folder=Path(folder),
            most_threads=most_threads or len(os.sched_getaffinity(0)),
            runtimes=candidate,
        )
        done = run(
            start,
            inputs,
            diagnose=lambda one: remedies_for(one, shop),
            validate=Validator(start, selection, purpose, limit=allowed),
            progress=progress,
        )
        verdict = Validator(start, reported, purpose, limit=limit)(done.chosen)
        placed = _place(done.chosen.model, opened, out)
    each = (done.start_ms / len(inputs), done.chosen_ms / len(inputs))
    measured = {"latency_ms": each[1], "accuracy_drop": verdict.loss}
    demanded = budget if is_labelled else Budget(latency_ms=budget.latency_ms)
    breaches = tuple(demanded.breaches(measured))
    return OptimizeResult(
        model=placed,
        runtime=done.chosen.runtime.name,
        threads=done.chosen.options.threads,
        precision=done.chosen.options.precision,
        remedies=done.chosen.remedies,
        latency_ms=each,
        ratio=done.gain,
        against_best_single=done.against_best_single,
        accuracy=verdict.said,
        trials=done.trials,
        alone=done.alone,
        missing=shop.missing,
        notes=done.notes,
        breaches=breaches,
        exit_code=21 if breaches else 0,
    )


def render_optimize(result: OptimizeResult) -> RenderableType:
    """Tell what was tried, what each remedy is worth, and how to run the model."""
    from rich.console import Group
    from rich.text import Text

    before, after = (figures.show_ms(one) for one in result.latency_ms)
    gain = result.ratio
    parts: list[RenderableType] = [
        Text(f"{before} → {after}, {_show(gain)} the time", "bold"),
        indent(f"on samples that nothing was chosen by: {result.accuracy}"),
    ]
    if result.trials:
        parts += ["", indent(_trials(result.trials))]
    if result.alone:
        parts += ["", indent(_ablation(result.alone, gain))]
    for name, why in result.missing.items():
        parts.append(indent(f"{name}: {why}"))
    parts += [indent(note) for note in result.notes]
    parts += [indent(f"misses the budget: {one}") for one in result.breaches]
    threads = figures.show_number(result.threads, "thread")
    run = f"Run {result.model} with {result.runtime}, {threads}"
    precision = "" if result.precision == "default" else f", {result.precision}"
    return Group(*parts, "", run + precision)


def _trials(trials: tuple[Trial, ...]) -> RenderableType:
    table = plain_table("tried", "because", "#hoped for", "", "what came of it")
    for one in trials:
        kept = "kept" if one.is_kept else "–"
        table.add_row(one.remedy, one.why, f"{one.expected:.2f} ×", kept, one.said)
    return table


def _ablation(alone: tuple[Alone, ...], gain: Ratio) -> RenderableType:
    table = plain_table("alone", "#time", "answers")
    for one in alone:
        table.add_row(
            one.remedy, _show(one.measured), "hold" if one.holds else "do not"
        )
    table.add_row("all that was kept", _show(gain), "hold")
    return table


def _show(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})"


def _place(chosen: Model, given: Model, out: Path) -> Path:
    """Keep a rewritten model; the one that was given stays where it is."""
    from skerry.core.durable import make_folder, write_file

    if chosen.path == given.path:
        return given.path
    make_folder(out)
    for path in sorted(chosen.path.parent.glob(f"{chosen.path.name}*")):
        write_file(out / path.name, path.read_bytes())
    return out / chosen.path.name
