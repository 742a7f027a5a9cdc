"""The cases of benchmark `ptq`: a net, its task and its samples, as files in a folder.

A case is written by a process of its own, so that the pictures do not count as the
memory of whoever started it: `python -m benchmarks._ptq_cases ocr FOLDER [--quick]`.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from skerry.app.demo import networks
from skerry.app.demo.acts import CALIBRATION_LINES, EVALUATION_LINES, SEED
from skerry.app.demo.digits import read_digits, split_digits
from skerry.app.demo.textlines import read_lines
from skerry.core.durable import make_folder
from skerry.core.model import Model
from skerry.graph import open_model
from skerry.tasks.samples import SampleSource, open_samples, split, take
from skerry.tasks.task import Task, load_task, task_to_toml

QUICK_CALIBRATION_LINES = 4
QUICK_EVALUATION_LINES = 24
QUICK_DIGITS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What all quantizers are given, and what their models are scored on.

    Attributes:
        model: The float32 net.
        task: How it is read and scored.
        calibration: What ranges are chosen on.
        selection: What a search may look at; ours alone does.
        report: What every row is scored on, and no quantizer sees.
    """

    model: Model
    task: Task
    calibration: SampleSource
    selection: SampleSource
    report: SampleSource

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Open a case; its samples are read as a stream."""
        model, task = open_model(folder / "model.onnx"), load_task(folder / "task.toml")
        calibration, selection, report = (
            open_samples(
                path if (path := folder / f"{part}.npz").exists() else folder / part,
                model.inputs,
                task,
            )
            for part in ("calibration", "selection", "report")
        )
        return cls(
            model=model,
            task=task,
            calibration=calibration,
            selection=selection,
            report=report,
        )


def write_case(
    folder: Path,
    model: Model,
    task: Task,
    *,
    calibration: SampleSource,
    evaluation: SampleSource,
) -> None:
    """Write a case; the evaluation samples are split as the demo splits them."""
    make_folder(folder)
    shutil.copyfile(model.path, folder / "model.onnx")
    (folder / "task.toml").write_text(task_to_toml(task), encoding="utf-8")
    selection, report = split(evaluation, SEED)
    parts = {"calibration": calibration, "selection": selection, "report": report}
    for part, samples in parts.items():
        _write_samples(folder / f"{part}.npz", samples)


def _write_samples(path: Path, samples: SampleSource) -> None:
    kept = list(samples)
    arrays: dict[str, Any] = {
        name: np.concatenate([sample.inputs[name] for sample in kept])
        for name in kept[0].inputs
    }
    np.savez(path, label=np.array([sample.label for sample in kept]), **arrays)


def write_ocr(folder: Path, *, quick: bool) -> None:
    """The PP-OCRv4 text recognition net on lines of the demo's camera."""
    model = networks.text_model()
    task = networks.text_task(model)
    few, many = (
        (QUICK_CALIBRATION_LINES, QUICK_EVALUATION_LINES)
        if quick
        else (CALIBRATION_LINES, EVALUATION_LINES)
    )
    calibration = read_lines(few, seed=SEED, which="calibration")
    evaluation = read_lines(many, seed=SEED, which="evaluation")
    write_case(
        folder,
        model,
        task,
        calibration=networks.text_samples(calibration, model, task),
        evaluation=networks.text_samples(evaluation, model, task),
    )


def write_meter(folder: Path, *, quick: bool) -> None:
    """The demo's own meter reader on digits that it was not trained on."""
    model = open_model(networks.meter_path())
    parts = split_digits(read_digits())
    evaluation = networks.meter_samples(parts.held_out, model)
    write_case(
        folder,
        model,
        networks.meter_task(),
        calibration=networks.meter_samples(parts.calibration, model),
        evaluation=take(evaluation, QUICK_DIGITS) if quick else evaluation,
    )


CASES: Mapping[str, Callable[..., None]] = {"ocr": write_ocr, "meter": write_meter}
"""What writes each case, by name."""


def main() -> None:
    """Write the case that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._ptq_cases")
    parser.add_argument("name", choices=CASES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    CASES[chosen.name](chosen.folder, quick=chosen.quick)


if __name__ == "__main__":
    main()
