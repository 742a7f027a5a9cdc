from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import UsageError
from skerry.core.fleet import Window
from skerry.evolve.window import DAYS, is_open, next_opening, parse_window

OSLO = ZoneInfo("Europe/Oslo")


def _ms(text: str, zone: dt.tzinfo = OSLO) -> int:
    return round(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1e3)


def _next(window: str, now: str) -> str:
    opens_ms = next_opening(parse_window(window), OSLO, _ms(now))
    return f"{dt.datetime.fromtimestamp(opens_ms / 1000, OSLO):%Y-%m-%dT%H:%M}"


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ("02:00-05:00", "2026-06-10T01:00", "2026-06-10T02:00"),
        ("02:00-05:00", "2026-06-10T02:00", "2026-06-10T02:00"),
        ("02:00-05:00", "2026-06-10T04:59", "2026-06-10T04:59"),
        ("02:00-05:00", "2026-06-10T05:00", "2026-06-11T02:00"),
        ("22:00-04:00", "2026-06-10T03:00", "2026-06-10T03:00"),
        ("22:00-04:00", "2026-06-10T04:00", "2026-06-10T22:00"),
        ("00:00-00:00", "2026-06-10T12:34", "2026-06-10T12:34"),
        ("sat,sun 02:00-05:00", "2026-06-10T12:00", "2026-06-13T02:00"),
        ("fri 22:00-04:00", "2026-06-13T03:00", "2026-06-13T03:00"),
        ("fri 22:00-04:00", "2026-06-13T23:00", "2026-06-19T22:00"),
        # The night in which 02:00 to 03:00 does not exist there.
        ("02:00-05:00", "2026-03-29T01:30", "2026-03-29T03:00"),
        ("02:15-02:45", "2026-03-29T01:00", "2026-03-29T03:15"),
        # The night in which 02:00 to 03:00 comes twice.
        ("02:30-05:00", "2026-10-25T01:00", "2026-10-25T02:30"),
    ],
)
def test_a_window_opens_by_the_clock_on_the_wall(
    window: str, now: str, opens: str
) -> None:
    """Within the day, over midnight, on some days, and in nights of clock changes."""
    assert _next(window, now) == opens


def test_each_place_has_its_own_night() -> None:
    """The same window is open here and closed there."""
    window, now_ms = parse_window("02:00-05:00"), _ms("2026-06-10T03:00")
    assert is_open(window, OSLO, now_ms)
    assert not is_open(window, ZoneInfo("America/Lima"), now_ms)


@pytest.mark.parametrize(
    "text", ["", "2-5", "25:00-05:00", "02:00", "mo 02:00-05:00", "mon-x 02:00-05:00"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    """The message shows what was given."""
    with pytest.raises(UsageError, match="maintenance window"):
        parse_window(text)


def test_days_may_be_ranges_over_the_week_end() -> None:
    """They are kept in the order of the week."""
    assert parse_window("sat-mon,wed 01:00-02:00").days == ("mon", "wed", "sat", "sun")


TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
WINDOWS = st.builds(
    Window,
    opens=TIMES,
    closes=TIMES,
    days=st.lists(st.sampled_from(DAYS), unique=True).map(tuple),
)


@given(
    window=WINDOWS,
    zone=st.sampled_from(["Europe/Oslo", "America/New_York", "UTC", "Asia/Kolkata"]),
    now_ms=st.integers(0, 4_000_000_000_000),
)
def test_an_opening_is_the_next_one(window: Window, zone: str, now_ms: int) -> None:
    """It lies ahead, within eight days, it is open then, and not just before."""
    place = ZoneInfo(zone)
    opens_ms = next_opening(window, place, now_ms)
    assert now_ms <= opens_ms <= now_ms + 8 * 86_400_000 + 7_200_000
    assert is_open(window, place, opens_ms)
    if opens_ms > now_ms:
        assert not is_open(window, place, opens_ms - 1)


@given(now_ms=st.integers(-(2**62), 2**62))
def test_a_date_beyond_the_calendar_stops_nobody(now_ms: int) -> None:
    """Whatever the clock says, there is an answer."""
    assert next_opening(parse_window("02:00-05:00"), dt.UTC, now_ms) >= now_ms
