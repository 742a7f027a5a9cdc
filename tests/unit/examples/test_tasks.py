"""The examples' tasks: each reads what it is for, and two run on real nets."""

from __future__ import annotations

import json
import runpy
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.app.demo.digits import read_digits
from skerry.app.demo.networks import meter_path, text_model, text_task
from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime
from skerry.tasks import _image
from skerry.tasks.matching import Gallery
from skerry.tasks.pipeline import Pipeline
from skerry.tasks.task import load_task
from tests.contents import npy, wav

TASKS = Path(__file__).parents[3] / "examples" / "tasks"
PICTURE = _image.encode_png(np.full((40, 30, 3), 90, np.uint8))
TONE = wav([0.5, -0.5] * 8000)
PUMP = npy(np.random.default_rng(0).normal(size=(70, 2)))
NOBODY = Gallery(names=("Ann",), vectors=np.ones((1, 4), np.float32) / 2)


@pytest.mark.parametrize(
    ("name", "content", "shape"),
    [
        ("digits", PICTURE, (1, 1, 28, 28)),
        ("faces", PICTURE, (1, 3, 240, 320)),
        ("lines", PICTURE, (1, 3, 640, 640)),
        ("recognition", PICTURE, (1, 3, 150, 150)),
        ("keywords", TONE, (1, 49, 10, 1)),
        ("machine", TONE, (1, 640)),
        ("pump", PUMP, (1, 2, 2)),
    ],
)
def test_each_task_makes_the_input_of_its_net(
    name: str, content: bytes, shape: tuple[int, ...]
) -> None:
    """The shape that the net takes."""
    task = load_task(TASKS / f"{name}.toml")
    spec = TensorSpec(name="x", dtype="float32", shape=shape)
    pipeline = Pipeline(task=task, inputs=[spec], gallery=NOBODY)
    assert pipeline.read(content, "").inputs["x"].shape == shape


def test_the_script_reads_a_digit(tmp_path: Path) -> None:
    """The shipped meter reader, on held-out digits enlarged to a photo's size."""
    predict: Any = runpy.run_path(str(TASKS / "predict.py"))["predict"]
    digits = read_digits()
    right = 0
    for index in range(0, 5000, 500):
        gray = _image.resize(digits.pictures[index], 112, 112, "bicubic")
        file = tmp_path / f"{index}.png"
        file.write_bytes(_image.encode_png(np.repeat(gray[:, :, None], 3, axis=2)))
        answer = predict(meter_path(), TASKS / "digits.toml", file)
        assert json.loads(json.dumps(answer)) == answer
        right += answer["label"] == str(digits.labels[index])
    assert right >= 9
    csv = tmp_path / "a.csv"
    csv.write_text("1,2\n")
    with pytest.raises(DataError, match="the task takes a picture"):
        predict(meter_path(), TASKS / "digits.toml", csv)


def test_a_line_of_text_is_read_off_a_picture() -> None:
    """PP-OCRv4 on a line rendered here."""
    fonts = distribution("font-source-sans-pro")
    file = "font_source_sans_pro/files/SourceSansPro-Regular.otf"
    path = Path(str(fonts.locate_file(file)))
    model = text_model()
    line = _image.draw_text("Meter 4711", font_path=path, size_px=40)
    picture = np.repeat(line[:, :, None], 3, axis=2)
    session = get_runtime("onnxruntime").load(model, LoadOptions())
    try:
        pipeline = Pipeline(task=text_task(model), inputs=session.inputs)
        reading = pipeline.read(_image.encode_png(picture), "image/png")
        answer = pipeline.tell(session.run(reading.inputs), reading)
    finally:
        session.close()
    assert answer["text"] == "Meter 4711"
    assert answer["confidence"] > 0.9
