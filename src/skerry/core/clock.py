"""Time as an argument: the only module of `core` that may read the system's clock."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio


class Alarm(Protocol):
    """A call that is still to come."""

    def cancel(self) -> object:
        """Forget it; once it was made, nothing happens."""
        ...


class Clock(Protocol):
    """What measures time."""

    def wall_s(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def cpu_s(self) -> float:
        """CPU seconds used by this process, all threads, user and system."""
        ...

    def unix_ms(self) -> int:
        """Milliseconds since 1970 as this machine believes; may jump either way."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let the event loop go on for this long."""
        ...

    def call_later(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Have the running event loop call something after this long."""
        ...


class SystemClock:
    """The clock of this machine."""

    def wall_s(self) -> float:
        """Read the monotonic clock, in seconds."""
        return time.perf_counter()

    def cpu_s(self) -> float:
        """Read the CPU time of this process, in seconds."""
        return time.process_time()

    def unix_ms(self) -> int:
        """Read the wall clock, in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        import asyncio

        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Set a timer of the running event loop."""
        import asyncio

        return asyncio.get_running_loop().call_later(seconds, call)


class FakeClock:
    """A clock that a test moves by hand.

    Args:
        unix_ms: What it says of the date at the start.

    Example:
        >>> clock = FakeClock()
        >>> clock.advance(wall_s=1.5, cpu_s=0.5)
        >>> clock.wall_s(), clock.cpu_s()
        (1.5, 0.5)
    """

    def __init__(self, *, unix_ms: int = 1_767_225_600_000) -> None:
        self._wall_s = 0.0
        self._cpu_s = 0.0
        self._unix_ms = unix_ms
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def wall_s(self) -> float:
        """Seconds that the test has let pass."""
        return self._wall_s

    def cpu_s(self) -> float:
        """CPU seconds that the test has let pass."""
        return self._cpu_s

    def unix_ms(self) -> int:
        """The date: it follows `advance`, and `set_unix_ms` sets it."""
        return self._unix_ms

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has let this much time pass."""
        import asyncio

        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._wall_s + seconds, woken))
        await woken

    def call_later(self, seconds: float, call: Callable[[], object]) -> Alarm:
        """Call it once the test has let this much time pass."""
        import asyncio

        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        woken.add_done_callback(lambda ended: ended.cancelled() or call())
        if seconds <= 0:
            woken.set_result(None)
        else:
            self._sleepers.append((self._wall_s + seconds, woken))
        return woken

    def next_wake_s(self) -> float | None:
        """When the first of those asleep wakes, on `wall_s`; None if nobody sleeps."""
        due = [due_s for due_s, woken in self._sleepers if not woken.done()]
        return min(due, default=None)

    def set_unix_ms(self, unix_ms: int) -> None:
        """Set the date, as a power cut or a time server does; nobody wakes."""
        self._unix_ms = unix_ms

    def advance(self, *, wall_s: float, cpu_s: float | None = None) -> None:
        """Let time pass and wake who is due; CPU time follows unless given."""
        self._wall_s += wall_s
        self._cpu_s += wall_s if cpu_s is None else cpu_s
        self._unix_ms += round(wall_s * 1000)
        due = [entry for entry in self._sleepers if entry[0] <= self._wall_s]
        self._sleepers = [entry for entry in self._sleepers if entry not in due]
        for _, woken in sorted(due, key=lambda entry: entry[0]):
            if not woken.done():
                woken.set_result(None)


_ZONES_FOLDER = "zoneinfo/"
_LOCAL_ZONE = Path("/etc/localtime")


def time_zone(name: str) -> dt.tzinfo | None:
    """Look a time zone up by its IANA name, such as `Europe/Oslo`; None if unknown."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return None  # no such zone, or no zones on this machine


def local_zone() -> tuple[str, dt.tzinfo]:
    """This machine's time zone: its IANA name, empty where it has none, and its rules.

    The environment's `TZ` comes first, then the system's setting, then UTC.
    """
    name = os.environ.get("TZ", "").lstrip(":")
    if not name and _LOCAL_ZONE.is_symlink():
        name = str(_LOCAL_ZONE.resolve()).partition(_ZONES_FOLDER)[2]
    zone = time_zone(name) if name else None
    return (name, zone) if zone is not None else ("", dt.UTC)
