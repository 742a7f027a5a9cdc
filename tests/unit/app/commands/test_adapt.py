"""`skerry adapt`: what people and programs are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from skerry.app.main import main
from skerry.graph import read_graph
from tests.models import conv_net, model_bytes
from tests.rewriting import NPU

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A net of which one activation does not run on the NPU, and one runs nowhere."""
    path = tmp_path / "net.onnx"
    text = "net (float[1, 4] x) => (float[1, 4] y) { a = Mish(x) y = Sin(a) }"
    path.write_bytes(model_bytes(text, opset=18))
    return path


def test_what_was_replaced_and_what_is_left_is_told(
    model: Path, capsys: Capture
) -> None:
    """Why, by what, with which bound; and the file is there."""
    out = model.with_name("out.onnx")
    words = ["adapt", str(model), "--target", str(NPU), "--out", str(out)]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert [one["op_type"] for one in result["applied"]] == ["Mish"]
    assert "float rounding" in result["applied"][0]["bounds"][0]
    assert [one["op_type"] for one in result["left"]] == ["Sin"]
    assert result["answers"]["rewritten"] < 1e-10
    assert result["before"]["operators"] == 0
    assert result["after"]["operators"] == result["after"]["of"] - 1
    assert "Tanh" in [node.op_type for node in read_graph(out).nodes]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "Mish" in shown
    assert "on 8 made-up samples outputs moved by" in " ".join(shown.split())
    assert "No rule replaces Sin" in " ".join(shown.split())


def test_a_model_that_runs_whole_is_written_as_it_is(
    tmp_path: Path, capsys: Capture
) -> None:
    """Nothing replaced, nothing left."""
    path, out = tmp_path / "net.onnx", tmp_path / "out.onnx"
    path.write_bytes(conv_net())
    words = ["adapt", str(path), "--target", "x86-64", "--out", str(out), "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["applied"] == result["left"] == []
    assert result["answers"] is None
    assert read_graph(out).to_bytes() == read_graph(path).to_bytes()


def test_outputs_are_compared_on_samples_that_are_given(
    model: Path, capsys: Capture
) -> None:
    """The first of them."""
    np.savez(model.with_name("rows.npz"), x=np.ones((3, 4), np.float32))
    words = ["adapt", str(model), str(model.with_name("rows.npz"))]
    words += ["--target", str(NPU), "--out", str(model.with_name("out.onnx"))]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["answers"]["samples"], result["are_made_up"]) == (3, False)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--out", "net.onnx"], "would replace"),
        (["--out", "o.onnx", "--max-error", "-1"], "--max-error is -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    model: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    says: str,
) -> None:
    """The model is not overwritten, an error is not below zero."""
    monkeypatch.chdir(model.parent)
    words = ["adapt", str(model), "--target", str(NPU), *more, "--json"]
    assert main(words) != 0
    assert says in json.loads(capsys.readouterr().out)["error"]["what"]
