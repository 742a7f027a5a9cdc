"""When a picture was taken, what its packet's size tells, and what decoding may cost.

Pure rules: time is an argument. A camera's own timestamps are believed as long as they
agree with the clock here; they tell what a wait in a buffer hides. Where they lie, the
moment of arrival stands for them.
"""

from __future__ import annotations

from collections import deque
from statistics import median

LONGEST_TRANSIT_S = 0.5
"""No packet that has just come was taken earlier than this."""

FRESH_WAIT_S = 0.002
"""Who had to wait for a packet this long has nothing older in its buffers."""

LONGEST_STEP_S = 10.0
"""Between two pictures of one camera; more is a jump of its clock."""

LEAST_KNOWN = 8
"""Packets whose sizes must be known before one is odd."""

DRIFT = 0.001
"""How fast two clocks may go apart, seconds in a second."""


class CaptureTimes:
    """Maps a camera's timestamps onto the clock here.

    The offset between both is the least that was seen: a packet can come late, and
    never early. It gives way slowly, for clocks drift (the minimum filter of D. Mills,
    RFC 5905, section 10, in one dimension).

    Attributes:
        lies: How often a timestamp was not believed.
    """

    def __init__(self) -> None:
        self.lies = 0
        self._offset_s: float | None = None
        self._last_pts_s = 0.0
        self._last_now_s = 0.0
        self._last_s = float("-inf")

    def restart(self) -> None:
        """Forget the camera's clock: it was opened again."""
        self._offset_s = None

    def place(self, pts_s: float | None, *, now_s: float, waited_s: float) -> float:
        """Tell when a picture was taken.

        Args:
            pts_s: Its timestamp, or None.
            now_s: When its packet was read.
            waited_s: For how long nothing was there to be read before.

        Returns:
            Seconds on the clock here, never after `now_s`, never before the picture
            before it.
        """
        taken_s = now_s if pts_s is None else self._place(pts_s, now_s)
        if waited_s >= FRESH_WAIT_S and taken_s < now_s - LONGEST_TRANSIT_S:
            # It has only just come: a clock that stood still, or runs too slowly.
            self.lies += 1
            self._offset_s = None if pts_s is None else now_s - pts_s
            taken_s = now_s
        self._last_s = min(max(taken_s, self._last_s), now_s)
        return self._last_s

    def _place(self, pts_s: float, now_s: float) -> float:
        candidate_s = now_s - pts_s
        step_s = pts_s - self._last_pts_s
        is_first = self._offset_s is None
        if not is_first and not 0 < step_s <= LONGEST_STEP_S:
            self.lies += 1
            is_first = True
        if is_first or self._offset_s is None:
            self._offset_s = candidate_s
        else:
            slack_s = DRIFT * max(0.0, now_s - self._last_now_s)
            self._offset_s = min(candidate_s, self._offset_s + slack_s)
        self._last_pts_s, self._last_now_s = pts_s, now_s
        return pts_s + self._offset_s


class PacketHint:
    """Tells from packets' sizes alone that something moves, without decoding.

    A still scene costs an encoder almost nothing between two pictures that stand alone.
    """

    def __init__(self, *, times: float = 2.0, floor_bytes: int = 200) -> None:
        self._times = times
        self._floor_bytes = floor_bytes
        self._sizes: deque[int] = deque(maxlen=25)

    def take(self, size_bytes: int) -> bool:
        """Take the size of a packet that does not stand alone; says whether it is odd.

        Nothing is, before it is known what is usual.
        """
        usual = median(self._sizes) if len(self._sizes) >= LEAST_KNOWN else None
        is_odd = (
            usual is not None and size_bytes > self._times * usual + self._floor_bytes
        )
        # What moves must not become the usual at once: an odd size counts as the limit.
        limit = round(self._times * usual) if usual is not None else size_bytes
        self._sizes.append(limit if is_odd else size_bytes)
        return is_odd


class BackOff:
    """How long to wait before a camera is tried again: longer each time.

    Args:
        first_s: The first wait.
        most_s: The longest one.
        share: Where in the upper half of a wait this camera comes, 0–1: so that those
            that failed together do not come back together.
    """

    def __init__(
        self, *, first_s: float = 1.0, most_s: float = 30.0, share: float = 0.5
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._share = share
        self._failures = 0

    def fail(self) -> float:
        """Count a failure, and say how long to wait now."""
        wait_s = min(self._most_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return wait_s * (0.5 + 0.5 * self._share)

    def reset(self) -> None:
        """It works again."""
        self._failures = 0


class FilePace:
    """When the pictures of a file are due, which is when they count as taken.

    Args:
        begun_s: When the file was begun.
        period_s: From one picture to the next, where the file does not say.

    Attributes:
        lies: How often a timestamp was not believed.
    """

    def __init__(self, *, begun_s: float, period_s: float) -> None:
        self.lies = 0
        self._begun_s = begun_s
        self._period_s = period_s
        self._first_pts_s: float | None = None
        self._next_s = 0.0
        self._shift_s = 0.0

    def place(self, pts_s: float | None) -> float:
        """Tell when the next picture is due; never before the one before it."""
        if pts_s is None:
            due_s = self._next_s
        else:
            if self._first_pts_s is None:
                self._first_pts_s = pts_s
            due_s = pts_s - self._first_pts_s + self._shift_s
            if not self._next_s - self._period_s <= due_s <= self._next_s + 5:
                self.lies += 1
                self._shift_s += self._next_s - due_s
                due_s = self._next_s
        self._next_s = due_s + self._period_s
        return self._begun_s + due_s
