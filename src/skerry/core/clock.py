"""Time as an argument: the only module of `core` that may read the system's clock."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What measures time."""

    def wall_s(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def cpu_s(self) -> float:
        """CPU seconds used by this process, all threads, user and system."""
        ...


class SystemClock:
    """The clock of this machine."""

    def wall_s(self) -> float:
        """Read the monotonic clock, in seconds."""
        return time.perf_counter()

    def cpu_s(self) -> float:
        """Read the CPU time of this process, in seconds."""
        return time.process_time()


class FakeClock:
    """A clock that a test moves by hand.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(wall_s=1.5, cpu_s=0.5)
        >>> clock.wall_s(), clock.cpu_s()
        (1.5, 0.5)
    """

    def __init__(self) -> None:
        self._wall_s = 0.0
        self._cpu_s = 0.0

    def wall_s(self) -> float:
        """Seconds that the test has let pass."""
        return self._wall_s

    def cpu_s(self) -> float:
        """CPU seconds that the test has let pass."""
        return self._cpu_s

    def advance(self, *, wall_s: float, cpu_s: float | None = None) -> None:
        """Let time pass; CPU time follows wall time unless given."""
        self._wall_s += wall_s
        self._cpu_s += wall_s if cpu_s is None else cpu_s
