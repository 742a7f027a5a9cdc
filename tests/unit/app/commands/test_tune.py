from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.compress import recipe_files
from skerry.compress.tune import space
from skerry.compress.tune.store import Store
from skerry.core import plugins
from skerry.core.recipe import Recipe
from tests.commands import SKERRY, Typist, make_parts, wait_for

SEARCH = """
schema = "skerry.search/1"

[[slot]]

[[slot.step]]
step = "quantize"
search.method = ["minmax", "mse"]
search.weight_bits = [8, 4]

[[slot.step]]
step = "half"
"""
WORDS = ("tune", "mlp.onnx", "--evaluation", "rows.npz", "--task", "task.toml")
MORE = ("--budget", "budget.toml", "--search", "search.toml")


@pytest.fixture
def typist(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Typist:
    """Types in a folder with a small model, a budget and a small space."""
    make_parts(tmp_path)
    (tmp_path / "budget.toml").write_text("accuracy_drop = 1.0\n")
    (tmp_path / "search.toml").write_text(SEARCH)
    monkeypatch.chdir(tmp_path)
    return Typist(capsys)


def test_tune_returns_the_best_and_the_front(typist: Typist) -> None:
    """All recipes of a small space are tried, one is written with its evidence."""
    found = typist.ask(*WORDS, *MORE, "--prefer", "size", "--trials", "20")
    assert found["trials"] == 6
    assert found["chosen"] in {one["number"] for one in found["front"]}
    assert {Path(one).name for one in found["files"]} == {
        *("model.onnx", "recipe.toml", "report.json", "report.html")
    }
    assert all(Path(one).exists() for one in found["files"])
    report = json.loads(Path("out/report.json").read_text())
    assert len(report["tried"]) == 7
    assert found["why"] in report["notes"]
    assert {one["number"] for one in found["proved"]} == {
        one["number"] for one in found["front"]
    }


def test_experiments_are_listed_shown_compared_and_resumed(typist: Typist) -> None:
    """What one has tried counts when it goes on."""
    typist.ask(*WORDS, *MORE, "--trials", "2")
    typist.ask(
        *WORDS, *MORE, "--trials", "3", "--store", "experiments/b",
        "--sampler", "random",
    )  # fmt: skip
    rows = typist.ask("experiment", "ls")
    assert [Path(row["store"]).name for row in rows] == ["b", "mlp"]
    shown = typist.ask("experiment", "show", "experiments/mlp")
    assert len(shown["trials"]) == 2
    assert "2 of 2 trials" in typist.see("experiment", "show", "experiments/mlp")
    both = ("experiments/mlp", "experiments/b")
    compared = typist.ask("experiment", "compare", *both)
    assert [row["finished"] for row in compared] == [2, 3]
    assert "room covered" in typist.see("experiment", "compare", *both)
    before = Store(Path("experiments/mlp")).trials()
    found = typist.ask("experiment", "resume", "experiments/mlp", "--trials", "4")
    assert found["trials"] == 4
    assert Store(Path("experiments/mlp")).trials()[:2] == before


def test_a_budget_that_cannot_hold_says_what_came_closest(typist: Typist) -> None:
    """It exits with 21, and the source is what is written."""
    Path("budget.toml").write_text("accuracy_drop = 1.0\nsize_bytes = 10\n")
    found = typist.ask(*WORDS, *MORE, "--trials", "3", code=21)
    assert found["chosen"] is None
    assert any("came closest" in note for note in found["report"]["notes"])
    assert any("size_bytes" in note for note in found["report"]["notes"])


def test_without_labels_outputs_are_compared(typist: Typist) -> None:
    """The distance takes the place of the loss."""
    rows = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    np.savez("plain.npz", x=rows)
    found = typist.ask(
        "tune", "mlp.onnx", "--calibration", "plain.npz", *MORE, "--trials", "3"
    )
    assert found["report"]["accuracy"] is None
    assert found["trials"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trials", "0"), "0 trials"),
        (("--workers", "0"), "0 workers"),
        (("--workers", "9999"), "9999 workers"),
        (("--out", "."), "trials"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    typist: Typist, words: tuple[str, ...], said: str
) -> None:
    """Before anything is done."""
    if words[0] == "--out":
        Path("mlp.onnx").rename("model.onnx")
        error = typist.ask("tune", "model.onnx", *WORDS[2:], *words, code=2)
        assert "would replace" in error["what"]
    else:
        assert said in typist.ask(*WORDS, *MORE, *words, code=2)["what"]
    assert not Path("experiments").exists()


def test_what_is_not_there_is_said(typist: Typist) -> None:
    """A wrong limit, no experiment, one experiment to compare, a changed model."""
    Path("wrong.toml").write_text("accuracy_dorp = 0.1\n")
    error = typist.ask(*WORDS, "--budget", "wrong.toml", code=2)
    assert "accuracy_dorp" in error["what"]
    error = typist.ask(*WORDS, "--target", "stm32h743zi", code=2)
    assert "target" in error["what"] or "this is not it" in error["what"]
    assert "no experiment" in typist.ask("experiment", "show", ".", code=2)["what"]
    assert "no folder" in typist.ask("experiment", "ls", "gone", code=2)["what"]
    typist.ask(*WORDS, *MORE, "--trials", "1")
    one = "experiments/mlp"
    assert "got 1" in typist.ask("experiment", "compare", one, code=2)["what"]
    again = typist.ask(*WORDS, *MORE, "--trials", "1", code=33)
    assert "already" in again["what"]
    Path("mlp.onnx").write_bytes(Path("out/model.onnx").read_bytes())
    error = typist.ask("experiment", "resume", one, code=10)
    assert "not the model" in error["what"]


def test_other_hardware_is_judged_by_its_data_sheets(typist: Typist) -> None:
    """Latency cannot be judged for it; the answer says that nothing was measured."""
    words = (*WORDS, *MORE, "--target", "raspberry-pi-5")
    assert "latency cannot be judged" in typist.ask(*words, code=2)["what"]
    assert not Path("experiments").exists()
    found = typist.ask(*words, "--prefer", "size", "--trials", "2")
    assert any("nothing was measured" in one for one in found["report"]["notes"])
    refused = typist.ask(
        *WORDS, *MORE, "--target", "rv1106", "--prefer", "size", "--trials", "2",
        "--store", "experiments/npu", code=20,
    )  # fmt: skip
    shown = typist.ask("experiment", "show", "experiments/npu")
    assert refused["chosen"] is None
    assert any("No processor runs" in str(one["outcome"]) for one in shown["trials"])


def test_an_experiment_is_no_database(typist: Typist) -> None:
    """A URL would become a folder of a strange name."""
    error = typist.ask(*WORDS, *MORE, "--store", "postgresql://host/db", code=2)
    assert "expected a folder" in error["what"]


def test_a_killed_search_goes_on(typist: Typist) -> None:
    """SIGKILL in the middle; what was tried stays, and the rest is done."""
    del typist
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SKERRY_")}
    words = [*SKERRY, *WORDS, *MORE, "--trials", "6"]
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: any(Path("experiments/mlp").glob("trials/*.json")))
        process.send_signal(signal.SIGKILL)
    before = [one for one in Store(Path("experiments/mlp")).trials() if one.outcome]
    resumed = subprocess.run(
        [*SKERRY, "experiment", "resume", "experiments/mlp", "--trials", "6",
         "--workers", "2", "--json"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(resumed.stdout)["result"]["trials"] == 6
    after = Store(Path("experiments/mlp")).trials()
    assert all(one in after for one in before)
    assert all(one.outcome for one in after)


SETUP = """
from tests.training import toy_training

def setup():
    return print("epoch 1") or toy_training()

def wrong():
    return 1

def broken():
    return 1 / 0
"""


def test_a_training_brings_module_samples_and_steps_that_train(
    typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is exported; a step that trains is made once for all that follow."""
    pytest.importorskip("torch")
    trained: list[Recipe] = []

    def train_recipe(training: Any, recipe: Recipe, **_: object) -> Any:
        trained.append(recipe)
        graph = export_graph(
            training.module,
            training.example,
            inputs=training.inputs,
            outputs=training.outputs,
        )
        return Trained(module=training.module, graph=graph, log=())

    from skerry.compress.train import run
    from skerry.compress.train.export import export_graph
    from skerry.compress.train.run import Trained

    monkeypatch.setattr(run, "train_recipe", train_recipe)
    monkeypatch.setattr(recipe_files, "names", _names)
    monkeypatch.setattr(space, "names", _names)
    monkeypatch.setattr(space, "find", lambda *_: _Shrink)
    space.step_group.cache_clear()
    space.step_defaults.cache_clear()
    Path("train.py").write_text(SETUP)
    Path("search.toml").write_text(TRAINED)
    found = typist.ask("tune", "--train", "train.py:setup", *MORE, "--trials", "4")
    space.step_group.cache_clear()
    space.step_defaults.cache_clear()
    assert found["trials"] == 4
    assert Path("experiments/train/source.onnx").exists()
    assert [one.steps[0].params for one in trained] == [{"ratio": 0.5}]


TRAINED = """
schema = "skerry.search/1"

[[slot]]
optional = false

[[slot.step]]
step = "shrink"
search.ratio = [0.5]

[[slot]]

[[slot.step]]
step = "half"
search.dtype = ["float16", "bfloat16"]

[[slot.step]]
step = "codebook"
search.bits = [8]
"""


class _Shrink:
    """A step that trains, of one parameter."""

    def __init__(self, ratio: float = 0.5, dtype: str = "", bits: int = 8) -> None:
        """Take what all steps of the search file take."""


def _names(group: str) -> list[str]:
    return ["shrink"] if group == plugins.TRAIN_STEPS else plugins.names(group)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("gone.py:setup", "no file gone.py"),
        ("train.py:none", "no function 'none'"),
        ("train.py:wrong", "returned int"),
        ("train.py:broken", "line 11: ZeroDivisionError"),
        ("mlp.onnx:setup", "no Python file"),
    ],
)
def test_faults_of_training_code_are_told_by_their_line(
    typist: Typist, where: str, said: str
) -> None:
    """The user's own line, not ours."""
    pytest.importorskip("torch")
    Path("train.py").write_text(SETUP)
    error = typist.ask("tune", "--train", where, *MORE, code=2)
    assert said in error["what"]


def test_a_training_brings_its_own_samples(typist: Typist) -> None:
    """Others beside it are refused, rather than not looked at."""
    error = typist.ask(*WORDS, "--train", "train.py:setup", code=2)
    assert "rows.npz" in error["what"]
