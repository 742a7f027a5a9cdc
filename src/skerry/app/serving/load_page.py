"""What came of a load, as a page that stands alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from skerry.app import charts, figures
from skerry.app.html import Card, Child, Column, Html, cards, el, figure, page, section
from skerry.app.html import table as html_table
from skerry.app.serving.bench import BenchResult
from skerry.app.serving.latencies import Bucket

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 64.0, 18.0, 66.0, 48.0, 348.0
_MARKS = ("p50", "p90", "p99")
_WORDS = {
    "p50": "half of the answers were at least as quick",
    "p90": "nine of ten were",
    "p99": "99 of 100 were",
    "p99_9": "999 of 1,000 were",
    "mean": "the mean",
    "max": "the slowest answer",
}


def load_page(found: BenchResult) -> str:
    """Make the whole page."""
    parts: list[Child] = [_cards(found)]
    if found.latency_ms:
        parts.append(_latency_section(found))
    if found.failures:
        parts.append(_failure_section(found.failures))
    return page(found.model, *parts, kicker="Skerry load", lead=_lead(found))


def latency_chart(
    buckets: Sequence[Bucket], latency_ms: Mapping[str, float], *, title: str
) -> Html:
    """Draw a histogram on a logarithmic scale, with some percentiles marked.

    Args:
        buckets: One beside the other, at least one.
        latency_ms: `p50`, `p90` and `p99` are marked where they are there.
        title: What the chart shows.
    """
    place = _Plane(buckets)
    parts: list[Child] = [*place.axes()]
    for bucket in buckets:
        if not bucket.count:
            continue
        left, right = place.x(bucket.low_ms), place.x(bucket.high_ms)
        top = place.y(bucket.count)
        words = (
            f"{figures.show_ms(bucket.low_ms)} to {figures.show_ms(bucket.high_ms)}: "
            f"{figures.show_number(bucket.count, 'request')}"
        )
        parts.append(
            el(
                "rect",
                el("title", words),
                x=_n(left + 0.75),
                y=_n(top),
                width=_n(max(right - left - 1.5, 1)),
                height=_n(max(place.floor - top, 1)),
                class_="after",
            )
        )
    marks = [(name, latency_ms[name]) for name in _MARKS if name in latency_ms]
    for index, (name, value) in enumerate(marks):
        parts += place.mark(f"{name} {figures.show_ms(value)}", value, row=index)
    told = "; ".join(f"{name} is {figures.show_ms(value)}" for name, value in marks)
    return charts.drawing(title, told, _HEIGHT, parts)


class _Plane:
    """Maps latencies and counts to the plane of the chart."""

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self._low = math.log10(buckets[0].low_ms)
        self._high = math.log10(buckets[-1].high_ms)
        self._most = max(bucket.count for bucket in buckets)
        self.floor = _HEIGHT - _BOTTOM

    def x(self, latency_ms: float) -> float:
        share = (math.log10(latency_ms) - self._low) / (self._high - self._low)
        return _LEFT + share * (charts.WIDTH - _LEFT - _RIGHT)

    def y(self, count: float) -> float:
        return self.floor - count / self._most * (self.floor - _TOP)

    def axes(self) -> list[Html]:
        right = charts.WIDTH - _RIGHT
        parts = []
        for value in charts.ticks(0, self._most, most=4):
            if value != int(value):
                continue
            down = self.y(value)
            line = el(
                "line", x1=_LEFT, x2=right, y1=_n(down), y2=_n(down), class_="grid"
            )
            parts += [line, _text(_LEFT - 10, down + 4, f"{value:,.0f}", "tick", "end")]
        for value in self._round_ms():
            across = self.x(value)
            words = figures.show_ms(value).replace(".00 ", " ").replace(".0 ", " ")
            parts.append(
                el(
                    "line",
                    x1=_n(across),
                    x2=_n(across),
                    y1=_n(self.floor),
                    y2=_n(self.floor + 5),
                    class_="leader",
                )
            )
            parts.append(_text(across, self.floor + 20, words, "tick", "middle"))
        middle = (_LEFT + right) / 2
        words = "latency, on a logarithmic scale"
        parts.append(_text(middle, _HEIGHT - 6, words, "axis", "middle"))
        turn = f"translate(13,{_n((_TOP + self.floor) / 2)}) rotate(-90)"
        parts.append(
            el("text", "requests", transform=turn, class_="axis", text_anchor="middle")
        )
        return parts

    def mark(self, words: str, latency_ms: float, *, row: int) -> list[Html]:
        across, top = self.x(latency_ms), 16.0 + 17.0 * row
        is_right = across > charts.WIDTH - 130
        line = el(
            "path", d=f"M{_n(across)},{_n(top + 4)}V{_n(self.floor)}", class_="mark"
        )
        anchor = "end" if is_right else "start"
        at = across - 5 if is_right else across + 5
        return [line, _text(at, top, words, "mark", anchor)]

    def _round_ms(self) -> list[float]:
        """1, 2 and 5 times powers of ten, as many as there is room for."""
        span = self._high - self._low
        steps = (1, 2, 5) if span < 3 else (1,)
        first, last = math.floor(self._low), math.ceil(self._high)
        values = [step * 10.0**power for power in range(first, last) for step in steps]
        ends = 10**self._low * 0.999, 10**self._high * 1.001
        return [value for value in values if ends[0] <= value <= ends[1]]


def _cards(found: BenchResult) -> Html:
    total = found.count + sum(found.failures.values())
    failed = total - found.count
    items = [
        Card(
            label="Answered",
            value=f"{found.requests_per_s:,.1f}/s",
            detail=f"{figures.show_number(found.count, 'request')} in "
            f"{found.elapsed_s:.1f} s",
        )
    ]
    if found.latency_ms:
        items.append(
            Card(
                label="Latency, p50",
                value=figures.show_ms(found.latency_ms["p50"]),
                detail=f"p99 {figures.show_ms(found.latency_ms['p99'])}",
            )
        )
    items.append(
        Card(
            label="Failed",
            value=f"{failed:,}",
            detail=figures.show_percent(failed / total if total else 0.0),
            is_bad=failed > 0,
        )
    )
    if found.cpu_ms_per_request is not None:
        items.append(
            Card(
                label="CPU a request",
                value=figures.show_ms(found.cpu_ms_per_request),
                detail="the server and its workers",
            )
        )
    return cards(items)


def _latency_section(found: BenchResult) -> Html:
    title = f"Latency of {found.model}"
    chart = latency_chart(found.histogram, found.latency_ms, title=title)
    caption = "Bars are as wide as their latencies are apart, by ratio."
    rows = [
        (name.replace("_", "."), figures.show_ms(value), _WORDS.get(name, ""))
        for name, value in found.latency_ms.items()
    ]
    columns = (
        Column(title=""),
        Column(title="latency", is_number=True),
        Column(title=""),
    )
    return section(
        "How long answers took",
        figure(chart, caption),
        html_table(columns, rows),
        lead=_how_counted(found),
    )


def _failure_section(failures: Mapping[str, int]) -> Html:
    columns = (Column(title="kind"), Column(title="requests", is_number=True))
    rows = [(kind, f"{count:,}") for kind, count in failures.items()]
    return section("What failed", html_table(columns, rows))


def _lead(found: BenchResult) -> str:
    load = found.load
    clients = figures.show_number(load.clients, "client")
    how = (
        f"{clients}, each asking again at once"
        if load.rate_per_s is None
        else f"{load.rate_per_s:g} requests due a second, over {clients}"
    )
    return (
        f"{found.target} over {found.face}: {how}; an answer was of use for "
        f"{load.timeout_ms:g} ms."
    )


def _how_counted(found: BenchResult) -> str:
    if found.load.rate_per_s is None:
        return (
            "Each client waits for its answer before it asks again: where the server "
            "stalls, it is asked less."
        )
    told = "Latencies count from when a request was due, whatever kept it from going."
    if found.delayed:
        late = figures.show_number(found.delayed, "request")
        told += f" All clients were waiting when {late} were due."
    return told


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> Html:
    return el("text", words, x=_n(x), y=_n(y), class_=kind, text_anchor=anchor)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
