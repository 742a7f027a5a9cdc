"""Load a model's file in this process, with its task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from skerry.app.arguments import open_shaped
from skerry.app.serving.asking import LoadedHere
from skerry.app.serving.sources import find_gallery
from skerry.core.errors import UsageError
from skerry.core.files import read_file
from skerry.core.seams import LoadOptions
from skerry.runtimes import DEFAULT_RUNTIMES, get_runtime
from skerry.tasks.matching import EmbedMatch, Gallery, read_gallery
from skerry.tasks.pipeline import Pipeline
from skerry.tasks.task import Task


@contextlib.contextmanager
def open_here(
    path: Path,
    *,
    task: Task | None,
    task_file: Path | None = None,
    gallery: Path | None = None,
    runtime: str | None = None,
    shape: Sequence[str] = (),
    threads: int = 1,
) -> Iterator[LoadedHere]:
    """Load a model's file for as long as the context is open.

    Args:
        path: An ONNX or TFLite file, or ncnn's `.param`.
        task: What it is for, or None.
        task_file: Where the task was read; `gallery.npz` may lie beside it.
        gallery: Whom the task knows, or None.
        runtime: What runs it; what is usual for its format where None.
        shape: Shapes of inputs that the file leaves open.
        threads: CPU threads for one inference.

    Raises:
        UsageError: There is no such file, or the gallery is missing or none.
        ModelError: It is no model, or does not run.
    """
    if threads < 1:
        raise UsageError(f"got {threads} threads, expected 1 or more", hint="Give 1.")
    model = open_shaped(path, shape)
    pipeline = None
    if task is not None:
        known = None
        if isinstance(task.post[-1], EmbedMatch):
            known = _read_gallery(find_gallery(task_file or task, gallery))
        pipeline = Pipeline(task=task, inputs=model.inputs, gallery=known)
    chosen = get_runtime(runtime or DEFAULT_RUNTIMES[model.format])
    with contextlib.closing(
        chosen.load(model, LoadOptions(threads=threads))
    ) as session:
        yield LoadedHere(session, path.name, pipeline)


def _read_gallery(path: Path | None) -> Gallery | None:
    if path is None:
        return None
    content = read_file(path)
    return read_gallery(content, name=str(path))
