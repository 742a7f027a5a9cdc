"""From the bytes that a client sends to the answer that it understands.

    picture, recording, window ─ read ─▶ inputs ─ model ─▶ outputs ─ tell ─▶ answer

A pipeline is what a task says, for one model: `read` takes a JPEG, PNG, BMP or WebP
picture, a WAV recording, or a window of measurements as CSV, JSON or `.npy` through
the `pre` steps; `tell` takes the outputs through the `post` steps and answers in plain
values that JSON can hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.tasks._checks import check_input
from skerry.tasks._content import Content, decode_content
from skerry.tasks.boxes import Boxes
from skerry.tasks.matching import EmbedMatch, Gallery
from skerry.tasks.prediction import Prediction
from skerry.tasks.series import Resample
from skerry.tasks.task import Task, TaskKind

Answer = dict[str, Any]
"""What JSON can hold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What the model is given for one body.

    Attributes:
        inputs: By name, with a batch axis of 1.
        rows: Rows of the picture as it was sent; 0 for others.
        columns: Columns of it.
    """

    inputs: dict[str, Array]
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipeline:
    """What a task says, for one model.

    Attributes:
        task: What comes before and after the model.
        inputs: The model's inputs; one.
        gallery: Those who are known; an `embed_match` task needs it.

    Example:
        >>> from skerry.tasks.decoders import Value
        >>> task = Task(kind=TaskKind.REGRESSION, metric="mae", post=(Value(),))
        >>> three = TensorSpec(name="x", dtype="float32", shape=(1, 3))
        >>> pipeline = Pipeline(task=task, inputs=[three])
        >>> reading = pipeline.read(b"[1, 2, 3]", "application/json")
        >>> pipeline.tell({"y": reading.inputs["x"] * 2}, reading)
        {'kind': 'regression', 'value': 2.0}
    """

    task: Task
    inputs: Sequence[TensorSpec]
    gallery: Gallery | None = None

    def __post_init__(self) -> None:
        """Refuse a model that one body cannot feed.

        Raises:
            UsageError: It has several inputs, or the gallery is missing.
        """
        if len(self.inputs) != 1:
            raise UsageError(
                f"one body feeds one input, the model has {len(self.inputs)}",
                hint="Send its tensors to /infer.",
            )
        if isinstance(self.task.post[-1], EmbedMatch) and self.gallery is None:
            raise UsageError(
                "the task matches embeddings and has no gallery",
                hint="Put a gallery.npz beside the task: names and vectors.",
            )

    def read(self, content: bytes, media_type: str) -> Reading:
        """Decode a body and take it through the `pre` steps.

        Args:
            content: All of it.
            media_type: What HTTP's `Content-Type` says it is.

        Raises:
            DataError: It is too large, damaged, of no known kind, or not what the
                task takes.
            MissingExtraError: It is a picture, and Pillow is not installed.
        """
        decoded = decode_content(content, media_type)
        if not self.task.pre:
            array = self._as_input(decoded)
        elif self.task.takes_series:
            array = prepare_series(self.task, decoded)
        else:
            array = self.task.prepare(_picture_of(decoded))
        spec = self.inputs[0]
        array = _cast(array, spec)
        check_input(spec, array, name="in the body")
        if self.task.takes_series or not self.task.pre:
            return Reading(inputs={spec.name: array})
        rows, columns = decoded.array.shape[:2]
        return Reading(inputs={spec.name: array}, rows=rows, columns=columns)

    def tell(self, outputs: Tensors, reading: Reading) -> Answer:
        """Take the model's outputs through the `post` steps.

        Args:
            outputs: As a session returns them.
            reading: What `read` gave for this body.

        Returns:
            `kind`, and by kind: `label`, `confidence` and `top` (classification);
            `text` and `confidence`; `boxes`, the surest first, in pixels of the
            picture as it was sent; `vector` (embedding), or `match` and `similarity`
            where there is a gallery; `score` (anomaly); `value` (regression). What
            the model did not say in finite numbers is null.

        Raises:
            DataError: The outputs are not those that the task reads.
        """
        found = self.task.decode(outputs, reading.inputs)
        answer: Answer = {"kind": self.task.kind.value}
        match self.task.kind:
            case TaskKind.CLASSIFICATION:
                answer |= self._tell_class(found)
            case TaskKind.TEXT:
                answer |= {"text": found.name, "confidence": found.confidence}
            case TaskKind.DETECTION:
                answer["boxes"] = self._tell_boxes(found.boxes, reading)
            case TaskKind.EMBEDDING:
                answer |= self._tell_vector(found)
            case TaskKind.ANOMALY:
                answer["score"] = _finite(found.value)
            case TaskKind.REGRESSION:
                answer["value"] = _finite(found.value)
        return answer

    def _as_input(self, content: Content) -> Array:
        if content.is_picture:
            raise DataError(
                "the body is a picture, and the task has no steps that prepare one",
                hint="Give the task pre steps: skerry init writes them.",
            )
        array, rank = content.array, len(self.inputs[0].shape)
        if array.ndim == rank - 1:
            return array[None]
        # JSON and CSV have rows and columns alone: one row is one sample.
        is_flat = array.ndim == 2 and rank == 2 and array.shape[1] == 1
        return array.reshape(1, -1) if is_flat else array

    def _tell_class(self, found: Prediction) -> Answer:
        if found.label == -1:
            return {"label": None, "confidence": None, "top": []}
        top = [
            {"label": self._name(index), "index": index, "confidence": score}
            for index, score in found.ranked
        ]
        return {"label": found.name, "confidence": found.confidence, "top": top}

    def _tell_boxes(self, boxes: Boxes | None, reading: Reading) -> list[Answer]:
        if boxes is None:
            return []
        corners = boxes.corners
        if reading.rows:
            place = self.task.place(reading.rows, reading.columns)
            shift = np.array([place.left, place.top] * 2)
            corners = (corners - shift) / np.array([place.scale_x, place.scale_y] * 2)
            corners = np.clip(corners, 0, [reading.columns, reading.rows] * 2)
        return [
            {
                "label": self._name(label),
                "index": label,
                "confidence": score,
                "box": [round(side, 3) for side in box],
            }
            for label, score, box in zip(
                boxes.labels.tolist(),
                boxes.scores.tolist(),
                corners.tolist(),
                strict=True,
            )
        ]

    def _tell_vector(self, found: Prediction) -> Answer:
        vector, last = found.vector, self.task.post[-1]
        if vector is None or not np.isfinite(vector).all():
            vector = None
        if not isinstance(last, EmbedMatch) or self.gallery is None:
            return {"vector": None if vector is None else vector.tolist()}
        if vector is None:
            return {"match": None, "similarity": None}
        match = last.match(vector, self.gallery)
        return {"match": match.name, "similarity": match.similarity}

    def _name(self, index: int) -> str:
        labels = self.task.labels
        return labels[index] if index < len(labels) else str(index)


def prepare_series(task: Task, content: Content) -> Array:
    """Take a recording or a window through the `pre` steps.

    Args:
        task: One whose steps take time series.
        content: What was sent, decoded.

    Raises:
        DataError: It is no time series, or not what the steps take.
    """
    if content.is_picture or content.array.ndim > 2:
        raise DataError(
            "it is a picture, the task takes a time series",
            hint="Give audio/wav, text/csv, application/json or application/x-npy.",
        )
    series = content.array.reshape(len(content.array), -1)
    rate_hz, expected_hz = content.rate_hz, task.rate_hz
    if rate_hz is not None and expected_hz not in (None, rate_hz):
        raise DataError(
            f"the recording has {rate_hz:g} samples a second, the task takes "
            f"{expected_hz:g}",
            hint="Put a resample without from_hz first in the task.",
        )
    for step in task.pre:
        if isinstance(step, Resample) and not step.from_hz and rate_hz is not None:
            step = _with_rate(step, rate_hz)  # noqa: PLW2901 (the recording's)
        series = step.apply(series)
    return series


def _picture_of(content: Content) -> Array:
    array = content.array
    if content.is_picture or (
        array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    ):
        return array
    raise DataError(
        f"the body is {array.dtype} {' × '.join(map(str, array.shape))}, the task "
        "takes a picture",
        hint="Send image/jpeg or image/png, or uint8 rows × columns × 3 as .npy.",
    )


def _with_rate(step: Resample, rate_hz: float) -> Resample:
    try:
        return replace(step, from_hz=rate_hz)
    except UsageError as error:
        raise DataError(error.what, hint="Record at another rate.") from error


def _cast(array: Array, spec: TensorSpec) -> Array:
    """Turn numbers from outside, which know no dtypes, into the input's."""
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return array
    if wanted.kind == "f" and array.dtype.kind in "fiu":
        with np.errstate(over="ignore"):
            return array.astype(wanted)
    if wanted.kind in "iu" and array.dtype.kind in "fiu":
        limits = np.iinfo(wanted)
        is_whole = np.isfinite(array).all() and (array == np.rint(array)).all()
        if is_whole and limits.min <= array.min() <= array.max() <= limits.max:
            return array.astype(wanted)
    raise DataError(
        f"the model takes {spec}, got {array.dtype}",
        hint="Send numbers that the input's dtype can hold.",
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
