"""What compressing and tuning share: samples in, a model and its evidence out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app.project import Given, require
from skerry.app.report_page import report_page
from skerry.app.reports import encode_report
from skerry.compress.recipe_files import recipe_to_toml
from skerry.compress.search.evidence import MODEL_FILE, Compressed
from skerry.core.durable import make_folder, write_files
from skerry.core.errors import UsageError
from skerry.graph import graph_contents
from skerry.tasks.samples import SampleSource, open_samples, split
from skerry.tasks.task import task_to_toml

if TYPE_CHECKING:
    from skerry.core.model import Model
    from skerry.tasks.task import Task

SEED = 0
"""Splits evaluation data: the same samples are always in the same half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSamples:
    """What the search may look at, and what it may not; no task means no labels.

    Attributes:
        calibration: Real inputs.
        selection: What the search may look at.
        report: What only the report looks at.
        task: How outputs are decoded and scored.
    """

    calibration: SampleSource
    selection: SampleSource
    report: SampleSource | None
    task: Task | None


def open_search_samples(
    given: Given,
    calibration: Path | None,
    report: Path | None,
    source: Model,
    *,
    is_report_only: bool,
) -> SearchSamples:
    """Open the samples; without labels, all of them are compared on.

    Args:
        given: Model, evaluation samples and task, as far as they are known.
        calibration: Real inputs; the samples that choose by default.
        report: Labelled samples to report on instead of half of the others.
        source: The model.
        is_report_only: Whether nothing is chosen by them.

    Raises:
        UsageError: Some are missing, or do not fit the model or the task.
    """
    if given.samples is None and calibration is None:
        require(given)
    few = None
    if calibration is not None:
        few = open_samples(calibration, source.inputs, given.task)
    if given.samples is None:
        return _unlabelled(few, few)
    samples = open_samples(given.samples, source.inputs, given.task)
    if report is None and next(iter(samples)).label is None:
        return _unlabelled(samples if few is None else few, samples)
    purpose = require(given).task
    if report is not None:
        selection, reported = samples, open_samples(report, source.inputs, purpose)
    elif is_report_only and few is not None:
        selection = reported = samples
    else:
        selection, reported = split(samples, SEED)
    return SearchSamples(
        calibration=selection if few is None else few,
        selection=selection,
        report=reported,
        task=purpose,
    )


def _unlabelled(
    few: SampleSource | None, compared: SampleSource | None
) -> SearchSamples:
    if few is None or compared is None:
        raise UsageError(
            "there are no samples", hint="Give --calibration or --evaluation."
        )
    return SearchSamples(calibration=few, selection=compared, report=None, task=None)


def write_compressed(done: Compressed, out: Path) -> tuple[Path, ...]:
    """Put the model, its recipe and its report into a folder.

    The task goes with them where the recipe changed it.

    Raises:
        StorageError: The disk refused.
    """
    contents = {
        **graph_contents(done.graph, MODEL_FILE),
        "recipe.toml": recipe_to_toml(done.report.recipe).encode(),
        "report.html": report_page(done.report).encode(),
        "report.json": encode_report(done.report),
    }
    if done.task is not None:
        contents["task.toml"] = task_to_toml(done.task).encode()
    make_folder(out)
    write_files(out, contents)
    return tuple(out / name for name in contents)
