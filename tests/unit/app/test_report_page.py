"""A report's page says what the report says."""

from __future__ import annotations

from dataclasses import replace

from skerry.app.report_page import report_page, sum_up
from skerry.core.report import Change, LayerRow
from tests.reports import BARE, FULL


def test_the_whole_story_is_told() -> None:
    """Figures, candidates, reasons, notes, the recipe and the hashes are there."""
    page = report_page(FULL)
    for words in (
        "lines &lt;b&gt;&amp;.onnx",
        "3.5 × smaller",
        "1.75 × faster",
        "95 % interval −0.90 to +0.10",
        "plain INT8",
        "refused: loses too much",
        "alone it costs 3.1 points",
        "Latency was measured in turns.",
        "method = minmax",
        FULL.sha256[1],
        "attention/Softmax_7",
    ):
        assert words in page
    assert "<b>" not in page


def test_a_missed_budget_is_pointed_out() -> None:
    """What does not hold is said in the headline and marked in its card."""
    page = report_page(FULL)
    assert "It misses the budget." in page
    assert page.count('class="card bad"') == 1
    kept = replace(FULL, breaches=())
    assert "misses" not in report_page(kept)
    assert 'class="card bad"' not in report_page(kept)


def test_what_was_not_measured_is_left_out() -> None:
    """A report of which little is known is a page all the same."""
    page = report_page(BARE)
    assert "Latency" not in page
    assert "Everything that was tried" not in page
    assert sum_up(BARE) == "Of the same size."


def test_the_crowd_near_the_chosen_one_gets_a_closer_look() -> None:
    """Candidates that one outlier would squeeze together are drawn again, closer."""
    assert "The same, closer" in report_page(FULL)
    few = replace(FULL, tried=FULL.tried[:4])
    assert "The same, closer" not in report_page(few)


def test_reasons_are_told_once() -> None:
    """Operators that stay float for one reason are one entry; many are folded."""
    many = tuple(
        LayerRow(name=f"Div_{n}", op_type="Div", dtype="float32", why="no integer Div")
        for n in range(9)
    )
    page = report_page(replace(FULL, layers=(*FULL.layers, *many)))
    assert page.count("9 Div: no integer Div") == 1
    assert "9 Div: no integer Div<details>" in page
    assert "1 Softmax: alone it costs 3.1 points: <code>" in page


def test_the_source_is_among_the_candidates() -> None:
    """The float model's file size is known from the report, wherever it stands."""
    assert "source model, float32: 10.35 MiB, 95.1 %" in report_page(FULL)


def test_the_summary_follows_the_figures() -> None:
    """Losses are named as losses."""
    worse = replace(FULL, size_bytes=Change(before=1000, after=2000), breaches=())
    assert sum_up(worse) == (
        "2.0 × larger and 1.75 × faster on openvino, at −0.40 points of lines right on "
        "1,000 samples that no step had seen."
    )


def test_operators_are_ranked_by_time_or_else_by_work() -> None:
    """Measured time comes first; without it, multiply-accumulates."""
    assert "Measured time of the chosen model" in report_page(FULL)
    untimed = tuple(replace(layer, latency_ms=None) for layer in FULL.layers)
    assert "Multiply-accumulates of one inference" in report_page(
        replace(FULL, layers=untimed)
    )
