"""When to stop replacing what dies again and again."""

from __future__ import annotations

from collections import deque

MOST_DEATHS = 3
"""Deaths within the window, without one good answer between them."""

WINDOW_S = 60.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class CrashLoop:
    """Counts deaths; after too many in a row it asks for ever longer pauses."""

    def __init__(self) -> None:
        self._deaths_s: deque[float] = deque(maxlen=MOST_DEATHS)
        self._pause_s = FIRST_PAUSE_S
        self._until_s = float("-inf")

    def answered(self) -> None:
        """Forget the deaths: it can do its work."""
        if self._deaths_s:
            self._deaths_s.clear()
            self._pause_s = FIRST_PAUSE_S
            self._until_s = float("-inf")

    def died(self, now_s: float) -> None:
        """Count one more."""
        self._deaths_s.append(now_s)
        is_full = len(self._deaths_s) == MOST_DEATHS
        if is_full and now_s - self._deaths_s[0] <= WINDOW_S:
            self._until_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def pause_s(self, now_s: float) -> float:
        """How long to wait before the next try; 0 for not at all."""
        return max(0.0, self._until_s - now_s)
