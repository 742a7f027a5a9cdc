from __future__ import annotations

from pathlib import Path

import pytest

from skerry.compress.recipe_files import load_recipe
from tests.commands import Typist, make_parts

pytest.importorskip("torch")

SETUP = """
from tests.training import toy_training

def setup():
    return toy_training(n=64)

def failing():
    return toy_training(n=64, loss=lambda outputs, labels: outputs.wrong)
"""
RECIPE = """
schema = "skerry.recipe/1"

[[step]]
step = "prune"
ratio = 0.3
rounds = 1
epochs = {epochs}
multiple = 1

[[step]]
step = "quantize"
"""
WORDS = ("compress", "--recipe", "recipe.toml", "--accuracy-drop", "1")


@pytest.fixture
def typist(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Typist:
    """Types in a folder with training code and a recipe that trains."""
    make_parts(tmp_path)
    (tmp_path / "train.py").write_text(SETUP)
    (tmp_path / "recipe.toml").write_text(RECIPE.format(epochs=0))
    monkeypatch.chdir(tmp_path)
    return Typist(capsys)


def test_a_recipe_that_trains_is_applied_and_proved(typist: Typist) -> None:
    """What tune has found can be made again; its operators are the pruned ones."""
    found = typist.ask(*WORDS, "--train", "train.py:setup")
    report = found["report"]
    assert report["accuracy"]["n"] == 64
    assert report["memory_bytes"]["after"] < report["memory_bytes"]["before"]
    assert Path("out/source.onnx").exists()
    assert load_recipe(Path("out/recipe.toml")) == load_recipe(Path("recipe.toml"))
    assert any(row["dtype"].startswith(("int8", "uint8")) for row in report["layers"])


def test_without_training_code_nothing_trains(typist: Typist) -> None:
    """What is missing, and what brings its own, is said."""
    error = typist.ask(
        *WORDS, "mlp.onnx", "--evaluation", "rows.npz", "--task", "task.toml", code=2
    )
    assert "nothing to train with" in error["what"]
    error = typist.ask("compress", "--train", "train.py:setup", code=2)
    assert "without --recipe" in error["what"]
    error = typist.ask(
        *WORDS, "--train", "train.py:setup", "--evaluation", "rows.npz", code=2
    )
    assert "rows.npz" in error["what"]


def test_training_code_that_fails_is_told_by_its_line(typist: Typist) -> None:
    """Its own loss raises in the middle of a step: no traceback of ours."""
    Path("recipe.toml").write_text(RECIPE.format(epochs=1))
    error = typist.ask(*WORDS, "--train", "train.py:failing", code=10)
    assert "train.py, line 8: AttributeError" in error["what"]
