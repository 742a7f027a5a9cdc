"""All worker processes of one gateway, and the runtimes that load into them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import UsageError
from skerry.core.model import Model
from skerry.core.names import did_you_mean
from skerry.core.profile import Profile
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.edge.vault import Lend, as_they_are
from skerry.edge.workers.limits import Limits
from skerry.edge.workers.session import WorkerSession
from skerry.edge.workers.spare import Spare
from skerry.edge.workers.supervisor import Supervisor
from skerry.edge.workers.worker import Worker
from skerry.runtimes import runtime_names


class WorkerPool:
    """The processes that models run in: one a model, and a spare a runtime.

    Args:
        limits: What each worker may take.
        places: Runtimes that are not registered, `package.module:Class` by name.
        clock: What measures time.
        lend: Has the files of a model at hand while it is loaded, each time anew.

    Attributes:
        clock: As given, or this machine's.
        lend: As given.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        places: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        lend: Lend = as_they_are,
    ) -> None:
        self.lend = lend
        self._limits = limits or Limits()
        self._places = dict(places or {})
        self.clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._spares: dict[str, Spare] = {}
        self._supervisor = Supervisor()
        # Nobody ever writes: its end is what tells all processes of the pool of ours.
        self._lifeline, self._writer = os.pipe()
        self._is_closed = False

    def spare(self, runtime: str) -> Spare:
        """The spare of a runtime; it is started when its version is asked for.

        Raises:
            UsageError: There is no such runtime, or the pool is closed.
        """
        with self._lock:
            if self._is_closed:
                raise UsageError("the pool is closed", hint="Make another.")
            if runtime not in self._spares:
                known = {*self._places, *runtime_names()}
                if runtime not in known:
                    raise UsageError(
                        f"there is no runtime called {runtime[:80]!r}",
                        hint=did_you_mean(runtime[:80], known),
                    )
                self._spares[runtime] = Spare(
                    runtime,
                    self._places.get(runtime, ""),
                    lifeline=self._lifeline,
                    supervisor=self._supervisor,
                    clock=self.clock,
                )
            return self._spares[runtime]

    def start(self, runtime: str, on_end: Callable[[Worker], None]) -> Worker:
        """Make a worker with nothing loaded.

        Raises:
            MissingExtraError: The runtime's library is not installed.
            StateError, WorkerLostError: No process can be made.
        """
        return Worker(
            self.spare(runtime).fork(),
            limits=self._limits,
            supervisor=self._supervisor,
            on_end=on_end,
        )

    def close(self) -> None:
        """End all processes, whatever they are at."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            spares = list(self._spares.values())
        for spare in spares:
            spare.close()
        os.close(self._writer)  # by which the kernel ends the workers
        self._supervisor.close()
        os.close(self._lifeline)


class IsolatedRuntimes:
    """Finds runtimes that load each model into a process of its own.

    It fits `Engine(runtimes=...)`; the process that calls it imports no runtime.

    Args:
        pool: Where the processes come from.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def __call__(self, name: str) -> Runtime:
        """Find a runtime; the first time, a process imports it.

        Raises:
            UsageError: There is none of that name.
            MissingExtraError: The library behind it is not installed.
            StateError: The process cannot be started.
        """
        return _IsolatedRuntime(self._pool, name)


class _IsolatedRuntime:
    """A runtime whose library only worker processes import."""

    def __init__(self, pool: WorkerPool, name: str) -> None:
        self.name = name
        self.version = pool.spare(name).version()
        self._pool = pool

    def load(self, model: Model, options: LoadOptions) -> WorkerSession:
        """Load a model in a fresh worker.

        Raises:
            ModelError: The file cannot be read or is not a model.
            RuntimeFailure: The runtime cannot run this model, or died of it.
        """

        def start(on_end: Callable[[Worker], None]) -> Worker:
            return self._pool.start(self.name, on_end)

        return WorkerSession(
            model,
            options,
            start=start,
            runtime=self.name,
            clock=self._pool.clock,
            lend=self._pool.lend,
        )

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        """Refuse: operators are profiled on a bench, where nothing needs protection.

        Raises:
            UsageError: Always.
        """
        del inputs, options, repeats
        raise UsageError(
            f"{model.path.name} cannot be profiled in a worker process",
            hint="Use skerry profile, which runs it in its own process.",
        )
