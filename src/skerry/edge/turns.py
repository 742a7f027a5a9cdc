"""Whose inference runs next: fair turns on the CPUs for all that is served.

At most so many inferences run at once as there are CPUs to use. A turn goes to the name
that has used the least of them, by start-time fair queueing (P. Goyal, H. M. Vin,
H. Cheng, "Start-Time Fair Queueing", SIGCOMM 1996): a name that had nothing to do
begins where the others are, so that it neither owes for the past nor saves for the
future. It uses what its inferences take, each on one CPU; that is charged when one
begins, by what is typical, and set right when it ends.

Requests in the background come after all others, and one fewer of them run at once than
there are CPUs, until they have waited `skerry.edge.queueing.AGE_S`.

A turn of an inference that hangs is taken back, and the others go on: at its deadline
(`give_back`), or when others wait and it has kept it for far longer than is usual.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping

from skerry.core.clock import Clock
from skerry.core.errors import UsageError
from skerry.edge.queueing import Line, Request, Share, State

HANG_TIMES = 10
"""An inference hangs that has run for so many times as long as is usual, ..."""

LONGEST_TURN_S = 1.0
"""... and, where others wait for its turn, for so long."""

_NO_LIMIT = 1 << 30


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Turns:
    """Gives out turns; its methods may be called from any thread.

    Args:
        clock: What measures time.
        cpus: How many inferences run at once; None: as many as there are threads.
        weights: Names that may use more or less of the CPUs than others, whose weight
            is 1.

    Raises:
        UsageError: There are no CPUs, or a weight is not above 0.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        cpus: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._weights = dict(weights or {})
        if (cpus is not None and cpus < 1) or any(
            not 0 < weight < float("inf") for weight in self._weights.values()
        ):
            raise UsageError(
                f"got {cpus} CPUs and the weights {self._weights}, expected at least 1 "
                "and weights above 0",
                hint="Leave both out for no limit and equal shares.",
            )
        self._clock = clock
        self._free = _NO_LIMIT if cpus is None else cpus
        self._background_left = max(1, (cpus or 1) - 1)
        self._lock = threading.Lock()
        self._lines: dict[Line, None] = {}
        self._shares: dict[str, Share] = {}
        self._used_s = 0.0
        self._running: dict[Request, None] = {}
        self._is_limited = cpus is not None
        self._watched_by: asyncio.AbstractEventLoop | None = None

    def join(
        self,
        name: str,
        *,
        threads: int,
        max_waiting: int,
        typical_s: float = 0.0,
        begin: Callable[[Request], None] | None = None,
    ) -> Line:
        """Open a line for a release of a name.

        Its requests are begun by `begin`, on the thread that made room for them, or
        else by whoever takes them from `Line.jobs`.
        """
        with self._lock:
            share = self._shares.get(name)
            if share is None:
                share = self._shares[name] = Share(self._weights.get(name, 1.0))
            return Line(
                share,
                threads=threads,
                max_waiting=max_waiting,
                typical_s=typical_s,
                begin=begin,
            )

    def put(self, line: Line, request: Request) -> Request | None:
        """Let a request wait for its turn.

        Returns:
            What is turned away, as the line is full: it, or one that it goes before.
            A line that was retired takes in nothing.
        """
        turned_away: Request | None = None
        with self._lock:
            if line.is_retired:
                return request
            if line.is_full:
                last = line.last()
                if last is None or last.priority >= request.priority:
                    return request
                self._drop(line, last)
                turned_away = last
            share = line.share
            if not share.pending:
                share.used_s = max(share.used_s, self._used_s)
            share.pending += 1
            line.pending += 1
            line.push(request)
            self._lines[line] = None
            begun = self._give_out()
        _begin(begun)
        return turned_away

    def watch(self) -> None:
        """See to it that who waits does so for no turn that hangs; on the event loop.

        There is one look a second at most, and none where nobody waits.
        """
        loop = asyncio.get_running_loop()
        if self._is_limited and self._watched_by is not loop and self._lines:
            self._watched_by = loop
            self._clock.call_later(LONGEST_TURN_S, self._look)

    def _look(self) -> None:
        self._watched_by = None
        with self._lock:
            now_s = self._clock.wall_s()
            for request in list(self._running):
                longest_s = max(LONGEST_TURN_S, HANG_TIMES * request.charged_s)
                if now_s - request.began_s >= longest_s:
                    self._free_turn(request)
            begun = self._give_out()
        _begin(begun)
        self.watch()

    def withdraw(self, line: Line, request: Request) -> bool:
        """Take back a request; says whether it had not begun."""
        with self._lock:
            if request.state is not State.WAITING:
                return False
            self._drop(line, request)
            self._close_if_idle(line)
            return True

    def give_back(self, request: Request) -> None:
        """Take its turn from an inference that hangs; its thread stays its own."""
        with self._lock:
            begun = self._give_out() if self._free_turn(request) else []
        _begin(begun)

    def end(self, line: Line, request: Request, *, took_s: float | None) -> None:
        """A request of the line has been run; the next one's turn has come.

        Args:
            line: Whose request it is.
            request: What was run.
            took_s: How long the inference took; None where it was not run, or broke.
        """
        with self._lock:
            elapsed_s = self._clock.wall_s() - request.began_s
            share = line.share
            share.used_s += (elapsed_s - request.charged_s) / share.weight
            if took_s is not None:
                line.note(took_s)
            request.state = State.ENDED
            share.pending -= 1
            line.pending -= 1
            line.idle += 1
            self._free_turn(request)
            begun = self._give_out()
            self._close_if_idle(line)
        _begin(begun)

    def retire(self, line: Line) -> None:
        """End the line's threads as soon as its last request has ended."""
        with self._lock:
            if not line.is_retired:
                line.is_retired = True
                self._close_if_idle(line)

    def counts(self, line: Line) -> tuple[int, int]:
        """How many requests of a line wait, and how many run."""
        with self._lock:
            return line.waiting, line.pending - line.waiting

    def running_s(self, request: Request) -> float | None:
        """For how long it has been running; None where it is not."""
        with self._lock:
            if request.state is not State.RUNNING:
                return None
            return self._clock.wall_s() - request.began_s

    def _drop(self, line: Line, request: Request) -> None:
        line.drop(request)
        line.pending -= 1
        line.share.pending -= 1
        if not line.waiting:
            self._lines.pop(line, None)

    def _close_if_idle(self, line: Line) -> None:
        if line.is_retired and not line.pending:
            line.jobs.put(None)

    def _free_turn(self, request: Request) -> bool:
        if not request.has_turn:
            return False
        request.has_turn = False
        del self._running[request]
        self._free += 1
        self._background_left += request.is_background
        return True

    def _give_out(self) -> list[tuple[Line, Request]]:
        """Give every free turn to who is next: `_begin` them without the lock."""
        begun: list[tuple[Line, Request]] = []
        while self._free and self._lines:
            now_s = self._clock.wall_s()
            line = self._choose(now_s)
            if line is None:
                break
            request = line.pop()
            if not line.waiting:
                del self._lines[line]
            share = line.share
            self._used_s = max(self._used_s, share.used_s)
            share.used_s += line.typical_s / share.weight
            request.charged_s = line.typical_s
            request.state = State.RUNNING
            request.began_s = now_s
            request.has_turn = True
            self._running[request] = None
            request.is_background = request.key[0] > now_s
            self._free -= 1
            self._background_left -= request.is_background
            line.idle -= 1
            begun.append((line, request))
        return begun

    def _choose(self, now_s: float) -> Line | None:
        """The line whose first request is next, of those with an idle thread."""
        best: Line | None = None
        best_rank: tuple[bool, float, tuple[float, int]] | None = None
        for line in self._lines:
            if not line.idle:
                continue
            key = line.head().key
            is_background = key[0] > now_s
            if is_background and self._background_left < 1:
                continue
            rank = (is_background, line.share.used_s, key)
            if best_rank is None or rank < best_rank:
                best, best_rank = line, rank
        return best


def _begin(begun: list[tuple[Line, Request]]) -> None:
    """Tell of turns that were given out; whoever is told may ask for others."""
    for line, request in begun:
        line.begin(request)
