"""Both models side by side on pictures that a condition spoils."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skerry.compress.search.condition_rows import ConditionCheck, condition_notes
from skerry.core.errors import DataError, UsageError
from skerry.core.model import Model
from skerry.core.report import Accuracy, ConditionRow
from skerry.core.seams import Runtime
from skerry.graph import open_model
from skerry.tasks.metrics import condition_drops
from skerry.tasks.samples import SampleSource, open_samples
from skerry.tasks.task import Task, task_from_table
from tests import models

TASK: dict[str, Any] = {
    "schema": "skerry.task/1",
    "kind": "classification",
    "metric": "top1",
    "labels": ["dim", "bright"],
    "pre": [
        {"step": "resize", "version": 1, "width": 4, "height": 4},
        {"step": "normalize", "version": 1, "scale": 1 / 255},
        {"step": "layout", "version": 1, "order": "CHW"},
    ],
    "post": [{"step": "topk", "version": 1}],
}


def write_model(path: Path, threshold: float) -> Model:
    """Write a net that calls a picture bright above a mean."""
    weights = {
        "slope": np.array([[0], [1]], np.float32).reshape(2, 1, 1, 1),
        "bias": np.array([threshold, 0], np.float32),
    }
    path.write_bytes(
        models.model_bytes(
            """net (float[1, 3, 4, 4] x) => (float[1, 2] y) {
              m = GlobalAveragePool(x) s = ReduceMean<axes = [1]>(m)
              c = Conv(s, slope, bias) y = Flatten(c)
            }""",
            weights,
        )
    )
    return open_model(path)


@pytest.fixture
def source(tmp_path: Path) -> Model:
    """A net that is right on pictures as taken and in the dark."""
    return write_model(tmp_path / "source.onnx", 0.22)


@pytest.fixture
def worse(tmp_path: Path) -> Model:
    """A net that is right on pictures as taken only."""
    return write_model(tmp_path / "worse.onnx", 0.6)


@pytest.fixture
def task() -> Task:
    """Two classes."""
    return task_from_table(TASK, name="task")


@pytest.fixture
def pictures(tmp_path: Path, source: Model, task: Task) -> SampleSource:
    """Ten black and ten bright pictures."""
    for label, level in (("dim", 0), ("bright", 200)):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for index in range(10):
            array = np.full((8, 8, 3), level + index, np.uint8)
            Image.fromarray(array).save(folder / f"{index}.png")
    return open_samples(tmp_path / "pictures", source.inputs, task)


def test_a_loss_in_the_dark_is_seen(
    pictures: SampleSource, source: Model, worse: Model, *, task: Task, runtime: Runtime
) -> None:
    """The row has both values on the same pictures, and the refusal names it."""
    check = ConditionCheck(source, pictures, task, runtime, ["dark", "noise"])
    dark, noise = check.rows(worse)
    assert (dark.condition, dark.n) == ("dark", 20)
    assert (dark.before, dark.after, dark.paired_delta) == (1.0, 0.5, -0.5)
    assert noise.paired_delta == 0
    assert condition_drops([dark, noise], "top1") == {
        "conditions.dark": 0.5,
        "conditions.noise": 0.0,
    }
    limits = {"conditions.dark": 0.1, "conditions.noise": 0.1}
    assert check.refusal(worse, limits) == "refused: loses too much under dark"
    assert check.refusal(source, limits) == ""


def test_without_conditions_nothing_is_scored(
    pictures: SampleSource, source: Model, task: Task, runtime: Runtime
) -> None:
    """No rows, no refusal."""
    check = ConditionCheck(source, pictures, task, runtime, [])
    assert check.rows(source) == ()
    assert check.refusal(source, {}) == ""


def test_arrays_cannot_be_spoilt(
    workplace: Any, runtime: Runtime, task: Task, pictures: SampleSource
) -> None:
    """Samples that are not pictures are an error, and so is an unknown condition."""
    with pytest.raises(DataError, match="spoils pictures"):
        ConditionCheck(
            workplace.model, workplace.selection, workplace.task, runtime, ["dark"]
        )
    with pytest.raises(UsageError):
        ConditionCheck(workplace.model, pictures, task, runtime, ["drak"])


def test_it_is_said_where_only_spoilt_pictures_suffer() -> None:
    """Beyond the noise in the dark, inside it as taken."""

    def accuracy(low: float, high: float) -> Accuracy:
        return Accuracy(
            metric="top1",
            before=0.9,
            after=0.9,
            n=9,
            paired_delta=(low + high) / 2,
            ci95=(low, high),
        )

    row = ConditionRow(
        condition="dark",
        before=0.8,
        after=0.7,
        n=9,
        paired_delta=-0.1,
        ci95=(-0.15, -0.05),
    )
    (note,) = condition_notes([row], accuracy(-0.01, 0.01))
    assert note.startswith("Under dark the compressed model loses more than the noise")
    assert condition_notes([row], accuracy(-0.1, -0.05)) == []
    assert condition_notes([], accuracy(-0.01, 0.01)) == []
