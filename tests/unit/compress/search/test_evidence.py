from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.search import evidence
from skerry.compress.search.candidates import recipe_of
from skerry.compress.search.choose import choose
from skerry.compress.search.evidence import Compressed, apply_and_prove, compress
from skerry.compress.search.request import Search
from skerry.compress.search.scoring import LabelledScorer, Seen
from skerry.core.budget import Budget
from skerry.core.errors import DataError, ModelError, UsageError
from skerry.core.seams import Runtime
from skerry.graph import read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import Scores
from skerry.tasks.tally import Quotient

FixLatency = Callable[[dict[str, float]], None]
ANY_LOSS = Budget(accuracy_drop=2.0)
NO_LOSS = Budget(accuracy_drop=-1.0)


@pytest.fixture
def compressed(workplace: Any, runtime: Runtime) -> Callable[..., Compressed]:
    """Compress the small classifier."""

    def run(**changes: Any) -> Compressed:
        given = {
            "calibration": workplace.calibration,
            "selection": workplace.selection,
            "report": workplace.report,
            "task": workplace.task,
            "runtime": runtime,
            "budget": ANY_LOSS,
        }
        return compress(workplace.model, **(given | changes))

    return run


@pytest.mark.parametrize("fastest", ["0", "1", "2"])
def test_the_recipe_gives_the_same_bytes(
    fastest: str,
    compressed: Callable[..., Compressed],
    workplace: Any,
    runtime: Runtime,
    fixed_latency: FixLatency,
) -> None:
    """What the report's recipe makes of the source is the model, byte for byte."""
    fixed_latency({fastest: 0.5})
    done = compressed()
    (step,) = done.report.recipe.steps
    graph = Quantize(**step.params).apply(
        read_graph(workplace.model.path),
        StepContext(calibration=workplace.calibration, runtime=runtime),
    )
    content = done.graph.to_bytes()
    assert graph.to_bytes() == content
    assert done.report.sha256[1] == hashlib.sha256(content).hexdigest()
    assert done.report.size_bytes.after == len(content)


def test_two_runs_give_the_same_bytes(
    compressed: Callable[..., Compressed], fixed_latency: FixLatency
) -> None:
    """Once times are given nothing depends on chance, and all scores are the same."""
    fixed_latency({"1": 0.5})
    one = compressed()
    fixed_latency({"1": 0.5})
    other = compressed()
    assert one.graph.to_bytes() == other.graph.to_bytes()
    assert one.report.tried == other.report.tried
    assert one.report.accuracy == other.report.accuracy


def test_the_search_never_looks_at_the_report_half(
    compressed: Callable[..., Compressed],
    workplace: Any,
    runtime: Runtime,
    fixed_latency: FixLatency,
) -> None:
    """The report half is gone through twice: for the source and for the result."""
    fixed_latency({})
    choose(
        workplace.model,
        workplace.graph,
        Search(
            calibration=workplace.calibration,
            selection=workplace.selection,
            task=workplace.task,
            runtime=runtime,
            budget=NO_LOSS,
        ),
        workplace.folder,
    )
    assert workplace.report.passes == []
    compressed()
    assert workplace.report.passes == [10, 10]


def test_labels_of_calibration_are_not_looked_at(
    compressed: Callable[..., Compressed], workplace: Any, fixed_latency: FixLatency
) -> None:
    """Calibration samples without labels give the same model."""
    fixed_latency({"1": 0.5})
    bare = tuple(replace(one, label=None) for one in workplace.calibration.samples)
    without = compressed(calibration=replace(workplace.calibration, samples=bare))
    fixed_latency({"1": 0.5})
    assert without.graph.to_bytes() == compressed().graph.to_bytes()


def test_the_report_says_what_was_measured(
    compressed: Callable[..., Compressed], workplace: Any, fixed_latency: FixLatency
) -> None:
    """Figures before and after, a row a node, everything tried, nothing breached."""
    fixed_latency({"1": 0.5, "before": 4.0, "after": 1.0})
    done = compressed()
    report = done.report
    assert report.model == "net.onnx"
    assert report.sha256[0] == workplace.model.sha256
    assert report.breaches == ()
    assert report.accuracy is not None
    assert report.accuracy.n == 10
    assert report.accuracy.before == 1
    assert report.accuracy.after == done.after.value
    assert report.latency_ms is not None
    assert (report.latency_ms.ratio, report.latency_ms.noise) == (0.25, 0)
    assert report.memory_bytes is not None
    assert [row.name for row in report.layers] == [
        "a",
        "ra",
        "b",
        "rb",
        "c",
        "d",
        "p",
        "y",
    ]
    assert {row.dtype for row in report.layers[:-1]} == {"int8"}
    assert report.layers[0].macs == 8 * 8 * 16
    assert report.layers[0].weight_bytes == 8 * 8 * 4
    assert any(row.latency_ms for row in report.layers)
    assert len(report.tried) == 6
    (note,) = report.notes
    assert note.startswith("8 calibration samples were given; ranges still move by")


def test_the_source_comes_back_where_nothing_holds(
    compressed: Callable[..., Compressed], workplace: Any, fixed_latency: FixLatency
) -> None:
    """The source's graph, an empty recipe, and a note that says so."""
    fixed_latency({})
    done = compressed(budget=NO_LOSS)
    assert done.choice.chosen is None
    assert done.graph.to_bytes() == workplace.graph.to_bytes()
    assert done.report.recipe.steps == ()
    nothing, _, closest = done.report.notes
    assert nothing == (
        "Nothing that was tried holds the budget: the source model is returned."
    )
    assert closest.startswith("What came closest is")
    assert done.report.tried[0].chosen
    assert {row.dtype for row in done.report.layers} == {"float32"}
    assert {row.error is None for row in done.report.layers} == {True, False}
    assert [breach.limit for breach in done.report.breaches] == ["accuracy_drop"]


def test_a_budget_that_only_a_float_model_misses(
    compressed: Callable[..., Compressed], fixed_latency: FixLatency
) -> None:
    """Latency, memory and energy are checked at the end, each as a breach."""
    fixed_latency({"1": 0.5, "after": 3.0})
    done = compressed(
        budget=Budget(latency_ms=2.0, memory_bytes=1, energy_mj=5, size_bytes=10**6)
    )
    limits = [breach.limit for breach in done.report.breaches]
    assert limits == ["latency_ms", "memory_bytes", "energy_mj"]
    assert done.report.breaches[0].measured == 3.0
    assert done.report.breaches[2].measured is None


def test_what_turns_out_to_be_slower_is_not_returned(
    compressed: Callable[..., Compressed], workplace: Any, fixed_latency: FixLatency
) -> None:
    """The last look is the longest, and counts: the source comes back, with a note."""
    fixed_latency({"after": 1.5})
    done = compressed()
    assert done.choice.chosen is None
    assert done.graph.to_bytes() == workplace.graph.to_bytes()
    assert "slower than the source in the last" in " ".join(
        one.refusal for one in done.choice.candidates
    )


def test_a_slower_model_that_was_asked_for_is_said_to_be_slower(
    workplace: Any, runtime: Runtime, fixed_latency: FixLatency
) -> None:
    """Whoever asks for size is told how much time that costs, and on what."""
    fixed_latency({"after": 1.5})
    search = Search(
        calibration=workplace.calibration,
        selection=workplace.selection,
        task=workplace.task,
        runtime=runtime,
        budget=ANY_LOSS,
    )
    recipe = recipe_of(Quantize())
    done = apply_and_prove(workplace.model, recipe, search, report=workplace.report)
    notes = " ".join(done.report.notes)
    assert "slower: 1.50 × the source's time on onnxruntime" in notes
    assert "nothing was searched for" in notes
    assert done.report.recipe == recipe


def test_without_labels_nothing_is_scored(
    compressed: Callable[..., Compressed], fixed_latency: FixLatency
) -> None:
    """No accuracy, no limit of it, and an error for whoever asks for scores."""
    fixed_latency({})
    done = compressed(task=None, report=None)
    assert done.report.accuracy is None
    assert done.report.budget.accuracy_drop is None
    assert done.report.breaches == ()
    with pytest.raises(UsageError, match="nothing was scored"):
        _ = done.before


def test_few_calibration_samples_are_noted(
    compressed: Callable[..., Compressed], workplace: Any, fixed_latency: FixLatency
) -> None:
    """Under eight samples a note says that they are few, whatever they show."""
    fixed_latency({})
    few = replace(workplace.calibration, samples=workplace.calibration.samples[:7])
    notes = " ".join(compressed(calibration=few).report.notes)
    assert "7 calibration samples were given" in notes
    assert "give 32 or more" in notes


def test_what_is_kept_float_is_explained(
    compressed: Callable[..., Compressed],
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row kept in float says why, and has the error that put it there."""
    fixed_latency({})

    def score(_self: Any, _model: Any, _place: Any, *, title: str, **_: Any) -> Seen:
        drop = float("kept float" not in title)
        return Seen(accuracy=1 - drop, drop=drop, seen=10, total=10, holds=not drop)

    monkeypatch.setattr(LabelledScorer, "score", score)
    done = compressed()
    (kept,) = done.choice.chosen.step.keep_float
    row = next(row for row in done.report.layers if row.name == kept)
    assert row.dtype == "float32"
    assert row.why == "kept float: quantizing it costs too much accuracy"
    assert row.error == max(done.choice.sensitivity.values())


@pytest.mark.parametrize(("metric", "drop"), [("top1", -0.1), ("character_error", 0.1)])
def test_the_character_error_counts_the_other_way(
    metric: str,
    drop: float,
    compressed: Callable[..., Compressed],
    *,
    workplace: Any,
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rise of an error is a loss in the report's budget, a rise of a share a gain."""
    fixed_latency({})

    def evaluate(_session: object, source: Any, *_: object) -> Scores:
        source.passes.append(len(source))
        rise = 0.1 if len(workplace.report.passes) > 1 else 0.0
        count = len(source)
        return Scores(
            metric=metric,
            tally=Quotient(scores=np.full(count, 0.5 + rise), weights=np.ones(count)),
            value=0.5 + rise,
            predictions=(),
            labels=(),
            names=(),
        )

    monkeypatch.setattr(evidence, "evaluate", evaluate)
    accuracy = compressed().report.accuracy
    assert accuracy is not None
    assert evidence._drop(accuracy) == pytest.approx(drop)


def test_a_change_inside_the_noise_is_noted(
    compressed: Callable[..., Compressed],
    *,
    workplace: Any,
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A note says how many samples would tell it from none."""
    fixed_latency({})

    def evaluate(_session: object, source: Any, *_: object) -> Scores:
        source.passes.append(len(source))
        right = np.arange(100.0) < (50 if len(workplace.report.passes) > 1 else 51)
        tally = Quotient(scores=right.astype(float), weights=np.ones(100))
        return Scores(
            metric="top1",
            tally=tally,
            value=right.mean(),
            predictions=(),
            labels=(),
            names=(),
        )

    monkeypatch.setattr(evidence, "evaluate", evaluate)
    notes = " ".join(compressed(budget=ANY_LOSS).report.notes)
    assert "The change in accuracy is inside the noise: n=100, needs about" in notes


def test_openvino_is_measured_too(
    compressed: Callable[..., Compressed], fixed_latency: FixLatency
) -> None:
    """The other runtime gives a model of the same worth."""
    fixed_latency({"1": 0.5})
    done = compressed(runtime=get_runtime("openvino"))
    assert done.choice.chosen is not None
    assert done.after.value >= 0.8
    assert done.report.latency_ms is not None
    assert done.report.latency_ms.runtime == "openvino"


def test_broken_weights_stop_it_and_nothing_is_written(
    workplace: Any, tmp_path: Path, compressed: Callable[..., Compressed]
) -> None:
    """NaN in a weight: an error with the tensor's name, no file more than before."""
    proto = onnx.load(workplace.model.path)
    tensor = next(one for one in proto.graph.initializer if one.name == "w1")
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, "w1"))
    workplace.model.path.write_bytes(proto.SerializeToString())
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match="w1"):
        compressed()
    assert sorted(tmp_path.rglob("*")) == files


def test_no_samples_are_an_error(
    compressed: Callable[..., Compressed], workplace: Any
) -> None:
    """Each of the three sets must have samples."""
    empty = replace(workplace.calibration, samples=())
    for name in ("calibration", "selection", "report"):
        with pytest.raises(DataError):
            compressed(**{name: empty})
