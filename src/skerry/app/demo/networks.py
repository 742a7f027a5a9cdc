"""The demo's two networks, what they are for, and real samples for both."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from skerry.app.demo.digits import Digits
from skerry.app.demo.textlines import TextLines
from skerry.core.errors import StateError
from skerry.core.model import Model
from skerry.graph import open_model, read_graph
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import Ctc, Layout, Normalize, Resize, Softmax, TopK
from skerry.tasks.task import Task, TaskKind

TEXT_HEIGHT, TEXT_WIDTH = 48, 320
"""Pixels of the picture that the recognition net is shown, as its authors do."""

_TEXT_FILE = "ch_PP-OCRv4_rec_infer.onnx"
_MIDDLE_GRAY = 127


def text_model() -> Model:
    """The PP-OCRv4 text recognition net out of the wheel that carries it.

    Only its file is read; the package is never imported. (PaddleOCR, Apache-2.0.)

    Raises:
        StateError: The wheel is not installed.
    """
    package = "rapidocr_onnxruntime"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise StateError(
            f"the demo's text recognition net needs the Python package {package!r}, "
            "not installed",
            hint="pip install --no-deps rapidocr-onnxruntime",
        )
    return open_model(Path(spec.origin).parent / "models" / _TEXT_FILE)


def text_task(model: Model) -> Task:
    """How the recognition net is fed and read: height 48, BGR, −1 to 1, greedy CTC.

    Args:
        model: Its metadata holds the alphabet.
    """
    alphabet = read_graph(model.path).metadata["character"].splitlines()
    return Task(
        kind=TaskKind.TEXT,
        metric="lines_right",
        labels=("<blank>", *alphabet, " "),
        pre=(
            Resize(
                height=TEXT_HEIGHT,
                width=TEXT_WIDTH,
                keep_aspect=True,
                fill=_MIDDLE_GRAY,
            ),
            Normalize(mean=0.5, std=0.5, scale=1 / 255),
            Layout(order="CHW", channels="BGR"),
        ),
        post=(Ctc(),),
    )


def text_samples(lines: TextLines, model: Model, task: Task) -> MemorySource:
    """Lines of text as the recognition net takes them."""
    name = model.inputs[0].name
    return MemorySource(
        samples=tuple(
            Sample(
                inputs={name: task.prepare(picture)}, label=text, name=f"line {index}"
            )
            for index, (picture, text) in enumerate(
                zip(lines.pictures, lines.texts, strict=True)
            )
        )
    )


def meter_path() -> Path:
    """Where our own meter reader lies; `examples/meter_reader` trains it."""
    return Path(str(resources.files("skerry.app.demo") / "meter.onnx"))


def meter_task() -> Task:
    """How the meter reader is read: ten classes."""
    return Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        labels=tuple("0123456789"),
        post=(Softmax(), TopK(k=3)),
    )


def meter_samples(digits: Digits, model: Model) -> MemorySource:
    """Digits as the meter reader takes them: float32 [1, 1, 28, 28], 0–1."""
    name = model.inputs[0].name
    pictures = digits.pictures.astype(np.float32) / np.float32(255)
    return MemorySource(
        samples=tuple(
            Sample(
                inputs={name: pictures[index][None, None]},
                label=int(digits.labels[index]),
                name=f"digit {index}",
            )
            for index in range(len(digits))
        )
    )
