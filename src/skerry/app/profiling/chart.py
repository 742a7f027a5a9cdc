"""The roofline as a picture: operators under the roof, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skerry.adapt.profiles.roofline import Peaks, RoofPoint
from skerry.app.charts import FAR, LETTER_WIDTH, WIDTH, drawing
from skerry.app.figures import show_end_of
from skerry.app.html import Child, Html, el

HEIGHT = 420.0
MOST_NAMED = 6
"""Operators whose names are written beside them: those that take longest."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 72.0, 24.0, 22.0, 50.0
_LARGEST = 26.0
_LONGEST_NAME = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plane:
    """Maps figures to the plane; ends are powers of ten."""

    x: tuple[int, int]
    y: tuple[int, int]

    def across(self, value: float) -> float:
        low, high = self.x
        share = (math.log10(value) - low) / (high - low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def down(self, value: float) -> float:
        low, high = self.y
        share = (math.log10(value) - low) / (high - low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def roofline_chart(points: Sequence[RoofPoint], peaks: Peaks, *, title: str) -> Html:
    """Draw operators that multiply; a circle's area is its share of the time.

    Args:
        points: The operators; those without multiply-accumulates have no place here.
        peaks: The roof.
        title: What the chart shows.
    """
    drawn = [each for each in points if _speed(each) is not None]
    drawn.sort(key=lambda each: -each.share)
    ridge = peaks.gops / peaks.bandwidth_gb_s
    plane = _plane(drawn, peaks, ridge)
    parts: list[Child] = [_axes(plane), _roof(plane, peaks, ridge)]
    parts += [_circle(each, plane) for each in drawn]
    parts += _names(drawn[:MOST_NAMED], plane)
    told = f"{len(drawn)} operators under a roof of {peaks.gops:.3g} GOP/s."
    for each in drawn[:3]:
        told += f" {each.name}: {each.gops:.3g} GOP/s, {each.share * 100:.0f} %."
    return drawing(title, told, HEIGHT, parts)


def _speed(point: RoofPoint) -> tuple[float, float] | None:
    speed, intensity = point.gops or 0.0, point.intensity or 0.0
    return (intensity, speed) if 0 < speed < FAR and 0 < intensity < FAR else None


def _plane(points: Sequence[RoofPoint], peaks: Peaks, ridge: float) -> _Plane:
    places = [place for each in points if (place := _speed(each)) is not None]
    across = [ridge, *(x for x, _ in places)]
    up = [peaks.gops, *peaks.others.values(), *(y for _, y in places)]
    ridges = [ridge, *(each / peaks.bandwidth_gb_s for each in peaks.others.values())]
    return _Plane(
        x=(_below(min(*across, ridge / 4)), _above(max(*across, max(ridges) * 4))),
        y=(_below(min(*up, peaks.gops / 30)), _above(max(up) * 1.3)),
    )


def _below(value: float) -> int:
    return math.floor(math.log10(value))


def _above(value: float) -> int:
    return math.ceil(math.log10(value))


def _axes(plane: _Plane) -> list[Html]:
    floor, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for power in range(plane.y[0], plane.y[1] + 1):
        down = plane.down(10.0**power)
        parts.append(_line(_LEFT, down, right, down, "grid"))
        parts.append(_text(_LEFT - 10, down + 4, f"{10.0**power:g}", "tick", "end"))
    for power in range(plane.x[0], plane.x[1] + 1):
        across = plane.across(10.0**power)
        parts.append(_line(across, _TOP, across, floor, "grid"))
        words = f"{10.0**power:g}"
        parts.append(_text(across, floor + 20, words, "tick", "middle"))
    middle = (_LEFT + right) / 2
    parts.append(_text(middle, HEIGHT - 8, "operations a byte", "axis", "middle"))
    turn = f"translate(14,{(_TOP + floor) / 2:.1f}) rotate(-90)"
    parts.append(
        el("text", "GOP/s", transform=turn, class_="axis", text_anchor="middle")
    )
    return parts


def _roof(plane: _Plane, peaks: Peaks, ridge: float) -> list[Html]:
    """The slope of the memory up to the ridge, then the processor's flat, by dtype."""
    left, right = 10.0 ** plane.x[0], 10.0 ** plane.x[1]
    foot = max(left, 10.0 ** plane.y[0] / peaks.bandwidth_gb_s)
    corners = [
        (plane.across(foot), plane.down(foot * peaks.bandwidth_gb_s)),
        (plane.across(ridge), plane.down(peaks.gops)),
        (plane.across(right), plane.down(peaks.gops)),
    ]
    roofs = [_path(corners)]
    for dtype, gops in peaks.others.items():
        start = min(ridge, gops / peaks.bandwidth_gb_s)
        climbed = [(start, start * peaks.bandwidth_gb_s)]
        climbed += [(gops / peaks.bandwidth_gb_s, gops), (right, gops)]
        places = [(plane.across(x), plane.down(y)) for x, y in climbed]
        roofs.append(_path(places))
        words = f"{gops:.3g} GOP/s, {dtype}"
        roofs.append(_text(places[2][0] - 4, places[2][1] - 8, words, "tick", "end"))
    flat = f"{peaks.gops:.3g} GOP/s, {peaks.dtype}"
    slope = f"{peaks.bandwidth_gb_s:.3g} GB/s"
    (x1, y1), (x2, y2) = corners[:2]
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
    middle = f"translate({(x1 + x2) / 2:.1f},{(y1 + y2) / 2 - 8:.1f})"
    turn = f"{middle} rotate({angle:.1f})"
    return [
        *roofs,
        _text(corners[2][0] - 4, corners[2][1] - 8, flat, "tick", "end"),
        el("text", slope, transform=turn, class_="tick", text_anchor="middle"),
    ]


def _path(corners: Sequence[tuple[float, float]]) -> Html:
    line = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return el("path", d=line, class_="trace")


def _circle(point: RoofPoint, plane: _Plane) -> Html:
    x, y = _speed(point) or (1.0, 1.0)
    allowed = "" if point.of_roof is None else f", {point.of_roof:.0%} of the roof"
    tip = (
        f"{point.name} ({point.op_type}): {y:.3g} GOP/s at {x:.3g} operations a byte, "
        f"{point.share * 100:.1f} % of the time{allowed}"
    )
    kind = "chosen" if point.bound == "compute" else "tried"
    return el(
        "circle",
        el("title", tip),
        cx=f"{plane.across(x):.1f}",
        cy=f"{plane.down(y):.1f}",
        r=f"{_radius(point):.1f}",
        class_=f"point {kind}",
        fill_opacity=0.7,
    )


def _radius(point: RoofPoint) -> float:
    return max(3.0, _LARGEST * math.sqrt(min(max(point.share, 0.0), 1.0)))


def _names(points: Sequence[RoofPoint], plane: _Plane) -> list[Html]:
    """Names beside the circles, where none lies over another."""
    taken: list[tuple[float, float, float]] = []
    names = []
    for point in points:
        x, y = _speed(point) or (1.0, 1.0)
        across, down = plane.across(x), plane.down(y)
        name = show_end_of(point.name, _LONGEST_NAME)
        width = len(name) * LETTER_WIDTH
        gap = _radius(point) + 5
        is_left = across + gap + width > WIDTH
        left = across - gap - width if is_left else across + gap
        place = next(
            (
                at
                for at in (down + 4, down + 19, down - 11, down + 34, down - 26)
                if _TOP < at < HEIGHT - _BOTTOM
                and not any(
                    abs(at - other) < 15 and left < end and begin < left + width
                    for begin, end, other in taken
                )
            ),
            None,
        )
        if place is not None:
            taken.append((left, left + width, place))
            edge = across - gap if is_left else left
            names.append(
                _text(edge, place, name, "name", "end" if is_left else "start")
            )
    return names


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    shown = {key: f"{value:.1f}" for key, value in ends.items()}
    return el("line", class_=kind, **shown)


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> Html:
    return el(
        "text", words, x=f"{x:.1f}", y=f"{y:.1f}", class_=kind, text_anchor=anchor
    )
