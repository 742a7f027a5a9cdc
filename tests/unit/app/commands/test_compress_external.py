"""`skerry compress` where weights lie in files of their own, or must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from skerry.app.commands import compress as command
from skerry.app.main import main
from skerry.compress.search import evidence, trials
from skerry.core.durable import RealDisk
from skerry.core.errors import ModelError, StorageError
from skerry.graph import _onnx, files, open_model, read_graph
from skerry.tasks.measure import Ratio
from tests import models, running

Capture = pytest.CaptureFixture[str]
FILES = {"model.onnx", "recipe.toml", "report.html", "report.json"}
WORDS = (
    *("compress", "net.onnx", "--calibration", "few.npz", "--no-cache"),
    *("--output-distance", "0.5", "--json"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net whose weights lie beside it, and samples; integers take half the time."""
    monkeypatch.chdir(tmp_path)
    onnx.save(
        onnx.load_from_string(models.conv_net()),
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="net.weights",
        size_threshold=0,
    )
    rows = np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "few.npz", x=rows)
    half = {"candidate": Ratio(median=0.5, low=0.5, high=0.5)}
    monkeypatch.setattr(trials, "time_models", lambda *_: half)
    monkeypatch.setattr(evidence._Proof, "is_slower_than_thought", lambda _: False)
    monkeypatch.setattr(command, "other_runtimes", lambda _: ((), {}))
    return tmp_path


def ask(capsys: Capture, *words: str) -> tuple[int, Any]:
    """Run the command; gives its exit code and its answer."""
    capsys.readouterr()
    code = main([*WORDS, *words])
    return code, json.loads(capsys.readouterr().out)


def names(folder: Path) -> set[str]:
    """The names of all files."""
    return {path.name for path in folder.iterdir()}


def test_the_output_is_whole_by_itself(folder: Path, capsys: Capture) -> None:
    """The weights of the source are not needed any more."""
    code, answer = ask(capsys)
    assert code == 0, answer
    assert names(folder / "out") == FILES
    (folder / "net.weights").unlink()
    assert answer["result"]["report"]["recipe"]["steps"]
    graph = read_graph(folder / "out" / "model.onnx")
    assert running.run(graph, running.random_inputs(graph, 0))["y"].shape == (1, 4)
    before = answer["result"]["report"]["size_bytes"]["before"]
    assert before > len(models.conv_net())


@pytest.mark.parametrize("location", ["/etc/hostname", "../net.weights", "a/../../b"])
def test_weights_elsewhere_are_refused(
    location: str, folder: Path, capsys: Capture
) -> None:
    """A model never reads what is not beside it."""
    model = onnx.load(folder / "net.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    code, answer = ask(capsys)
    assert code == ModelError.exit_code
    assert "outside its folder" in answer["error"]["what"]
    assert not (folder / "out").exists()


def test_other_weights_under_the_same_file_are_compressed_anew(
    folder: Path, capsys: Capture
) -> None:
    """A cache knows a model by its weights too, not by the file that names them."""
    words = [word for word in WORDS if word not in {"--no-cache", "--json"}]
    made = []
    for factor in (1, 2):
        weights = folder / "net.weights"
        numbers = np.frombuffer(weights.read_bytes(), np.float32) * factor
        weights.write_bytes(numbers.astype(np.float32).tobytes())
        assert main([*words, "--prefer", "size"]) in (0, 21)
        made.append((folder / "out" / "model.onnx").read_bytes())
    capsys.readouterr()
    assert made[0] != made[1]


def test_what_one_file_cannot_hold_is_split(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the bound, weights lie beside the model, and the pair is what was proved."""
    monkeypatch.setattr(files, "MAX_EMBEDDED_BYTES", 100)
    monkeypatch.setattr(_onnx, "MAX_PROTOBUF_BYTES", 200)
    code, answer = ask(capsys)
    assert code == 0, answer
    (weights,) = names(folder / "out") - FILES
    assert weights.startswith("model-")
    model = open_model(folder / "out" / "model.onnx")
    assert model.size_bytes == answer["result"]["report"]["size_bytes"]["after"]
    assert f"out/{weights}" in answer["result"]["files"]
    graph = read_graph(folder / "out" / "model.onnx")
    monkeypatch.undo()
    assert running.run(graph, running.random_inputs(graph, 0))["y"].shape == (1, 4)


def test_a_full_disk_leaves_neither_half(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that were written are taken away where the model cannot be."""
    monkeypatch.setattr(files, "MAX_EMBEDDED_BYTES", 100)
    write = RealDisk.write

    def refuse(disk: RealDisk, path: Path, content: bytes) -> None:
        if path.parent.name == "out" and path.name.startswith(".report"):
            raise OSError(28, "No space left on device")
        write(disk, path, content)

    monkeypatch.setattr(RealDisk, "write", refuse)
    code, _ = ask(capsys)
    assert code == StorageError.exit_code
    assert names(folder / "out") == set()
