"""Maintenance windows: when a device may be updated, by the clock on its wall.

A window is some hours of some days. Its times are those of a place, so the hours of a
night in which clocks are set forward or back are counted as they pass there: a time
that does not exist that night is taken as PEP 495 ("Local Time Disambiguation") takes
it with `fold=0`.
"""

from __future__ import annotations

import datetime as dt
import re

from skerry.core.errors import UsageError
from skerry.core.fleet import Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

SPREAD_S = 300.0
"""Within how long after a window opens the devices of a fleet begin, each at a moment
of its own."""

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_WINDOW = re.compile(r"(?:([a-z][a-z,-]*)\s+)?(\d\d:\d\d)\s*-\s*(\d\d:\d\d)", re.ASCII)
_AHEAD_DAYS = 9
"""A week, the night that has begun already, and one that a change of time may eat."""


def parse_window(text: str, *, allows_download: bool = False, zone: str = "") -> Window:
    """Read a window as people write it.

    Args:
        text: `[DAYS] HH:MM-HH:MM`; days are names and ranges separated by commas.
        allows_download: Whether only the switch waits for it.
        zone: The time zone for devices that say nothing of theirs; empty is their own.

    Raises:
        UsageError: It is none.

    Example:
        >>> parse_window("sat,sun 02:00-05:00").days
        ('sat', 'sun')
        >>> parse_window("mon-wed 22:00-04:00").days
        ('mon', 'tue', 'wed')
    """
    match = _WINDOW.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(
            f"{text[:80]!r} is no maintenance window",
            hint="Write 02:00-05:00, or with days: sat,sun 02:00-05:00.",
        )
    days = [day for part in (match[1] or "").split(",") for day in _days(part)]
    window = Window(
        opens=match[2],
        closes=match[3],
        days=tuple(day for day in DAYS if day in days),
        allows_download=allows_download,
        zone=zone,
    )
    check_window(window)
    return window


def check_window(window: Window) -> None:
    """Refuse a window that cannot be one.

    Raises:
        UsageError: A day or a time makes no sense.
    """
    times = (window.opens, window.closes)
    wrong = [time for time in times if not _TIME.fullmatch(time)]
    wrong += [day for day in window.days if day not in DAYS]
    if wrong:
        raise UsageError(
            f"a maintenance window with {wrong[0][:40]!r} in it",
            hint=f"Times are HH:MM, days {', '.join(DAYS)}.",
        )


def next_opening(window: Window, zone: dt.tzinfo, now_ms: int) -> int:
    """Tell when a window is open next.

    Args:
        window: Which; its own zone is the caller's to look up.
        zone: The time zone of the place.
        now_ms: Milliseconds since 1970.

    Returns:
        `now_ms` while it is open, else when it opens, milliseconds since 1970.
    """
    try:
        today = dt.datetime.fromtimestamp(now_ms / 1000, zone).date()
        openings = [
            _open(window, today + dt.timedelta(days=ahead), zone)
            for ahead in range(-1, _AHEAD_DAYS)
        ]
    except (OverflowError, OSError, ValueError):
        return now_ms  # a date beyond the calendar is no reason never to be updated
    spans = [span for span in openings if span is not None and span[1] > now_ms]
    return max(now_ms, min((opens for opens, _ in spans), default=now_ms))


def is_open(window: Window, zone: dt.tzinfo, now_ms: int) -> bool:
    """Whether a window is open; see `next_opening`."""
    return next_opening(window, zone, now_ms) == now_ms


def _open(window: Window, day: dt.date, zone: dt.tzinfo) -> tuple[int, int] | None:
    """From when to when it is open that opens on a day, or None."""
    if window.days and DAYS[day.weekday()] not in window.days:
        return None
    opens, closes = (dt.time.fromisoformat(t) for t in (window.opens, window.closes))
    last = day if closes > opens else day + dt.timedelta(days=1)
    since = dt.datetime.combine(day, opens, zone).timestamp()
    until = dt.datetime.combine(last, closes, zone).timestamp()
    return (round(since * 1000), round(until * 1000)) if since < until else None


def _days(part: str) -> tuple[str, ...]:
    first, dash, last = part.partition("-")
    if not part:
        return ()
    if first not in DAYS or (dash and last not in DAYS):
        raise UsageError(
            f"a maintenance window on {part[:40]!r}",
            hint=f"Days are {', '.join(DAYS)}, or a range such as mon-fri.",
        )
    if not dash:
        return (first,)
    since, until = DAYS.index(first), DAYS.index(last)
    return (*DAYS, *DAYS)[since : until + 1 + (len(DAYS) if until < since else 0)]
