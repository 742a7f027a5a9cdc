"""Charts of the fleet's bad day: requests over time, who ran what, accuracy in fog.

Pure functions from what the load saw to inline SVG; colours come from the page's style.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from skerry.app.charts import WIDTH, drawing, ticks
from skerry.app.demo.load import Reply
from skerry.app.html import Child, Html, el, join

LONGEST_BIN_S = 1.0
SHORTEST_GAP_S = 1.0
"""Without an answer for this long, a gateway's strip is broken off."""

COLOURS = 6
"""How many colours of releases the style has; more begin again."""

_LEFT, _RIGHT, _TOP = 84.0, 12.0, 26.0
_RATE_HEIGHT, _LATENCY_HEIGHT, _ROW_HEIGHT, _GAP = 150.0, 90.0, 24.0, 26.0
_ACCURACY_HEIGHT = 240.0
_SMALLEST_LATENCY_MS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened, to be marked on the timeline.

    Attributes:
        at_s: When, seconds since the load began.
        what: One line for people.
        kind: A swap, a fault that was made, a refusal, or a fact of the field.
    """

    at_s: float
    what: str
    kind: Literal["swap", "fault", "refusal", "field"]


def release_classes(replies: Iterable[Reply]) -> dict[str, str]:
    """Give each release that answered a class of the style, in order of appearance."""
    found: dict[str, str] = {}
    for reply in replies:
        if reply.release and reply.release not in found:
            found[reply.release] = f"release-{len(found) % COLOURS}"
    return found


def timeline(replies: Sequence[Reply], marks: Sequence[Mark], *, title: str) -> Html:
    """Draw requests a second by release, latency, and what each gateway ran.

    Args:
        replies: What the load saw, at least one.
        marks: What happened; they are numbered from 1 in the order given.
        title: What the chart shows, read aloud by a screen reader.
    """
    axis = _Time.over(replies, marks)
    classes = release_classes(replies)
    gateways = sorted({reply.gateway for reply in replies})
    rate_floor = _TOP + _RATE_HEIGHT
    latency_floor = rate_floor + _GAP + _LATENCY_HEIGHT
    rows_top = latency_floor + _GAP
    height = rows_top + len(gateways) * _ROW_HEIGHT + 44
    steady = [reply for reply in replies if reply.is_steady]
    parts: list[Child] = [
        _rates(steady, classes, axis, rate_floor),
        _latencies(steady, axis, latency_floor),
        [
            _row(replies, gateway, classes, axis, rows_top + index * _ROW_HEIGHT)
            for index, gateway in enumerate(gateways)
        ],
        _bottom(axis, height),
        _marks(marks, axis, height - 40),
    ]
    failed = sum(reply.outcome != "ok" for reply in replies)
    told = (
        f"{len(replies)} requests over {axis.end_s:.0f} s, {failed} failed or wrong; "
        + "; ".join(f"{mark.at_s:.0f} s: {mark.what}" for mark in marks)
    )
    return drawing(title, told, height, parts)


def accuracy_chart(
    replies: Sequence[Reply],
    marks: Sequence[Mark],
    *,
    title: str,
    window_s: float = 1.5,
) -> Html:
    """Draw the share of digits read right, over time.

    Args:
        replies: What the load saw; those without an answer do not count.
        marks: What happened; they are numbered from 1.
        title: What the chart shows.
        window_s: Over which each point is taken.
    """
    read = [reply for reply in replies if reply.is_right is not None]
    axis = _Time.over(read, marks)
    floor = _TOP + _ACCURACY_HEIGHT
    centres = np.arange(axis.begin_s + window_s / 2, axis.end_s, window_s / 3)
    at_s = np.array([reply.at_s for reply in read])
    right = np.array([bool(reply.is_right) for reply in read])
    points = []
    for centre in centres:
        inside = np.abs(at_s - centre) <= window_s / 2
        if inside.sum() >= 5:
            points.append((float(centre), float(right[inside].mean())))
    lowest = min((value for _, value in points), default=0.0)
    low = max(0.0, math.floor(lowest * 10 - 0.5) / 10)

    def down(value: float) -> float:
        return floor - (value - low) / (1 - low) * _ACCURACY_HEIGHT

    parts: list[Child] = [_grid(low, 1.0, down, lambda v: f"{v * 100:.0f} %")]
    line = " ".join(f"{_n(axis.x(x))},{_n(down(y))}" for x, y in points)
    parts.append(el("polyline", points=line, class_="trace"))
    parts += [_bottom(axis, floor + 44), _marks(marks, axis, floor)]
    told = "; ".join(f"{x:.0f} s: {y:.0%}" for x, y in points[::3])
    return drawing(title, told, floor + 44, parts)


def key(classes: Mapping[str, str]) -> Html:
    """Explain the colours of releases."""
    items = [
        el("li", el("span", class_=f"swatch {kind}"), release)
        for release, kind in classes.items()
    ]
    items.append(el("li", el("span", class_="swatch lost"), "failed or wrong"))
    return el("ul", items, class_="legend")


def mark_list(marks: Sequence[Mark]) -> Html:
    """List what the numbers on a chart stand for."""
    items = [
        el("li", el("span", f"{mark.at_s:.1f} s", class_="when"), " ", mark.what)
        for mark in marks
    ]
    return el("ol", items, class_="marks")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Time:
    begin_s: float
    end_s: float

    @classmethod
    def over(cls, replies: Sequence[Reply], marks: Sequence[Mark]) -> _Time:
        times = [reply.at_s for reply in replies] + [mark.at_s for mark in marks]
        begin_s = max(0.0, min(times, default=0.0))
        if begin_s < 5:
            begin_s = 0.0
        return cls(begin_s=begin_s, end_s=max(max(times, default=0.0), begin_s + 1.0))

    def x(self, at_s: float) -> float:
        share = (at_s - self.begin_s) / (self.end_s - self.begin_s)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def bins(self) -> list[float]:
        """The edges of bins of about half a second, at most a second."""
        span_s = self.end_s - self.begin_s
        count = max(2, min(160, round(span_s / 0.5)))
        step_s = min(span_s / count, LONGEST_BIN_S)
        edges = np.arange(self.begin_s, self.end_s + step_s / 2, step_s)
        return [float(edge) for edge in edges]


def _rates(
    replies: Sequence[Reply], classes: Mapping[str, str], axis: _Time, floor: float
) -> Html:
    """Stacked bars: requests a second, by release; lost ones on top."""
    edges = axis.bins()
    kinds = [*classes, ""]
    counts = {
        kind: np.histogram(
            [
                reply.at_s
                for reply in replies
                if (reply.release if reply.outcome == "ok" else "") == kind
            ],
            bins=edges,
        )[0]
        / np.diff(edges)
        for kind in kinds
    }
    most = float(np.sum(list(counts.values()), axis=0).max()) * 1.1 or 1.0

    def down(value: float) -> float:
        return floor - value / most * _RATE_HEIGHT

    parts: list[Child] = [_grid(0.0, most, down, lambda v: f"{v:.0f}")]
    parts.append(_axis_title("answers a second", floor - _RATE_HEIGHT / 2))
    stacked = np.zeros(len(edges) - 1)
    for kind in kinds:
        for index, rate in enumerate(counts[kind]):
            if not rate:
                continue
            left, right = axis.x(edges[index]), axis.x(edges[index + 1])
            top, bottom = down(stacked[index] + rate), down(stacked[index])
            parts.append(
                el(
                    "rect",
                    x=_n(left),
                    y=_n(top),
                    width=_n(right - left + 0.2),
                    height=_n(bottom - top),
                    class_=classes.get(kind, "lost"),
                )
            )
        stacked += counts[kind]
    return join(parts)


def _latencies(replies: Sequence[Reply], axis: _Time, floor: float) -> Html:
    """Median and 99th percentile of the latency, a point a bin."""
    edges = axis.bins()
    answered = [reply for reply in replies if reply.outcome == "ok"]
    at_s = np.array([reply.at_s for reply in answered])
    taken_ms = np.array([reply.latency_ms for reply in answered])
    rows: list[tuple[float, float, float]] = []
    for left, right in pairwise(edges):
        inside = taken_ms[(at_s >= left) & (at_s < right)]
        if len(inside):
            centre = axis.x((left + right) / 2)
            high = float(np.percentile(inside, 99))
            rows.append((centre, float(np.median(inside)), high))
    most = max([_SMALLEST_LATENCY_MS, *(high * 1.1 for _, _, high in rows)])

    def down(value: float) -> float:
        return floor - value / most * _LATENCY_HEIGHT

    def trace(which: int, kind: str) -> Html:
        points = " ".join(f"{_n(row[0])},{_n(down(row[which]))}" for row in rows)
        return el("polyline", points=points, class_=kind)

    return join(
        _grid(0.0, most, down, lambda v: f"{v:.0f} ms", most_ticks=3),
        _axis_title("latency", floor - _LATENCY_HEIGHT / 2),
        trace(2, "trace faint"),
        trace(1, "trace"),
    )


def _row(
    replies: Sequence[Reply],
    gateway: str,
    classes: Mapping[str, str],
    axis: _Time,
    top: float,
) -> Html:
    """One gateway: a strip coloured by the release that answered."""
    mine = [reply for reply in replies if reply.gateway == gateway]
    parts: list[Child] = [
        el("text", gateway, x=_n(_LEFT - 10), y=_n(top + 15), text_anchor="end")
    ]
    begun: Reply | None = None
    last: Reply | None = None
    for reply in [*(one for one in mine if one.release), None]:
        is_same = (
            reply is not None
            and last is not None
            and reply.release == last.release
            and reply.at_s - last.at_s < SHORTEST_GAP_S
        )
        if begun is not None and last is not None and not is_same:
            parts.append(
                el(
                    "rect",
                    el("title", f"{gateway}: {begun.release}"),
                    x=_n(axis.x(begun.at_s)),
                    y=_n(top + 3),
                    width=_n(max(1.0, axis.x(last.at_s) - axis.x(begun.at_s))),
                    height=_n(_ROW_HEIGHT - 8),
                    class_=classes[begun.release],
                )
            )
        if not is_same:
            begun = reply
        last = reply
    parts += [
        el("circle", cx=_n(axis.x(one.at_s)), cy=_n(top + 11), r=2.5, class_="lost")
        for one in mine
        if one.outcome != "ok"
    ]
    return join(parts)


def _marks(marks: Sequence[Mark], axis: _Time, floor: float) -> Html:
    """Numbered vertical lines; numbers that would touch are moved to the right."""
    parts: list[Child] = []
    free_from = 0.0
    order = sorted(enumerate(marks, start=1), key=lambda pair: pair[1].at_s)
    for number, mark in order:
        x = axis.x(mark.at_s)
        at = max(x, free_from)
        free_from = at + 8 * len(str(number)) + 6
        path = f"M{_n(at)},{_n(_TOP - 7)}L{_n(x)},{_n(_TOP + 5)}V{_n(floor)}"
        title = el("title", mark.what)
        parts.append(el("path", title, d=path, class_=f"mark {mark.kind}"))
        parts.append(
            el(
                "text",
                str(number),
                x=_n(at),
                y=_n(_TOP - 10),
                text_anchor="middle",
                class_=f"mark {mark.kind}",
            )
        )
    return join(parts)


def _bottom(axis: _Time, height: float) -> Html:
    parts: list[Child] = [
        el(
            "text",
            f"{value:.10g} s",
            x=_n(axis.x(value)),
            y=_n(height - 24),
            class_="tick",
            text_anchor="middle",
        )
        for value in ticks(axis.begin_s, axis.end_s, most=10)
    ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        el(
            "text",
            "since the load began",
            x=_n(middle),
            y=_n(height - 5),
            class_="axis",
            text_anchor="middle",
        )
    )
    return join(parts)


def _grid(
    low: float,
    high: float,
    down: Callable[[float], float],
    show: Callable[[float], str],
    *,
    most_ticks: int = 5,
) -> Html:
    parts: list[Child] = []
    for value in ticks(low, high, most=most_ticks):
        y = down(value)
        parts.append(
            el(
                "line",
                x1=_n(_LEFT),
                x2=_n(WIDTH - _RIGHT),
                y1=_n(y),
                y2=_n(y),
                class_="grid",
            )
        )
        words = show(value)
        parts.append(
            el(
                "text",
                words,
                x=_n(_LEFT - 10),
                y=_n(y + 4),
                class_="tick",
                text_anchor="end",
            )
        )
    return join(parts)


def _axis_title(words: str, middle: float) -> Html:
    turn = f"translate(13,{_n(middle)}) rotate(-90)"
    return el("text", words, transform=turn, class_="axis", text_anchor="middle")


def _n(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")
