"""`skerry compress` on a tiny net: four files that belong together."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.app.main import main
from skerry.app.reports import read_report
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.recipe_files import load_recipe
from skerry.core.errors import BudgetError, UsageError
from skerry.graph import open_model, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import open_samples
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests import models

Capture = pytest.CaptureFixture[str]
FILES = ["model.onnx", "recipe.toml", "report.html", "report.json"]
TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
WORDS = (
    *("compress", "net.onnx", "--evaluation", "labelled.npz", "--task", "task.toml"),
    *("--calibration", "few.npz", "--accuracy-drop", "1"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a net, labelled samples, others to calibrate on, a task."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(models.conv_net())
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(24, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "labelled.npz", x=pictures[:16], label=np.arange(16) % 4)
    np.savez(tmp_path / "few.npz", x=pictures[16:])
    (tmp_path / "task.toml").write_text(task_to_toml(TASK))
    return tmp_path


def files_in(folder: Path) -> list[str]:
    """The names of everything in a folder."""
    return sorted(path.name for path in folder.iterdir())


def ask(capsys: Capture, *words: str) -> tuple[int, Any]:
    """Run a command with --json; gives its exit code and its answer."""
    capsys.readouterr()
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_four_files_that_agree(folder: Path, capsys: Capture) -> None:
    """The report tells of the very model beside it, which is an INT8 one."""
    code, answer = ask(capsys, *WORDS)
    assert code == 0
    assert files_in(folder / "out") == FILES
    assert answer["result"]["files"] == [f"out/{name}" for name in FILES]
    report = read_report(folder / "out" / "report.json")
    contents = [folder / "net.onnx", folder / "out" / "model.onnx"]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in contents]
    assert list(report.sha256) == hashes
    assert report.accuracy.n == 8
    assert report.recipe == load_recipe(folder / "out" / "recipe.toml")
    assert hashes[1] in (folder / "out" / "report.html").read_text()
    kinds = {node.op_type for node in read_graph(contents[1]).nodes}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_the_recipe_gives_the_same_bytes(folder: Path, capsys: Capture) -> None:
    """Recipe, model and calibration samples make the written model again."""
    assert ask(capsys, *WORDS)[0] == 0
    (step,) = load_recipe(folder / "out" / "recipe.toml").steps
    assert step.name == "quantize"
    source = open_model(folder / "net.onnx")
    context = StepContext(
        calibration=open_samples(folder / "few.npz", source.inputs, TASK),
        runtime=get_runtime("onnxruntime"),
    )
    params: dict[str, Any] = dict(step.params)
    again = Quantize(**params).apply(read_graph(source.path), context)
    assert again.to_bytes() == (folder / "out" / "model.onnx").read_bytes()


def test_people_are_told_what_came_out(folder: Path, capsys: Capture) -> None:
    """Standard output names each file; standard error stays empty."""
    assert main(list(WORDS)) == 0
    said = capsys.readouterr()
    assert said.err == ""
    words = " ".join(said.out.split())
    assert all(f"out/{name}" in words for name in FILES)
    assert files_in(folder / "out") == FILES


def test_a_missed_budget_has_its_own_exit_code(folder: Path, capsys: Capture) -> None:
    """Where nothing holds the budget, the evidence is written all the same."""
    code, answer = ask(capsys, *WORDS, "--size-bytes", "10")
    assert code == BudgetError.exit_code
    assert answer["ok"] is True
    assert answer["result"]["report"]["breaches"]
    assert files_in(folder / "out") == FILES
    assert load_recipe(folder / "out" / "recipe.toml").steps == ()
    assert main([*WORDS, "--size-bytes", "10"]) == BudgetError.exit_code
    assert "Misses the budget" in capsys.readouterr().out


def test_samples_to_report_on_may_be_given(folder: Path, capsys: Capture) -> None:
    """With --report, all of the evaluation samples choose and those report."""
    with np.load(folder / "labelled.npz") as labelled:
        np.savez(folder / "held.npz", x=labelled["x"][:5], label=labelled["label"][:5])
    code, answer = ask(capsys, *WORDS, "--report", "held.npz")
    assert code == 0
    assert answer["result"]["report"]["accuracy"]["n"] == 5


def test_the_source_is_never_replaced(folder: Path, capsys: Capture) -> None:
    """Writing over the model that was given is refused before any work."""
    (folder / "net.onnx").rename(folder / "model.onnx")
    words = [word.replace("net.onnx", "model.onnx") for word in WORDS]
    code, answer = ask(capsys, *words, "--out", ".")
    assert code == UsageError.exit_code
    assert "replace" in answer["error"]["what"]
    assert (folder / "model.onnx").read_bytes() == models.conv_net()
