"""`skerry optimize`: make a model faster, here or on a target, without training it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.arguments import check_here
from skerry.app.budgets import join_budgets, read_budget
from skerry.app.output import Output
from skerry.app.project import complete, require, require_model
from skerry.app.tables import indent, plain_table
from skerry.core.budget import Budget
from skerry.core.seams import Precision

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.adapt.optimize import Alone, Trial
    from skerry.app.pipelines.optimize import Found
    from skerry.core.seams import Toolchain
    from skerry.core.target import Target
    from skerry.tasks.measure import Ratio

SEED = 0
"""Splits evaluation data: the same samples are always in the same half."""

DEFAULT_BUDGET = Budget(accuracy_drop=0.01)
DEFAULT_DISTANCE = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitHeld:
    """One limit of the budget, and how near it one came.

    Attributes:
        limit: Its name.
        allowed: The largest figure allowed.
        measured: The figure that was reached; None where it was not measured.
        holds: Whether it is within the limit.
        closest: What came closer and was not kept, and why; empty if nothing did.
    """

    limit: str
    allowed: float
    measured: float | None
    holds: bool
    closest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeResult:
    """How the model is to be run, and what that brought.

    Attributes:
        model: The file to run: the one given, or another one in `out`.
        target: The target it is for; empty for this machine.
        runtime: What to run it with; for a target, what compiled it.
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
        budget: One entry a limit.
        exit_code: 21 where the budget does not hold, else 0.
    """

    model: Path
    target: str
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
    missing: Mapping[str, str]
    notes: tuple[str, ...]
    budget: tuple[LimitHeld, ...]
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
    threads: int = 1,
    most_threads: int = 0,
    budget: Path | None = None,
    accuracy_drop: float | None = None,
    output_distance: float = DEFAULT_DISTANCE,
    latency_ms: float | None = None,
    out: Path = Path("out"),
    output: Annotated[Output, Parameter(parse=False)],
) -> OptimizeResult:
    """Make a model faster without training it, here or on a target.

    Profiles it, tries what promises most (another runtime or precision, more threads
    or fewer, INT8, fixed sizes, rewrites), keeps what measures faster and answers as
    well, and begins anew. For a target with a compiler of its own, what the compiler
    says is the measurement.

    Args:
        model: An ONNX or TFLite file; that of skerry.toml by default.
        samples: Real inputs; with labels and a task half of them choose and half
            report, else outputs are compared. Those of skerry.toml by default.
        target: The target it is for: one with a compiler (Ethos-U by Vela), or what
            this machine is, which is the default.
        task: A task file (schema skerry.task/1); the task of skerry.toml by default.
        runtime: What runs the model now; the usual one of its format by default.
        candidate: A runtime that may be tried; repeat it for several. All that take
            the format by default.
        threads: CPU threads that one inference has now.
        most_threads: CPU threads that one inference may have; those of this machine
            by default.
        budget: A TOML file of limits: accuracy_drop, latency_ms, memory_bytes,
            size_bytes. Flags come before it, skerry.toml after.
        accuracy_drop: The largest loss allowed, as a fraction: 0.01, one point, by
            default.
        output_distance: The same without labels: the largest mean relative squared
            error of the outputs.
        latency_ms: The largest median latency allowed.
        out: The folder that a changed model is written to.
        output: Where progress is shown.
    """
    from skerry.adapt.optimize.deployment import Deployment
    from skerry.app.pipelines.optimize import Wanted, optimize_for, optimize_here
    from skerry.core.seams import LoadOptions
    from skerry.runtimes import DEFAULT_RUNTIMES, get_runtime, open_any
    from skerry.tasks.samples import open_samples, split

    placed = _compiled(target)
    given = complete(model, samples, task, folder=Path())
    opened = open_any(require_model(given.model, folder=Path()))
    source = open_samples(
        given.samples or require(given).samples, opened.inputs, given.task
    )
    is_labelled = given.task is not None and next(iter(source)).label is not None
    selection, reported = split(source, SEED) if is_labelled else (source, source)
    flags = Budget(accuracy_drop=accuracy_drop, latency_ms=latency_ms)
    limits = [flags, read_budget(budget) if budget else Budget(), given.budget]
    demanded = join_budgets(*limits, *([DEFAULT_BUDGET] if is_labelled else []))
    runs_on = get_runtime(runtime or DEFAULT_RUNTIMES[opened.format])
    with tempfile.TemporaryDirectory() as folder, output.progress() as progress:
        wanted = Wanted(
            start=Deployment(
                model=opened, runtime=runs_on, options=LoadOptions(threads=threads)
            ),
            selection=selection,
            reported=reported,
            task=given.task if is_labelled else None,
            limit=(demanded.accuracy_drop or 0.0) if is_labelled else output_distance,
            folder=Path(folder),
            progress=progress,
        )
        if placed is not None:
            found = optimize_for(wanted, *placed)
        else:
            cores = most_threads or len(os.sched_getaffinity(0))
            found = optimize_here(wanted, most_threads=cores, runtimes=candidate)
        kept = _keep(found.files, out)
    held = tuple(_held(demanded, found))
    return _result(found, kept[-1] if kept else opened.path, held)


def _compiled(name: str) -> tuple[Target, Toolchain] | None:
    """The target and its compiler; None where the model is to be measured here.

    Raises:
        UsageError: The target is neither this machine nor one with a compiler.
    """
    from skerry.adapt.target_files import load_target
    from skerry.app.pipelines.vela import NAME, VelaToolchain

    if not name:
        return None
    target = load_target(name)
    if target.processors[0].toolchain == NAME:
        return target, VelaToolchain()
    check_here(name, "optimize")
    return None


def _held(demanded: Budget, found: Found) -> Iterator[LimitHeld]:
    """Hold the figures against the limits, and say what came closer."""
    missed = {one.limit for one in demanded.breaches(found.measured)}
    for name, allowed in demanded.limits.items():
        measured = found.measured.get(name)
        is_missed = name in missed
        yield LimitHeld(
            limit=name,
            allowed=allowed,
            measured=measured,
            holds=not is_missed,
            closest=_closest(name, measured, found) if is_missed else "",
        )


def _closest(name: str, measured: float | None, found: Found) -> str:
    """What was tried that came nearer to a limit than what was kept."""
    fields = {
        "latency_ms": "latency_ms",
        "size_bytes": "size_bytes",
        "accuracy_drop": "loss",
    }
    if measured is None or name not in fields:
        return ""
    reached: list[tuple[float, Trial]] = [
        (value, trial)
        for trial in found.done.trials
        if not trial.is_kept and (value := getattr(trial, fields[name])) is not None
    ]
    value, trial = min(reached, key=lambda one: one[0], default=(measured, None))
    if trial is None or value >= measured:
        return ""
    return f"{trial.remedy}: {_figure(name, value)}, but {trial.said}"


def _result(found: Found, model: Path, held: tuple[LimitHeld, ...]) -> OptimizeResult:
    done = found.done
    chosen = done.chosen
    return OptimizeResult(
        model=model,
        target=chosen.target,
        runtime=done.after.runtime if chosen.target else chosen.runtime.name,
        threads=chosen.options.threads,
        precision=chosen.options.precision,
        remedies=chosen.remedies,
        latency_ms=(done.start_ms, done.chosen_ms),
        ratio=done.gain,
        against_best_single=done.against_best_single,
        accuracy=found.verdict.said,
        trials=done.trials,
        alone=done.alone,
        missing=found.missing,
        notes=found.notes,
        budget=held,
        exit_code=0 if all(one.holds for one in held) else 21,
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
    if result.budget:
        parts += ["", indent(_limits(result.budget))]
    if result.target:
        said = f"{result.runtime} compiles {result.model} for {result.target}"
        return Group(*parts, "", said)
    threads = figures.show_number(result.threads, "thread")
    run = f"Run {result.model} with {result.runtime}, {threads}"
    precision = "" if result.precision == "default" else f", {result.precision}"
    return Group(*parts, "", run + precision)


def _trials(trials: Sequence[Trial]) -> RenderableType:
    table = plain_table("tried", "because", "#hoped for", "", "what came of it")
    for one in trials:
        kept = "kept" if one.is_kept else "–"
        table.add_row(one.remedy, one.why, f"{one.expected:.2f} ×", kept, one.said)
    return table


def _ablation(alone: Sequence[Alone], gain: Ratio) -> RenderableType:
    table = plain_table("alone", "#time", "answers")
    for one in alone:
        table.add_row(
            one.remedy, _show(one.measured), "hold" if one.holds else "do not"
        )
    table.add_row("all that was kept", _show(gain), "hold")
    return table


def _limits(limits: Sequence[LimitHeld]) -> RenderableType:
    from rich.text import Text

    table = plain_table("budget", "#allowed", "#reached", "", "what came closer")
    for one in limits:
        reached = "not measured"
        if one.measured is not None:
            reached = _figure(one.limit, one.measured)
        verdict = Text("holds", "green") if one.holds else Text("missed", "red")
        allowed = _figure(one.limit, one.allowed)
        table.add_row(one.limit, allowed, reached, verdict, one.closest)
    return table


def _figure(limit: str, value: float) -> str:
    if limit.endswith("_bytes"):
        return figures.show_bytes(round(value))
    if limit == "latency_ms":
        return figures.show_ms(value)
    return f"{value:.4g}"


def _show(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})"


def _keep(files: Sequence[Path], out: Path) -> list[Path]:
    """Put changed models in place, each with what lies beside it."""
    from skerry.core.durable import make_folder, write_file

    if files:
        make_folder(out)
    for file in files:
        for path in sorted(file.parent.glob(f"{file.name}*")):
            write_file(out / path.name, path.read_bytes())
    return [out / file.name for file in files]
