"""`skerry optimize`: what people and programs are told, and what is refused."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.app.main import main
from skerry.graph import open_model
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests import models
from tests.velas import LAYERS, install_vela

Capture = pytest.CaptureFixture[str]
TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
HERE = ("--candidate", "onnxruntime", "--most-threads", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a net, samples with labels and without, a task."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(models.conv_net())
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(16, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "plain.npz", x=pictures)
    np.savez(tmp_path / "labelled.npz", x=pictures, label=np.arange(16) % 4)
    (tmp_path / "task.toml").write_text(task_to_toml(TASK))
    return tmp_path


def ask(capsys: Capture, *words: str) -> tuple[int, Any]:
    """Run the command with --json; gives its exit code and its answer."""
    capsys.readouterr()
    code = main(["optimize", "net.onnx", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("folder")
def test_what_holds_of_a_budget_file_and_what_does_not(capsys: Capture) -> None:
    """Each limit has a line; one that is missed is told, and so is the exit code."""
    Path("budget.toml").write_text("latency_ms = 0.0\nsize_bytes = 10_000_000\n")
    words = ("plain.npz", "--budget", "budget.toml", "--output-distance", "1", *HERE)
    code, answer = ask(capsys, *words)
    result = answer["result"]
    assert code == result["exit_code"] == 21
    held = {one["limit"]: one["holds"] for one in result["budget"]}
    assert held == {"latency_ms": False, "size_bytes": True}
    assert "INT8" in [one["remedy"] for one in result["trials"]]
    assert open_model(Path(result["model"])).inputs[0].dtype == "float32"
    assert main(["optimize", "net.onnx", *words]) == 21
    shown = capsys.readouterr().out
    assert "missed" in shown
    assert "with onnxruntime, 1 thread" in shown


@pytest.mark.usefixtures("folder")
def test_labels_are_judged_by_the_tasks_metric(capsys: Capture) -> None:
    """The default is one point, and half of the samples report."""
    words = ("labelled.npz", "--task", "task.toml", "--accuracy-drop", "1", *HERE)
    code, answer = ask(capsys, *words)
    result = answer["result"]
    assert code == 0
    assert [one["limit"] for one in result["budget"]] == ["accuracy_drop"]
    assert "top1" in result["accuracy"]


@pytest.mark.usefixtures("folder")
def test_a_limit_that_cannot_be_measured_does_not_hold(capsys: Capture) -> None:
    """Without labels nobody knows what is lost; energy is not measured here."""
    Path("budget.toml").write_text("accuracy_drop = 0.01\nenergy_mj = 5\n")
    code, answer = ask(capsys, "plain.npz", "--budget", "budget.toml", *HERE)
    assert code == 21
    assert [one["measured"] for one in answer["result"]["budget"]] == [None, None]


def test_a_target_is_optimized_for_by_its_compiler(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is a file of integers that Vela compiles."""
    layers = "".join(
        line for line in LAYERS.splitlines(keepends=True) if ",CPU," not in line
    )
    install_vela(folder / "chains", layers=layers)
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(folder / "chains"))
    words = ["plain.npz", "--target", "ethos-u55-128", "--output-distance", "1"]
    code, answer = ask(capsys, *words)
    result = answer["result"]
    assert code == 0
    assert result["model"].endswith("net.int8.tflite")
    assert (result["target"], result["runtime"]) == ("ethos-u55-128", "Vela 5.2.0")
    assert main(["optimize", "net.onnx", *words]) == 0
    assert "for ethos-u55-128" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("target", ["rv1106", "raspberry-pi-5"])
def test_another_machine_is_refused_with_a_way(
    target: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No compiler says what it takes there."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    code, answer = ask(capsys, "plain.npz", "--target", target)
    assert code == 2
    assert f"{target} is not this machine" in answer["error"]["what"]
    assert "--on ssh://" in answer["error"]["hint"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("latency = 5", "latency"),
        ("latency_ms = -1", "latency_ms is -1"),
        ("latency_ms = nan", "latency_ms is nan"),
        ('schema = "skerry.budget/9"', "skerry.budget/9"),
        ("latency_ms = ", "not TOML"),
    ],
)
def test_a_budget_that_is_none_is_refused(
    content: str, says: str, capsys: Capture
) -> None:
    """The file is named, and what is wrong with it."""
    Path("b.toml").write_text(content)
    code, answer = ask(capsys, "plain.npz", "--budget", "b.toml")
    assert code == 2
    assert says in answer["error"]["what"]
    assert "b.toml" in answer["error"]["what"]
