"""`skerry tune`: find the recipe for a budget."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.arguments import find_elsewhere
from skerry.app.budgets import join_budgets, read_budget
from skerry.app.output import Output
from skerry.app.pipelines.compress import write_compressed
from skerry.app.pipelines.device_meter import check_device
from skerry.app.pipelines.elsewhere import Elsewhere
from skerry.app.pipelines.training import (
    SOURCE_FILE,
    OpenTraining,
    refuse_samples,
    split_setup,
)
from skerry.app.pipelines.tune import (
    Proved,
    open_experiment,
    prove_front,
    run_workers,
)
from skerry.app.project import complete, require
from skerry.app.tuning_view import live_front
from skerry.compress.search.evidence import MODEL_FILE
from skerry.compress.search.request import DEFAULT_BUDGET, Preference
from skerry.compress.tune.sampler import SamplerName
from skerry.compress.tune.space_files import parse_space
from skerry.compress.tune.store import Experiment, Store
from skerry.compress.tune.trial import Trial
from skerry.core.budget import Budget
from skerry.core.clock import SystemClock
from skerry.core.errors import BudgetError, TargetError, UsageError
from skerry.core.files import read_file
from skerry.core.report import Report
from skerry.graph import open_model
from skerry.tasks.task import task_to_toml

if TYPE_CHECKING:
    from rich.console import RenderableType

DEFAULT_RUNTIME = "onnxruntime"
DEFAULT_TRIALS = 40

LARGEST_SEARCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What an experiment came to.

    Attributes:
        store: The experiment's folder.
        model: The compressed model.
        report: The evidence of what was chosen, as written to `report.json`.
        chosen: The trial that was chosen; None where that is the source.
        why: Why that one.
        front: What nothing beats, the fastest first.
        proved: The same on samples that no trial saw.
        trials: How many there are.
        files: Everything that was written.
        exit_code: 21 where the budget does not hold, 20 where nothing that was tried
            runs on the target, nor the source, else 0.
    """

    store: Path
    model: Path
    report: Report
    chosen: int | None
    why: str
    front: tuple[Trial, ...]
    proved: tuple[Proved, ...]
    trials: int
    files: tuple[Path, ...]
    exit_code: int


def tune(
    model: Path | None = None,
    /,
    *,
    budget: Path | None = None,
    target: str = "",
    on: str = "",
    calibration: Path | None = None,
    evaluation: Path | None = None,
    task: Path | None = None,
    report: Path | None = None,
    search: Path | None = None,
    train: str = "",
    trials: int = DEFAULT_TRIALS,
    workers: int = 1,
    store: Path | None = None,
    out: Path = Path("out"),
    runtime: str = DEFAULT_RUNTIME,
    prefer: Preference = "latency",
    sampler: SamplerName = "bandit",
    seed: int = 0,
    threads: int = 1,
    output: Annotated[Output, Parameter(parse=False)],
) -> TuneResult:
    """Search recipes until a budget holds, and return the best that was found.

    Writes what compress writes, for the recipe that was chosen. The experiment stays in
    its folder: it goes on after an interruption, and with more trials.

    Args:
        model: The float model, an ONNX file; that of skerry.toml by default.
        budget: A TOML file of limits: accuracy_drop (a fraction), latency_ms,
            size_bytes, memory_bytes, conditions. Those of skerry.toml by default, and
            one point of accuracy where nothing is said.
        target: What the result is for, this machine by default. Of other hardware its
            data sheets say which recipes it cannot run; it has no latency here.
        on: The device that latencies are measured on, ssh://[USER@]HOST or
            adb://SERIAL; this machine by default. It needs Python 3 and the runtime's
            package; all else is done here.
        calibration: Real inputs: an .npz, or a folder of pictures; by default the
            half of the evaluation samples that chooses.
        evaluation: Labelled samples; half of them choose, half report. Those of
            skerry.toml by default.
        task: The task's TOML file; the task of skerry.toml by default.
        report: Labelled samples to report on instead of that half.
        search: A search file (schema skerry.search/1): which steps, in which order,
            over which ranges. All that declare theirs by default.
        train: The user's training code, as train.py:setup: a function that returns a
            Training. Steps that train are searched too; module, samples and task are
            those of the training.
        trials: Recipes to try.
        workers: Processes on this machine that try them; others may join by the same
            folder, with skerry experiment resume.
        store: The experiment's folder; experiments/MODEL by default. Workers on several
            machines share it by a file system with locks.
        out: The folder to write the result to.
        runtime: What the result is to run on, and is timed on.
        prefer: What counts among all that hold the budget: latency, size or accuracy.
        sampler: What proposes recipes: bandit, tpe (Optuna's) or random.
        seed: Of all chance.
        threads: CPU threads of one worker; latency is measured on one.
        output: Where the front is shown while it grows.
    """
    target = _target_place(target)
    given = complete(model, evaluation, task, folder=Path())
    if train:
        refuse_samples(train, calibration, evaluation, task, report)
    elif given.model is None:
        require(given)
    path = model if train else given.model
    stem = path.stem if path else split_setup(train)[0].stem
    kept = Store(_folder(store) or Path("experiments") / stem)
    check_counts(trials=trials, workers=workers, out=out, source=path)
    if on:
        check_device(on, runtime)
    if path is None:
        source = OpenTraining(train).export(kept.folder.resolve() / SOURCE_FILE)
    else:
        source = open_model(path.resolve())
    limits = Budget()
    if budget is not None:
        limits = read_budget(budget)
    space = ""
    if search is not None:
        content = read_file(search, largest_bytes=LARGEST_SEARCH_BYTES)
        parse_space(content, name=str(search))
        space = content.decode()
    asked = join_budgets(limits, given.budget, DEFAULT_BUDGET)
    if (found := find_elsewhere(target)) is not None:
        Elsewhere(target=found, place=on).check(source, asked, prefer)
    experiment = Experiment(
        model=str(source.path),
        sha256=source.sha256,
        created_ms=SystemClock().unix_ms(),
        budget=asked,
        prefer=prefer,
        sampler=sampler,
        seed=seed,
        space=space,
        given={
            "calibration": _place(calibration),
            "evaluation": _place(given.samples),
            "report": _place(report),
            "task": "" if given.task is None else task_to_toml(given.task),
            "train": _setup_place(train),
            "target": target,
            "on": on,
            "runtime": runtime,
            "threads": str(threads),
        },
    )
    kept.create(experiment)
    return run_experiment(kept, trials=trials, workers=workers, out=out, output=output)


def check_counts(*, trials: int, workers: int, out: Path, source: Path | None) -> None:
    """Refuse numbers that mean nothing, and an output over the source.

    Raises:
        UsageError: Which it is.
    """
    cores = len(os.sched_getaffinity(0))
    if trials < 1:
        raise UsageError(f"got {trials} trials", hint="Try at least one recipe.")
    if not 1 <= workers <= cores:
        raise UsageError(
            f"got {workers} workers, expected 1 to {cores}, the cores of this machine",
            hint="Latencies are measured: workers must not wait for one another.",
        )
    if source is not None and (out / MODEL_FILE).resolve() == source.resolve():
        raise UsageError(
            f"the compressed model would replace {source}",
            hint="Choose another folder with --out.",
        )


def run_experiment(
    store: Store, *, trials: int, workers: int, out: Path, output: Output
) -> TuneResult:
    """Work on an experiment until it has so many trials, and write what it found.

    Raises:
        The errors of opening it, of its trials and of writing.
    """
    budget = store.experiment().budget
    with (
        live_front(output, trials, store.trials, budget.accuracy_drop) as (step, told),
        open_experiment(store, step) as opened,
    ):
        run_workers(opened, trials, workers, told)
        front = opened.front()
        done, proved = prove_front(opened, front)
        runs_there = done.choice.chosen is not None or opened.source_runs
    files = write_compressed(done, out)
    chosen, why = None, front.why
    if front.chosen is not None:
        chosen = front.chosen.number
        if done.choice.chosen is None:
            why = f"Trial {chosen} is slower than the source in the last measurement."
            chosen = None
    return TuneResult(
        store=store.folder,
        model=out / MODEL_FILE,
        report=done.report,
        chosen=chosen,
        why=why,
        front=front.trials,
        proved=proved,
        trials=len(store.trials()),
        files=files,
        exit_code=_exit_code(done.report, runs_there=runs_there),
    )


def render_tune(result: TuneResult) -> RenderableType:
    """Say what came out, the front, and where to look."""
    from rich.console import Group
    from rich.text import Text

    from skerry.app.report_page import sum_up
    from skerry.app.tuning_view import proved_table

    parts: list[RenderableType] = [Text(sum_up(result.report), "bold")]
    parts += [f"Misses the budget: {breach}" for breach in result.report.breaches]
    parts += list(result.report.notes)
    if result.front:
        parts += ["", proved_table(result.front, result.proved, result.chosen)]
    parts += ["", f"Experiment: {result.store}, {result.trials} trials"]
    parts.append(f"Written: {', '.join(str(file) for file in result.files)}")
    return Group(*parts)


def _exit_code(report: Report, *, runs_there: bool) -> int:
    if report.breaches:
        return BudgetError.exit_code
    return 0 if runs_there else TargetError.exit_code


def _folder(store: Path | None) -> Path | None:
    """Refuse the address of a database, of which a folder would be made."""
    if store is not None and re.match(r"[a-z][a-z0-9+]*:/", str(store)):
        raise UsageError(
            f"got --store {store}, expected a folder",
            hint="An experiment is a folder; machines share it by NFS 4 or the like.",
        )
    return store


def _place(path: Path | None) -> str:
    return "" if path is None else str(path.resolve())


def _target_place(target: str) -> str:
    """A target by its name, or where its file is wherever the experiment goes on."""
    return str(Path(target).resolve()) if Path(target).is_file() else target


def _setup_place(train: str) -> str:
    """Where the training code is, wherever the experiment goes on."""
    if not train:
        return ""
    path, name = split_setup(train)
    return f"{path.resolve()}:{name}"
