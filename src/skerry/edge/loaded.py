"""A release in memory: its session, its threads, its queue and its figures."""

from __future__ import annotations

import asyncio
import logging
import queue
import statistics
import threading
from collections import deque
from dataclasses import dataclass

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

log = logging.getLogger(__name__)

REMEMBERED = 512
"""Number of inferences whose time is remembered."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFigures:
    """How a release has served since it was switched to.

    Attributes:
        release: Which one.
        requests: Taken in, whatever became of them.
        failed: Whose inference failed; a request that does not fit the model is no
            fault of the model.
        late: Without an answer at their deadline.
        not_finite: Answered finite inputs with NaN or infinities.
        latency_ms: Median time of the last inferences, or None where there was none.
        before: The same of the release that it took the place of, while that one is
            kept, else None.
    """

    release: ReleaseId
    requests: int
    failed: int
    late: int
    not_finite: int
    latency_ms: float | None
    before: ServingFigures | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Request:
    inputs: Tensors
    due_s: float | None
    answered: asyncio.Future[Answer]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcome:
    answer: Answer | None = None
    error: SkerryError | None = None
    is_finite: bool = True


class Loaded:
    """A release that takes requests, each run on one of its own threads.

    The threads are its own so that an inference that hangs, which nothing can
    interrupt, holds up no other release: not even the one it is rolled back to. All
    methods belong to the thread of the event loop.

    Args:
        installed: The release.
        session: Its model, loaded; it is closed with the release.
        clock: What measures time.
        threads: How many inferences run at once.
        max_waiting: How many more requests may wait.
    """

    def __init__(
        self,
        installed: Installed,
        session: Session,
        *,
        clock: Clock,
        threads: int,
        max_waiting: int,
    ) -> None:
        self.installed = installed
        self._session = session
        self._clock = clock
        self._capacity = threads + max_waiting
        self._pending = 0
        self._is_retired = False
        self._closing = threading.Lock()
        self._requests = self._failed = self._late = self._not_finite = 0
        self._latencies_ms: deque[float] = deque(maxlen=REMEMBERED)
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        for _ in range(threads):
            # Daemons: an inference that hangs must not keep the program from ending.
            threading.Thread(
                target=self._work, name=f"skerry-{installed.id}", daemon=True
            ).start()

    async def infer(self, inputs: Tensors, *, due_s: float | None) -> Answer:
        """Run one inference.

        Args:
            inputs: One array an input.
            due_s: When the answer is of no more use, on the clock; None: never.

        Raises:
            BusyError: As many requests wait as may.
            LateError: It is past due: a request that has not begun is dropped, the
                late result of one that has is dropped too.
            DataError: The inputs do not fit the model.
            RuntimeFailure: The runtime failed.
        """
        if self._pending >= self._capacity:
            raise BusyError(
                f"{self.installed.id} has {self._pending} requests to answer, "
                f"expected fewer than {self._capacity}",
                hint="Ask again in a second, or less often.",
            )
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._requests += 1
        self._pending += 1
        self._waiting.put(_Request(inputs=inputs, due_s=due_s, answered=answered))
        if due_s is None:
            return await answered
        return await self._await_until(due_s, answered)

    async def _await_until(
        self, due_s: float, answered: asyncio.Future[Answer]
    ) -> Answer:
        left_s = due_s - self._clock.wall_s()
        alarm = asyncio.ensure_future(self._clock.sleep(left_s))
        try:
            await asyncio.wait((answered, alarm), return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            if not answered.done():
                answered.cancel()
        if answered.cancelled():
            self._late += 1
            raise LateError(
                f"{self.installed.id} did not answer within the deadline",
                hint="Allow more time, or ask less often.",
            )
        return answered.result()

    def figures(self, before: Loaded | None = None) -> ServingFigures:
        """Tell how it serves, beside the release that it took the place of."""
        latencies_ms = self._latencies_ms
        return ServingFigures(
            release=self.installed.id,
            requests=self._requests,
            failed=self._failed,
            late=self._late,
            not_finite=self._not_finite,
            latency_ms=statistics.median(latencies_ms) if latencies_ms else None,
            before=before.figures() if before else None,
        )

    def retire(self) -> None:
        """Close the session as soon as the requests in flight have been answered."""
        if not self._is_retired:
            self._is_retired = True
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._is_retired and not self._pending:
            self._waiting.put(None)

    def _work(self) -> None:
        while (request := self._waiting.get()) is not None:
            outcome = self._run(request)
            try:
                request.answered.get_loop().call_soon_threadsafe(
                    self._finish, request, outcome
                )
            except RuntimeError:  # the loop was closed: nobody asks any more
                break
            del request, outcome  # their arrays must not wait for the next request
        self._waiting.put(None)  # for the next thread
        if self._closing.acquire(blocking=False):
            self._session.close()
            log.info("release.closed", extra={"release": str(self.installed.id)})

    def _run(self, request: _Request) -> _Outcome:
        """Run a request, on a thread of the release; nobody may wait for it by now."""
        began_s = self._clock.wall_s()
        is_late = request.due_s is not None and began_s >= request.due_s
        if is_late or request.answered.done():
            return _Outcome()
        try:
            outputs = self._session.run(request.inputs)
        except SkerryError as error:
            return _Outcome(error=error)
        except Exception as error:
            log.exception("inference.failed")
            what = f"{self.installed.id} cannot be run: {type(error).__name__}"
            failure = RuntimeFailure(what, hint="The log says more.")
            failure.__cause__ = error
            return _Outcome(error=failure)
        answer = Answer(
            release=self.installed.id,
            blob=self.installed.model.blob.sha256,
            outputs=outputs,
            latency_ms=(self._clock.wall_s() - began_s) * 1000,
        )
        # Of NaN come NaN: who asks with them must not have the release rolled back.
        is_finite = _are_finite(outputs) or not _are_finite(request.inputs)
        return _Outcome(answer=answer, is_finite=is_finite)

    def _finish(self, request: _Request, outcome: _Outcome) -> None:
        """Count an outcome and hand it to whoever still waits; on the loop's thread."""
        self._pending -= 1
        answered = request.answered
        if outcome.answer is not None:
            self._latencies_ms.append(outcome.answer.latency_ms)
            self._not_finite += not outcome.is_finite
            if not answered.done():
                answered.set_result(outcome.answer)
        elif outcome.error is not None:
            self._failed += not isinstance(outcome.error, DataError)
            if not answered.done():
                answered.set_exception(outcome.error)
        elif not answered.done():
            answered.cancel()
        self._close_if_idle()


def _are_finite(tensors: Tensors) -> bool:
    return all(
        tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all())
        for tensor in tensors.values()
    )
