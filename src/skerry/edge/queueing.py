"""Requests that wait for a release: by priority, and nobody for ever."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import queue
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from skerry.core.clock import Alarm
from skerry.core.seams import Array, Tensors

BACKGROUND = -1
"""The priority of what nobody waits for."""

AGE_S = 2.0
"""A request gains one priority for each so many seconds that it waits."""

PRIORITIES = (-10, 10)
"""The lowest and the highest priority."""

_RECENT = 0.1
"""Weight of the newest inference in the running mean of their times."""

_serials = itertools.count()

Make = Callable[[dict[str, Array], float], Any]
"""Makes an answer of the outputs and of the elapsed time in milliseconds."""


class Started(Protocol):
    """An inference under way, which an event loop waits for."""

    def finish(self) -> dict[str, Array]:
        """Its outputs, on any thread; it waits for them where they are not there yet.

        It is called once, whatever becomes of the request; it raises what `run` does.
        """
        ...

    def leave(self) -> None:
        """The event loop waits no more: a thread will, in `finish`."""
        ...


class State(Enum):
    """Where a request stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Request:
    """One request, from when it is taken in until its inference has ended.

    Args:
        inputs: One array an input.
        answered: What its caller awaits.
        make: What makes the answer.
        arrived_s: When it came, on the clock.
        due_s: When its answer is of no more use; None: never.
        priority: Higher ones go first; below 0, it must not hold up others.
        is_counted: Whether it counts in the release's figures.
        is_beside: Whether it is one that another release has answered.
    """

    __slots__ = (
        "alarm",
        "answered",
        "began_s",
        "charged_s",
        "due_s",
        "has_turn",
        "inputs",
        "interruptions",
        "is_background",
        "is_beside",
        "is_counted",
        "key",
        "make",
        "priority",
        "started",
        "state",
        "thread",
    )

    def __init__(
        self,
        inputs: Tensors,
        *,
        answered: asyncio.Future[Any],
        make: Make,
        arrived_s: float,
        due_s: float | None = None,
        priority: int = 0,
        is_counted: bool = True,
        is_beside: bool = False,
    ) -> None:
        self.inputs = inputs
        self.answered = answered
        self.make = make
        self.due_s = due_s
        self.priority = priority
        self.is_counted = is_counted
        self.is_beside = is_beside
        # As though it had come earlier: so that all age alike, the order of two
        # requests never changes, and a heap holds them.
        self.key = (arrived_s - AGE_S * priority, next(_serials))
        self.state = State.WAITING
        self.began_s = arrived_s
        self.thread: int | None = None
        self.started: Started | None = None
        self.interruptions = 0
        self.charged_s = 0.0
        self.has_turn = False
        self.is_background = False
        self.alarm: Alarm | None = None


class Share:
    """What one name has used of the CPUs, in the time of `skerry.edge.turns`."""

    __slots__ = ("pending", "used_s", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.used_s = 0.0
        self.pending = 0


class Line:
    """The requests of one release; whoever touches it holds the lock of its `Turns`.

    Args:
        share: Of the release's name.
        threads: How many of them run at once.
        max_waiting: How many more may wait.
        typical_s: How long an inference took so far.
        begin: What begins a request whose turn has come; None: the threads do.

    Attributes:
        begin: The same.
        jobs: What its threads are to run; None ends one.
        idle: Threads without a request.
        pending: Requests that wait or run.
        typical_s: How long an inference takes: the running mean.
    """

    def __init__(
        self,
        share: Share,
        *,
        threads: int,
        max_waiting: int,
        typical_s: float,
        begin: Callable[[Request], None] | None = None,
    ) -> None:
        self.share = share
        self.threads = threads
        self.max_waiting = max_waiting
        self.typical_s = typical_s
        self.jobs: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self.begin: Callable[[Request], None] = begin or self.jobs.put
        self.idle = threads
        self.waiting = 0
        self.pending = 0
        self.is_retired = False
        self._heap: list[tuple[tuple[float, int], Request]] = []

    @property
    def is_full(self) -> bool:
        """Whether no more requests are taken in."""
        return self.pending >= self.threads + self.max_waiting

    def retry_after_s(self) -> float:
        """When the requests that wait now will have been answered, about."""
        return max(1, self.waiting) * self.typical_s / self.threads

    def push(self, request: Request) -> None:
        """Let a request wait."""
        heapq.heappush(self._heap, (request.key, request))
        self.waiting += 1

    def head(self) -> Request:
        """The one that is next; at least one must wait."""
        while self._heap[0][1].state is not State.WAITING:
            heapq.heappop(self._heap)
        return self._heap[0][1]

    def pop(self) -> Request:
        """Take the one that is next; at least one must wait."""
        request = self.head()
        heapq.heappop(self._heap)
        self.waiting -= 1
        return request

    def last(self) -> Request | None:
        """The one that would be the last, or None where none waits."""
        waiting = [entry for entry in self._heap if entry[1].state is State.WAITING]
        return max(waiting)[1] if waiting else None

    def drop(self, request: Request) -> None:
        """Take out one that waits."""
        request.state = State.ENDED
        self.waiting -= 1
        if 2 * self.waiting < len(self._heap):  # what was dropped holds its tensors
            self._heap = [e for e in self._heap if e[1].state is State.WAITING]
            heapq.heapify(self._heap)

    def note(self, took_s: float) -> None:
        """Take an inference's time into the running mean."""
        self.typical_s += _RECENT * (took_s - self.typical_s)
