"""`skerry compress` on a tiny net: four files that belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.app.commands import compress as module
from skerry.app.main import main
from skerry.app.reports import read_report
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.recipe_files import load_recipe
from skerry.compress.search import evidence, trials
from skerry.compress.search.cache import CACHE_FOLDER
from skerry.core.errors import BudgetError, UsageError
from skerry.graph import open_model, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.measure import Ratio
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


def halve(models: Mapping[str, object], *_: object) -> dict[str, Ratio]:
    """Say that each candidate takes half of the source's time."""
    return {
        name: Ratio(median=0.5, low=0.5, high=0.5)
        for name in models
        if name != "source"
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a net, labelled samples, others to calibrate on, a task.

    Integers take half of the time, whatever this machine says of so small a net.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trials, "time_models", halve)
    monkeypatch.setattr(evidence._Proof, "is_slower_than_thought", lambda _: False)
    (tmp_path / "net.onnx").write_bytes(models.conv_net())
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(24, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "labelled.npz", x=pictures[:16], label=np.arange(16) % 4)
    np.savez(tmp_path / "few.npz", x=pictures[16:])
    (tmp_path / "task.toml").write_text(task_to_toml(TASK))
    return tmp_path


def files_in(folder: Path) -> list[str]:
    """The names of everything in a folder, but for the cache."""
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


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


def test_no_labels_is_no_obstacle(folder: Path, capsys: Capture) -> None:
    """With inputs alone, outputs are compared, and the report says what was allowed."""
    words = ("compress", "net.onnx", "--calibration", "few.npz")
    code, answer = ask(capsys, *words, "--output-distance", "0.5")
    assert code == 0
    report = answer["result"]["report"]
    assert report["accuracy"] is None
    assert "There are no labels" in " ".join(report["notes"])
    assert report["budget"]["accuracy_drop"] is None
    assert main([*words, "--output-distance", "0.5"]) == 0
    assert "There are no labels" in " ".join(capsys.readouterr().out.split())
    np.savez(folder / "bare.npz", x=np.load(folder / "few.npz")["x"])
    code, answer = ask(capsys, "compress", "net.onnx", "--evaluation", "bare.npz")
    assert code == 0
    assert answer["result"]["report"]["accuracy"] is None


def test_no_samples_at_all_are_an_error(folder: Path, capsys: Capture) -> None:
    """Something real must be given: random inputs would choose wrong ranges."""
    code, answer = ask(capsys, "compress", "net.onnx")
    assert code == UsageError.exit_code
    assert "samples" in answer["error"]["what"]
    assert not (folder / "out").exists()


def test_a_recipe_is_applied_as_it_is(folder: Path, capsys: Capture) -> None:
    """The recipe of a search gives the same bytes without one, labels or not."""
    assert ask(capsys, *WORDS)[0] == 0
    made = (folder / "out" / "model.onnx").read_bytes()
    recipe = ("--recipe", "out/recipe.toml")
    bare = ("compress", "net.onnx", "--calibration", "few.npz", *recipe)
    for words in ((*WORDS, *recipe), bare):
        code, answer = ask(capsys, *words, "--out", "again")
        assert code == 0
        assert (folder / "again" / "model.onnx").read_bytes() == made
        assert len(answer["result"]["report"]["tried"]) == 2


def test_a_second_run_takes_what_it_can_from_the_first(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another budget nothing is calibrated again; --no-cache keeps nothing."""
    assert ask(capsys, *WORDS)[0] == 0
    assert (folder / "out" / CACHE_FOLDER).is_dir()

    def refuse(*_: object) -> None:
        pytest.fail("it was calibrated again")

    with monkeypatch.context() as patch:
        patch.setattr(Quantize, "measure", refuse)
        assert ask(capsys, *WORDS, "--size-bytes", "100000")[0] == 0
    assert ask(capsys, *WORDS, "--out", "bare", "--no-cache")[0] == 0
    assert not (folder / "bare" / CACHE_FOLDER).exists()
    code, answer = ask(capsys, *WORDS, "--cache", "kept", "--no-cache")
    assert code == UsageError.exit_code
    assert "--no-cache" in answer["error"]["what"]


@pytest.mark.usefixtures("folder")
def test_a_runtime_that_is_not_installed_is_not_tried(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says how to install it."""
    missing = {"openvino": "not tried: pip install 'skerry[openvino]'"}
    monkeypatch.setattr(module, "other_runtimes", lambda _: ((), missing))
    code, answer = ask(capsys, *WORDS)
    assert code == 0
    tried = answer["result"]["report"]["tried"]
    assert tried[-1]["note"] == missing["openvino"]
    assert tried[-1]["accuracy"] is None


def test_a_version_is_made_like_the_one_before(folder: Path, capsys: Capture) -> None:
    """The report shows what each way costs; the model is the smallest that holds."""
    assert ask(capsys, *WORDS)[0] == 0
    like = ("--like", "out/model.onnx", "--recipe", "out/recipe.toml", "--out", "next")
    code, answer = ask(capsys, *WORDS, *like)
    assert code == 0
    report = answer["result"]["report"]
    assert report["alike"][0]["name"] == "its own scales"
    assert sum(row["chosen"] for row in report["alike"]) == 1
    assert any("The delta from out/model.onnx has" in one for one in report["notes"])
    assert "Like the version before" in (folder / "next" / "report.html").read_text()


def test_a_version_before_that_is_not_there(folder: Path, capsys: Capture) -> None:
    """It is told before anything is done."""
    code, answer = ask(capsys, *WORDS, "--like", "gone.onnx")
    assert code == UsageError.exit_code
    assert "gone.onnx" in answer["error"]["what"]
    assert not (folder / "out").exists() or not list((folder / "out").glob("*.onnx"))
