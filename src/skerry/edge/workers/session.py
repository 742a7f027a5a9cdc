"""A session whose model runs in a process of its own, and outlives that process."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from skerry.core.clock import Clock
from skerry.core.errors import (
    DataError,
    LateError,
    RuntimeFailure,
    SkerryError,
    WorkerLostError,
)
from skerry.core.model import Model, TensorSpec
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.edge.vault import Lend, as_they_are
from skerry.edge.workers.channel import AT_ONCE_BYTES, Channel
from skerry.edge.workers.crashes import CrashLoop
from skerry.edge.workers.messages import Loaded
from skerry.edge.workers.replies import Replies, StartedRun
from skerry.edge.workers.worker import Worker
from skerry.runtimes._checks import check_inputs, closed

log = logging.getLogger(__name__)

MOST_TRIES = 2
"""How many workers one request may bring down."""

StartWorker = Callable[[Callable[[Worker], None]], Worker]
"""Makes a worker; it is told whom to call when the worker has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """How the worker of a session fares.

    Attributes:
        restarts: How often another had to take its place.
        rss_bytes: Its resident memory, libraries that it shares included; 0 while
            there is none.
        memory_bytes: What its model takes: memory that it alone has written to.
        pid: Of the worker, or None while there is none.
    """

    restarts: int
    rss_bytes: int
    memory_bytes: int
    pid: int | None


_Begun = tuple[Worker, Channel]


class _Run:
    """One call of `run`, from its beginning to its end."""

    __slots__ = ("is_interrupted", "worker")

    def __init__(self, worker: Worker | None) -> None:
        self.is_interrupted = False
        self.worker = worker


class WorkerSession:
    """A model in a worker process; `run` may be called from several threads.

    A worker that dies is replaced at once, whether or not anybody asks for it. What it
    was at work on is tried once more on the next one.

    Args:
        model: The model.
        options: How it is loaded.
        start: Makes a worker.
        runtime: The runtime's name, for messages.
        clock: What measures time.
        lend: Has the files of the model at hand while it is loaded.

    Raises:
        SkerryError: The model cannot be loaded.
    """

    def __init__(
        self,
        model: Model,
        options: LoadOptions,
        *,
        start: StartWorker,
        runtime: str,
        clock: Clock,
        lend: Lend = as_they_are,
    ) -> None:
        self._lend = lend
        self._model = model
        self._options = options
        self._start = start
        self._runtime = runtime
        self._clock = clock
        self._crashes = CrashLoop()
        self._loading = threading.Lock()
        self._lock = threading.Lock()
        self._runs: dict[int, _Run] = {}
        self._restarts = 0
        self._is_closed = False
        self._worker: Worker | None = None
        self._worker, self._loaded = self._load()
        if self._worker.has_ended:
            self._ended(self._worker)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs, in order."""
        return self._loaded.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs, in order."""
        return self._loaded.outputs

    @property
    def providers(self) -> tuple[str, ...]:
        """What it runs on, where the runtime tells."""
        return self._loaded.providers

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Why it does not run on what was wished for."""
        return self._loaded.fallbacks

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run one inference in the worker.

        Raises:
            DataError: An input is missing, unknown, or of another dtype or shape.
            WorkerLostError: The worker died, and so did the one in its place; or it
                died so often of late that it is left alone for a while.
            RuntimeFailure: The runtime failed, the inference was interrupted, or the
                session is closed.
        """
        return self._run_times(inputs, 1)

    def repeat(self, inputs: Tensors, *, times: int) -> None:
        """Run the same inference so many times in the worker, which is woken once.

        So its own time is measured: not that of waking a process, which depends on
        what else the machine has to do.

        Raises:
            SkerryError: As `run`.
        """
        self._run_times(inputs, times)

    def start(self, inputs: Tensors, done: Callable[[bool], None]) -> StartedRun | None:
        """Start an inference that the running event loop waits for.

        Args:
            inputs: One array an input.
            done: Called once, on the event loop: whether `finish` is a matter of
                copying the outputs. If not, a thread is to call it: it waits, and runs
                them again if the worker died of them, and raises as `run` does.

        Returns:
            What is under way, to be finished in any case; None where there is no
            worker to take it, or it would keep the event loop for long.
        """
        worker = self._worker
        size_bytes = sum(array.nbytes for array in inputs.values())
        if worker is None or size_bytes > AT_ONCE_BYTES:
            return None
        try:
            check_inputs(inputs, self._loaded.inputs)
        except DataError:
            return None
        replies = Replies.of_this_loop()
        channel = worker.start(inputs)
        if channel is None:
            return None
        finish = partial(self._follow, inputs, begun=(worker, channel))
        try:
            return StartedRun(channel, finish, done, replies=replies)
        except BaseException:
            channel.close()
            raise

    def _run_times(self, inputs: Tensors, times: int) -> dict[str, Array]:
        check_inputs(inputs, self._loaded.inputs)
        return self._follow(inputs, times)

    def _follow(
        self, inputs: Tensors, times: int = 1, *, begun: _Begun | None = None
    ) -> dict[str, Array]:
        run = _Run(begun[0] if begun else None)
        thread = threading.get_ident()
        self._runs[thread] = run
        try:
            return self._run(run, inputs, times, begun)
        finally:
            del self._runs[thread]

    def interrupt(self, thread: int | None = None) -> None:
        """Stop the inference that runs on a thread, or that which began first.

        Its worker is killed, and `run` raises `RuntimeFailure` where it waits; others
        that ran in the same worker are run again. Without one, nothing happens.

        Args:
            thread: The identity of the thread that called `run`.
        """
        with self._lock:
            runs = self._runs.copy()
            if thread is None:
                thread = next(iter(runs), -1)
            run = runs.get(thread)
            if run is None:
                return
            run.is_interrupted = True
            worker = run.worker
        if worker is not None:
            worker.kill("its inference was interrupted")

    def figures(self) -> WorkerFigures:
        """Tell how its worker fares."""
        worker = self._worker
        return WorkerFigures(
            restarts=self._restarts,
            rss_bytes=worker.rss_bytes() if worker else 0,
            memory_bytes=worker.memory_bytes() if worker else 0,
            pid=worker.pid if worker else None,
        )

    def close(self) -> None:
        """End the worker; the session is not used after."""
        with self._lock:
            self._is_closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _run(
        self, run: _Run, inputs: Tensors, times: int, begun: _Begun | None
    ) -> dict[str, Array]:
        for attempt in itertools.count(1):
            worker = begun[0] if begun else self._ready()
            with self._lock:
                run.worker = worker
            if run.is_interrupted and not begun:
                raise self._interrupted()
            try:
                if begun:
                    (_, channel), begun = begun, None
                    outputs = worker.finish(channel)
                else:
                    outputs = worker.run(inputs, times=times)
            except WorkerLostError as error:
                self._lose(worker)
                if run.is_interrupted:
                    raise self._interrupted() from error
                if attempt == MOST_TRIES:
                    raise self._lost(worker) from error
            except LateError as error:
                self._lose(worker)
                raise self._interrupted() from error
            else:
                self._crashes.answered()
                return outputs
            finally:
                run.worker = None
        raise self._lost(None)

    def _ready(self) -> Worker:
        """The worker that serves; where there is none, the next is loaded first."""
        worker = self._worker
        if worker is not None:
            return worker
        with self._loading:
            while (worker := self._worker) is None:
                if self._is_closed:
                    raise closed(self._runtime, self._model)
                pause_s = self._crashes.pause_s(self._clock.wall_s())
                if pause_s:
                    raise WorkerLostError(
                        f"the workers of {self._model.path.name} die again and again",
                        hint=f"The next is tried in {pause_s:.0f} s.",
                    )
                self._reload()
            return worker

    def _reload(self) -> None:
        try:
            worker, loaded = self._load()
        except WorkerLostError as error:
            log.warning("worker.reload_failed", extra={"what": error.what})
            self._crashes.died(self._clock.wall_s())
            return
        except SkerryError:
            self._crashes.died(self._clock.wall_s())
            raise
        is_other = (loaded.inputs, loaded.outputs) != (self.inputs, self.outputs)
        with self._lock:
            is_kept = not (self._is_closed or is_other)
            if is_kept:
                self._worker, self._loaded = worker, loaded
                self._restarts += 1
        if not is_kept:
            worker.close()
        elif worker.has_ended:  # before it was ours: nobody told us
            self._ended(worker)
        if is_other:
            raise RuntimeFailure(
                f"{self._model.path.name} has another signature than before",
                hint="Somebody changed the file: install the release again.",
            )

    def _load(self) -> tuple[Worker, Loaded]:
        with self._lend(self._model, self._options) as (model, options):
            worker = self._start(self._ended)
            try:
                loaded = worker.load(model, options)
            except BaseException:
                worker.close()
                raise
        for fallback in loaded.fallbacks:
            log.warning(
                "runtime.fallback",
                extra={"model": self._model.path.name, "why": fallback},
            )
        log.info(
            "worker.loaded",
            extra={"model": self._model.path.name, "worker": worker.pid},
        )
        return worker, loaded

    def _ended(self, worker: Worker) -> None:
        """Told by the supervisor, which must not be kept waiting."""
        self._lose(worker)

    def _restore(self) -> None:
        try:
            self._ready()
        except SkerryError as error:
            if not self._is_closed:
                log.warning("worker.not_replaced", extra={"what": error.what})

    def _lose(self, worker: Worker) -> None:
        """Give up the worker that served, and have another in its place."""
        with self._lock:
            is_ours = self._worker is worker
            if is_ours:
                self._worker = None
                self._crashes.died(self._clock.wall_s())
        if is_ours:
            why = worker.why or "it died"
            log.warning(
                "worker.lost",
                extra={
                    "model": self._model.path.name,
                    "worker": worker.pid,
                    "why": why,
                },
            )
            worker.close()
            threading.Thread(target=self._restore, daemon=True).start()

    def _interrupted(self) -> RuntimeFailure:
        return RuntimeFailure(
            f"the inference of {self._model.path.name} was interrupted",
            hint="It took too long; the next one is served by another worker.",
        )

    def _lost(self, worker: Worker | None) -> WorkerLostError:
        why = f": {worker.why}" if worker and worker.why else ""
        return WorkerLostError(
            f"{self._model.path.name} brought down {MOST_TRIES} workers{why}",
            hint="Look at the request, and at the log for what native code said.",
        )
