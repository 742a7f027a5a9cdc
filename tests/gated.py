"""A runtime whose inferences begin and end as a test says, for engines under test."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skerry.core.clock import FakeClock, SystemClock
from skerry.core.errors import RuntimeFailure
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.edge.engine import Engine
from skerry.edge.loaded import Loaded
from skerry.runtimes.null import NullRuntime, NullSession
from tests.serving import install

PATIENCE_S = 20.0


class GatedSession(NullSession):
    """Multiplies, once the gate is open: it is at first, and shut by `shut`.

    Each run that has begun waits at a shut gate until `let` lets so many go on, or
    `open` all of them. `fault`, when set, is raised in place of an answer.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model, self._multiply)
        self.gain = float(json.loads(model.path.read_bytes()).get("gain", 2))
        self.begun: list[Array] = []
        self.is_closed = False
        self.fault: BaseException | None = None
        self.interruptions = 0
        self._gate = threading.Condition()
        self._is_free = True
        self._passes = 0

    def shut(self) -> None:
        with self._gate:
            self._is_free = False

    def open(self) -> None:
        with self._gate:
            self._is_free = True
            self._gate.notify_all()

    def let(self, n: int = 1) -> None:
        with self._gate:
            self._passes += n
            self._gate.notify_all()

    def close(self) -> None:
        self.is_closed = True

    def _multiply(self, inputs: Tensors) -> dict[str, Array]:
        assert not self.is_closed, "a closed session was run"
        seen = self.interruptions  # before a test can know that it has begun
        self.begun.append(inputs["x"])
        self._wait(seen)
        if self.fault is not None:
            raise self.fault
        return {"y": inputs["x"] * np.float32(self.gain)}

    def _wait(self, seen: int) -> None:
        with self._gate:
            is_over = self._gate.wait_for(
                lambda: self._is_free or self._passes or self.interruptions > seen,
                PATIENCE_S,
            )
            assert is_over, "nobody opened the gate"
            if self._is_free:
                return
            if self.interruptions > seen:
                raise RuntimeFailure("it was interrupted", hint="Ask again.")
            self._passes -= 1


class InterruptibleSession(GatedSession):
    """One whose runs can be interrupted, all that wait at the gate."""

    def interrupt(self, thread: int | None = None) -> None:
        del thread
        with self._gate:
            self.interruptions += 1
            self._gate.notify_all()


class StartedRun:
    """A run that a test answers on the event loop, or leaves to a thread."""

    def __init__(
        self, session: StartableSession, inputs: Tensors, done: Callable[[bool], None]
    ) -> None:
        self.has_left = False
        self.finished_by: int | None = None
        self._session = session
        self._inputs = inputs
        self._done: Callable[[bool], None] | None = done
        self._is_ready = False
        self._fault: BaseException | None = None

    def answer(
        self, *, is_ready: bool = True, fault: BaseException | None = None
    ) -> None:
        """Tell the event loop that it has ended, well or otherwise."""
        assert self._done is not None, "it was answered before"
        self._fault = fault
        done, self._done, self._is_ready = self._done, None, is_ready
        done(is_ready)

    def leave(self) -> None:
        self.has_left, self._done = True, None

    def finish(self) -> dict[str, Array]:
        assert self.finished_by is None, "it was finished before"
        self.finished_by = threading.get_ident()
        if self._fault is not None:
            raise self._fault
        if not self._is_ready:
            return self._session.run(self._inputs)
        return {"y": self._inputs["x"] * np.float32(self._session.gain)}


class StartableSession(InterruptibleSession):
    """One that an event loop can drive, unless it is shy."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.started: list[StartedRun] = []
        self.is_shy = False

    def start(self, inputs: Tensors, done: Callable[[bool], None]) -> StartedRun | None:
        if self.is_shy:
            return None
        self.started.append(StartedRun(self, inputs, done))
        return self.started[-1]


class GatedRuntime(NullRuntime):
    """Loads gated sessions; `load_gate`, when shut, holds up each load."""

    def __init__(self, kind: type[GatedSession] = GatedSession) -> None:
        super().__init__()
        self.sessions: list[GatedSession] = []
        self.load_gate = threading.Event()
        self.load_gate.set()
        self.loading = threading.Event()
        self._kind = kind

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        super().load(model, options)
        self.loading.set()
        assert self.load_gate.wait(PATIENCE_S), "nobody opened the gate"
        session = self._kind(model)
        self.sessions.append(session)
        return session


class Bench:
    """An engine of gated sessions; close it, and every gate is open."""

    def __init__(
        self,
        folder: Path,
        *,
        kind: type[GatedSession] = GatedSession,
        clock: FakeClock | None = None,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.clock = clock or FakeClock()
        self.runtime = GatedRuntime(kind)
        self.engine = Engine(
            clock=clock or SystemClock(), runtimes=lambda _: self.runtime, **options
        )

    def switch(
        self, version: int = 1, *, name: str = "meter", gain: float | None = None
    ) -> GatedSession:
        """Install, prepare and switch to a release; its gate is open."""
        gain = version if gain is None else gain
        installed = install(self.folder, version, name=name, gain=gain)
        self.engine.switch(self.engine.prepare(installed))
        session = self.runtime.sessions[-1]
        session.begun.clear()  # its check is no request
        return session

    def loaded(self, name: str = "meter", version: int | None = None) -> Loaded:
        """What the engine keeps of a release."""
        return self.engine._find(name, version)

    def close(self) -> None:
        """Let all that runs end, and close all that is loaded."""
        for session in self.runtime.sessions:
            session.open()
        self.engine.close()


async def until(is_so: Callable[[], object]) -> None:
    """Wait for what a thread will bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 (no event tells it)
            await asyncio.sleep(0.001)
