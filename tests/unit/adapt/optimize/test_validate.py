"""Whether a deployment's answers hold: by labels, or beside those of the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.optimize import Deployment, Validator
from skerry.core.errors import DataError
from skerry.core.model import Model
from skerry.core.seams import Tensors
from skerry.graph import open_model
from skerry.runtimes.null import NullRuntime
from skerry.tasks.evaluate import MOST_COMPARED
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind
from tests.models import model_bytes

TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A signature; the runtimes here answer by themselves."""
    path = tmp_path / "net.onnx"
    path.write_bytes(
        model_bytes("net (float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }")
    )
    return open_model(path)


def deployed(model: Model, *, wrong: int = 0, shift: float = 0.0) -> Deployment:
    """One that is wrong on the first samples, or whose outputs are moved."""

    def answer(inputs: Tensors) -> dict[str, np.ndarray]:
        scores = np.array([[1.0, 0.0]], np.float32) + np.float32(shift)
        if inputs["x"][0, 0] < wrong:
            scores = scores[:, ::-1].copy()
        return {"y": scores}

    return Deployment(model=model, runtime=NullRuntime(answer))


def samples(number: int, *, label: int | None = 0) -> MemorySource:
    """Each holds its own number."""
    return MemorySource(
        samples=tuple(
            Sample(
                inputs={"x": np.full((1, 2), index, np.float32)},
                label=label,
                name=str(index),
            )
            for index in range(number)
        )
    )


def test_a_metric_may_fall_as_far_as_the_limit(model: Model) -> None:
    """And no further; what is lost is told with its interval."""
    judge = Validator(deployed(model), samples(100), TASK, limit=0.03)
    assert (judge.metric, judge.start_score) == ("top1", 1.0)
    well, ill = judge(deployed(model, wrong=3)), judge(deployed(model, wrong=4))
    assert (well.holds, ill.holds) == (True, False)
    assert ill.loss == pytest.approx(0.04)
    assert ill.delta is not None
    assert "top1 96.00 after 100.00" in ill.said


def test_without_labels_outputs_are_compared(model: Model) -> None:
    """By their relative squared error, on no more samples than tell."""
    many = samples(MOST_COMPARED + 50, label=None)
    judge = Validator(deployed(model), many, None, limit=0.021)
    assert (judge.metric, judge.start_score) == ("", None)
    moved = judge(deployed(model, shift=0.1))
    assert moved.holds
    assert moved.loss == pytest.approx(0.02)
    assert moved.delta is None
    assert not judge(deployed(model, shift=0.2)).holds


def test_what_is_not_finite_never_holds(model: Model) -> None:
    """However loose the limit is."""
    judge = Validator(deployed(model), samples(4, label=None), None, limit=1e9)
    assert not judge(deployed(model, shift=float("nan"))).holds


def test_nothing_to_compare_on_is_refused(model: Model) -> None:
    """No verdict without a sample."""
    judge = Validator(deployed(model), samples(0), None, limit=1)
    with pytest.raises(DataError, match="no samples"):
        judge(deployed(model))
