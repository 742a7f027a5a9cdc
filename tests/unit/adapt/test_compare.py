"""Several runtimes on one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.compare import Comparison, compare
from skerry.core.clock import FakeClock
from skerry.core.errors import DataError, MissingExtraError, RuntimeFailure, UsageError
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.graph import open_model
from skerry.runtimes.null import NullRuntime, NullSession
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind
from tests.models import mlp

TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(),))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A net from x [1, 8] to y [1, 3]."""
    path = tmp_path / "mlp.onnx"
    path.write_bytes(mlp())
    return open_model(path)


def samples(labels: Sequence[int | None]) -> MemorySource:
    """One sample a label; its index is its first number."""
    rows = [np.full((1, 8), index, np.float32) for index in range(len(labels))]
    return MemorySource(
        samples=tuple(
            Sample(inputs={"x": row}, label=label, name=f"s{index}")
            for index, (row, label) in enumerate(zip(rows, labels, strict=True))
        )
    )


def answers(*rows: Sequence[float]) -> NullRuntime:
    """A runtime that answers the row that the sample's first number names."""

    def answer(inputs: Tensors) -> dict[str, Array]:
        return {"y": np.array([rows[int(inputs["x"][0, 0])]], np.float32)}

    return NullRuntime(answer)


class Timed(NullRuntime):
    """A runtime that takes its time, on a clock moved by hand."""

    def __init__(self, clock: FakeClock, load_s: float, run_s: float) -> None:
        self._clock = clock
        self._load_s = load_s

        def answer(inputs: Tensors) -> dict[str, Array]:
            del inputs
            clock.advance(wall_s=run_s, cpu_s=run_s / 2)
            return {"y": np.zeros((1, 3), np.float32)}

        super().__init__(answer)

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        """Load, after a while."""
        self._clock.advance(wall_s=self._load_s)
        return super().load(model, options)


class Refusing(NullRuntime):
    """A runtime that raises when it loads."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        """Refuse."""
        del model, options
        raise self._error


def failing_at(index: int) -> NullRuntime:
    """A runtime that runs no sample from the given one on."""

    def answer(inputs: Tensors) -> dict[str, Array]:
        if inputs["x"][0, 0] >= index:
            raise RuntimeFailure("it broke", hint="Mend it.")
        return {"y": np.zeros((1, 3), np.float32)}

    return NullRuntime(answer)


def test_outputs_are_compared_with_those_of_the_first(model: Model) -> None:
    """Differences, argmax and predictions are the second's against the first's."""
    found = compare(
        model,
        [
            answers([1, 0, 0], [0, 2, 0]),
            answers([1, 0, 0.5], [0, 0, 2]),
        ],
        samples([0, 1]),
        task=TASK,
        repeats=1,
    )
    first, second = found.rows
    assert first.agreement is None
    assert first.ratio is None
    assert first.score == 1.0
    agreement = second.agreement
    assert agreement is not None
    assert agreement.max_abs_diff == 2.0
    assert agreement.relative_squared_error == pytest.approx(8 / 4)
    assert agreement.same_argmax == 0.5
    assert (agreement.same_predictions, agreement.samples) == (1, 2)
    assert second.score == 0.5
    assert (found.samples, found.metric, found.model) == (2, "top1", "mlp.onnx")


def test_times_are_read_from_the_clock_in_turns(model: Model) -> None:
    """Load time, latency, CPU time and the ratio to the first runtime."""
    clock = FakeClock()
    found = compare(
        model,
        [Timed(clock, 0.5, 0.010), Timed(clock, 0.25, 0.005)],
        samples([None]),
        repeats=7,
        clock=clock,
    )
    slow, fast = found.rows
    assert (slow.load_ms, fast.load_ms) == (500, 250)
    assert slow.latency is not None
    assert slow.latency.median_ms == pytest.approx(10)
    assert slow.latency.median_cpu_ms == pytest.approx(5)
    assert len(slow.latency.wall_ms) == found.repeats == 7
    assert fast.ratio is not None
    assert fast.ratio.median == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeFailure("cannot load mlp.onnx", hint="Mend it."), "cannot load"),
        (MissingExtraError("thing", extra="thing"), "pip install 'skerry[thing]'"),
    ],
)
def test_a_runtime_that_refuses_is_a_row_with_its_reason(
    model: Model, error: Exception, reason: str
) -> None:
    """It is neither left out nor the end of the comparison; the next one leads."""
    found = compare(
        model,
        [Refusing(error), NullRuntime(), NullRuntime()],
        samples([None]),
        repeats=1,
    )
    refused, lead, other = found.rows
    assert reason in refused.refusal
    assert (refused.latency, refused.load_ms, refused.agreement) == (None, None, None)
    assert lead.refusal == ""
    assert lead.agreement is None
    assert other.agreement is not None
    assert other.agreement.same_argmax == 1.0


def test_a_runtime_that_fails_midway_is_no_reference(model: Model) -> None:
    """All samples are compared anew without it."""
    found = compare(
        model,
        [failing_at(1), answers([1, 0, 0], [0, 1, 0]), answers([1, 0, 0], [0, 1, 0])],
        samples([None, None]),
        repeats=1,
    )
    assert found.rows[0].refusal == "it broke. Mend it."
    assert found.rows[0].latency is None
    agreement = found.rows[2].agreement
    assert agreement is not None
    assert (agreement.samples, agreement.max_abs_diff) == (2, 0.0)


def test_nothing_that_runs_is_still_an_answer(model: Model) -> None:
    """With every runtime refusing there are rows, and no times."""
    error = RuntimeFailure("no", hint="Mend it.")
    found = compare(model, [Refusing(error)], samples([None]), repeats=1)
    assert [row.refusal for row in found.rows] == ["no. Mend it."]


@pytest.mark.parametrize(
    "other", [{"z": [0.0]}, {"y": [0.0]}, {"y": [np.nan] * 3}], ids=str
)
def test_outputs_that_cannot_be_compared_do_not_agree(
    model: Model, other: dict[str, list[float]]
) -> None:
    """A missing output, another shape and NaN are infinitely far away."""
    odd = {name: np.array([row], np.float32) for name, row in other.items()}
    found = compare(
        model,
        [NullRuntime(), NullRuntime(lambda _: odd)],
        samples([None]),
        repeats=1,
    )
    agreement = found.rows[1].agreement
    assert agreement is not None
    assert agreement.max_abs_diff == np.inf
    assert agreement.relative_squared_error == np.inf


def test_without_labels_nothing_is_scored(model: Model) -> None:
    """A metric over some of the samples would be no metric of the model."""
    found = compare(model, [NullRuntime()], samples([0, None]), task=TASK, repeats=1)
    assert found.rows[0].score is None


def test_progress_is_told(model: Model) -> None:
    """Each runtime loaded and each sample compared is reported."""
    told: list[tuple[str, int, int]] = []
    compare(
        model,
        [NullRuntime(), NullRuntime()],
        samples([None]),
        repeats=1,
        progress=lambda *step: told.append(step),
    )
    assert told == [("load", 1, 2), ("load", 2, 2), ("compare", 1, 1)]


def test_wrong_requests_are_errors_and_not_rows(model: Model) -> None:
    """An unknown name, no samples, and samples that fit no runtime are the user's."""
    with pytest.raises(UsageError, match="no runtime called 'onyx'"):
        compare(model, ["onyx"], samples([None]))
    with pytest.raises(DataError, match="no samples"):
        compare(model, [NullRuntime()], samples([]))
    odd = Sample(inputs={"x": np.zeros((1, 9), np.float32)}, label=None, name="odd")
    with pytest.raises(DataError, match="shape"):
        compare(model, [NullRuntime()], MemorySource(samples=(odd,)))


def test_real_runtimes_agree_on_a_small_model(model: Model) -> None:
    """By name, onnxruntime and OpenVINO give the same numbers."""
    found: Comparison = compare(
        model, ["onnxruntime", "openvino"], samples([None, None]), repeats=2
    )
    for row in found.rows:
        assert row.refusal == ""
        assert row.version
    agreement = found.rows[1].agreement
    assert agreement is not None
    assert agreement.same_argmax == 1.0
    assert agreement.relative_squared_error < 1e-4
