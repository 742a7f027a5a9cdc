"""A report judged by a budget, and against the base's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skerry.app.verdict import judge
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.report import Accuracy, Report
from tests.reports import BARE, FULL

LOSS = Budget(accuracy_drop=0.005)


def scored(report: Report, **changes: object) -> Report:
    """The report with another accuracy."""
    assert report.accuracy
    return replace(report, accuracy=replace(report.accuracy, **changes))


def timed(report: Report, **changes: object) -> Report:
    """The report with another latency."""
    assert report.latency_ms
    return replace(report, latency_ms=replace(report.latency_ms, **changes))


BASE = scored(
    timed(FULL, ratio=0.61, after=8.7),
    after=0.956,
    paired_delta=0.003,
    ci95=(-0.001, 0.007),
)


def test_each_limit_is_held_to_its_figure() -> None:
    """The report's own breaches are not believed: the figures are."""
    lying = replace(FULL, breaches=())
    found = judge(lying, lying.budget)
    assert [breach.limit for breach in found.breaches] == ["size_bytes"]
    holds = {row.name: row.holds for row in found.rows}
    assert holds == {"lines right": True, "size": False, "latency": None} | {
        "memory": None
    }
    assert judge(FULL, Budget()).breaches == ()
    assert "budget" not in found.summary


def test_what_was_not_measured_does_not_hold() -> None:
    """A limit without a figure is a row, and a breach."""
    demanded = Budget(accuracy_drop=0.1, latency_ms=5, memory_bytes=9, energy_mj=2)
    found = judge(BARE, demanded)
    assert [breach.measured for breach in found.breaches] == [None] * 4
    assert {row.name for row in found.rows if row.holds is False} == {
        *("accuracy", "latency", "memory", "energy")
    }


def test_the_loss_is_limited_against_the_base_too() -> None:
    """Half a point under the source may be more than that under the base."""
    found = judge(FULL, LOSS, against=BASE)
    assert found.breaches == ()
    assert [breach.limit for breach in found.breaches_against] == ["accuracy_drop"]
    assert found.rows[0].holds is False
    assert found.rows[0].other == 0.956
    wider = judge(FULL, Budget(accuracy_drop=0.01), against=BASE)
    assert wider.breaches_against == ()


def test_noise_is_told_from_a_difference() -> None:
    """Each change that has an interval says whether no change lies within."""
    found = {
        (one.name, one.against): one
        for one in judge(FULL, LOSS, against=BASE).differences
    }
    assert len(found) == 4
    source = found["lines right", "source"]
    assert source.is_inside_noise
    assert "samples to tell" in source.statement
    other = found["lines right", "base"]
    assert other.delta == pytest.approx(-0.007)
    assert other.ci95 == pytest.approx((-0.007 - 41**0.5 / 1e3, -0.007 + 41**0.5 / 1e3))
    assert not other.is_inside_noise
    assert "a real difference" in other.statement
    assert not found["latency", "source"].is_inside_noise
    assert not found["latency", "base"].is_inside_noise
    near = judge(FULL, LOSS, against=timed(FULL, ratio=0.575)).differences
    assert [one.is_inside_noise for one in near] == [True, True, False, True]


def test_a_base_timed_elsewhere_is_not_compared() -> None:
    """Another runtime's time is no base; a note says so."""
    found = judge(FULL, LOSS, against=timed(BASE, runtime="onnxruntime"))
    assert next(row for row in found.rows if row.name == "latency").other is None
    assert ("latency", "base") not in {
        (one.name, one.against) for one in found.differences
    }
    assert found.notes[-1] == (
        "The base was timed on onnxruntime, 1 thread, this on openvino, 1 thread: "
        "not compared."
    )


def test_a_note_is_not_said_twice() -> None:
    """The note on the change in accuracy is a difference's statement already."""
    noted = replace(FULL, notes=("The change in accuracy is small.", "Other."))
    assert judge(noted, LOSS).notes == ("Other.",)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(FULL, sha256=("0" * 64, "1" * 64)), "another source model"),
        (scored(FULL, n=999), "1,000"),
        (scored(FULL, metric="top1"), "top1"),
        (scored(FULL, before=0.9), "scores 90.0 %"),
        (replace(FULL, accuracy=None), "only one"),
    ],
)
def test_other_models_and_samples_are_refused(other: Report, what: str) -> None:
    """A comparison of what cannot be compared is the user's error."""
    with pytest.raises(UsageError, match=what) as raised:
        judge(FULL, LOSS, against=other)
    assert "--against" in raised.value.hint


def test_reports_without_accuracy_are_compared() -> None:
    """Sizes have a base all the same."""
    (row,) = judge(BARE, Budget(size_bytes=999), against=BARE).rows
    assert (row.other, row.holds) == (1000, False)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(latency_ms=float("nan")),
        Budget(latency_ms=-1.0),
        Budget(size_bytes=10**400),
        Budget(accuracy_drop=float("inf")),
    ],
)
def test_limits_that_make_no_sense(budget: Budget) -> None:
    """They are refused, not judged."""
    with pytest.raises(UsageError, match="the limit"):
        judge(FULL, budget)


def test_a_metric_that_is_not_known() -> None:
    """Which way it runs is not guessed."""
    with pytest.raises(UsageError, match="no metric"):
        judge(scored(FULL, metric="charm"), LOSS)


def test_an_error_in_the_labels_own_unit() -> None:
    """A regression's loss is a fraction of its error before."""
    accuracy = Accuracy(
        metric="mae",
        before=2.0,
        after=2.1,
        n=0,
        paired_delta=0.1,
        ci95=(0.05, 0.15),
    )
    report = replace(BARE, accuracy=accuracy)
    (breach,) = judge(report, Budget(accuracy_drop=0.04), against=report).breaches
    assert breach.measured == pytest.approx(0.05)
    assert judge(report, LOSS).rows[0].unit == "value"
