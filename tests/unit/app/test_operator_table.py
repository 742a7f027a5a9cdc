"""The table of operators: sorted without a script, small, and honest about gaps."""

from __future__ import annotations

import re
from dataclasses import replace

from skerry.app.operator_table import MOST_ROWS, draw_histogram, operator_table
from skerry.app.report_page import report_page
from skerry.core.report import LayerRow, ValueHistogram
from tests.reports import BARE, DETAILED

HISTOGRAM = ValueHistogram(
    low=-1.0, high=3.0, counts=tuple(range(64)), range_low=-0.5, range_high=2.0
)


def row(index: int, **more: object) -> LayerRow:
    """Make a row of a large net."""
    return replace(
        LayerRow(
            name=f"backbone/stage{index % 7}/block{index}/Conv",
            op_type="Conv",
            dtype="int8",
            error=1 / (index + 1),
            latency_ms=0.1 * (index % 13),
            latency_before_ms=0.2,
            macs=10_000_000,
            weight_bytes=4096,
            kernel="QLinearConv",
            rounding=0.001,
            clipping=0.0001,
            wasted=0.4,
            fix="Its range cuts off too much: choose ranges by minmax.",
            histogram=HISTOGRAM,
        ),
        **more,
    )


def test_each_row_knows_its_place_in_each_order() -> None:
    """By error, by time, by time lost, and as in the graph; what is missing is last."""
    rows = [row(0, error=None, latency_ms=0.3), row(1, latency_ms=None), row(2)]
    written = operator_table(rows, mark="m")
    places = re.findall(
        r"--error:(\d+);--time:(\d+);--slower:(\d+);--graph:(\d+)", written
    )
    assert places == [("3", "1", "1", "1"), ("1", "3", "3", "2"), ("2", "2", "2", "3")]
    assert written.count('type="radio"') == 4
    assert written.count("checked") == 1


def test_five_hundred_operators_fit_a_megabyte() -> None:
    """With a histogram and a suggestion each."""
    page = report_page(replace(BARE, layers=tuple(row(n) for n in range(500))))
    assert len(page.encode()) < 1_000_000
    assert page.count('class="histogram"') == 500


def test_a_huge_net_shows_what_matters_most() -> None:
    """More rows than a browser bears are left to the JSON."""
    rows = [row(n) for n in range(MOST_ROWS + 5)]
    written = operator_table(rows, mark="m")
    assert written.count("<tr") == MOST_ROWS + 1
    assert "5 more are in report.json." in written
    assert rows[0].name in written


def test_a_histogram_says_what_it_shows() -> None:
    """Its words hold the ends of the values and of the range."""
    drawn = draw_histogram(HISTOGRAM)
    assert "values -1 to 3, range -0.5 to 2" in drawn
    assert "nan" not in drawn


def test_a_histogram_that_cannot_be_drawn_is_a_dash() -> None:
    """Of one value, of none, or of infinities."""
    for broken in (
        replace(HISTOGRAM, low=1.0, high=1.0, range_low=1.0, range_high=1.0),
        replace(HISTOGRAM, counts=()),
        replace(HISTOGRAM, high=float("inf")),
        replace(HISTOGRAM, low=float("nan")),
    ):
        assert draw_histogram(broken) == "<span>–</span>"


def test_the_page_tells_of_operators_and_conditions() -> None:
    """Kernels, sources of the error, suggestions, and what the dark does."""
    page = report_page(DETAILED)
    for words in (
        "QLinearConv",
        "fell back to float",
        "0.042 %",
        "Its range is cut too short: choose minmax.",
        "was 1.31 ms",
        "Under conditions",
        "misses the budget",
        "loss under dark",
        "inside the noise",
        "nothing beats it",
        "8 kept float (bfloat16)",
        "Most of the error comes from head/MatMul_9",
        "1 operator fell back to float.",
    ):
        assert words in page, words
    assert "<script" not in page
