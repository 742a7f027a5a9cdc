"""What happens in a camera's picture: zones, lines, counts, and who stays how long.

An object is where its foot is: the middle of its lower edge. Each track enters a zone
once until it has left it, crosses a line once each time, and is told once of staying.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from skerry.core.errors import UsageError
from skerry.edge.streams.tracks import Track, Tracked

INERTIA = 2
"""An object is in a zone, or out of it, when so many looks in a row have it so."""

Point = tuple[float, float]
"""Fractions of the picture's width and height, from its left upper corner."""


class Kind(StrEnum):
    """What happened."""

    APPEARED = "appeared"
    GONE = "gone"
    ENTERED = "entered"
    LEFT = "left"
    STAYED = "stayed"
    CROSSED = "crossed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A part of the picture.

    Attributes:
        name: What it is called.
        points: Its corners, three or more.
        stay_s: After how long somebody's staying is told; 0: never.
    """

    name: str
    points: tuple[Point, ...]
    stay_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what encloses nothing.

        Raises:
            UsageError: There are fewer than three corners, or one lies outside.
        """
        is_inside = all(0 <= side <= 1 for point in self.points for side in point)
        if len(self.points) < 3 or not is_inside or not self.stay_s >= 0:
            raise UsageError(
                f"zone {self.name}: got {len(self.points)} corners and stay_s "
                f"{self.stay_s}; expected three corners or more, each 0 to 1, and 0 s "
                "or more",
                hint="Corners are fractions of the picture's width and height.",
            )

    def holds(self, point: Point) -> bool:
        """Whether a point lies in it, by the even-odd rule."""
        x, y = point
        is_in = False
        for (x1, y1), (x2, y2) in _edges(self.points):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                is_in = not is_in
        return is_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that objects cross: from left to right as seen from its start, or back.

    Attributes:
        name: What it is called.
        start: One end.
        end: The other.
    """

    name: str
    start: Point
    end: Point

    def __post_init__(self) -> None:
        """Refuse a line without length.

        Raises:
            UsageError: Both ends are one, or lie outside.
        """
        sides = (*self.start, *self.end)
        if self.start == self.end or not all(0 <= side <= 1 for side in sides):
            raise UsageError(
                f"line {self.name}: got {self.start} and {self.end}, expected two "
                "points, each 0 to 1",
                hint="Ends are fractions of the picture's width and height.",
            )

    def crossed(self, before: Point, after: Point) -> str:
        """`right` or `left` where the way between two points crosses it, else empty."""
        one, other = self._side(before), self._side(after)
        if (one > 0) == (other > 0):
            return ""
        way = _cross(before, after, self.start), _cross(before, after, self.end)
        if (way[0] > 0) == (way[1] > 0):
            return ""
        return "right" if other > 0 else "left"

    def _side(self, point: Point) -> float:
        return _cross(self.start, self.end, point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened to one object.

    Attributes:
        kind: What.
        track: Whom.
        where: The zone or the line; empty where neither.
        way: `left` or `right` over a line.
        stayed_s: For how long it was in the zone, or in sight.
    """

    kind: Kind
    track: Track
    where: str = ""
    way: str = ""
    stayed_s: float = 0.0


class _Known:
    """Where a track was: its foot, and since when it is in which zones."""

    def __init__(self, foot: Point) -> None:
        self.foot = foot
        self.turned: Counter[str] = Counter()
        self.since_s: dict[str, float] = {}
        self.told: set[str] = set()


class Rules:
    """Watches the zones and lines of one camera.

    Attributes:
        counts: How often each kind of thing happened: `crossed door right`.
    """

    def __init__(self, zones: Sequence[Zone] = (), lines: Sequence[Line] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._zones = tuple(zones)
        self._lines = tuple(lines)
        self._known: dict[int, _Known] = {}

    def present(self) -> dict[str, int]:
        """How many are in each zone now."""
        return {
            zone.name: sum(zone.name in one.since_s for one in self._known.values())
            for zone in self._zones
        }

    def update(self, tracked: Tracked, now_s: float) -> list[Happening]:
        """Take what a look changed, and tell what happened."""
        found = [
            happening
            for track in tracked.tracks
            if track.is_confirmed and track.last_s == now_s
            for happening in self._follow(track, now_s)
        ]
        for track in tracked.ended:
            known = self._known.pop(track.id, None)
            if known is None:
                continue
            for zone, since_s in known.since_s.items():
                stayed_s = track.last_s - since_s
                found.append(_tell(Kind.LEFT, track, zone, stayed_s=stayed_s))
            found.append(_tell(Kind.GONE, track, stayed_s=track.last_s - track.first_s))
        for one in found:
            words = [one.kind.value, one.where, one.way]
            self.counts[" ".join(word for word in words if word)] += 1
        return found

    def _follow(self, track: Track, now_s: float) -> Iterator[Happening]:
        foot = _foot(track)
        known = self._known.get(track.id)
        if known is None:
            known = self._known[track.id] = _Known(foot)
            yield _tell(Kind.APPEARED, track)
        for line in self._lines:
            way = line.crossed(known.foot, foot)
            if way:
                yield _tell(Kind.CROSSED, track, line.name, way=way)
        known.foot = foot
        for zone in self._zones:
            yield from _zone(zone, track, known, now_s)


def _zone(zone: Zone, track: Track, known: _Known, now_s: float) -> Iterator[Happening]:
    is_in, since_s = zone.holds(known.foot), known.since_s.get(zone.name)
    if is_in == (since_s is not None):
        known.turned[zone.name] = 0
    else:
        known.turned[zone.name] += 1
        if known.turned[zone.name] < INERTIA:
            return
    if is_in and since_s is None:
        known.since_s[zone.name] = now_s
        yield _tell(Kind.ENTERED, track, zone.name)
    elif is_in and since_s is not None:
        stayed_s = now_s - since_s
        if 0 < zone.stay_s <= stayed_s and zone.name not in known.told:
            known.told.add(zone.name)
            yield _tell(Kind.STAYED, track, zone.name, stayed_s=stayed_s)
    elif since_s is not None:
        del known.since_s[zone.name]
        known.told.discard(zone.name)
        yield _tell(Kind.LEFT, track, zone.name, stayed_s=now_s - since_s)


def _tell(
    kind: Kind, track: Track, where: str = "", *, way: str = "", stayed_s: float = 0.0
) -> Happening:
    return Happening(kind=kind, track=track, where=where, way=way, stayed_s=stayed_s)


def _foot(track: Track) -> Point:
    left, _, right, bottom = track.region
    return (left + right) / 2, bottom


def _edges(points: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    yield from zip(points, (*points[1:], points[0]), strict=True)


def _cross(start: Point, end: Point, point: Point) -> float:
    """Above 0 where the point lies to the right of the way, y pointing down."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (
        point[0] - start[0]
    )
