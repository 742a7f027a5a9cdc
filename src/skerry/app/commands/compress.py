"""`skerry compress`: quantize a model as far as a budget allows, and prove it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.output import Output
from skerry.app.project import complete, require
from skerry.app.report_page import report_page
from skerry.app.reports import encode_report
from skerry.compress.recipe_files import recipe_to_toml
from skerry.compress.search.evidence import compress as compress_model
from skerry.core.budget import Budget
from skerry.core.durable import make_folder, write_files
from skerry.core.errors import UsageError
from skerry.core.report import Report
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.samples import open_samples, split

if TYPE_CHECKING:
    from rich.console import RenderableType

SEED = 0
"""Splits evaluation data: the same samples are always in the same half."""


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
    out: Path = Path("out"),
    runtime: str = "onnxruntime",
    accuracy_drop: float = 0.01,
    latency_ms: float | None = None,
    size_bytes: int | None = None,
    memory_bytes: int | None = None,
    threads: int = 1,
    output: Annotated[Output, Parameter(parse=False)],
) -> CompressResult:
    """Quantize a model as far as a budget allows, and prove what that did.

    Writes `model.onnx`, `report.json`, `report.html` and `recipe.toml`.

    Args:
        model: The float model, an ONNX file; that of skerry.toml by default.
        calibration: Real inputs: an .npz, or a folder of pictures; by default the
            half of the evaluation samples that chooses.
        evaluation: Labelled samples; half of them choose, half report. Those of
            skerry.toml by default.
        task: The task's TOML file: pre- and post-processing, labels, metric; the
            task of skerry.toml by default.
        report: Labelled samples to report on instead of that half.
        out: The folder to write to.
        runtime: What runs, and times, the models.
        accuracy_drop: The largest loss allowed, as a fraction: 0.01 is one point.
        latency_ms: The largest median latency allowed.
        size_bytes: The largest file allowed.
        memory_bytes: The largest peak of activation memory allowed.
        threads: CPU threads; latency is measured on one.
        output: Where progress is shown.
    """
    asked = require(complete(model, evaluation, task, folder=Path()))
    source = open_model(asked.model)
    purpose = asked.task
    runner = get_runtime(runtime)
    if (out / "model.onnx").resolve() == asked.model.resolve():
        raise UsageError(
            f"the compressed model would replace {asked.model}",
            hint="Choose another folder with --out.",
        )
    samples = open_samples(asked.samples, source.inputs, purpose)
    selection, reported = split(samples, SEED)
    if report is not None:
        selection, reported = samples, open_samples(report, source.inputs, purpose)
    make_folder(out)
    with output.progress() as progress:
        done = compress_model(
            source,
            calibration=open_samples(calibration, source.inputs, purpose)
            if calibration
            else selection,
            selection=selection,
            report=reported,
            task=purpose,
            runtime=runner,
            budget=Budget(
                accuracy_drop=accuracy_drop,
                latency_ms=latency_ms,
                size_bytes=size_bytes,
                memory_bytes=memory_bytes,
            ),
            threads=threads,
            progress=progress,
        )
    contents = {
        "model.onnx": done.graph.to_bytes(),
        "recipe.toml": recipe_to_toml(done.report.recipe).encode(),
        "report.html": report_page(done.report).encode(),
        "report.json": encode_report(done.report),
    }
    write_files(out, contents)
    return CompressResult(
        model=out / "model.onnx",
        report=done.report,
        files=tuple(out / name for name in contents),
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
