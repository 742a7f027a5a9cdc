from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.compress.search.request import Search
from skerry.compress.search.sample_notes import declared_ends, sample_notes
from skerry.core.seams import Runtime
from skerry.graph import open_model
from skerry.tasks.samples import SampleSource, open_samples
from skerry.tasks.steps import Layout, Normalize, Resize, TopK
from skerry.tasks.task import Task, TaskKind
from tests import models

TASK = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=("cat", "dog"),
    pre=(
        Resize(height=16, width=16),
        Normalize(mean=(0.5,) * 3, std=(0.5,) * 3, scale=1 / 255),
        Layout(),
    ),
    post=(TopK(k=1),),
)


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    """Open pictures as arrays of some scale."""
    path = tmp_path / "net.onnx"
    path.write_bytes(models.conv_net())
    pictures = np.random.default_rng(0).uniform(-1, 1, (9, 3, 16, 16))

    def opening(name: str, scale: float, shift: float = 0.0) -> SampleSource:
        arrays = (pictures * scale + shift).astype(np.float32)
        np.savez(tmp_path / name, x=arrays, label=np.arange(9) % 2)
        return open_samples(tmp_path / name, open_model(path).inputs, TASK)

    return opening


def told(runtime: Runtime, *samples: SampleSource, labels: Any = (0, 1)) -> str:
    """What is said of calibration and selection samples."""
    search = Search(
        calibration=samples[0], selection=samples[-1], task=TASK, runtime=runtime
    )
    return " ".join(sample_notes(search, labels))


def test_the_ends_that_a_task_declares() -> None:
    """Black and white go through its steps; without steps there are none."""
    assert declared_ends(TASK) == pytest.approx((-1, 1))
    assert declared_ends(replace(TASK, pre=())) is None


def test_arrays_as_the_task_makes_them(opened: Any, runtime: Runtime) -> None:
    """Nothing is said of what is in order."""
    good = opened("good.npz", 1.0)
    assert told(runtime, good, good) == ""
    assert told(runtime, good, opened("other.npz", 0.8)) == ""


@pytest.mark.parametrize(("scale", "shift"), [(127.5, 127.5), (0.004, 0.0)])
def test_arrays_of_another_scale_are_told(
    scale: float, shift: float, opened: Any, runtime: Runtime
) -> None:
    """Pixels that nobody normalized, or normalized twice."""
    wrong = opened("wrong.npz", scale, shift)
    note = told(runtime, wrong, wrong)
    assert note.startswith("The calibration samples hold x from")
    assert "the pre steps of the task give -1 to 1" in note
    both = told(runtime, wrong, opened("good.npz", 1.0))
    assert "prepare both alike" in both


def test_one_class_alone_is_told(opened: Any, runtime: Runtime) -> None:
    """A constant answer would be right on all of them."""
    good = opened("good.npz", 1.0)
    note = told(runtime, good, good, labels=(1, 1, 1))
    assert note.startswith("All 3 samples of the report are of the class 'dog'")
