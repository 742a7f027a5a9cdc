"""`skerry compress`: quantize a model as far as a budget allows, and prove it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.budgets import join_budgets, parse_conditions
from skerry.app.output import Output
from skerry.app.pipelines.alike import open_alike
from skerry.app.pipelines.compress import open_search_samples, write_compressed
from skerry.app.pipelines.training import SOURCE_FILE, OpenTraining, refuse_samples
from skerry.app.project import Given, complete, require
from skerry.compress.recipe_files import load_recipe, make_step, split_steps
from skerry.compress.search.cache import CACHE_FOLDER, Cache
from skerry.compress.search.elsewhere import other_runtimes
from skerry.compress.search.evidence import (
    MODEL_FILE,
    Compressed,
    apply_and_prove,
    search_and_prove,
)
from skerry.compress.search.request import (
    DEFAULT_BUDGET,
    DEFAULT_DISTANCE,
    DEFAULT_INTEGER_SHARE,
    Preference,
    Search,
)
from skerry.core.budget import Budget
from skerry.core.durable import make_folder
from skerry.core.errors import UsageError
from skerry.core.model import Model
from skerry.core.plugins import STEPS, TRAIN_STEPS
from skerry.core.report import Report
from skerry.graph import open_model
from skerry.runtimes import get_runtime

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.core.recipe import Recipe
    from skerry.core.seams import Runtime

ANY = "any"
"""In place of a runtime's name: whichever is best, beside the default one."""

DEFAULT_RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressResult:
    """What was written, and the evidence.

    Attributes:
        model: The compressed model.
        report: The evidence as written to `report.json`.
        files: Everything that was written.
        exit_code: 21 where the budget does not hold, else 0.
    """

    model: Path
    report: Report
    files: tuple[Path, ...]
    exit_code: int


def compress(
    model: Path | None = None,
    /,
    *,
    calibration: Path | None = None,
    evaluation: Path | None = None,
    task: Path | None = None,
    report: Path | None = None,
    recipe: Path | None = None,
    train: str = "",
    like: str = "",
    target: str = "",
    out: Path = Path("out"),
    runtime: str = DEFAULT_RUNTIME,
    prefer: Preference = "latency",
    accuracy_drop: float | None = None,
    output_distance: float = DEFAULT_DISTANCE,
    integer_share: float = DEFAULT_INTEGER_SHARE,
    latency_ms: float | None = None,
    size_bytes: int | None = None,
    memory_bytes: int | None = None,
    condition: tuple[str, ...] = (),
    threads: int = 1,
    cache: Path | None = None,
    no_cache: bool = False,
    hub: str | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> CompressResult:
    """Quantize a model as far as a budget allows, and prove what that did.

    Writes `model.onnx`, `report.json`, `report.html` and `recipe.toml`. Without
    labelled samples, outputs are compared with those of the source model instead.

    Args:
        model: The float model, an ONNX file; that of skerry.toml by default.
        calibration: Real inputs: an .npz, or a folder of pictures; by default the
            half of the evaluation samples that chooses.
        evaluation: Labelled samples; half of them choose, half report. Those of
            skerry.toml by default.
        task: The task's TOML file: pre- and post-processing, labels, metric; the
            task of skerry.toml by default.
        report: Labelled samples to report on instead of that half.
        recipe: A recipe to apply as it is: nothing is searched for, and labelled
            samples are needed only to prove what it did.
        train: The user's training code, as train.py:setup, for a recipe of steps that
            train; module, samples and task are those of the training.
        like: The version before, as NAME/VERSION or an ONNX file: weights are written
            on its scales, as coarsely as half of the loss allowed lets them be, so that
            the delta from it is small.
        target: For which target the release of --like has the model, where it has
            several.
        out: The folder to write to.
        runtime: What the result is to run on, and is timed on; any allows whichever
            is fastest.
        prefer: What counts among all that hold the budget: latency, size or accuracy.
        accuracy_drop: The largest loss allowed, as a fraction: 0.01, one point, by
            default. This limit and those below may stand in skerry.toml too.
        output_distance: The same without labels: the largest mean relative squared
            error of the outputs.
        integer_share: The least share of operators in integers where others are left
            in float only because integers slow them down there; 0 allows all.
        latency_ms: The largest median latency allowed.
        size_bytes: The largest file allowed.
        memory_bytes: The largest peak of activation memory allowed.
        condition: A condition that spoils pictures, and the largest loss allowed
            under it, such as dark=0.02; may be given several times.
        threads: CPU threads; latency is measured on one.
        cache: Where measurements are kept for the next run, and for one that was
            interrupted; .skerry-cache in the folder of the results by default.
        no_cache: Keep none.
        hub: The hub that has the release of --like; its folder or URL.
        output: Where progress is shown.
    """
    flags = Budget(
        accuracy_drop=accuracy_drop,
        latency_ms=latency_ms,
        size_bytes=size_bytes,
        memory_bytes=memory_bytes,
        conditions=parse_conditions(condition),
    )
    steps = None if recipe is None else _checked(load_recipe(recipe))
    training = None
    if train:
        refuse_samples(train, calibration, evaluation, task, report)
        training = _open_training(train, steps)
    given = complete(model, evaluation, task, folder=Path())
    source = _source(given, training, model, out)
    if (out / MODEL_FILE).resolve() == source.path.resolve():
        raise UsageError(
            f"the compressed model would replace {source.path}",
            hint="Choose another folder with --out.",
        )
    if no_cache and cache is not None:
        raise UsageError(
            f"got --cache {cache} and --no-cache", hint="Give one of the two."
        )
    if training is not None:
        samples = training.samples
    else:
        samples = open_search_samples(
            given, calibration, report, source, is_report_only=bool(recipe)
        )
    named = get_runtime(DEFAULT_RUNTIME if runtime == ANY else runtime)
    others, missing = _others(named, is_searching=recipe is None)
    make_folder(out)
    limits = join_budgets(flags, given.budget, DEFAULT_BUDGET)
    with output.progress() as progress:
        search = Search(
            calibration=samples.calibration,
            selection=samples.selection,
            task=samples.task,
            runtime=named,
            budget=limits,
            distance=output_distance,
            prefer=prefer,
            integer_share=integer_share,
            others=others,
            missing=missing,
            is_any_runtime=runtime == ANY,
            threads=threads,
            cache=Cache(None if no_cache else cache or out / CACHE_FOLDER),
            alike=open_alike(like, target=target, hub=hub) if like else None,
            progress=progress,
        )
        if training is not None:
            search = replace(search, trainer=training.trainer(search))
        if steps is None:
            done = search_and_prove(source, search, report=samples.report)
        else:
            done = apply_and_prove(source, steps, search, report=samples.report)
    return _write(done, out)


def _checked(recipe: Recipe) -> Recipe:
    """Make its steps once, so that what is wrong is told before anything is done."""
    for group, steps in zip((TRAIN_STEPS, STEPS), split_steps(recipe), strict=True):
        for step in steps:
            make_step(step, group)
    return recipe


def _open_training(train: str, steps: Recipe | None) -> OpenTraining:
    if steps is None:
        raise UsageError(
            f"got --train {train} without --recipe",
            hint="skerry tune --train searches for a recipe that trains.",
        )
    return OpenTraining(train)


def _source(
    given: Given, training: OpenTraining | None, model: Path | None, out: Path
) -> Model:
    """The source: the file that was named, or what training begins with."""
    if training is not None and model is None:
        return training.export(out / SOURCE_FILE)
    if given.model is None:
        require(given)
    return open_model(given.model or Path())


def _others(
    named: Runtime, *, is_searching: bool
) -> tuple[tuple[Runtime, ...], dict[str, str]]:
    return other_runtimes(named.name) if is_searching else ((), {})


def _write(done: Compressed, out: Path) -> CompressResult:
    return CompressResult(
        model=out / MODEL_FILE,
        report=done.report,
        files=write_compressed(done, out),
        exit_code=21 if done.report.breaches else 0,
    )


def render_compress(result: CompressResult) -> RenderableType:
    """Say what came out, and where to look."""
    from skerry.app.report_page import sum_up

    lines = [sum_up(result.report)]
    lines += [f"Misses the budget: {breach}" for breach in result.report.breaches]
    lines += list(result.report.notes)
    lines.append(f"Written: {', '.join(str(file) for file in result.files)}")
    return "\n".join(lines)
