"""Charts as inline SVG, made by pure functions; colours come from the page's style.

Coordinates are SVG user units; a chart is as wide as its place allows.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from skerry.app.figures import show_end_of
from skerry.app.html import Child, Html, el

WIDTH = 720.0
LETTER_WIDTH = 7.4
"""Generous for a 13-pixel system font, so that what seems to fit does."""
LINE_HEIGHT = 17.0
FAR = 1e150
"""Figures beyond it (infinities, NaN) are not drawn: arithmetic would overflow."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 84.0, 18.0, 16.0, 48.0
_PARETO_HEIGHT = 400.0
_MOST_LABEL_WIDTH, _VALUE_WIDTH, _ROW_HEIGHT = 300.0, 90.0, 26.0


Role = Literal["source", "tried", "chosen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows.

    Attributes:
        label: What its figures are.
        unit: What stands behind a figure, such as ` %`.
        scale: One of the unit, in the figures' own: 0.01 where they are fractions and
            the unit is a percent. Ticks are round numbers of the unit.
        begin: Where the axis begins; a little below the least figure if None.
        end: Where it ends at the latest; None for no bound.
    """

    label: str
    unit: str = ""
    scale: float = 1.0
    begin: float | None = None
    end: float | None = None
    shortest: float = 0.0

    def show(self, value: float) -> str:
        """Write a figure with its unit."""
        return f"{value / self.scale:.4g}{self.unit}"

    def span(self, values: Sequence[float]) -> tuple[float, float]:
        """The interval that the axis shows: the values with some air around them."""
        least, most = min(values, default=0.0), max(values, default=0.0)
        air = (most - least) * 0.12 or abs(most) * 0.01 or self.scale
        air = max(air, (self.shortest - (most - least)) / 2)
        low = least - air if self.begin is None else min(self.begin, least)
        high = most + air if self.end is None else max(most, min(most + air, self.end))
        return (low, high) if low < high else (low, low + air)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A candidate on the Pareto chart.

    Attributes:
        label: Its name.
        x: What it costs, in the unit of the axis.
        y: What it achieves, in the unit of the axis.
        role: `source` is what was given, `chosen` what was returned.
    """

    label: str
    x: float
    y: float
    role: Role = "tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A figure before and after, with the texts that show it."""

    label: str
    before: float
    after: float
    before_text: str
    after_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: its length and the text at its end; `kind` is a class of the style."""

    label: str
    value: float
    text: str
    kind: Literal["before", "after", "int8", "float"] = "after"


def pareto(points: Sequence[Point], *, title: str, x: Axis, y: Axis) -> Html:
    """Draw cost against achievement, the best of them joined by a dashed line.

    Args:
        points: What was tried; a point that has no place in a plane is left out.
        title: What the chart shows, read aloud by a screen reader.
        x: The cost, less is better.
        y: The achievement, more is better.
    """
    points = [p for p in points if abs(p.x) < FAR and abs(p.y) < FAR]
    place = _Plane(
        x_range=x.span([point.x for point in points]),
        y_range=y.span([point.y for point in points]),
    )
    order = sorted(points, key=lambda point: point.role != "tried")
    labels = _place_labels([*reversed(order)], place)
    parts: list[Child] = [_draw_axes(place, x, y)]
    front = [place.at(point) for point in pareto_front(points)]
    if len(front) > 1:
        steps = "".join(f"H{right:.1f}V{up:.1f}" for right, up in front[1:])
        start = f"M{front[0][0]:.1f},{front[0][1]:.1f}"
        parts.append(el("path", d=start + steps, class_="front"))
    parts += [label.leader for label in labels]
    for point in order:
        tip = f"{point.label}: {x.show(point.x)}, {y.show(point.y)}"
        parts += _draw_point(point, place, tip)
    parts += [label.text for label in labels]
    told = f"{len(points)} candidates by {x.label} and {y.label}."
    best = next((point for point in points if point.role == "chosen"), None)
    if best:
        told += f" Chosen: {best.label}, {x.show(best.x)}, {y.show(best.y)}."
    return drawing(title, told, _PARETO_HEIGHT, parts)


def _draw_point(point: Point, place: _Plane, tip: str) -> list[Html]:
    across, down = (_n(value) for value in place.at(point))
    kind = f"point {point.role}"
    mark = el("circle", el("title", tip), cx=across, cy=down, r=6.5, class_=kind)
    if point.role != "chosen":
        return [mark]
    return [el("circle", cx=across, cy=down, r=13, class_="halo"), mark]


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """Keep the points that no other beats in both figures, by rising cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def before_after(pairs: Sequence[Pair], *, title: str) -> Html:
    """Draw two bars a figure; each pair has its own scale, its larger bar is full.

    Args:
        pairs: The figures.
        title: What the chart shows.
    """
    left = _label_width(pair.label for pair in pairs)
    parts: list[Child] = []
    y = 4.0
    for pair in pairs:
        most = max((v for v in (pair.before, pair.after) if v < FAR), default=0.0)
        middle = y + _ROW_HEIGHT
        parts.append(_text(0, middle + 4, pair.label))
        for bar in _both(pair):
            parts.append(_draw_bar((left, y), 20, most, bar))
            y += _ROW_HEIGHT - 2
        y += 18
    told = "; ".join(
        f"{pair.label}: {pair.before_text} before, {pair.after_text} after"
        for pair in pairs
    )
    return drawing(title, told, max(y - 14, 1.0), parts)


def bars(rows: Sequence[Bar], *, title: str) -> Html:
    """Draw one horizontal bar a row, all on one scale.

    Args:
        rows: From top to bottom.
        title: What the chart shows.
    """
    most = max((row.value for row in rows if abs(row.value) < FAR), default=0.0)
    left = _label_width(row.label for row in rows)
    parts: list[Child] = []
    for index, row in enumerate(rows):
        y = index * _ROW_HEIGHT
        parts.append(
            _text(0, y + 17, show_end_of(row.label, int((left - 12) / LETTER_WIDTH)))
        )
        parts.append(_draw_bar((left, y), 16, most, row))
    told = "; ".join(f"{row.label}: {row.text}" for row in rows[:12])
    return drawing(title, told, max(len(rows) * _ROW_HEIGHT, 1.0), parts)


def legend(entries: Iterable[tuple[str, str]]) -> Html:
    """Explain colours: (class of the style, what it stands for)."""
    items = [
        el("li", el("span", class_=f"swatch {kind}"), words) for kind, words in entries
    ]
    return el("ul", items, class_="legend")


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Choose round numbers that cover an interval from inside.

    Args:
        low: Where it begins.
        high: Where it ends, above `low`.
        most: Largest number of ticks.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten, rising.
    """
    rough = (high - low) / most
    if rough < 1 / FAR:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plane:
    """Maps figures to the plane of the chart."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def at(self, point: Point) -> tuple[float, float]:
        return self.x(point.x), self.y(point.y)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (value - low) / (high - low)
        return _PARETO_HEIGHT - _BOTTOM - share * (_PARETO_HEIGHT - _TOP - _BOTTOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def is_inside(self, outer: _Box) -> bool:
        return (
            outer.left <= self.left
            and self.right <= outer.right
            and outer.top <= self.top
            and self.bottom <= outer.bottom
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Label:
    text: Html
    leader: Html | None


_PLOT = _Box(left=_LEFT, top=2, right=WIDTH, bottom=_PARETO_HEIGHT - _BOTTOM)
# Beside the point, then over and under it, then farther away with a line to it.
_NEAR = (
    *((12, 0), (-12, 0), (0, -19), (0, 19)),
    *((8, -19), (-8, -19), (8, 19), (-8, 19)),
)
_FAR = tuple(
    (dx, dy)
    for distance in range(28, 190, 18)
    for dy in (-distance, distance)
    for dx in (14, -14, 50, -50)
)


def _place_labels(points: Sequence[Point], place: _Plane) -> list[_Label]:
    """Put labels where none covers a point or another label; the first come first.

    Only the source and the chosen one get a label far off with a line to it. A label
    that fits nowhere is left out: the point's tip and the table have it.
    """
    taken = []
    for point in points:
        x, y = place.at(point)
        reach = 13 if point.role == "chosen" else 8
        taken.append(
            _Box(left=x - reach, top=y - reach, right=x + reach, bottom=y + reach)
        )
    labels = []
    for point in points:
        x, y = place.at(point)
        width = len(point.label) * LETTER_WIDTH
        for dx, dy in _NEAR if point.role == "tried" else (*_NEAR, *_FAR):
            gap = 4 if point.role == "chosen" and dy == 0 else 0
            box = _label_box(x + dx + math.copysign(gap, dx), y + dy, width, dx)
            if box.is_inside(_PLOT) and not any(map(box.overlaps, taken)):
                taken.append(box)
                is_far = (dx, dy) not in _NEAR
                labels.append(_draw_label(point, box, (x, y), is_far=is_far))
                break
    return labels


def _label_box(x: float, y: float, width: float, dx: float) -> _Box:
    left = x if dx > 0 else x - width if dx < 0 else x - width / 2
    half = LINE_HEIGHT / 2
    return _Box(left=left, top=y - half, right=left + width, bottom=y + half)


def _draw_label(
    point: Point, box: _Box, end: tuple[float, float], *, is_far: bool
) -> _Label:
    # Text is as wide as the browser makes it: anchor it on the side of its point.
    x, y = end
    is_left = (box.left + box.right) / 2 < x - 1
    is_centred = abs((box.left + box.right) / 2 - x) <= 1
    anchor = "middle" if is_centred else "end" if is_left else "start"
    at = x if is_centred else box.right if is_left else box.left
    kind = "chosen" if point.role == "chosen" else None
    baseline = box.top + LINE_HEIGHT * 0.76
    text = el(
        "text", point.label, x=_n(at), y=_n(baseline), text_anchor=anchor, class_=kind
    )
    leader = None
    if is_far:
        near = box.bottom if box.bottom < y else box.top
        leader = el("line", x1=_n(x), y1=_n(y), x2=_n(at), y2=_n(near), class_="leader")
    return _Label(text=text, leader=leader)


def _draw_axes(place: _Plane, x: Axis, y: Axis) -> list[Html]:
    floor, right = _PARETO_HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value, words in _ticks(place.y_range, y):
        down = place.y(value)
        parts.append(_level(down, "grid"))
        parts.append(_text(_LEFT - 10, down + 4, words, "tick", "end"))
    for value, words in _ticks(place.x_range, x):
        parts.append(_text(place.x(value), floor + 20, words, "tick", "middle"))
    parts.append(_level(floor, "leader"))
    middle = (_LEFT + right) / 2
    parts.append(_text(middle, _PARETO_HEIGHT - 8, x.label, "axis", "middle"))
    turn = f"translate(13,{_n((_TOP + floor) / 2)}) rotate(-90)"
    words = el("text", y.label, transform=turn, class_="axis", text_anchor="middle")
    return [*parts, words]


def _ticks(span: tuple[float, float], axis: Axis) -> list[tuple[float, str]]:
    rounds = ticks(span[0] / axis.scale, span[1] / axis.scale)
    return [(value * axis.scale, f"{value:.10g}{axis.unit}") for value in rounds]


def _level(down: float, kind: str) -> Html:
    return el(
        "line",
        x1=_n(_LEFT),
        x2=_n(WIDTH - _RIGHT),
        y1=_n(down),
        y2=_n(down),
        class_=kind,
    )


def _both(pair: Pair) -> tuple[Bar, Bar]:
    return (
        Bar(
            label=f"{pair.label}, before",
            value=pair.before,
            text=pair.before_text,
            kind="before",
        ),
        Bar(
            label=f"{pair.label}, after",
            value=pair.after,
            text=pair.after_text,
            kind="after",
        ),
    )


def _draw_bar(
    corner: tuple[float, float], height: float, most: float, bar: Bar
) -> Html:
    left, y = corner[0], corner[1] + 4
    is_drawn = most > 0 and 0 <= bar.value < FAR
    share = min(bar.value / most, 1.0) if is_drawn else 0.0
    width = max(share * (WIDTH - left - _VALUE_WIDTH), 1.5)
    drawn = el(
        "rect",
        el("title", f"{bar.label}: {bar.text}"),
        x=_n(left),
        y=_n(y),
        rx=3,
        width=_n(width),
        height=_n(height),
        class_=bar.kind,
    )
    words = _text(left + width + 8, y + height / 2 + 4.5, bar.text, "value")
    return el("g", drawn, words)


def _text(
    x: float, y: float, words: str, kind: str | None = None, anchor: str | None = None
) -> Html:
    return el("text", words, x=_n(x), y=_n(y), class_=kind, text_anchor=anchor)


def _label_width(labels: Iterable[str]) -> float:
    longest = max(map(len, labels), default=0)
    return min(longest * LETTER_WIDTH + 12, _MOST_LABEL_WIDTH)


def drawing(title: str, told: str, height: float, parts: Sequence[Child]) -> Html:
    """Make a drawing as wide as its place, with words for those who cannot see it.

    Args:
        title: What it shows.
        told: The same as a few sentences of figures.
        height: In user units; the width is `WIDTH`.
        parts: What is drawn.
    """
    # The same chart has the same id on each run; two charts differ in their words.
    words = f"{title} {told}".encode("utf-8", "replace")
    mark = f"chart-{zlib.crc32(words):08x}"
    return el(
        "svg",
        el("title", title, id=f"{mark}-title"),
        el("desc", told, id=f"{mark}-desc"),
        parts,
        viewBox=f"0 0 {_n(WIDTH)} {_n(height)}",
        role="img",
        aria_labelledby=f"{mark}-title {mark}-desc",
    )


def _n(value: float) -> str:
    """A coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")
