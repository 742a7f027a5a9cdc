"""What work may take, and where it is done: on the event loop, or on a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from skerry.core.clock import Clock

SHORT_S = 0.006
"""Work that usually takes no longer is short."""

SHARE = 0.4
"""So much of an event loop's time short work may take."""

REST_S = 10.0
"""What has become long goes to threads for so long, before it is tried again."""

_T = TypeVar("_T")
_BURST_S = 0.05
_RECENT = 0.2
"""Weight of the newest time in the running mean."""


class Allowance:
    """What something may cost: so many seconds of work in a second.

    A token bucket: who did not use it may use it up to `burst_s` later.

    Args:
        share: Seconds in a second.
        burst_s: Most that is saved.
    """

    def __init__(self, *, share: float, burst_s: float = 1.0) -> None:
        self._share = share
        self._burst_s = burst_s
        self._left_s = burst_s
        self._since_s: float | None = None

    def spend(self, took_s: float, *, now_s: float) -> None:
        """Charge work that was done."""
        self._refill(now_s)
        self._left_s -= took_s

    def is_spent(self, *, now_s: float) -> bool:
        """Whether no more may be done now."""
        self._refill(now_s)
        return self._left_s <= 0

    def _refill(self, now_s: float) -> None:
        if self._since_s is not None:
            gain_s = max(0.0, now_s - self._since_s) * self._share
            self._left_s = min(self._burst_s, self._left_s + gain_s)
        self._since_s = now_s


class ShortWork:
    """Tells whether work had better be done at once, on the event loop's own thread.

    To have a thread do it wakes that thread, and then the loop: on a virtual machine
    0.1 to 0.5 ms of CPU, more than a small picture takes to decode. So work is done at
    once as long as it is short and the loop has time; what it is called tells one kind
    from another. It must never wait for anything.

    Args:
        short_s: How long work may usually take.
        share: How much of the loop's time it may take, all in all.
    """

    def __init__(self, *, short_s: float = SHORT_S, share: float = SHARE) -> None:
        self._short_s = short_s
        self._allowance = Allowance(share=share, burst_s=_BURST_S)
        self._typical_s: dict[str, float] = {}
        self._rests_until_s: dict[str, float] = {}

    def is_due(self, work: str, *, now_s: float) -> bool:
        """Whether it is to be done at once."""
        is_resting = now_s < self._rests_until_s.get(work, now_s)
        return not is_resting and not self._allowance.is_spent(now_s=now_s)

    def at_once(self, work: str, call: Callable[[], _T], *, clock: Clock) -> _T:
        """Do it here and now, and take in how long that took."""
        begun_s = clock.wall_s()
        try:
            return call()
        finally:
            now_s = clock.wall_s()
            self.took(work, now_s - begun_s, now_s=now_s)

    def took(self, work: str, took_s: float, *, now_s: float) -> None:
        """Take in how long it took the loop's thread."""
        self._allowance.spend(took_s, now_s=now_s)
        typical_s = self._typical_s.get(work, 0.0)
        typical_s += _RECENT * (took_s - typical_s)
        if typical_s > self._short_s:
            self._rests_until_s[work] = now_s + REST_S
            typical_s = self._short_s / 2  # so that one more long time is enough
        self._typical_s[work] = typical_s
