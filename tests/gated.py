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
        self.fault: Exception | None = None
        self._is_open = threading.Event()
        self._is_open.set()
        self._passes = threading.Semaphore(0)

    def shut(self) -> None:
        self._is_open.clear()

    def open(self) -> None:
        self._is_open.set()
        self._passes.release(1000)

    def let(self, n: int = 1) -> None:
        self._passes.release(n)

    def close(self) -> None:
        self.is_closed = True

    def _multiply(self, inputs: Tensors) -> dict[str, Array]:
        self.begun.append(inputs["x"])
        if not self._is_open.is_set():
            self._wait()
        if self.fault is not None:
            raise self.fault
        return {"y": inputs["x"] * np.float32(self.gain)}

    def _wait(self) -> None:
        assert self._passes.acquire(timeout=PATIENCE_S), "nobody opened the gate"


class InterruptibleSession(GatedSession):
    """One whose runs can be interrupted, all that wait at the gate."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.interruptions = 0
        self._waits: list[threading.Event] = []

    def interrupt(self) -> None:
        self.interruptions += 1
        for wait in self._waits:
            wait.set()

    def open(self) -> None:
        super().open()
        self.interrupt()

    def _wait(self) -> None:
        wait = threading.Event()
        self._waits.append(wait)
        assert wait.wait(PATIENCE_S), "nobody opened the gate"
        if not self._is_open.is_set():
            raise RuntimeFailure("it was interrupted", hint="Ask again.")


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
