"""An event loop on which a whole fleet runs in one thread, in the same order each time.

Blocking work that asyncio would give to threads is done on the loop itself, one call
after the other, so that nothing depends on the machine's load. What belongs to one
simulated process shares a `Life`: it ends all at once, in the middle of anything, as a
process does that is killed.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from skerry.app.simulate.disk import PowerCut
from skerry.core.errors import StateError

ResultT = TypeVar("ResultT")
ArgumentsT = TypeVarTuple("ArgumentsT")

MOST_ROUNDS = 100_000
"""Rounds of the loop after which what does not come to rest never will."""

_LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar(
    "life", default=None
)


class Life:
    """The tasks and the blocking calls of one simulated process."""

    def __init__(self) -> None:
        self.is_over = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = contextvars.copy_context()
        self._context.run(_LIFE.set, self)

    def start(self, work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        """Begin a task that ends with this life, as do those that it begins."""
        return asyncio.get_running_loop().create_task(
            work, context=self._context.copy()
        )

    def end(self) -> None:
        """Stop everything where it is: no blocking call begins any more."""
        self.is_over = True
        self.stop()

    def stop(self) -> None:
        """Ask everything to end in good order."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Return once nothing of it is left."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def add(self, task: asyncio.Task[Any]) -> None:
        """Count a task to this life."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.is_over:
            task.cancel()


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Does blocking work by itself, and knows when nothing is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._n_calls = 0
        self.set_task_factory(_make_task)

    def call_soon(
        self,
        callback: Callable[[*ArgumentsT], object],
        *arguments: *ArgumentsT,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Schedule a call, and count it."""
        self._n_calls += 1
        return super().call_soon(callback, *arguments, context=context)

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - nothing runs in threads here
        call: Callable[[*ArgumentsT], ResultT],
        *arguments: *ArgumentsT,
    ) -> asyncio.Future[ResultT]:
        """Do blocking work, on the loop, when its turn comes."""
        future: asyncio.Future[ResultT] = self.create_future()
        self.call_soon(_work, future, lambda: call(*arguments))
        return future

    async def settle(self, *, until: Callable[[], bool] | None = None) -> bool:
        """Return once nothing is left to do but to wait for time to pass.

        Args:
            until: Looked at after each round of the loop; return as soon as it holds.

        Returns:
            Whether it held.

        Raises:
            StateError: It never comes to rest.
        """
        for _ in range(MOST_ROUNDS):
            if until is not None and until():
                return True
            before = self._n_calls
            await asyncio.sleep(0)
            if self._n_calls <= before + 1:  # Only this very call was scheduled.
                return until is not None and until()
        raise StateError(
            f"something goes round and round: {MOST_ROUNDS} times while no time passed",
            hint="Look for a wait of no length in a loop.",
        )


def simulate(scenario: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a scenario on a loop of its own; what `asyncio.run` is to a real one."""
    with warnings.catch_warnings():
        # What a killed process had open, nobody but the garbage collector closes.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
                return runner.run(scenario)
        finally:
            gc.collect()


def simulated_loop() -> SimulatedLoop:
    """The running loop.

    Raises:
        StateError: It is not one of a simulation.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SimulatedLoop):
        raise StateError(
            "a simulated fleet runs on a simulated loop only",
            hint="Call simulate(scenario()) instead of asyncio.run(scenario()).",
        )
    return loop


def _make_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, ResultT] | Generator[Any, None, ResultT],
    *,
    context: contextvars.Context | None = None,
    **options: Any,
) -> asyncio.Task[ResultT]:
    task = asyncio.Task(work, loop=loop, context=context, **options)
    life = context.get(_LIFE) if context is not None else _LIFE.get()
    if life is not None:
        life.add(task)
    return task


def _work(future: asyncio.Future[ResultT], call: Callable[[], ResultT]) -> None:
    life = _LIFE.get()
    if life is not None and life.is_over:
        future.cancel()
    if future.done():
        return
    try:
        result = call()
    except PowerCut:
        future.cancel()
        if life is not None:
            life.end()
    except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
        future.set_exception(error)
    else:
        future.set_result(result)
