"""A model that looks at cameras: from a picture to boxes, as its task says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.release import ReleaseId
from skerry.core.seams import Tensors
from skerry.core.video import Picture
from skerry.edge.installed import Installed
from skerry.edge.streams.mosaics import Size
from skerry.edge.streams.settings import ModelSettings
from skerry.edge.streams.tracks import Seen
from skerry.tasks.steps import Letterbox, Resize
from skerry.tasks.task import Task, TaskKind, parse_task

Finds = Literal["people", "faces", "objects"]

MOST_KNOWN = 4
"""As many releases of each model are remembered: a routing may have several answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EyeSettings:
    """What a model is to look for.

    Attributes:
        name: The name that it is served under.
        finds: What becomes of what it finds.
        labels: Which of its classes count; all of them where empty.
        sure: The score from which a box begins a track.
        mosaic_loss: The share of objects that mosaics may miss; 0: there are none.
    """

    name: str
    finds: Finds = "people"
    labels: tuple[str, ...] = ()
    sure: float = 0.5
    mosaic_loss: float = 0.0


class Eye:
    """One release that looks; its methods may be called from any thread.

    Args:
        settings: What it is to look for.
        task: How it is fed and read.
        inputs: The model's inputs; one.

    Raises:
        UsageError: It is no detector of pictures, or has no class of such a name.
    """

    def __init__(
        self, settings: EyeSettings, task: Task, inputs: Collection[TensorSpec]
    ) -> None:
        if task.kind is not TaskKind.DETECTION or len(inputs) != 1:
            raise UsageError(
                f"{settings.name} is for {task.kind} and has {len(inputs)} inputs, "
                "expected a detector with one",
                hint="Cameras are looked at by tasks of kind detection.",
            )
        unknown = set(settings.labels) - set(task.labels)
        if unknown:
            raise UsageError(
                f"{settings.name} has no class {min(unknown)!r}",
                hint=f"It has: {', '.join(task.labels[:10]) or 'no names at all'}.",
            )
        self._settings = settings
        self._task = task
        (self._input,) = inputs

    @property
    def finds(self) -> Finds:
        """What becomes of what it finds."""
        return self._settings.finds

    def size_of(self, rows: int, columns: int) -> tuple[int, int]:
        """The rows and columns that a picture is first resized to.

        Who can give it in this size saves the work of resizing it.
        """
        first = self._task.pre[0] if self._task.pre else None
        if isinstance(first, Resize) and not first.keep_aspect:
            return first.height, first.width
        if isinstance(first, Letterbox):
            scaled = first.scaled(rows, columns)
            # One that is resized already must fit as it is.
            return scaled if first.scaled(*scaled) == scaled else (rows, columns)
        return rows, columns

    @property
    def frame(self) -> Size | None:
        """The size of the model's input, where the task brings pictures to it first."""
        first = self._task.pre[0] if self._task.pre else None
        if isinstance(first, Resize | Letterbox):
            return Size(first.height, first.width)
        return None

    def prepare(self, picture: Picture) -> Tensors:
        """Turn a picture, of any size or of that of `size_of`, into the model's input.

        Raises:
            DataError: The task does not take such a picture.
        """
        array = self._task.prepare(picture)
        return {self._input.name: np.asarray(array, dtype=np.dtype(self._input.dtype))}

    def read(self, outputs: Tensors, rows: int, columns: int) -> tuple[Seen, ...]:
        """Read what was found in a picture of so many pixels.

        Raises:
            DataError: The outputs are not those that the task reads.
        """
        boxes = self._task.decode(outputs).boxes
        if boxes is None:
            raise DataError(
                f"{self._settings.name} gave no boxes", hint="Check its task."
            )
        place = self._task.place(rows, columns)
        shift = np.array([place.left, place.top] * 2)
        scale = np.array([place.scale_x * columns, place.scale_y * rows] * 2)
        regions = np.clip((boxes.corners - shift) / scale, 0.0, 1.0)
        names = self._task.labels
        found = []
        for region, label, score in zip(
            regions.tolist(), boxes.labels.tolist(), boxes.scores.tolist(), strict=True
        ):
            name = names[label] if label < len(names) else str(label)
            if self._settings.labels and name not in self._settings.labels:
                continue
            if region[2] > region[0] and region[3] > region[1]:
                found.append(Seen(region=tuple(region), score=score, label=name))
        return tuple(found)


class Eyes:
    """The eyes of the releases that serve; a new release has its own task.

    Args:
        settings: One a model.
    """

    def __init__(self, settings: Collection[EyeSettings]) -> None:
        self._settings = {one.name: one for one in settings}
        self._known: dict[ReleaseId, Eye] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The models, in the order that was given."""
        return tuple(self._settings)

    def settings(self, name: str) -> EyeSettings:
        """What a model is to look for."""
        return self._settings[name]

    def of(self, installed: Installed) -> Eye:
        """The eye of a release.

        Raises:
            UsageError: It has no task, or one that is no detector's.
            DataError: Its task cannot be read.
        """
        known = self._known.get(installed.id)
        if known is None:
            path = installed.files.get("task")
            if path is None:
                raise UsageError(
                    f"{installed.id} has no task", hint="Release it with one."
                )
            task = parse_task(installed.read("task"), name=str(path))
            settings = self._settings[installed.id.name]
            known = Eye(settings, task, installed.model.inputs)
            while len(self._known) >= MOST_KNOWN * len(self._settings):
                del self._known[next(iter(self._known))]
            self._known[installed.id] = known
        return known


def eyes_of(models: Mapping[str, ModelSettings]) -> Eyes:
    """The eyes of the models of a cameras' file."""
    return Eyes(
        [
            EyeSettings(
                name=name,
                finds=one.finds,
                labels=one.labels,
                sure=one.sure,
                mosaic_loss=one.mosaic_loss,
            )
            for name, one in models.items()
        ]
    )
