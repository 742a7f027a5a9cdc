"""What a model is for: the steps before and after it, its labels, its metric.

A task is written as TOML, schema `skerry.task/1`:

    schema = "skerry.task/1"
    kind = "classification"
    metric = "top1"
    labels = ["cat", "dog"]

    [[pre]]
    step = "resize"
    height = 32
    width = 32

    [[post]]
    step = "softmax"

    [[post]]
    step = "topk"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import numpy as np
import tomli_w

from skerry.core.config import from_table, parse_toml, read_toml
from skerry.core.errors import DataError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.seams import Array, Tensors
from skerry.tasks.boxes import Placement
from skerry.tasks.decoders import Embedding, ReconstructionError, Value
from skerry.tasks.heads import Head, Nms, Selected
from skerry.tasks.matching import EmbedMatch
from skerry.tasks.merging import merge_steps
from skerry.tasks.metrics import METRICS, Metric, find_metric
from skerry.tasks.prediction import Prediction
from skerry.tasks.series import Resample
from skerry.tasks.spectra import BandEnergies, Mfcc
from skerry.tasks.steps import (
    PICTURE_STEPS,
    POST_STEPS,
    PRE_STEPS,
    SERIES_STEPS,
    Crop,
    Ctc,
    Decoder,
    PlacingStep,
    PostStep,
    PreStep,
    TopK,
    step_from_table,
)

TASK_SCHEMA = "skerry.task/1"

_FAMILY, _, _VERSION = TASK_SCHEMA.partition("/")


class TaskKind(StrEnum):
    """The kinds of task that Skerry can score."""

    CLASSIFICATION = "classification"
    TEXT = "text"
    DETECTION = "detection"
    EMBEDDING = "embedding"
    ANOMALY = "anomaly"
    REGRESSION = "regression"


Last = Decoder | Nms | Selected | ReconstructionError
"""A step that reads the answer."""

_DECODERS: Mapping[TaskKind, tuple[type[Last], ...]] = {
    TaskKind.CLASSIFICATION: (TopK,),
    TaskKind.TEXT: (Ctc,),
    TaskKind.DETECTION: (Nms, Selected),
    TaskKind.EMBEDDING: (Embedding, EmbedMatch),
    TaskKind.ANOMALY: (Value, ReconstructionError),
    TaskKind.REGRESSION: (Value,),
}

_DECODER_HINTS: Mapping[TaskKind, str] = {
    TaskKind.CLASSIFICATION: "Put softmax, if it is needed, before one topk or ctc.",
    TaskKind.TEXT: "Put softmax, if it is needed, before one topk or ctc.",
    TaskKind.DETECTION: "Put one head, such as boxes_scores or yolox, before one nms; "
    "selected stands alone.",
    TaskKind.EMBEDDING: "Use one embedding or embed_match step.",
    TaskKind.ANOMALY: "Use one value or reconstruction_error step.",
    TaskKind.REGRESSION: "Use one value step.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a model is for.

    Attributes:
        kind: What the answer is: a class, a line of text, boxes, an embedding, how
            abnormal a sample is, or a value.
        metric: The name of the metric that counts.
        labels: The classes' names in the model's order (may be empty but for text), or
            the alphabet of text, the blank symbol included.
        pre: From a picture or a time series to the model's input; empty where samples
            are inputs.
        post: From one sample's scores to the prediction; a decoder comes last. Boxes
            are read by a head and `nms`, or by `selected` where the graph has both.
        output: The model's output that is read; the first one where empty. A head
            names its outputs itself.
        golden_tolerance: Largest relative squared error of an output on a golden
            sample, as a fraction.
    """

    kind: TaskKind
    metric: str
    labels: tuple[str, ...] = ()
    pre: tuple[PreStep, ...] = ()
    post: tuple[PostStep | Head | Last, ...]
    output: str = ""
    golden_tolerance: float = 0.01
    _quick: tuple[PreStep, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other.

        Raises:
            UsageError: The metric or the decoder is not one of the kind; labels are
                missing or double; the tolerance is not above 0.
        """
        _check_metric(self)
        _check_decoder(self)
        _check_pre(self)
        object.__setattr__(self, "_quick", merge_steps(self.pre))
        _check_labels(self)
        if not 0 < self.golden_tolerance < float("inf"):
            raise UsageError(
                f"golden_tolerance is {self.golden_tolerance}, expected above 0",
                hint="Use 0.01 for one percent of relative squared error.",
            )

    @property
    def scoring(self) -> Metric:
        """The metric that counts."""
        return find_metric(self.metric)

    @property
    def takes_series(self) -> bool:
        """Whether the `pre` steps take time series; pictures otherwise."""
        return any(isinstance(step, SERIES_STEPS) for step in self.pre)

    @property
    def rate_hz(self) -> float | None:
        """How many samples a second the `pre` steps expect; None where it is open."""
        for step in self.pre:
            if isinstance(step, Resample):
                return step.from_hz or None
            if isinstance(step, BandEnergies | Mfcc):
                return step.rate_hz
        return None

    def prepare(self, sample: Array) -> Array:
        """Take a picture or a time series through the `pre` steps.

        Args:
            sample: A picture, uint8 [H, W, 3], RGB; or a series, [T, C].

        Returns:
            The model's input, the batch axis of 1 included where `layout` or `reshape`
            adds it.

        Raises:
            DataError: A step does not take what the one before it gives.
        """
        for step in self._quick:
            sample = step.apply(sample)
        return sample

    def place(self, rows: int, columns: int) -> Placement:
        """Tell where a picture of this size lies in the model's input."""
        placement = Placement(rows=rows, columns=columns)
        for step in self.pre:
            if isinstance(step, PlacingStep):
                placement = placement.then(
                    step.place(placement.rows, placement.columns)
                )
        return placement

    def decode(self, outputs: Tensors, inputs: Tensors | None = None) -> Prediction:
        """Take a model's outputs for one sample through the `post` steps.

        Args:
            outputs: As a session returns them, with a batch axis of 1.
            inputs: What the model was given; `reconstruction_error` alone needs it.

        Raises:
            DataError: The output is missing, has another batch size than 1, or does
                not fit the labels.
        """
        *steps, decoder = self.post
        if isinstance(decoder, Nms | Selected):
            rows = {name: _without_batch(output) for name, output in outputs.items()}
            if isinstance(decoder, Selected):
                return decoder.select(rows, self.labels)
            # What is not finite, or becomes so, makes no candidate.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                head = cast("Head", steps[0])
                candidates = head.read(rows, decoder.min_score)
                return decoder.select(candidates, self.labels)
        scores = _without_batch(self.read(outputs))
        if isinstance(decoder, ReconstructionError):
            return decoder.compare(_find_input(decoder.input, inputs), scores)
        # Infinities would be NaN after softmax; the decoder answers both alike.
        if np.isfinite(scores).all():
            for step in steps:
                scores = cast("PostStep", step).apply(scores)
        return cast("Decoder", decoder).decode(scores, self.labels)

    def read(self, outputs: Tensors) -> Array:
        """Pick the output that the predictions are in, the batch axis included.

        Raises:
            DataError: The model has no such output; the nearest one is named.
        """
        name = self.output or next(iter(outputs), "")
        if name not in outputs:
            raise DataError(
                f"the model has no output called {name!r}",
                hint=did_you_mean(name, outputs),
            )
        return outputs[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TaskTable:
    """A task file's own keys, before the steps are read."""

    kind: TaskKind
    metric: str
    labels: tuple[str, ...] = ()
    output: str = ""
    golden_tolerance: float = 0.01
    pre: list[dict[str, Any]] = field(default_factory=list)
    post: list[dict[str, Any]] = field(default_factory=list)


def load_task(path: Path) -> Task:
    """Read a task file.

    Raises:
        UsageError: The file cannot be read or is not a task; see `task_from_table`.
    """
    return task_from_table(read_toml(path), name=str(path))


def parse_task(content: bytes, *, name: str) -> Task:
    """Parse a task file's content.

    Raises:
        UsageError: It is not TOML or not a task; see `task_from_table`.
    """
    return task_from_table(parse_toml(content, name=name), name=name)


def task_from_table(table: Mapping[str, Any], *, name: str) -> Task:
    """Make a task from its table, in a task file or as a part of another.

    Args:
        table: The keys of schema `skerry.task/1`, `schema` among them.
        name: Whose table it is, for messages.

    Raises:
        UsageError: The schema is another or newer one; a key, step or parameter is
            unknown (the nearest known one is named) or its value is wrong.
    """
    keys = dict(table)
    _check_schema(keys.pop("schema", None), name)
    read = from_table(_TaskTable, keys, name=name)
    pre = (step_from_table(step, PRE_STEPS, name=name) for step in read.pre)
    post = (step_from_table(step, POST_STEPS, name=name) for step in read.post)
    return Task(
        kind=read.kind,
        metric=read.metric,
        labels=read.labels,
        pre=tuple(pre),
        post=tuple(post),
        output=read.output,
        golden_tolerance=read.golden_tolerance,
    )


def task_to_table(task: Task) -> dict[str, Any]:
    """Turn a task into the table that `task_from_table` reads."""
    return {
        "schema": TASK_SCHEMA,
        "kind": task.kind.value,
        "metric": task.metric,
        "labels": list(task.labels),
        "output": task.output,
        "golden_tolerance": task.golden_tolerance,
        "pre": [_step_to_table(step, PRE_STEPS) for step in task.pre],
        "post": [_step_to_table(step, POST_STEPS) for step in task.post],
    }


def task_to_toml(task: Task) -> str:
    """Write a task as TOML; `parse_task` gives the same task back."""
    return tomli_w.dumps(task_to_table(task))


def _step_to_table(step: Any, known: Mapping[str, type[Any]]) -> dict[str, Any]:
    word = next(word for word, kind in known.items() if kind is type(step))
    return {"step": word, "version": step.version, **asdict(step)}


def _check_schema(schema: object, name: str) -> None:
    family, _, version = str(schema).partition("/")
    if family != _FAMILY or not version.isascii() or not version.isdecimal():
        raise UsageError(
            f"{name}: schema is {schema!r}, expected {TASK_SCHEMA!r}",
            hint=f"A task file begins with: schema = {TASK_SCHEMA!r}",
        )
    if version != _VERSION:
        raise UsageError(
            f"{name}: schema is {schema!r}, this Skerry reads {TASK_SCHEMA!r}",
            hint="The file was written by a newer Skerry: upgrade this one.",
        )


def _check_metric(task: Task) -> None:
    metric = find_metric(task.metric)
    if metric.kind != task.kind:
        fitting = (name for name, one in METRICS.items() if one.kind == task.kind)
        raise UsageError(
            f"metric {metric.name} is one for {metric.kind}, the task is {task.kind}",
            hint=f"Metrics for {task.kind}: {', '.join(fitting)}.",
        )
    decoder = task.post[-1] if task.post else None
    if metric.name == "top5" and isinstance(decoder, TopK) and decoder.k < 5:
        raise UsageError(
            f"metric top5 looks at five classes, topk keeps {decoder.k}",
            hint="Use k = 5.",
        )


def _check_decoder(task: Task) -> None:
    expected = _DECODERS[task.kind]
    decoders = [step for step in task.post if isinstance(step, Last)]
    heads = [step for step in task.post if isinstance(step, Head)]
    is_detector = task.kind is TaskKind.DETECTION
    needs_head = isinstance(decoders[0] if decoders else None, Nms)
    if len(decoders) != 1 or task.post[-1] is not decoders[0]:
        got = f"{len(decoders)} decoders" if len(decoders) != 1 else "it before others"
    elif not isinstance(decoders[0], expected):
        got = _word(type(decoders[0]))
    elif len(heads) != needs_head or (is_detector and len(task.post) > 1 + needs_head):
        got = f"{len(heads)} heads among {len(task.post)} steps"
    else:
        return
    raise UsageError(
        f"the post steps of a {task.kind} task end with "
        f"{' or '.join(map(_word, expected))}, got {got}",
        hint=_DECODER_HINTS[task.kind],
    )


def _word(step: type[object]) -> str:
    return next(word for word, kind in POST_STEPS.items() if kind is step)


def _check_pre(task: Task) -> None:
    is_cut = any(isinstance(step, Crop) for step in task.pre)
    if task.kind is TaskKind.DETECTION and is_cut:
        raise UsageError(
            "the pre steps of a detection task have a crop, which cuts objects away",
            hint="Use resize or letterbox.",
        )
    if task.takes_series and any(isinstance(one, PICTURE_STEPS) for one in task.pre):
        raise UsageError(
            "the pre steps are some for pictures and some for time series",
            hint="Use only: " + ", ".join(_words(PICTURE_STEPS)) + "; or only: "
            f"{', '.join(_words(SERIES_STEPS))}.",
        )
    _check_rates(task)


def _words(kinds: tuple[type[object], ...]) -> list[str]:
    return [word for word, kind in PRE_STEPS.items() if kind in kinds]


def _check_rates(task: Task) -> None:
    """Refuse steps that were told different rates of one series."""
    rate_hz: float | None = None
    for step in task.pre:
        match step:
            case Resample(from_hz=told_hz):
                is_told = told_hz > 0
            case BandEnergies(rate_hz=told_hz) | Mfcc(rate_hz=told_hz):
                is_told = True
            case _:
                continue
        if is_told and rate_hz is not None and told_hz != rate_hz:
            raise UsageError(
                f"a pre step takes {told_hz:g} Hz, those before it give {rate_hz:g} Hz",
                hint="Give one series one rate, or put a resample between.",
            )
        rate_hz = step.to_hz if isinstance(step, Resample) else told_hz


def _check_labels(task: Task) -> None:
    if task.kind is TaskKind.TEXT:
        decoder = task.post[-1]
        if isinstance(decoder, Ctc) and not 0 <= decoder.blank < len(task.labels):
            raise UsageError(
                f"ctc: blank is {decoder.blank}, the alphabet has {len(task.labels)} "
                "symbols",
                hint="Give the alphabet as labels, the blank symbol first.",
            )
    elif task.kind is TaskKind.ANOMALY and len(task.labels) not in (0, 2):
        raise UsageError(
            f"an anomaly task has {len(task.labels)} labels, expected 2 or none",
            hint='Use labels = ["normal", "abnormal"].',
        )
    elif len(set(task.labels)) != len(task.labels):
        double = next(name for name in task.labels if task.labels.count(name) > 1)
        raise UsageError(
            f"two classes are called {double!r}", hint="Give each class its own name."
        )
    try:
        "".join(task.labels).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"a label is not Unicode text: {error.reason}", hint="Write it in UTF-8."
        ) from error


def _find_input(name: str, inputs: Tensors | None) -> Array:
    given = inputs or {}
    chosen = name or next(iter(given), "")
    if chosen not in given:
        raise DataError(
            f"reconstruction_error compares with the input {name!r}, got "
            f"{', '.join(given) or 'no inputs'}",
            hint=did_you_mean(name, given) if given else "Give the inputs too.",
        )
    return given[chosen]


def _without_batch(scores: Array) -> Array:
    if scores.ndim < 1 or scores.shape[0] != 1:
        sizes = " × ".join(map(str, scores.shape)) or "a number"
        raise DataError(
            f"the output holds {sizes}, expected a batch of 1 in front",
            hint="Run one sample at a time.",
        )
    return np.asarray(scores[0])
