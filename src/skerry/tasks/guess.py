"""Guess a task from a model's signature and some data, and say why.

What the signature and the data say is taken as it is. What they leave open, the scale
of pixels and the order of channels, is found by trying the few usual ways on some
samples: where they are labelled the way that is right most often wins, else the one
whose predictions are most confident. The reasons are for a person to check.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, cast

import numpy as np

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.tasks import _folder, _image
from skerry.tasks._checks import to_label
from skerry.tasks.prediction import Label
from skerry.tasks.samples import MemorySource, Sample, open_samples, take
from skerry.tasks.steps import (
    Ctc,
    Decoder,
    Layout,
    Normalize,
    PostStep,
    PreStep,
    Resize,
    Softmax,
    TopK,
)
from skerry.tasks.task import Task, TaskKind

Run = Callable[[Tensors], Mapping[str, Array]]
"""Runs the model once, as `Session.run` does."""

_TRIAL_SAMPLES = 16
_TEXT_HEIGHT, _TEXT_WIDTH, _PICTURE_SIDE = 48, 320, 224
_WIDTH_STEP = 32
_GRAY = 127
_METADATA_KEYS = ("character", "names", "labels", "classes")
_LABELS_FILE = "labels.txt"
_LARGEST_LABELS_BYTES = 1 << 20
_DTYPES = ("float32", "uint8")
_SUM_TOLERANCE = 0.01

_UNSCALED = "0 to 255"
_UNSCALED_TRUST = 0.5
"""Pixels a hundred times too large make most models look sure, right or wrong."""

_SCALES: Mapping[str, Normalize] = {
    "0 to 1": Normalize(scale=1 / 255),
    "-1 to 1": Normalize(scale=1 / 255, mean=0.5, std=0.5),
    "ImageNet's mean and deviation": Normalize(
        scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
    _UNSCALED: Normalize(),
}
"""The usual ways to scale pixels, the most usual first: ties go to the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """A guessed task.

    Attributes:
        task: The task.
        reasons: Why, in plain sentences, for a person to check.
        confidence: 0–1: the share of labelled trial samples that the task gets right,
            or the mean confidence of its predictions where samples have no labels.
    """

    task: Task
    reasons: tuple[str, ...]
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Raw:
    """A trial sample: a picture, or arrays that are the model's inputs already."""

    picture: Array | None
    inputs: dict[str, Array]
    label: Label | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """One way to get from raw samples to the model's inputs.

    Attributes:
        name: What it is, for people.
        pre: Its steps.
        trust: What its confidence is worth against another way's.
    """

    name: str
    pre: tuple[PreStep, ...]
    trust: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What one way gave on the trial samples."""

    way: _Way
    task: Task
    n: int
    right: int | None
    confidence: float

    @property
    def rank(self) -> tuple[int, float]:
        return (self.right or 0, self.confidence * self.way.trust)

    def __str__(self) -> str:
        if self.right is None:
            return f"a mean confidence of {self.confidence:.2f} on {self.n} samples"
        return f"{self.right} of {self.n} samples right"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """Where a picture lies in the model's input; None where a size is open."""

    order: Literal["CHW", "HWC"]
    channels: int
    height: int | None
    width: int | None


def guess_task(
    path: Path,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    metadata: Mapping[str, str],
    run: Run,
    model_path: Path | None = None,
) -> Guess:
    """Guess the task that a model was made for.

    Args:
        path: Samples in one of the forms that `open_samples` reads.
        inputs: The model's inputs.
        outputs: The model's outputs; the first one is read.
        metadata: The model's own; names of classes or an alphabet are looked for.
        run: Runs the model.
        model_path: The model's file. A `labels.txt` beside it is read, one label a
            line, as is one in the data's folder.

    Raises:
        DataError: The data cannot be read, or the signature leaves open what the
            input or the output is.
        RuntimeFailure: The runtime failed.
    """
    kind, why_kind = _guess_kind(outputs)
    if path.is_dir():
        raws = _read_pictures(path)
        ways, why_ways = _picture_ways(inputs, raws, kind)
    else:
        raws = _read_arrays(path, inputs)
        ways = [_Way(name="as they are", pre=())]
        why_ways = f"{path.name} holds the model's inputs: nothing comes before."
    scores = run(_prepare(raws[0], ways[0], inputs))[outputs[0].name][0]
    found = _find_labels(path, metadata, model_path)
    labels, why_labels = _choose_labels(kind, scores, found)
    post, why_post = _guess_post(kind, scores)
    trials = [
        _try(way, raws, inputs, run, _make_task(kind, labels, way, post))
        for way in ways
    ]
    best = max(trials, key=lambda trial: trial.rank)
    share = best.confidence if best.right is None else best.right / best.n
    return Guess(
        task=best.task,
        reasons=(why_kind, why_ways, why_labels, why_post, _why_best(trials, best)),
        confidence=min(1.0, max(0.0, share)),
    )


def _guess_kind(outputs: Sequence[TensorSpec]) -> tuple[TaskKind, str]:
    rank = len(outputs[0].shape)
    if rank == len("NTC"):
        kind, meaning = TaskKind.TEXT, "steps × symbols of a line of text"
    elif rank in (len("NC"), len("NCHW")):
        kind, meaning = TaskKind.CLASSIFICATION, "one score a class"
    else:
        raise DataError(
            f"the first output is {outputs[0]}, expected N×C (classes) or N×T×C (text)",
            hint="Write the task by hand: see the task file's reference.",
        )
    return kind, f"The output {outputs[0]} is taken as {meaning}."


def _read_arrays(path: Path, inputs: Sequence[TensorSpec]) -> list[_Raw]:
    return [
        _Raw(picture=None, inputs=sample.inputs, label=sample.label, name=sample.name)
        for sample in take(open_samples(path, inputs, None), _TRIAL_SAMPLES)
    ]


def _read_pictures(folder: Path) -> list[_Raw]:
    entries = _folder.list_entries(folder)
    # `take` spreads the trial over all classes.
    listed = tuple(
        Sample(inputs={}, label=entry.label, name=entry.file) for entry in entries
    )
    return [
        _Raw(
            picture=_image.read_picture(folder / sample.name),
            inputs={},
            label=sample.label,
            name=sample.name,
        )
        for sample in take(MemorySource(samples=listed), _TRIAL_SAMPLES)
    ]


def _picture_ways(
    inputs: Sequence[TensorSpec], raws: Sequence[_Raw], kind: TaskKind
) -> tuple[list[_Way], str]:
    axes = _find_axes(inputs)
    resize = _guess_resize(axes, [_shape(raw) for raw in raws], kind)
    orders: Sequence[Literal["RGB", "BGR", "GRAY"]] = ("RGB", "BGR")
    if axes.channels == 1:
        orders = ("GRAY",)
    scales: Mapping[str, tuple[PreStep, ...]] = {
        name: (step,) for name, step in _SCALES.items()
    }
    if inputs[0].dtype == "uint8":
        scales = {_UNSCALED: ()}
    ways = [
        _Way(
            name=f"{channels} pixels from {name}",
            pre=(resize, *steps, Layout(order=axes.order, channels=channels)),
            trust=_UNSCALED_TRUST if name == _UNSCALED else 1.0,
        )
        for channels, (name, steps) in product(orders, scales.items())
    ]
    how = (
        "scaled to the height and filled on the right"
        if resize.keep_aspect
        else ("stretched")
    )
    return ways, (
        f"The input {inputs[0]} is laid out {axes.order}; pictures are {how} to "
        f"{resize.height} × {resize.width}."
    )


def _find_axes(inputs: Sequence[TensorSpec]) -> _Axes:
    spec = inputs[0]
    sizes = tuple(size if isinstance(size, int) else None for size in spec.shape)
    if len(inputs) == 1 and len(sizes) == len("NCHW") and spec.dtype in _DTYPES:
        _, first, second, third = sizes
        if first in (1, 3):
            return _Axes(order="CHW", channels=first, height=second, width=third)
        if third in (1, 3):
            return _Axes(order="HWC", channels=third, height=first, width=second)
    raise DataError(
        f"the inputs {', '.join(map(str, inputs))} take no pictures; expected one "
        "float32 or uint8 input with 1 or 3 channels, N×C×H×W or N×H×W×C",
        hint="Give an .npz whose arrays are named after the inputs.",
    )


def _guess_resize(
    axes: _Axes, shapes: Sequence[tuple[int, int]], kind: TaskKind
) -> Resize:
    if kind is TaskKind.TEXT:
        height = axes.height or _TEXT_HEIGHT
        longest = max(math.ceil(height * columns / rows) for rows, columns in shapes)
        whole = math.ceil(longest / _WIDTH_STEP) * _WIDTH_STEP
        width = axes.width or max(_TEXT_WIDTH, whole)
        return Resize(height=height, width=width, keep_aspect=True, fill=_GRAY)
    alike = shapes[0] if len(set(shapes)) == 1 else (_PICTURE_SIDE, _PICTURE_SIDE)
    return Resize(height=axes.height or alike[0], width=axes.width or alike[1])


def _shape(raw: _Raw) -> tuple[int, int]:
    rows, columns = cast("Array", raw.picture).shape[:2]
    return rows, columns


def _prepare(raw: _Raw, way: _Way, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    if raw.picture is None:
        return raw.inputs
    array = raw.picture
    for step in way.pre:
        array = step.apply(array)
    return {inputs[0].name: array}


def _find_labels(
    path: Path, metadata: Mapping[str, str], model_path: Path | None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Find lists that may be the labels, the most certain first, and their places."""
    for key in _METADATA_KEYS:
        if key in metadata:
            yield f"the model's metadata {key!r}", _parse_labels(metadata[key])
    folders = [path if path.is_dir() else path.parent]
    folders += [model_path.parent] if model_path else []
    for file in (folder / _LABELS_FILE for folder in folders):
        try:
            if not file.is_file() or file.stat().st_size > _LARGEST_LABELS_BYTES:
                continue
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"cannot read {file}: {error}", hint="Write one label a line, in UTF-8."
            ) from error
        yield str(file), tuple(text.splitlines())
    if path.is_dir():
        names = {entry.label for entry in _folder.list_entries(path)} - {None}
        yield (
            "the data's own labels",
            tuple(sorted(cast("set[str]", names), key=_place)),
        )


def _place(name: str) -> tuple[int, str]:
    """Sort numbers by value, before other names."""
    is_number = name.isascii() and name.isdecimal() and len(name) < len(str(2**63))
    return (int(name), "") if is_number else (2**63, name)


def _parse_labels(text: str) -> tuple[str, ...]:
    """Read a list, a dict of names by index (as Ultralytics writes it), or lines."""
    if text[:1] in ("[", "{") and len(text) <= _LARGEST_LABELS_BYTES:
        try:
            parsed = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return tuple(text.splitlines())
        values = parsed.values() if isinstance(parsed, dict) else parsed
        return tuple(str(value) for value in values)
    return tuple(text.splitlines())


def _choose_labels(
    kind: TaskKind, scores: Array, found: Iterator[tuple[str, tuple[str, ...]]]
) -> tuple[tuple[str, ...], str]:
    if kind is TaskKind.TEXT:
        return _choose_alphabet(scores.shape[-1], found)
    for place, names in found:
        if len(names) == len(set(names)) == scores.size:
            return names, f"The names of the {len(names)} classes are from {place}."
    return (), f"No names for the {scores.size} classes were found."


def _choose_alphabet(
    size: int, found: Iterator[tuple[str, tuple[str, ...]]]
) -> tuple[tuple[str, ...], str]:
    seen = []
    for place, names in found:
        # What PaddleOCR adds to the characters: the blank in front, a space behind.
        for alphabet in (("", *names, " "), ("", *names), ("", *names[1:])):
            if len(alphabet) == size:
                return alphabet, f"The alphabet of {size} symbols is from {place}."
        seen.append(f"{len(names)} in {place}")
    raise DataError(
        f"the model gives {size} symbols; found {', '.join(seen) or 'no alphabet'}",
        hint=f"Put a {_LABELS_FILE} with one symbol a line beside the model.",
    )


def _guess_post(
    kind: TaskKind, scores: Array
) -> tuple[tuple[PostStep | Decoder, ...], str]:
    decoder: Decoder = Ctc() if kind is TaskKind.TEXT else TopK()
    rows = scores if kind is TaskKind.TEXT else scores.reshape(1, -1)
    sums = rows.astype(np.float64).sum(axis=-1)
    if rows.min() >= 0 and np.allclose(sums, 1, atol=_SUM_TOLERANCE):
        return (decoder,), "The scores are probabilities already."
    # Post steps see the scores as the model shapes them: classes first, or last.
    axis = -1 if kind is TaskKind.TEXT else 0
    return (Softmax(axis=axis), decoder), "The scores need a softmax."


def _make_task(
    kind: TaskKind,
    labels: tuple[str, ...],
    way: _Way,
    post: tuple[PostStep | Decoder, ...],
) -> Task:
    metric = "lines_right" if kind is TaskKind.TEXT else "top1"
    return Task(kind=kind, metric=metric, labels=labels, pre=way.pre, post=post)


def _try(
    way: _Way, raws: Sequence[_Raw], inputs: Sequence[TensorSpec], run: Run, task: Task
) -> _Trial:
    right, labelled, confidences = 0.0, 0, []
    for raw in raws:
        prediction = task.decode(run(_prepare(raw, way, inputs)))
        confidences.append(prediction.confidence)
        if raw.label is not None:
            label = to_label(raw.label, task, name=raw.name)
            right += task.scoring.value([prediction], [label])
            labelled += 1
    return _Trial(
        way=way,
        task=task,
        n=labelled or len(raws),
        right=int(right) if labelled else None,
        confidence=float(np.mean(confidences)),
    )


def _why_best(trials: Sequence[_Trial], best: _Trial) -> str:
    others = [trial for trial in trials if trial is not best]
    if not others:
        return f"The samples {best.way.name} give {best}."
    equals = [trial.way.name for trial in others if trial.rank == best.rank]
    if equals:
        rest = f"so do {' and '.join(equals)}, which the samples cannot tell apart."
    else:
        second = max(others, key=lambda trial: trial.rank)
        rest = f"next best are {second.way.name}: {second}."
    return f"Of {len(trials)} usual ways, {best.way.name} give {best}; {rest}"
