"""Put load on a server, and count how long its answers take.

**Closed loop**: each client asks again as soon as it has its answer. It shows how much
a server can take; it says little of how long people wait, for a server that stalls is
asked less while it does.

**Open loop** (`rate_per_s`): requests are due at moments drawn beforehand (a Poisson
process, by a seed), whatever the server does, and a latency counts **from when its
request was due**, not from when a client was free to send it. A load that forgets the
requests that a stalled server kept it from sending reports the stall as a single slow
answer: G. Tene's "coordinated omission", which his wrk2 counts this way to mend
(https://github.com/giltene/wrk2). A client that was idle when its request was due
counts from when it woke: that the timer was late is no fault of the server's.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Protocol, runtime_checkable

import numpy as np

from skerry.app.serving.latencies import Latencies
from skerry.core.errors import UsageError

RECENT_S = 1.0
"""Over how long the rate of the moment is taken."""

_TICK_S = 0.5
"""Drawing takes a few ms of the event loop that times the answers: not too often."""

MOST_CLIENTS = 1024
MOST_RATE_PER_S = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """How a server is asked.

    Attributes:
        clients: How many connections; each has one request at a time.
        rate_per_s: How many requests are due each second, on average (open loop); None
            has each client ask again at once (closed loop).
        duration_s: For how long requests are sent.
        timeout_ms: After how long an answer is of no more use.
        seed: What the moments are drawn by.

    Raises:
        UsageError: One of them makes no sense.
    """

    clients: int = 8
    rate_per_s: float | None = None
    duration_s: float = 10.0
    timeout_ms: float = 1000.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check it."""
        rate_per_s = 1.0 if self.rate_per_s is None else self.rate_per_s
        if (
            not 1 <= self.clients <= MOST_CLIENTS
            or not 0 < rate_per_s <= MOST_RATE_PER_S
            or not 0 < self.duration_s <= 1e6
            or not 0 < self.timeout_ms <= 600_000
        ):
            raise UsageError(
                f"{self.clients} clients, {rate_per_s:g} requests a second, "
                f"{self.duration_s:g} s and a timeout of {self.timeout_ms:g} ms make "
                "no load",
                hint=f"Give 1 to {MOST_CLIENTS} clients, and all else above 0.",
            )


class Client(Protocol):
    """One connection to the server."""

    async def ask(self) -> str:
        """Send one request.

        Returns:
            The kind of failure in one word; nothing where it was answered.
        """
        ...

    async def close(self) -> None:
        """End the connection."""
        ...


@runtime_checkable
class BlockingClient(Protocol):
    """One connection that is waited for in a thread of its own."""

    def ask_and_wait(self) -> str:
        """Send one request, as `Client.ask`."""
        ...

    def hang_up(self) -> None:
        """End the connection."""
        ...


class Tally:
    """What came of the requests; clients of several threads may add to it.

    Attributes:
        latencies: Of those that were answered.
        failures: How many failed, by kind.
        delayed: How many were sent late because every client was waiting.
        began_s: When the load began, on the clock of `perf_counter`.
        ended_s: When its last answer came; 0 as long as it runs.
    """

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.failures: Counter[str] = Counter()
        self.delayed = 0
        self.began_s = perf_counter()
        self.ended_s = 0.0
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()

    @property
    def elapsed_s(self) -> float:
        """For how long the load has run."""
        return (self.ended_s or perf_counter()) - self.began_s

    @property
    def recent_per_s(self) -> float:
        """How many requests were answered in the last second."""
        with self._lock:
            self._forget(perf_counter())
            return len(self._recent) / RECENT_S

    def add(self, due_s: float, failure: str, *, is_delayed: bool) -> None:
        """Count one that has just ended.

        Args:
            due_s: When it was due.
            failure: The kind of failure, or nothing.
            is_delayed: Whether every client was busy when it was due.
        """
        now_s = perf_counter()
        with self._lock:
            self.delayed += is_delayed
            if failure:
                self.failures[failure] += 1
                return
            self.latencies.add((now_s - due_s) * 1000)
            self._recent.append(now_s)
            self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        while self._recent and self._recent[0] < now_s - RECENT_S:
            self._recent.popleft()


class _Schedule:
    """When the next request is due; asked by clients of several threads."""

    def __init__(self, plan: LoadPlan, began_s: float) -> None:
        self._rng = np.random.default_rng(plan.seed)
        self._mean_s = 1 / plan.rate_per_s if plan.rate_per_s else 0.0
        self._due_s = began_s
        self._end_s = began_s + plan.duration_s
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Have no more of them."""
        with self._lock:
            self._end_s = 0.0

    def take(self) -> tuple[float, float] | None:
        """The next request: when it is due, and in how long; None at the end."""
        with self._lock:
            now_s = perf_counter()
            if not self._mean_s:
                return (now_s, 0.0) if now_s < self._end_s else None
            self._due_s += self._rng.exponential(self._mean_s)
            if self._due_s >= self._end_s:
                return None
            return self._due_s, self._due_s - now_s


async def run_load(
    clients: Sequence[Client | BlockingClient],
    plan: LoadPlan,
    tally: Tally,
    *,
    on_tick: Callable[[Tally], None] | None = None,
) -> None:
    """Send requests for as long as the plan says, and wait for the last answers.

    Args:
        clients: One connection each; they are left open.
        plan: How they ask.
        tally: Where it is counted.
        on_tick: Called a few times a second.
    """
    tally.began_s = perf_counter()
    schedule = _Schedule(plan, tally.began_s)
    loop = asyncio.get_running_loop()
    ticking = asyncio.create_task(_tick(tally, on_tick)) if on_tick else None
    with ThreadPoolExecutor(len(clients), "skerry-load") as threads:
        try:
            await asyncio.gather(
                *(
                    loop.run_in_executor(
                        threads, _ask_blocking, client, schedule, tally
                    )
                    if isinstance(client, BlockingClient)
                    else _ask(client, schedule, tally)
                    for client in clients
                )
            )
        finally:
            schedule.stop()
            tally.ended_s = perf_counter()
            if ticking is not None:
                ticking.cancel()
                await asyncio.gather(ticking, return_exceptions=True)
    if on_tick is not None:
        on_tick(tally)


async def _ask(client: Client, schedule: _Schedule, tally: Tally) -> None:
    while (taken := schedule.take()) is not None:
        due_s, in_s = taken
        if in_s > 0:
            await asyncio.sleep(in_s)
            due_s = perf_counter()
        failure = await client.ask()
        tally.add(due_s, failure, is_delayed=in_s < 0)


def _ask_blocking(client: BlockingClient, schedule: _Schedule, tally: Tally) -> None:
    while (taken := schedule.take()) is not None:
        due_s, in_s = taken
        if in_s > 0:
            sleep(in_s)
            due_s = perf_counter()
        failure = client.ask_and_wait()
        tally.add(due_s, failure, is_delayed=in_s < 0)


async def _tick(tally: Tally, on_tick: Callable[[Tally], None]) -> None:
    while True:
        on_tick(tally)
        await asyncio.sleep(_TICK_S)
