"""What is asked in this process: pictures by a task, tensors by their names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from skerry.app.serving.cpu import tree_cpu_s
from skerry.app.serving.drawing import draw_boxes
from skerry.core.errors import DataError, UsageError
from skerry.tasks._image import encode_png, read_picture
from tests.commands import Typist, make_parts


@pytest.fixture
def typist(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Typist:
    """Who types, in a folder with a model, samples and a task."""
    make_parts(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Typist(capsys)


def test_tensors_are_asked_row_by_row(typist: Typist) -> None:
    """Each row of the file is an inference; without a task its outputs are told."""
    found = typist.ask("infer", "mlp.onnx", "rows.npz", "--out", "told.npz")
    assert [one["input"] for one in found["asked"]] == [
        f"rows.npz[{row}]" for row in range(12)
    ]
    (output,) = found["asked"][0]["outputs"]
    assert output["least"] == pytest.approx(min(output["values"]))
    assert found["asked"][0]["answer"] is None
    with np.load("told.npz") as told:
        assert len(told.files) == 12
        name = f"0.{output['name']}"
        assert told[name].reshape(-1).tolist() == pytest.approx(output["values"])
    assert "rows.npz[11]" in typist.see("infer", "mlp.onnx", "rows.npz")


def test_a_task_reads_tensors_and_windows(typist: Typist) -> None:
    """With a task the classes are told, of a row, of JSON and of an array alike."""
    row = np.load("rows.npz")["x"][:1]
    Path("row.json").write_text(json.dumps(row[0].tolist()))
    np.save("row.npy", row)
    words = ("rows.npz", "row.json", "row.npy", "--task", "task.toml")
    asked = typist.ask("infer", "mlp.onnx", *words)["asked"]
    (first, *_), (window, array) = asked[:12], asked[12:]
    assert window["answer"]["label"] == first["answer"]["label"]
    assert array["answer"] == window["answer"]
    assert window["outputs"] == []
    alone = typist.ask("infer", "mlp.onnx", "row.npy")["asked"][0]
    assert alone["outputs"][0]["shape"] == first["outputs"][0]["shape"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("mlp.onnx",), 2),
        (("nowhere.onnx", "rows.npz"), 2),
        (("mlp.onnx", "nowhere.npz"), 3),
        (("mlp.onnx", "nowhere.png", "--task", "task.toml"), 3),
        (("mlp.onnx", "task.toml"), 2),
        (("mlp.onnx", "task.toml", "--task", "task.toml"), 3),
        (("mlp.onnx", "rows.npz", "--task", "mlp.onnx"), 2),
        (("mlp.onnx", "rows.npz", "--runtime", "none"), 2),
        (("mlp.onnx", "rows.npz", "--threads", "0"), 2),
        (("mlp.onnx", "rows.npz", "--draw", "boxes.png"), 2),
        (("http://127.0.0.1:9", "rows.npz", "--runtime", "null"), 2),
        (("http://:9", "rows.npz"), 2),
    ],
)
def test_what_cannot_be_asked(
    words: tuple[str, ...], code: int, typist: Typist
) -> None:
    """It is an error of the tree, and no traceback."""
    assert typist.ask("infer", *words, code=code)["hint"]


def test_boxes_are_drawn(tmp_path: Path) -> None:
    """Only where the boxes are is the picture another, and it keeps its size."""
    picture = np.full((60, 80, 3), 255, np.uint8)
    source, drawn = tmp_path / "in.png", tmp_path / "out.png"
    source.write_bytes(encode_png(picture))
    box = {"label": "cat", "confidence": 0.5, "box": [20.0, 30.0, 50.0, 55.0]}
    outside = {"label": "dog", "confidence": 1, "box": [-9, 70, -5, 90]}
    draw_boxes(source, {"boxes": [box, outside]}, drawn)
    shown = read_picture(drawn)
    assert shown.shape == picture.shape
    assert (shown[30, 20:51] != 255).any(axis=1).all()
    assert (shown[:, 60:] == 255).all() or (shown[:10, 60:] == 255).all()
    with pytest.raises(UsageError, match="no boxes"):
        draw_boxes(source, {"text": "cat"}, drawn)
    for wrong in (
        {},
        {"box": "four", "confidence": 1},
        {"box": [1, 2], "confidence": 1},
    ):
        with pytest.raises(DataError, match="a box that is none"):
            draw_boxes(source, {"boxes": [wrong]}, drawn)


def test_the_cpu_of_a_tree_is_that_of_its_children_too() -> None:
    """What a grandchild spends is counted; of nobody there is nothing to count."""
    spend = (
        "import time; e = time.process_time() + 0.3\nwhile time.process_time() < e: 0"
    )
    code = (
        "import subprocess, sys; "
        f"subprocess.run([sys.executable, '-c', {spend!r}]); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        until_s = time.monotonic() + 60
        while (tree_cpu_s({child.pid}) or 0) < 0.3:
            assert time.monotonic() < until_s
            time.sleep(0.05)
        assert child.stdin is not None
        child.stdin.close()
    assert tree_cpu_s({child.pid}) is None
    assert tree_cpu_s(set()) is None
    assert tree_cpu_s({os.getpid()})
