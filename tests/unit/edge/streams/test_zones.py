from __future__ import annotations

from collections.abc import Sequence

import pytest

from skerry.core.errors import UsageError
from skerry.edge.streams.tracks import Seen, Tracker
from skerry.edge.streams.zones import Line, Rules, Zone

DOOR = Zone(
    name="door", points=((0.4, 0.5), (0.8, 0.5), (0.8, 1.0), (0.4, 1.0)), stay_s=1
)
GATE = Line(name="gate", start=(0.5, 0.0), end=(0.5, 1.0))


def play(
    rules: Rules, lefts: Sequence[float | None], *, step_s: float = 0.2
) -> list[str]:
    """Let somebody walk; what is told, as `kind where way`."""
    tracker, told = Tracker(lost_s=0.5), []
    for number, left in enumerate(lefts):
        seen = [] if left is None else [_somebody(left)]
        found = rules.update(tracker.update(seen, number * step_s), number * step_s)
        told += [f"{one.kind} {one.where} {one.way}".strip() for one in found]
    return [" ".join(one.split()) for one in told]


def _somebody(left: float) -> Seen:
    return Seen(region=(left - 0.05, 0.3, left + 0.05, 0.7), score=0.9, label="person")


def test_who_walks_through_a_zone_enters_and_leaves_it() -> None:
    """Each is told once; a foot on the edge for one look is neither."""
    lefts = [0.1 + 0.05 * step for step in range(18)]
    rules = Rules(zones=[DOOR])
    assert play(rules, lefts) == [
        "appeared",
        "entered door",
        "stayed door",
        "left door",
    ]
    assert rules.counts == {
        "appeared": 1,
        "entered door": 1,
        "stayed door": 1,
        "left door": 1,
    }


def test_who_stands_on_the_edge_is_told_of_once() -> None:
    """A box that jitters is no coming and going."""
    lefts = [0.38 + 0.04 * (step % 2) for step in range(40)]
    assert play(Rules(zones=[DOOR]), lefts) == ["appeared"]


def test_who_vanishes_in_a_zone_has_left_it() -> None:
    """And is gone."""
    rules = Rules(zones=[DOOR])
    told = play(rules, [0.6, 0.6, 0.6, None, None, None, None, None])
    assert told == ["appeared", "entered door", "left door", "gone"]
    assert rules.present() == {"door": 0}


def test_a_line_is_crossed_in_a_direction() -> None:
    """Each time, and only between its ends."""
    there = [0.3 + 0.05 * step for step in range(9)]
    rules = Rules(lines=[GATE])
    assert play(rules, [*there, *reversed(there)]) == [
        "appeared",
        "crossed gate left",
        "crossed gate right",
    ]
    short = Line(name="short", start=(0.5, 0.0), end=(0.5, 0.2))
    assert play(Rules(lines=[short]), there) == ["appeared"]


@pytest.mark.parametrize(
    ("x", "y", "where"),
    [(0.5, 0.3, "in"), (0.9, 0.3, "out"), (0.5, 0.9, "out"), (0.02, 0.5, "out")],
)
def test_a_zone_may_have_any_shape(x: float, y: float, where: str) -> None:
    """The even-odd rule; a triangle here."""
    zone = Zone(name="a", points=((0.0, 0.1), (1.0, 0.1), (0.5, 0.8)))
    assert zone.holds((x, y)) is (where == "in")


def test_places_that_are_none_are_refused() -> None:
    """Two corners, or one outside of the picture."""
    with pytest.raises(UsageError, match="corners"):
        Zone(name="a", points=((0, 0), (1, 1)))
    with pytest.raises(UsageError, match="0 to 1"):
        Zone(name="a", points=((0, 0), (1, 1), (2, 0)))
    with pytest.raises(UsageError, match="line a"):
        Line(name="a", start=(0.5, 0.5), end=(0.5, 0.5))
