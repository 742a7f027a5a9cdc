from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from skerry.compress.search import evidence, trials
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import evaluate
from skerry.tasks.measure import Latency, Ratio
from skerry.tasks.samples import open_samples
from skerry.tasks.steps import Resize
from skerry.tasks.task import load_task, task_to_toml
from tests import models, pictures
from tests.commands import Typist

SEARCH = """
schema = "skerry.search/1"

[[slot]]
optional = false

[[slot.step]]
step = "resize"
multiple = 2
search.scale = [0.5, 1.0]

[[slot]]

[[slot.step]]
step = "quantize"
search.method = ["minmax"]
"""
BUDGET = """
accuracy_drop = 1.0
memory_bytes = 30000
conditions = { dark = 1.0 }
"""
RECIPE = """
schema = "skerry.recipe/1"

[[step]]
step = "resize"
scale = 0.5
multiple = 2

[[step]]
step = "quantize"
"""
WORDS = ("net.onnx", "--evaluation", "pictures", "--task", "task.toml")


@pytest.fixture
def typist(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Typist:
    """Types in a folder with a small convolutional net and pictures."""
    (tmp_path / "net.onnx").write_bytes(models.conv_net(size=32))
    pictures.make_folder(tmp_path / "pictures", count=16)
    (tmp_path / "task.toml").write_text(task_to_toml(pictures.TASK))
    (tmp_path / "budget.toml").write_text(BUDGET)
    (tmp_path / "search.toml").write_text(SEARCH)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return Typist(capsys)


def accuracy(folder: Path) -> float:
    """What a written model scores on all pictures, by the task beside it."""
    model, task = open_model(folder / "model.onnx"), load_task(folder / "task.toml")
    samples = open_samples(Path("pictures"), model.inputs, task)
    with closing(get_runtime("onnxruntime").load(model, LoadOptions())) as session:
        return evaluate(session, samples, task).value


def test_a_search_times_and_scores_at_the_other_size(typist: Typist) -> None:
    """Only half the size keeps within the memory; its task is written beside it."""
    found = typist.ask(
        "tune", *WORDS, "--budget", "budget.toml", "--search", "search.toml",
        "--prefer", "size", "--trials", "4",
    )  # fmt: skip
    assert found["trials"] == 4
    scales = [one["recipe"]["steps"][0]["params"]["scale"] for one in found["front"]]
    assert scales
    assert set(scales) == {0.5}
    assert open_model(Path("out/model.onnx")).inputs[0].shape == (1, 3, 16, 16)
    report = found["report"]
    assert report["memory_bytes"]["after"] < report["memory_bytes"]["before"] / 3
    assert any("1 × 3 × 16 × 16 instead of" in note for note in report["notes"])
    assert [one["condition"] for one in report["conditions"]] == ["dark"]
    assert 0 <= accuracy(Path("out")) <= 1


def test_a_recipe_with_a_resize_is_proved_at_its_size(typist: Typist) -> None:
    """The accuracy reported is that of the files that were written."""
    found = typist.ask(
        "compress", *WORDS, "--recipe", "recipe.toml", "--report", "pictures",
        "--accuracy-drop", "1", "--out", "small",
    )  # fmt: skip
    assert found["report"]["accuracy"]["after"] == accuracy(Path("small"))
    assert "small/task.toml" in found["files"]
    assert found["report"]["layers"]


def test_what_is_slower_in_the_last_measurement_is_not_returned(
    typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is, with the rows of its own operators; and the answer says why."""

    def measure(
        subjects: Mapping[str, Callable[[], object]], *, repeats: int
    ) -> dict[str, Latency]:
        times = {name: (1.0 + (name == "after"),) * repeats for name in subjects}
        return {name: Latency(wall_ms=ms, cpu_ms=ms) for name, ms in times.items()}

    half = Ratio(median=0.5, low=0.5, high=0.5)
    monkeypatch.setattr(trials, "time_models", lambda *_: {"candidate": half})
    monkeypatch.setattr(evidence, "measure_latency", measure)
    Path("budget.toml").write_text("accuracy_drop = 1.0\n")
    Path("search.toml").write_text(SEARCH.replace("[0.5, 1.0]", "[0.5]"))
    found = typist.ask(
        "tune", *WORDS, "--budget", "budget.toml", "--search", "search.toml",
        "--trials", "1",
    )  # fmt: skip
    assert found["chosen"] is None
    assert "slower than the source in the last measurement" in found["why"]
    assert "out/task.toml" not in found["files"]
    assert found["report"]["layers"][0]["macs"] == 55296
    assert found["proved"][0]["drop"] is not None


def test_without_labels_outputs_are_compared_over_the_two_sizes(
    typist: Typist,
) -> None:
    """The same pictures, each model at its own size."""
    for number, path in enumerate(sorted(Path("pictures").rglob("*.png"))):
        path.rename(f"{number}.png")
    for folder in Path("pictures").iterdir():
        folder.rmdir()
    for path in Path().glob("*.png"):
        path.rename(Path("pictures") / path.name)
    Path("budget.toml").write_text("memory_bytes = 30000\n")
    found = typist.ask(
        "tune", "net.onnx", "--calibration", "pictures", "--task", "task.toml",
        "--budget", "budget.toml", "--search", "search.toml", "--trials", "4",
    )  # fmt: skip
    assert found["report"]["accuracy"] is None
    assert {one["outcome"]["seen"] for one in found["front"]} == {16}
    assert load_task(Path("out/task.toml")).pre[0] == Resize(height=16, width=16)
