"""Samples for calibration and evaluation, read as a stream, never whole.

Two forms are read: an `.npz` whose arrays are named after the model's inputs (the
first axis is that of the samples) plus an optional `label`; and a folder of pictures,
or of recordings where the task's steps take time series, with a `labels.csv` (columns
`file` and `label`) or one sub-folder a class, which the task's steps prepare. What can
be checked without reading the samples is checked when they are opened; the
rest when a sample is reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.tasks import _folder, _image, _npz
from skerry.tasks._checks import (
    BOX_COLUMNS,
    check_input,
    check_signature,
    make_truth,
    to_class,
    to_label,
)
from skerry.tasks._content import SERIES_SUFFIXES, read_series
from skerry.tasks.boxes import TrueBoxes
from skerry.tasks.conditions import Condition, degrade
from skerry.tasks.pipeline import prepare_series
from skerry.tasks.prediction import Label
from skerry.tasks.sample import Mask, MemorySource, Sample, SampleSource
from skerry.tasks.task import Task, TaskKind

__all__ = [
    "LABEL",
    "FolderSource",
    "Mask",
    "MemorySource",
    "NpzSource",
    "Sample",
    "SampleSource",
    "open_samples",
    "split",
    "take",
    "under",
]

LABEL = "label"
"""The name of the array of labels in an `.npz`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NpzSource:
    """Samples in an `.npz` file, one row of each array at a time.

    Attributes:
        path: The file.
        inputs: The model's inputs.
        task: Maps labels that are text to classes; None leaves labels as they are.
        mask: Which rows are samples of this source, bool [rows].
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    task: Task | None
    mask: Mask

    def __len__(self) -> int:
        """Return the number of samples."""
        return int(self.mask.sum())

    def __iter__(self) -> Iterator[Sample]:
        """Go through the rows; what is read of the file is one row of each array."""
        wanted = np.flatnonzero(self.mask)
        last = int(wanted[-1]) if len(wanted) else -1
        with _npz.open_npz(self.path, name=str(self.path)) as archive:
            members = _npz.read_members(archive, name=str(self.path))
            rows_found = _check_members(members, self.inputs, self.task, self.path)
            if rows_found != len(self.mask):
                raise DataError(
                    f"{self.path} has changed since it was opened",
                    hint="Leave the file as it is while it is read.",
                )
            with ExitStack() as stack:
                rows = {
                    name: stack.enter_context(closing(_npz.read_rows(archive, member)))
                    for name, member in members.items()
                }
                for index in range(last + 1):
                    row = {name: next(stream) for name, stream in rows.items()}
                    if self.mask[index]:
                        yield self._sample(row, index)

    def pick(self, mask: Mask) -> Self:
        """Return the samples whose entry of the mask is true."""
        kept = self.mask.copy()
        kept[np.flatnonzero(kept)[~mask]] = False
        return replace(self, mask=kept)

    def _sample(self, row: dict[str, Array], index: int) -> Sample:
        name = f"{self.path.name}[{index}]"
        inputs = {spec.name: row[spec.name][None] for spec in self.inputs}
        for spec in self.inputs:
            check_input(spec, inputs[spec.name], name=name)
        label = row.get(LABEL) if LABEL not in inputs else None
        return Sample(
            inputs=inputs,
            label=None if label is None else to_label(label[()], self.task, name=name),
            name=name,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FolderSource:
    """Pictures or recordings in a folder, prepared by a task's steps.

    Attributes:
        folder: The folder.
        spec: The model's input.
        task: Its `pre` steps prepare the files.
        entries: The files' paths under the folder, and their labels.
        condition: What spoils each picture before the steps; None leaves it as it is.
    """

    folder: Path
    spec: TensorSpec
    task: Task
    entries: tuple[tuple[str, Label | None], ...]
    condition: Condition | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.entries)

    def __iter__(self) -> Iterator[Sample]:
        """Go through the files, reading each when it is reached."""
        for file, label in self.entries:
            if self.task.takes_series:
                content = read_series(self.folder / file)
                array = prepare_series(self.task, content)
                check_input(self.spec, array, name=file)
                yield Sample(inputs={self.spec.name: array}, label=label, name=file)
                continue
            picture = _image.read_picture(self.folder / file)
            if self.condition is not None:
                picture = degrade(picture, self.condition, name=file)
            array = self.task.prepare(picture)
            check_input(self.spec, array, name=file)
            if isinstance(label, TrueBoxes):
                label = label.moved(self.task.place(*picture.shape[:2]))  # noqa: PLW2901 (the label is the sample's, in its own pixels)
            yield Sample(inputs={self.spec.name: array}, label=label, name=file)

    def pick(self, mask: Mask) -> Self:
        """Return the samples whose entry of the mask is true."""
        chosen = (self.entries[index] for index in np.flatnonzero(mask))
        return replace(self, entries=tuple(chosen))


def open_samples(
    path: Path, inputs: Sequence[TensorSpec], task: Task | None
) -> SampleSource:
    """Open samples and check them against the model's signature and the task.

    Args:
        path: An `.npz` file or a folder of pictures.
        inputs: The model's inputs.
        task: How pictures are prepared and what labels mean; an `.npz` may do without.

    Returns:
        A source that reads each sample when it is reached.

    Raises:
        DataError: Nothing readable is there; arrays are missing, unknown, or of the
            wrong dtype or shape; labels do not match the samples or the task.
        MissingExtraError: Pictures are to be read and Pillow is not installed.
    """
    if path.is_dir():
        return _open_folder(path, inputs, task)
    return _open_npz(path, tuple(inputs), task)


def under(source: SampleSource, condition: Condition) -> SampleSource:
    """Return the same samples under a condition that spoils pictures.

    Raises:
        DataError: The samples are not read from pictures.
    """
    if not isinstance(source, FolderSource) or source.task.takes_series:
        raise DataError(
            f"the condition {condition} spoils pictures, and the samples are none",
            hint="Give a folder of pictures, and a task with pre steps.",
        )
    return replace(source, condition=condition)


def split(source: SampleSource, seed: int) -> tuple[SampleSource, SampleSource]:
    """Split samples into a selection half, which steps may look at, and a report half.

    A coin is thrown for each pair of neighbours to say which goes to which half (a
    random permutation in blocks of two). So the halves are equal to within one
    sample, orderly files are split fairly, and a sample's half depends only on the
    seed and its index: samples added later move none.

    Args:
        source: At least two samples.
        seed: Not negative.

    Returns:
        The selection half and the report half; both still read as a stream.

    Raises:
        DataError: There are fewer than two samples.
        UsageError: The seed is negative.
    """
    if len(source) <= 1:
        raise DataError(
            f"{len(source)} samples cannot be split into two halves",
            hint="Give more samples, or separate files for selection and report.",
        )
    if seed < 0:
        raise UsageError(f"the seed is {seed}, expected 0 or more", hint="Use seed 0.")
    pairs = (len(source) + 1) // 2
    # The raw stream of a bit generator is the same in all versions of numpy (NEP 19).
    coins = (np.random.PCG64(seed).random_raw(pairs) >> np.uint64(63)).astype(bool)
    mask = np.stack([coins, ~coins], axis=1).reshape(-1)[: len(source)]
    return source.pick(mask), source.pick(~mask)


def take(source: SampleSource, n: int) -> SampleSource:
    """Take n samples spread over the whole source, or all if it has fewer.

    One is taken at random, always the same one, from each of n stretches of equal
    length: files that are sorted by class give samples of all classes.

    Raises:
        UsageError: n is not positive.
    """
    if n < 1:
        raise UsageError(f"cannot take {n} samples", hint="Take at least one.")
    size = len(source)
    if n >= size:
        return source
    ends = np.arange(n + 1) * size // n
    draws = np.random.default_rng(0).random(n)
    mask = np.zeros(size, dtype=bool)
    mask[ends[:-1] + (draws * np.diff(ends)).astype(int)] = True
    return source.pick(mask)


def _open_folder(
    folder: Path, inputs: Sequence[TensorSpec], task: Task | None
) -> FolderSource:
    if task is None or not task.pre:
        raise DataError(
            f"{folder} holds pictures, and nothing says how the model takes them",
            hint="Give a task with pre steps: skerry init writes one.",
        )
    if len(inputs) != 1:
        raise DataError(
            f"pictures feed one input, the model has {len(inputs)}",
            hint="Give an .npz with one array an input.",
        )
    entries = tuple(
        (
            entry.file,
            _entry_label(entry, task),
        )
        for entry in _folder.list_entries(
            folder, SERIES_SUFFIXES if task.takes_series else _image.SUFFIXES
        )
    )
    source = FolderSource(folder=folder, spec=inputs[0], task=task, entries=entries)
    # The first picture shows whether the steps lead to the model's input.
    next(iter(source))
    return source


def _entry_label(entry: _folder.Entry, task: Task) -> Label | None:
    if entry.boxes is None:
        is_known = entry.label is not None
        return to_label(entry.label, task, name=entry.file) if is_known else None
    if task.kind is not TaskKind.DETECTION:
        raise DataError(
            f"the labels of {entry.file} are boxes, the task is {task.kind}",
            hint="Give a task of kind detection.",
        )
    rows = [
        (
            *box.corners,
            to_class(box.label, task, name=entry.file),
            box.is_crowd,
            box.area,
        )
        for box in entry.boxes
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return make_truth(table, task, name=entry.file)


def _open_npz(
    path: Path, inputs: tuple[TensorSpec, ...], task: Task | None
) -> NpzSource:
    with _npz.open_npz(path, name=str(path)) as archive:
        members = _npz.read_members(archive, name=str(path))
        rows = _check_members(members, inputs, task, path)
        if LABEL in members and LABEL not in {spec.name for spec in inputs}:
            with closing(_npz.read_rows(archive, members[LABEL])) as labels:
                for index, label in enumerate(labels):
                    to_label(label[()], task, name=f"{path.name}[{index}]")
    mask = np.ones(rows, dtype=bool)
    return NpzSource(path=path, inputs=inputs, task=task, mask=mask)


def _check_labels(labels: _npz.Member, task: Task | None, path: Path) -> None:
    is_boxes = len(labels.shape) == 3 and labels.shape[2] in BOX_COLUMNS
    if len(labels.shape) == 1 or (
        is_boxes and (task is None or task.kind is TaskKind.DETECTION)
    ):
        return
    raise DataError(
        f"{path}: label has shape {labels.shape}, expected one axis",
        hint="Give one label a sample; boxes are samples × most boxes × 5 to 7.",
    )


def _check_members(
    members: dict[str, _npz.Member],
    inputs: tuple[TensorSpec, ...],
    task: Task | None,
    path: Path,
) -> int:
    specs = {spec.name: spec for spec in inputs}
    for name in members:
        if name not in specs and name != LABEL:
            raise DataError(
                f"{path} has an array {name!r} that is no input of the model",
                hint=did_you_mean(name, [*specs, LABEL]),
            )
    for name, spec in specs.items():
        if name not in members:
            raise DataError(
                f"{path} has no array for the model's input {spec}",
                hint="Name each array after an input of the model.",
            )
        member = members[name]
        got = TensorSpec(
            name=name, dtype=member.dtype.name, shape=(1, *member.shape[1:])
        )
        check_signature(spec, got, name=str(path))
    if LABEL in members and LABEL not in specs:
        _check_labels(members[LABEL], task, path)
    counts = {name: member.shape[0] for name, member in members.items()}
    rows = next(iter(counts.values()), 0)
    is_empty = any(member.row_bytes == 0 for member in members.values())
    if rows == 0 or is_empty or len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(
            f"{path}: got rows: {listed or 'none'}; expected one a sample, not empty, "
            "in each array",
            hint="The first axis of each array is that of the samples.",
        )
    return rows
