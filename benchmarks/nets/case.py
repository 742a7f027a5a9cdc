"""A case: a net, its task and its samples, as files in a folder.

    model.onnx        the float32 net
    task.toml         how it is read and scored
    calibration       what ranges are chosen on
    selection         what a search may look at
    report            what every row is scored on
    case.json         written last: who made it, and what float32 scores

Each of the three parts is an `.npz`, or a folder of pictures with their labels. All are
read as a stream.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import tomli_w
from numpy.typing import NDArray

from skerry.core.durable import make_folder, write_file
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import evaluate
from skerry.tasks.samples import Sample, SampleSource, open_samples
from skerry.tasks.task import Task, load_task, task_to_table

MODEL, TASK, MARKER = "model.onnx", "task.toml", "case.json"
PARTS = ("calibration", "selection", "report")

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What all quantizers are given, and what their models are scored on.

    Attributes:
        model: The float32 net.
        task: How it is read and scored.
        calibration: What ranges are chosen on; it may have no labels.
        selection: What a search may look at.
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
        model, task = open_model(folder / MODEL), load_task(folder / TASK)
        calibration, selection, report = (
            open_samples(find_part(folder, part), model.inputs, task) for part in PARTS
        )
        return cls(
            model=model,
            task=task,
            calibration=calibration,
            selection=selection,
            report=report,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What `case.json` says of a whole case.

    Attributes:
        net: Its name.
        seed: What its samples, or the net itself, were drawn with.
        quick: Whether it is the short form.
        metric: The task's.
        value: What the float32 net scores on the report part.
        n: Samples of the report part.
        seconds: How long it took to make.
        notes: What a reader of the figures must know.
    """

    net: str
    seed: int
    quick: bool
    metric: str
    value: float
    n: int
    seconds: float
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A picture to be written into a folder.

    Attributes:
        file: Its name there.
        content: All of its file.
        label: Its class or its text; None where it has boxes, or nothing is known.
        boxes: Corners in pixels of the picture, and the class's name, of each object;
            None where the task is none of detection.
    """

    file: str
    content: bytes
    label: str | None = None
    boxes: tuple[tuple[Corners, str], ...] | None = None


def find_part(folder: Path, part: str) -> Path:
    """Say where a part of a case is: an `.npz`, else a folder of pictures."""
    path = folder / f"{part}.npz"
    return path if path.exists() else folder / part


def read_marker(folder: Path) -> Made | None:
    """Read what a case says of itself; None where it is not whole."""
    try:
        return msgspec.json.decode((folder / MARKER).read_bytes(), type=Made)
    except (OSError, msgspec.DecodeError):
        return None


def write_marker(folder: Path, made: Made) -> None:
    """Say that a case is whole."""
    write_file(
        folder / MARKER, msgspec.json.format(msgspec.json.encode(made), indent=2)
    )


def write_net(folder: Path, model: Path, task: Task) -> Model:
    """Write a case's net and task; its samples follow."""
    make_folder(folder)
    write_file(folder / MODEL, model.read_bytes())
    table = tomli_w.dumps(task_to_table(task), multiline_strings=True)
    write_file(folder / TASK, table.encode())
    return open_model(folder / MODEL)


def write_case(
    folder: Path, model: Model, task: Task, **parts: Iterable[Sample]
) -> None:
    """Write a case whose samples are arrays.

    Args:
        folder: Where; it is made.
        model: The float32 net.
        task: How it is read and scored.
        parts: The samples of each of `PARTS`.
    """
    write_net(folder, model.path, task)
    for part in PARTS:
        write_samples(folder / f"{part}.npz", parts[part])


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples, and their labels where they have any, as one `.npz`."""
    kept = list(samples)
    arrays: dict[str, Any] = {
        name: np.concatenate([sample.inputs[name] for sample in kept])
        for name in kept[0].inputs
    }
    if kept[0].label is not None:
        arrays["label"] = np.array([sample.label for sample in kept])
    np.savez(path, **arrays)


def write_arrays(
    path: Path,
    name: str,
    array: NDArray[np.generic],
    labels: NDArray[np.generic] | None = None,
) -> None:
    """Write samples of a net with one input.

    Args:
        path: The `.npz` file.
        name: The input's name.
        array: One row a sample.
        labels: One a sample; None where nothing is known.
    """
    arrays: dict[str, Any] = {name: array}
    np.savez(path, **arrays if labels is None else {**arrays, "label": labels})


def write_pictures(folder: Path, shots: Iterable[Shot]) -> frozenset[str]:
    """Write pictures as they come, and what is known of them as a `labels.csv`.

    Returns:
        All labels.
    """
    make_folder(folder)
    rows: list[Sequence[object]] = []
    has_boxes = False
    for shot in shots:
        (folder / shot.file).write_bytes(shot.content)
        if shot.boxes is not None:
            has_boxes = True
            # A row without a label lists a picture without objects.
            boxes = shot.boxes or (((0, 0, 0, 0), ""),)
            rows += [(shot.file, label, *corners) for corners, label in boxes]
        elif shot.label is not None:
            rows.append((shot.file, shot.label))
    if rows:
        columns = ("file", "label", "x_min", "y_min", "x_max", "y_max")
        stream = io.StringIO(newline="")
        csv.writer(stream).writerows([columns if has_boxes else columns[:2], *rows])
        write_file(folder / "labels.csv", stream.getvalue().encode())
    return frozenset(str(row[1]) for row in rows)


def score(case: Case) -> float:
    """Score the float32 net on the report part, with one thread."""
    session = get_runtime("onnxruntime").load(case.model, LoadOptions(threads=1))
    try:
        return evaluate(session, case.report, case.task).value
    finally:
        session.close()
