"""A release in memory: its session, its threads, its line of requests, its figures."""

from __future__ import annotations

import asyncio
import logging
import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from skerry.core.clock import Clock
from skerry.core.errors import (
    BusyError,
    DataError,
    LateError,
    RuntimeFailure,
    SkerryError,
)
from skerry.core.release import ReleaseId
from skerry.core.seams import Array, Session, Tensors
from skerry.edge.installed import Installed
from skerry.edge.queueing import BACKGROUND, Line, Make, Request, Started
from skerry.edge.serving_figures import ServingFigures
from skerry.edge.turns import HANG_TIMES, Turns
from skerry.evolve.probation import PairFigures

log = logging.getLogger(__name__)

REMEMBERED = 512
"""Number of inferences whose time is remembered."""

HANG_GRACE_S = 0.02
"""An inference is interrupted so long after its deadline, if it is one that hangs."""

HANG_LEAST_S = 0.1
"""It hangs if it has run for so long, and for `skerry.edge.turns.HANG_TIMES` as long as
is usual: a client that asks for an answer in no time kills nothing."""

MOST_COMPARED = 8
"""Most requests of others that wait for a release to run them too."""

LOOP_S = 1.0
"""The event loop waits so long for an inference without a deadline; then a thread."""

COMPARED_WITHIN_S = 10.0
"""Until when the release may run them; then it hangs, or never got round to it."""


@runtime_checkable
class Interruptible(Protocol):
    """A session whose inference can be stopped."""

    def interrupt(self, thread: int | None = None) -> None:
        """Stop what runs on a thread, or what began first; its `run` raises.

        It may be called from any thread.
        """
        ...


@runtime_checkable
class Startable(Protocol):
    """A session whose inferences an event loop can wait for, which wakes no thread."""

    def start(self, inputs: Tensors, done: Callable[[bool], None]) -> Started | None:
        """Start an inference, on the event loop, without waiting for anything.

        Args:
            inputs: One array an input; they stay as they are until it is finished.
            done: Called on the event loop, once: whether the outputs can be had
                without waiting. If not, a thread is to `finish` it.

        Returns:
            What was started, or None: this one is for a thread.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a release answers to one request.

    Attributes:
        release: Which release answers.
        blob: The SHA-256 of its model file.
        outputs: One array an output, by name.
        latency_ms: Elapsed time of the inference, without its wait in the queue.
    """

    release: ReleaseId
    blob: str
    outputs: dict[str, Array]
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcome:
    """How an inference ended; all empty where it was not run."""

    answer: Any = None
    error: SkerryError | None = None
    latency_ms: float | None = None
    is_finite: bool = True


class Loaded:
    """A release that takes requests, each run on one of its own threads.

    The threads are its own so that an inference that hangs, which few runtimes can
    interrupt, holds up no other release: not even the one it is rolled back to. All
    methods belong to the thread of the event loop.

    A request whose session is `Startable` is driven by the event loop itself: to wake a
    thread, which wakes a process, and back, can cost more than the inference. It goes
    on on a thread, where it stands, as soon as anything is out of the ordinary: there
    is no good reply, its deadline passes, its caller or the release goes.

    Args:
        installed: The release.
        session: Its model, loaded; it is closed with the release.
        clock: What measures time.
        turns: Where its requests wait for the CPUs.
        threads: How many inferences run at once.
        max_waiting: How many more requests may wait.
        typical_s: How long an inference takes, as far as is known.
        tolerance: Largest distance of outputs that its golden samples allow.
        golden_error: The largest that there was when it was checked.

    Attributes:
        installed: As given.
        tolerance: As given.
        adapter: Goes between what is spoken here and the model, or None.
    """

    def __init__(
        self,
        installed: Installed,
        session: Session,
        *,
        clock: Clock,
        turns: Turns,
        threads: int,
        max_waiting: int,
        typical_s: float = 0.0,
        tolerance: float = 0.0,
        golden_error: float = 0.0,
    ) -> None:
        self.installed = installed
        self.tolerance = tolerance
        self._golden_error = golden_error
        self._session = session
        self._interruptible = session if isinstance(session, Interruptible) else None
        self._clock = clock
        self._turns = turns
        self._startable = session if isinstance(session, Startable) else None
        self._driven: dict[Request, None] = {}  # by the event loop
        self._line: Line = turns.join(
            installed.id.name,
            threads=threads,
            max_waiting=max_waiting,
            typical_s=typical_s,
            begin=self._begin if self._startable else None,
        )
        self._closing = threading.Lock()
        self._requests = self._failed = self._late = self._not_finite = 0
        self._busy = self._compared = 0
        self._interrupting = 0  # twice the interruptions; odd while one is under way
        self._latencies_ms: deque[float] = deque(maxlen=REMEMBERED)
        for _ in range(threads):
            # Daemons: an inference that hangs must not keep the program from ending.
            threading.Thread(
                target=self._work, name=f"skerry-{installed.id}", daemon=True
            ).start()

    async def infer(
        self, inputs: Tensors, *, due_s: float | None, priority: int = 0
    ) -> Answer:
        """Run one inference.

        Args:
            inputs: One array an input.
            due_s: When the answer is of no more use, on the clock; None: never.
            priority: Higher ones go first.

        Raises:
            BusyError: As many requests wait as may.
            LateError: It is past due: a request that has not begun is dropped, the
                late result of one that has is dropped too.
            DataError: The inputs do not fit the model.
            RuntimeFailure: The runtime failed.
        """
        now_s = self._clock.wall_s()
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = Request(
            inputs,
            answered=answered,
            make=self._answer,
            arrived_s=now_s,
            due_s=due_s,
            priority=priority,
        )
        self._put(request)
        self._requests += 1
        if due_s is not None:
            self._set_alarm(request, due_s - now_s)
        try:
            return await answered
        except asyncio.CancelledError:
            if answered.cancelled():
                if not self._withdraw(request):
                    self._hand_over(request)  # the loop may end with its last caller
            else:
                answered.exception()  # it came too late to be told
            raise
        finally:
            # An error's traceback holds this frame, and the future holds the error:
            # tensors, and memory shared with a dead worker, would wait for the cycle
            # to be collected.
            del answered, request

    def compare(
        self, inputs: Tensors, make: Make, *, is_counted: bool = False
    ) -> asyncio.Future[Any] | None:
        """Run another release's request too, in the background.

        Args:
            inputs: One array an input; nobody else changes them.
            make: Makes the result of the outputs, on a thread of the release.
            is_counted: Whether it counts in the figures as any other request.

        Returns:
            What will hold its result, or its error, `BusyError` where it was not run;
            None where too many wait already.
        """
        if self._compared >= MOST_COMPARED:
            return None
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        request = Request(
            inputs,
            answered=answered,
            make=make,
            arrived_s=self._clock.wall_s(),
            priority=BACKGROUND,
            is_counted=is_counted,
            is_beside=True,
        )
        if self._turns.put(self._line, request) is not None:
            return None
        self._compared += 1
        self._requests += is_counted
        self._set_alarm(request, COMPARED_WITHIN_S)
        self._turns.watch()
        return answered

    def figures(
        self, before: Loaded | None = None, pairs: PairFigures | None = None
    ) -> ServingFigures:
        """Tell how it serves, beside the release that it took the place of."""
        latencies_ms = sorted(self._latencies_ms)
        waiting, running = self._turns.counts(self._line)
        return ServingFigures(
            release=self.installed.id,
            requests=self._requests,
            failed=self._failed,
            late=self._late,
            not_finite=self._not_finite,
            latency_ms=statistics.median(latencies_ms) if latencies_ms else None,
            latency_p99_ms=latencies_ms[len(latencies_ms) * 99 // 100]
            if latencies_ms
            else None,
            golden_error=self._golden_error,
            busy=self._busy,
            interrupted=self._interrupting // 2,
            waiting=waiting,
            running=running,
            before=before.figures() if before else None,
            pairs=pairs or PairFigures(),
        )

    def speaks_as(self, other: Loaded) -> bool:
        """Whether its model takes and gives the same schemas as another one's."""
        return self.installed.manifest.schemas == other.installed.manifest.schemas

    def session_figures(self) -> object | None:
        """What the session tells of itself, such as its worker's memory, or None."""
        tell = getattr(self._session, "figures", None)
        return tell() if callable(tell) else None

    def retire(self) -> None:
        """Close the session as soon as the requests in flight have been answered."""
        self._turns.retire(self._line)
        for request in list(self._driven):
            self._hand_over(request)  # it is closed whatever becomes of the loop

    def _put(self, request: Request) -> None:
        turned_away = self._turns.put(self._line, request)
        if turned_away is request:
            self._busy += 1
            raise self._busy_error()
        if turned_away is not None:
            self._busy += turned_away.is_counted
            self._requests -= turned_away.is_counted
            self._finish(turned_away, _Outcome(error=self._busy_error()))
        self._turns.watch()

    def _busy_error(self) -> BusyError:
        line = self._line
        retry_after_s = line.retry_after_s()
        return BusyError(
            f"{self.installed.id} has {line.pending} requests to answer, "
            f"expected fewer than {line.threads + line.max_waiting}",
            hint=f"Ask again in {max(1, round(retry_after_s))} s, or less often.",
            retry_after_s=retry_after_s,
        )

    def _withdraw(self, request: Request) -> bool:
        """Take back a request that has not begun; says whether it was one."""
        if not self._turns.withdraw(self._line, request):
            return False
        self._forget(request)
        return True

    def _set_alarm(self, request: Request, left_s: float) -> None:
        request.alarm = self._clock.call_later(left_s, partial(self._expire, request))

    def _expire(self, request: Request) -> None:
        """At its deadline: its caller is told, and it is dropped if it can be."""
        was_waiting = self._withdraw(request)
        if not request.answered.done() and was_waiting and request.is_beside:
            self._requests -= request.is_counted  # others came first: no fault of it
            request.answered.set_exception(self._busy_error())
        elif not request.answered.done():
            self._late += request.is_counted
            request.answered.set_exception(self._late_error())
        if not was_waiting:
            self._hand_over(request)  # which can be interrupted there
            request.alarm = self._clock.call_later(
                HANG_GRACE_S, partial(self._stop, request)
            )

    def _late_error(self) -> LateError:
        return LateError(
            f"{self.installed.id} did not answer within the deadline",
            hint="Allow more time, or ask less often.",
        )

    def _stop(self, request: Request) -> None:
        """Past its deadline: what hangs loses its turn, and is interrupted."""
        running_s = self._turns.running_s(request)
        if running_s is None:
            return
        longest_s = max(HANG_LEAST_S, HANG_TIMES * self._line.typical_s)
        if running_s < longest_s or request.thread is None:
            left_s = max(HANG_GRACE_S, longest_s - running_s)
            request.alarm = self._clock.call_later(left_s, partial(self._stop, request))
            return
        self._turns.give_back(request)
        log.warning("inference.hangs", extra={"release": str(self.installed.id)})
        if self._interruptible is not None:
            self._interrupting += 1
            try:
                self._interruptible.interrupt(request.thread)
            except Exception:  # a runtime of a third party may raise anything
                log.exception("inference.not_interrupted")
            finally:
                self._interrupting += 1

    def _begin(self, request: Request) -> None:
        """Its turn has come; called on any thread."""
        if request.is_beside or self._line.is_retired:
            self._line.jobs.put(request)
            return
        self._driven[request] = None
        loop = request.answered.get_loop()
        if _is_running(loop):
            self._start(request)
            return
        try:
            loop.call_soon_threadsafe(self._start, request)
        except RuntimeError:  # the loop was closed: nobody asks any more
            self._hand_over(request)

    def _start(self, request: Request) -> None:
        if request not in self._driven or self._startable is None:
            return
        is_late = request.due_s is not None and request.began_s >= request.due_s
        if not is_late and not request.answered.done():
            request.interruptions = self._interrupting
            try:
                request.started = self._startable.start(
                    request.inputs, partial(self._end, request)
                )
            except Exception:  # a runtime of a third party may raise anything
                log.exception("inference.not_started")
        if request.started is None:
            self._hand_over(request)
        elif request.due_s is None:
            request.alarm = self._clock.call_later(
                LOOP_S, partial(self._hand_over, request)
            )

    def _end(self, request: Request, is_ready: bool) -> None:  # noqa: FBT001
        if not is_ready:
            self._hand_over(request)
            return
        del self._driven[request]
        outcome = self._run(request)
        self._give_back_turn(request, outcome)  # the next begins before this is told
        self._finish(request, outcome)

    def _hand_over(self, request: Request) -> None:
        """Have a thread go on with a request that the event loop drives."""
        if request in self._driven:
            del self._driven[request]
            if request.started is not None:
                request.started.leave()
            self._line.jobs.put(request)

    def _work(self) -> None:
        jobs = self._line.jobs
        while (request := jobs.get()) is not None:
            outcome = self._run(request)
            self._give_back_turn(request, outcome)
            try:
                request.answered.get_loop().call_soon_threadsafe(
                    self._finish, request, outcome
                )
            except RuntimeError:  # the loop was closed: nobody asks any more
                log.info("inference.unheard")
            del request, outcome  # their arrays must not wait for the next request
        jobs.put(None)  # for the next thread
        if self._closing.acquire(blocking=False):
            try:
                self._session.close()
            except Exception:  # a runtime of a third party may raise anything
                log.exception("release.not_closed")
            log.info("release.closed", extra={"release": str(self.installed.id)})

    def _give_back_turn(self, request: Request, outcome: _Outcome) -> None:
        took_ms = outcome.latency_ms
        took_s = None if took_ms is None else took_ms / 1000
        self._turns.end(self._line, request, took_s=took_s)

    def _run(self, request: Request) -> _Outcome:
        """Run a request, or finish it; nobody may wait for it by now."""
        request.thread = threading.get_ident()
        began_s = request.began_s
        if request.started is None:
            began_s = self._clock.wall_s()
            is_late = request.due_s is not None and began_s >= request.due_s
            if is_late or request.answered.done():
                return _Outcome()
            request.interruptions = self._interrupting
        try:
            outputs = self._run_twice(request)
            latency_ms = (self._clock.wall_s() - began_s) * 1000
            # Of NaN come NaN: who asks with them must not have the release rolled back.
            is_finite = _are_finite(outputs) or not _are_finite(request.inputs)
            answer = request.make(outputs, latency_ms)
        except SkerryError as error:
            return _Outcome(error=error)
        except BaseException as error:  # an exit, too, would end no more than a thread
            log.exception("inference.failed")
            what = f"{self.installed.id} cannot be run: {type(error).__name__}"
            failure = RuntimeFailure(what, hint="The log says more.")
            failure.__cause__ = error
            return _Outcome(error=failure)
        return _Outcome(answer=answer, latency_ms=latency_ms, is_finite=is_finite)

    def _run_twice(self, request: Request) -> dict[str, Array]:
        """Run it; once more where another's interruption may have hit it."""
        before = request.interruptions
        started, request.started = request.started, None
        try:
            return started.finish() if started else self._session.run(request.inputs)
        except RuntimeFailure:
            is_calm = before == self._interrupting and before % 2 == 0
            if is_calm or request.answered.done():
                raise
        return self._session.run(request.inputs)

    def _answer(self, outputs: dict[str, Array], latency_ms: float) -> Answer:
        return Answer(
            release=self.installed.id,
            blob=self.installed.model.blob.sha256,
            outputs=outputs,
            latency_ms=latency_ms,
        )

    def _finish(self, request: Request, outcome: _Outcome) -> None:
        """Count an outcome and hand it to whoever still waits; on the loop's thread."""
        self._forget(request)
        answered = request.answered
        if outcome.answer is not None:
            if request.is_counted and outcome.latency_ms is not None:
                self._latencies_ms.append(outcome.latency_ms)
                self._not_finite += not outcome.is_finite
            if not answered.done():
                answered.set_result(outcome.answer)
        elif outcome.error is not None:
            is_fault = not isinstance(outcome.error, (DataError, BusyError))
            self._failed += is_fault and request.is_counted
            if not answered.done():
                answered.set_exception(outcome.error)
        elif not answered.done():  # its thread saw the deadline before its alarm did
            self._late += request.is_counted
            answered.set_exception(self._late_error())
        del request.answered  # its error's traceback holds the request, too

    def _forget(self, request: Request) -> None:
        """Let go of what a request holds that has come to its end."""
        if request.alarm is not None:
            request.alarm.cancel()
            request.alarm = None
        self._compared -= request.is_beside


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the thread of an event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _are_finite(tensors: Tensors) -> bool:
    """Whether there is neither a NaN nor an infinity."""
    return all(
        tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all())
        for tensor in tensors.values()
    )
