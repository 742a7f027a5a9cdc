"""The day's charts: everything inside, each release its colour, words for all."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.app.charts import WIDTH
from skerry.app.demo.load import Reply
from skerry.app.demo.timeline import (
    Mark,
    accuracy_chart,
    key,
    mark_list,
    release_classes,
    timeline,
)


def reply(at_s: float, **changes: object) -> Reply:
    """A reply of the load."""
    fields: dict[str, object] = {
        "gateway": "gateway-1",
        "scene": "day",
        "index": 0,
        "outcome": "ok",
        "latency_ms": 3.0,
        "release": "meter/1",
        "is_right": True,
    }
    return Reply(at_s=at_s, **{**fields, **changes})  # type: ignore[arg-type]


def parse(svg: str) -> ET.Element:
    """Read a chart as XML."""
    return ET.fromstring(svg)  # noqa: S314 - what charts makes, nobody else


SWAPPED = [
    *(reply(second / 10, gateway=f"gateway-{second % 3 + 1}") for second in range(60)),
    *(
        reply(6 + second / 10, gateway=f"gateway-{second % 3 + 1}", release="meter/2")
        for second in range(60)
    ),
]


def test_each_gateway_has_a_strip_a_release() -> None:
    """Three gateways, two releases: six strips, each with its words."""
    svg = parse(timeline(SWAPPED, [], title="the day"))
    strips = [
        title.text or "" for rect in svg.iter("rect") for title in rect.iter("title")
    ]
    assert sorted(strips) == sorted(
        f"gateway-{n}: meter/{v}" for n in (1, 2, 3) for v in (1, 2)
    )


def test_a_gateway_without_power_leaves_a_gap() -> None:
    """Two strips of the same release, with nothing between them."""
    svg = parse(timeline([reply(0), reply(0.5), reply(9), reply(9.5)], [], title="d"))
    strips = [rect for rect in svg.iter("rect") if rect.find("title") is not None]
    assert len(strips) == 2


def test_what_is_lost_is_marked() -> None:
    """A failed request is a dot in its gateway's row, and is told in words."""
    lost = reply(3, outcome="failed", release="", is_right=None)
    svg = parse(timeline([*SWAPPED, lost], [], title="d"))
    assert [c.get("class") for c in svg.iter("circle")] == ["lost"]
    assert "1 failed or wrong" in (svg.findtext("desc") or "")


def test_bursts_of_measuring_do_not_count_as_rate() -> None:
    """Only the steady load is drawn as answers a second."""
    burst = [reply(5, is_steady=False) for _ in range(500)]
    with_burst = timeline([*SWAPPED, *burst], [], title="d")
    ticks = [t.text for t in parse(with_burst).iter("text") if t.get("class") == "tick"]
    assert "500" not in ticks


times = st.lists(st.floats(0, 300), min_size=1, max_size=30)


@given(
    times=times,
    marks=st.lists(st.floats(0, 300), max_size=25),
    outcome=st.sampled_from(["ok", "failed", "wrong"]),
    latency_ms=st.floats(0, 1e5),
)
def test_everything_is_inside(
    times: list[float], marks: list[float], outcome: str, latency_ms: float
) -> None:
    """Any replies and marks give valid SVG, left to right within the chart."""
    replies = [reply(at, outcome=outcome, latency_ms=latency_ms) for at in times]
    drawn = [Mark(at_s=at, what="<b>&", kind="fault") for at in marks]
    for chart in (timeline, accuracy_chart):
        svg = parse(chart(replies, drawn, title="d"))
        for rect in svg.iter("rect"):
            assert 0 <= float(rect.get("x", "-1")) <= WIDTH
            assert float(rect.get("height", "-1")) >= 0
        paths = [one.get("d") or "" for one in svg.iter("path")]
        assert len(paths) == len(marks)
        ends = [float(path.split("L")[1].split(",")[0]) for path in paths]
        assert all(0 <= end <= WIDTH for end in ends)


def test_accuracy_falls_and_recovers() -> None:
    """The line goes down where digits are misread."""
    replies = [
        reply(n / 20, is_right=not 100 <= n < 200 or n % 2 == 0) for n in range(300)
    ]
    svg = parse(accuracy_chart(replies, [], title="accuracy"))
    (line,) = svg.iter("polyline")
    heights = [
        float(point.split(",")[1]) for point in (line.get("points") or "").split()
    ]
    middle = heights[len(heights) // 2]
    assert middle > heights[0] + 50
    assert heights[0] == pytest.approx(heights[-1], abs=5)


def test_colours_begin_again_after_the_last() -> None:
    """A long day has more releases than the style has colours."""
    classes = release_classes([reply(n, release=f"meter/{n + 1}") for n in range(8)])
    assert classes["meter/1"] == classes["meter/7"] == "release-0"
    assert "meter/8" in key(classes)


def test_marks_are_listed_in_words() -> None:
    """Escaped, with the second in which they happened."""
    marks = [Mark(at_s=3.14, what="<it> fogs", kind="field")]
    assert "3.1 s" in mark_list(marks)
    assert "&lt;it&gt; fogs" in mark_list(marks)
