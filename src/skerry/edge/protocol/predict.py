"""Answer what a client has, a picture or a recording, with what it wants to know.

```
POST /v2/models/NAME[/versions/V]/predict    the raw bytes; Content-Type says what
```

The task of the release that answers says how the bytes become the model's input and
its outputs an answer: see `skerry.tasks.pipeline`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from skerry.core.errors import DataError, LateError, UsageError
from skerry.edge.engine import Engine
from skerry.edge.installed import Installed
from skerry.tasks.matching import EmbedMatch, read_gallery
from skerry.tasks.pipeline import Pipeline
from skerry.tasks.task import parse_task

MOST_PIPELINES = 16
"""Most releases whose pipelines are kept ready."""

MOST_READERS = 2
"""Most bodies that are decoded at once: a small file may be a picture of 200 MB."""

_HEAVY_BYTES = 1 << 14
"""Outputs from so many bytes on are looked at beside the event loop, not on it."""

_Key = tuple[str, str, str]


class Predictor:
    """The pipelines of the releases that an engine serves.

    A pipeline is made when its release is first asked, and kept. All methods belong
    to the event loop of the engine.
    """

    def __init__(self, engine: Engine) -> None:
        """Make it without pipelines.

        Args:
            engine: What runs the models.
        """
        self._engine = engine
        self._pipelines: dict[_Key, Pipeline] = {}
        self._readers = asyncio.Semaphore(MOST_READERS)

    async def predict(
        self,
        name: str,
        content: bytes,
        media_type: str,
        *,
        version: int | None = None,
        deadline_s: float | None = None,
        priority: int = 0,
    ) -> dict[str, Any]:
        """Answer one body.

        Args:
            name: The release's name.
            content: A picture, a recording, or a window of measurements.
            media_type: The request's `Content-Type`.
            version: One that is loaded; None: whichever the engine chooses.
            deadline_s: After how long the answer is of no more use, decoding and the
                wait in the queue included; None: never.
            priority: As `Engine.infer` takes it.

        Returns:
            What JSON can hold: `model_name`, `model_version`, `parameters` (`release`
            and `blob`), and `answer` as `Pipeline.tell` gives it.

        Raises:
            UsageError: No such release is loaded.
            DataError: The bytes are not what the task takes, or the release answers
                tensors alone.
            MissingExtraError: A picture was sent, and Pillow is not installed.
            BusyError: As many requests wait as may.
            LateError: The deadline has passed.
            RuntimeFailure: The runtime failed.
        """
        due_s = None if deadline_s is None else _now_s() + deadline_s
        while True:
            installed = self._engine.find(name, version=version)
            pipeline = await self._pipeline_of(installed)
            async with self._readers:
                _left_s(due_s)
                read = await asyncio.to_thread(pipeline.read, content, media_type)
            answer = await self._engine.infer(
                name,
                read.inputs,
                version=version,
                deadline_s=_left_s(due_s),
                priority=priority,
                is_own=True,
            )
            answering = installed
            if answer.release != installed.id:
                # A switch came between, or the routing chose another one.
                answering = self._engine.find(name, version=answer.release.version)
            if _key(answering) == _key(installed):
                break
            version = answer.release.version  # its task reads the bytes another way
        if sum(output.nbytes for output in answer.outputs.values()) >= _HEAVY_BYTES:
            told = await asyncio.to_thread(pipeline.tell, answer.outputs, read)
        else:
            told = pipeline.tell(answer.outputs, read)
        return {
            "model_name": answer.release.name,
            "model_version": str(answer.release.version),
            "parameters": {"release": str(answer.release), "blob": answer.blob},
            "answer": told,
        }

    async def _pipeline_of(self, installed: Installed) -> Pipeline:
        key = _key(installed)
        if key not in self._pipelines:
            made = await asyncio.to_thread(make_pipeline, installed)
            while len(self._pipelines) >= MOST_PIPELINES:
                del self._pipelines[next(iter(self._pipelines))]
            self._pipelines[key] = made
        return self._pipelines[key]


def make_pipeline(installed: Installed) -> Pipeline:
    """Make the pipeline of a release that lies on the disk.

    Raises:
        DataError: Its task or its gallery cannot be read, or one body cannot feed its
            model.
    """
    if "task" not in installed.files:
        raise DataError(
            f"{installed.id} answers no raw bytes: it has no task",
            hint="Serve it with --task FILE (skerry init writes one), or ask /infer.",
        )
    try:
        task = parse_task(installed.read("task"), name=str(installed.files["task"]))
        gallery = None
        if isinstance(task.post[-1], EmbedMatch) and "gallery" in installed.files:
            gallery = read_gallery(installed.read("gallery"), name="its gallery")
        return Pipeline(task=task, inputs=installed.model.inputs, gallery=gallery)
    except UsageError as error:
        raise DataError(
            f"{installed.id} answers no raw bytes: {error.what}", hint=error.hint
        ) from error


def _key(installed: Installed) -> _Key:
    """What a pipeline depends on: two releases of one key read and tell alike."""
    manifest = installed.manifest
    gallery = manifest.gallery.sha256 if manifest.gallery else ""
    return (manifest.task.sha256, gallery, repr(installed.model.inputs))


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _left_s(due_s: float | None) -> float | None:
    if due_s is None:
        return None
    left_s = due_s - _now_s()
    if left_s <= 0:
        raise LateError(
            "the deadline passed before the model was asked",
            hint="Give more time, or send a smaller picture.",
        )
    return left_s
