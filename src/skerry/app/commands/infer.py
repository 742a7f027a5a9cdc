"""`skerry infer`: ask a model, or a server, what is in some files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from skerry.app import figures
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.serving.asking import Asked
    from skerry.core.seams import Tensors
    from skerry.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What was said of each input.

    Attributes:
        target: The model's file, or the server's URL.
        asked: One an input, in their order.
        files: What was written: outputs, pictures with boxes.
    """

    target: str
    asked: tuple[Asked, ...]
    files: tuple[Path, ...] = ()


def infer(
    target: str,
    /,
    *inputs: Path,
    model: str = "",
    version: int | None = None,
    task: Path | None = None,
    gallery: Path | None = None,
    runtime: str | None = None,
    shape: tuple[str, ...] = (),
    threads: int = 1,
    face: Literal["http", "local"] = "http",
    token: str | None = None,
    timeout_ms: float | None = None,
    out: Path | None = None,
    draw: Path | None = None,
) -> Inferred:
    """Ask a model, or a server, what is in a picture, a recording, a file of tensors.

    Args:
        target: A model's file (ONNX, TFLite, ncnn's .param), which is run here; or the
            URL of a server, such as skerry serve's or a gateway's.
        inputs: Pictures, recordings (.wav), windows (.csv, .json, .npy), or tensors:
            an .npz whose arrays have the names of the model's inputs, a row an input.
        model: Which of the server's models; the only one by default.
        version: Which version of it; the one that serves by default.
        task: A task file (schema skerry.task/1) for a model's file, or to read the
            tensors that a server gives; the task of skerry.toml for its model.
        gallery: Whom a task that matches embeddings knows, an .npz; gallery.npz beside
            the task by default.
        runtime: What runs the model's file; what is usual for its format by default.
        shape: An input's shape, as INPUT=1x3x48x320, for ncnn files that do not say it.
        threads: CPU threads for one inference of a model's file.
        face: How tensors reach a server: over http, or, on its own machine, through
            shared memory.
        token: What to show the server.
        timeout_ms: After how long an answer of a server is of no more use.
        out: Write the outputs of tensors to this .npz, named INDEX.OUTPUT.
        draw: Draw the boxes of a detection into a copy of the picture, a PNG.
    """
    from skerry.app.serving.asking import ask_all

    if not inputs:
        raise UsageError(
            "there is nothing to ask about", hint="Give a picture, or an .npz."
        )
    if draw is not None and len(inputs) != 1:
        raise UsageError(
            f"--draw is for one picture, got {len(inputs)}", hint="Give it alone."
        )
    is_remote = "://" in target
    if is_remote and (gallery or runtime or shape):
        raise UsageError(
            "--gallery, --runtime and --shape are for a model's file",
            hint="The server has its own.",
        )
    read_task = _find_task(target, task, is_remote=is_remote)

    async def ask() -> list[tuple[Asked, Tensors]]:
        if is_remote:
            from skerry.app.serving.asking import open_remote

            reaching = open_remote(
                target,
                model=model,
                version=version,
                token=token,
                timeout_ms=timeout_ms,
                face=face,
            )
            async with reaching as asker:
                told = ask_all(asker, inputs, task=read_task)
                return [each async for each in told]
        from skerry.app.serving.loading import open_here

        with open_here(
            Path(target),
            task=read_task,
            task_file=task,
            gallery=gallery,
            runtime=runtime,
            shape=shape,
            threads=threads,
        ) as here:
            return [each async for each in ask_all(here, inputs, task=read_task)]

    told = asyncio.run(ask())
    files = []
    if out is not None:
        files.append(_write(out, [outputs for _, outputs in told]))
    if draw is not None:
        from skerry.app.serving.drawing import draw_boxes

        files.append(draw_boxes(inputs[0], told[0][0].answer, draw))
    asked = tuple(each for each, _ in told)
    return Inferred(target=target, asked=asked, files=tuple(files))


def _find_task(target: str, given: Path | None, *, is_remote: bool) -> Task | None:
    from skerry.app.project import complete

    if given is None and is_remote:
        return None
    known = complete(None, None, given, folder=Path())
    is_it = known.model is not None and known.model.resolve() == Path(target).resolve()
    return known.task if given is not None or is_it else None


def _write(path: Path, rows: list[Tensors]) -> Path:
    import io

    import numpy as np

    from skerry.core.durable import write_file

    arrays = {
        f"{index}.{name}": array
        for index, outputs in enumerate(rows)
        for name, array in outputs.items()
    }
    if not arrays:
        raise UsageError(
            "there are no outputs to write: a task has read them",
            hint="--out is for inputs that are tensors, .npz.",
        )
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_file(path, stream.getvalue())
    return path


def render_infer(found: Inferred) -> RenderableType:
    """Render one line an answer, or one a box or an output."""
    from rich.console import Group
    from rich.text import Text

    from skerry.app.tables import plain_table

    table = plain_table("input", "answer", "#", "#latency", "by")
    for asked in found.asked:
        rows = _rows(asked)
        for index, (answer, figure) in enumerate(rows):
            end = (figures.show_ms(asked.latency_ms), asked.release)
            first = (asked.input, answer, figure, *end)
            table.add_row(*(first if index == 0 else ("", answer, figure, "", "")))
    written = [Text(f"Written: {path}") for path in found.files]
    return Group(table, *written) if written else table


def _rows(asked: Asked) -> list[tuple[str, str]]:
    """What is said of one input: words, and a figure."""
    if asked.answer is None:
        return [
            (
                f"{one.name} {one.dtype}[{'×'.join(map(str, one.shape))}]",
                _span(one.least, one.most),
            )
            for one in asked.outputs
        ]
    return _answer_rows(asked.answer)


def _answer_rows(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "boxes" in answer:
        rows = [(_box(box), _share(box.get("confidence"))) for box in answer["boxes"]]
        return rows or [("nothing found", "")]
    if "top" in answer:
        rows = [
            (str(o.get("label")), _share(o.get("confidence"))) for o in answer["top"]
        ]
        return rows or [("no finite numbers", "")]
    if "text" in answer:
        return [(f"“{answer['text']}”", _share(answer.get("confidence")))]
    if "match" in answer:
        similarity = answer.get("similarity")
        return [
            (str(answer["match"] or "nobody known"), figures.show_value(similarity))
        ]
    if answer.get("vector"):
        return [(f"a vector of {len(answer['vector'])}", "")]
    words = next((name for name in ("score", "value") if name in answer), "")
    figure = answer.get(words)
    return [(words or str(answer.get("kind", "")), figures.show_value(figure))]


def _box(box: Mapping[str, Any]) -> str:
    corners = ", ".join(f"{side:.0f}" for side in box.get("box", ()))
    return f"{box.get('label')} at {corners}"


def _share(confidence: object) -> str:
    return figures.show_percent(
        confidence if isinstance(confidence, int | float) else None
    )


def _span(least: float | None, most: float | None) -> str:
    if least is None or most is None:
        return figures.NOT_MEASURED
    return f"{least:.4g} … {most:.4g}"
