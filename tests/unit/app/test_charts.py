"""Charts: right places, readable labels, words for those who cannot see them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.app import charts
from skerry.app.charts import Axis, Bar, Pair, Point

figure = st.one_of(st.floats(0, 1e9), st.just(1e300))
points = st.lists(
    st.builds(
        Point,
        label=st.text("abc 0123<&", max_size=40),
        x=figure,
        y=st.one_of(st.floats(0, 1), st.floats()),
        role=st.sampled_from(["source", "tried", "chosen"]),
    ),
    max_size=12,
)


def parse(svg: str) -> ET.Element:
    """Read a chart as XML."""
    return ET.fromstring(svg)  # noqa: S314 - what charts makes, nobody else


def draw(shown: list[Point], *, from_zero: bool = True) -> ET.Element:
    """Draw a Pareto chart and read it as XML."""
    svg = charts.pareto(
        shown,
        title="accuracy against size",
        x=Axis(label="size", unit=" kB", begin=0.0 if from_zero else None),
        y=Axis(label="accuracy", unit=" %", scale=0.01, end=1.0),
    )
    return parse(svg)


def labels_of(svg: ET.Element) -> list[str]:
    """The labels of points, not those of axes."""
    kinds = {None, "chosen"}
    return [text.text or "" for text in svg.iter("text") if text.get("class") in kinds]


@pytest.mark.parametrize("from_zero", [True, False])
@given(shown=points)
def test_pareto_draws_each_point_inside(*, shown: list[Point], from_zero: bool) -> None:
    """Any points give valid SVG with one mark a point, all inside the chart."""
    svg = draw(shown, from_zero=from_zero)
    marks = [
        mark for mark in svg.iter("circle") if "point" in (mark.get("class") or "")
    ]
    assert len(marks) == sum(
        abs(point.x) < charts.FAR and abs(point.y) < charts.FAR for point in shown
    )
    for mark in marks:
        assert 0 <= float(mark.attrib["cx"]) <= charts.WIDTH
        assert 0 <= float(mark.attrib["cy"]) <= 400


@given(points)
def test_labels_do_not_overlap(shown: list[Point]) -> None:
    """No two labels share a place, judging by a generous width of a letter."""
    boxes = []
    for text in draw(shown).iter("text"):
        if text.get("class") not in {None, "chosen"} or text.get("transform"):
            continue
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        width = len(text.text or "") * charts.LETTER_WIDTH
        anchor = text.get("text-anchor")
        left = x - width * {"middle": 0.5, "end": 1.0}.get(anchor or "", 0.0)
        boxes.append((left, y, left + width))
    for index, (left, y, right) in enumerate(boxes):
        for other_left, other_y, other_right in boxes[index + 1 :]:
            apart = right <= other_left + 0.2 or other_right <= left + 0.2
            assert apart or abs(y - other_y) >= charts.LINE_HEIGHT - 0.2


def test_the_chosen_one_is_labelled_and_told() -> None:
    """The chosen candidate stands out to the eye and in the description."""
    crowd = [Point(label=f"try {n}", x=10 + n * 0.01, y=0.9) for n in range(12)]
    chosen = Point(label="best", x=10.0, y=0.9, role="chosen")
    svg = draw([*crowd, chosen])
    assert "best" in labels_of(svg)
    described = svg.find("desc")
    assert described is not None
    assert "Chosen: best, 10 kB, 90 %" in (described.text or "")
    assert svg.attrib["aria-labelledby"].split()[1] == described.attrib["id"]


def test_figures_that_are_not_finite_are_left_out() -> None:
    """NaN and infinity have no place in a plane."""
    bad = [Point(label="a", x=float("nan"), y=0), Point(label="b", x=1, y=float("inf"))]
    assert len(list(draw([*bad, Point(label="c", x=1, y=1)]).iter("circle"))) == 1


@given(points.map(lambda made: [point for point in made if abs(point.y) <= 1]))
def test_front_is_what_nothing_beats(shown: list[Point]) -> None:
    """A point is beaten by another one if and only if it is not on the front."""
    front = charts.pareto_front(shown)
    for point in shown:
        beaten = any(
            (other.x <= point.x and other.y >= point.y)
            and (other.x, other.y) != (point.x, point.y)
            for other in shown
        )
        on_front = any((p.x, p.y) == (point.x, point.y) for p in front)
        assert on_front != beaten


@given(st.floats(-1e6, 1e6), st.floats(1, 1e6))
def test_ticks_are_round_and_inside(low: float, length: float) -> None:
    """Ticks rise evenly inside the interval, and there are a few of them."""
    high = low + length
    marks = charts.ticks(low, high)
    slack = length * 1e-6
    assert len(marks) <= 7
    assert all(low - slack <= mark <= high + slack for mark in marks)
    assert marks == sorted(marks)


def test_ticks_are_round_in_the_unit_shown() -> None:
    """Ticks are round numbers of the unit, each told apart from the next."""
    svg = charts.pareto(
        [Point(label="a", x=3 << 20, y=0.9901), Point(label="b", x=9 << 20, y=0.9904)],
        title="t",
        x=Axis(label="size", unit=" MiB", scale=1 << 20, begin=0.0),
        y=Axis(label="right", unit=" %", scale=0.01, end=1.0),
    )
    texts = [text.text or "" for text in parse(svg).iter("text")]
    assert {"0 MiB", "2 MiB", "8 MiB"} <= set(texts)
    percents = [text for text in texts if text.endswith(" %")]
    assert len(percents) == len(set(percents)) >= 3


def test_an_axis_keeps_its_bounds() -> None:
    """An axis of fractions ends at 1 unless a figure is beyond, and has a length."""
    axis = Axis(label="a", begin=0.0, end=1.0)
    assert axis.span([0.5, 0.999]) == (0.0, 1.0)
    assert axis.span([0.5, 1.5]) == (0.0, 1.5)
    assert axis.span([-1.0])[0] == -1.0
    low, high = Axis(label="a", end=1.0, shortest=0.02).span([0.990, 0.991])
    assert high - low == pytest.approx(0.0195)
    for values in ([], [0.0], [1.0], [-1.0]):
        low, high = axis.span(values)
        assert low < high


def test_before_after_has_a_scale_a_pair() -> None:
    """The larger bar of each pair is full; the other is in proportion."""
    pairs = [
        Pair(label="size", before=4, after=1, before_text="4 MB", after_text="1 MB"),
        Pair(label="time", before=1, after=2, before_text="1 ms", after_text="2 ms"),
    ]
    svg = parse(charts.before_after(pairs, title="t"))
    widths = [float(bar.attrib["width"]) for bar in svg.iter("rect")]
    assert widths[0] == widths[3] == max(widths)
    assert widths[1] == pytest.approx(widths[0] / 4, abs=0.1)
    assert widths[2] == pytest.approx(widths[3] / 2, abs=0.1)
    described = svg.find("desc")
    assert described is not None
    assert (
        described.text == "size: 4 MB before, 1 MB after; time: 1 ms before, 2 ms after"
    )


def test_bars_share_a_scale_and_shorten_names_in_front() -> None:
    """Long names keep their ends, where operators' names differ."""
    rows = [
        Bar(label="model/" * 12 + "Conv_7", value=2, text="2 ms", kind="int8"),
        Bar(label="b", value=1, text="1 ms", kind="float"),
    ]
    svg = parse(charts.bars(rows, title="t"))
    wide, narrow = svg.iter("rect")
    assert float(narrow.attrib["width"]) == pytest.approx(
        float(wide.attrib["width"]) / 2, abs=0.1
    )
    first = next(svg.iter("text")).text or ""
    assert first.startswith("…")
    assert first.endswith("Conv_7")


@pytest.mark.parametrize(
    "values", [[], [0.0], [-1.0, float("nan")], [2.0, float("nan"), float("inf")]]
)
def test_bars_of_nothing(values: list[float]) -> None:
    """No rows, zeros and figures without sense give a valid chart all the same."""
    rows = [Bar(label="a", value=value, text="x") for value in values]
    svg = parse(charts.bars(rows, title="t"))
    assert len(list(svg.iter("rect"))) == len(values)
    assert "nan" not in ET.tostring(svg, encoding="unicode")
