from __future__ import annotations

import asyncio
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from skerry.core.clock import FakeClock
from skerry.core.errors import (
    BusyError,
    LateError,
    RuntimeFailure,
    SkerryError,
    UsageError,
)
from skerry.core.release import ReleaseId
from skerry.edge.engine import Answer, Routing
from tests.gated import Bench, GatedSession, InterruptibleSession, until

NAMES = ("meter", "other")
CPUS = THREADS = 2
MAX_WAITING = 4
PATIENT_S = 1e6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """A request, and what may come of it."""

    task: asyncio.Task[Answer]
    x: float
    release: ReleaseId
    has_deadline: bool
    is_cancelled: list[bool]


class EngineMachine(RuleBasedStateMachine):
    """Swaps, rolls back, pins, cancels, hangs and fails at random.

    Each request must get exactly one answer, that of the release which it began with,
    or the error that fits what was done to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, told: self.complaints.append(told))
        self.bench = Bench(
            Path(self.folder.name),
            kind=InterruptibleSession,
            clock=FakeClock(),
            threads=THREADS,
            max_waiting=MAX_WAITING,
            cpus=CPUS,
        )
        self.engine = self.bench.engine
        self.versions = dict.fromkeys(NAMES, 0)
        self.gains: dict[ReleaseId, float] = {}
        self.asked: list[_Asked] = []
        self.has_failed = False

    @property
    def sessions(self) -> list[GatedSession]:
        return self.bench.runtime.sessions

    def run(self, seconds: float = 0.0) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    async def _switch(self, name: str, version: int) -> None:
        self.bench.switch(version, name=name, gain=self.gains[_id(name, version)])

    @rule(name=st.sampled_from(NAMES))
    def switch(self, name: str) -> None:
        self.versions[name] += 1
        version = self.versions[name]
        self.gains[_id(name, version)] = float(version + 10 * NAMES.index(name))
        self.loop.run_until_complete(self._switch(name, version))

    @rule(
        name=st.sampled_from(NAMES), what=st.sampled_from(("roll_back", "settle", "go"))
    )
    def change(self, name: str, what: str) -> None:
        async def act() -> None:
            verb = "remove" if what == "go" else what
            getattr(self.engine, verb)(name)

        self.loop.run_until_complete(act())

    @rule(
        name=st.sampled_from(NAMES),
        kind=st.sampled_from(("latest", "pinned", "canary", "shadow")),
        back=st.integers(0, 2),
        share=st.floats(0, 1),
    )
    def route(self, name: str, kind: Any, back: int, share: float) -> None:
        loaded = self.engine.versions(name)
        version = None
        if kind != "latest" and back < len(loaded):
            version = loaded[back]
        try:
            self.engine.route(name, Routing(kind=kind, version=version, share=share))
        except UsageError:
            assert len(loaded) < 2 or kind == "pinned"

    @rule(
        name=st.sampled_from(NAMES),
        deadline_s=st.sampled_from((None, 0.0, 0.5, 2.0, PATIENT_S)),
        priority=st.integers(-2, 2),
        back=st.integers(-6, 2),
        n=st.integers(1, 4),
    )
    def ask(
        self, name: str, deadline_s: float | None, priority: int, back: int, n: int
    ) -> None:
        loaded = self.engine.versions(name)
        if not loaded:
            return
        version = loaded[back] if 0 <= back < len(loaded) else None
        for _ in range(n):
            release = self.engine.find(name, version=version).id
            x = float(len(self.asked) + 1)
            task = self.loop.create_task(
                self.engine.infer(
                    name,
                    {"x": np.full((1, 4), x, np.float32)},
                    version=version,
                    deadline_s=deadline_s,
                    priority=priority,
                )
            )
            self.asked.append(
                _Asked(
                    task=task,
                    x=x,
                    release=release,
                    has_deadline=deadline_s is not None,
                    is_cancelled=[],
                )
            )
            self.run()

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 1000))
    def cancel(self, which: int) -> None:
        asked = self.asked[which % len(self.asked)]
        if asked.task.cancel():
            asked.is_cancelled.append(True)
        self.run()

    @precondition(lambda self: self.bench.runtime.sessions)
    @rule(
        which=st.integers(0, 100), what=st.sampled_from(("shut", "open", "let", "fail"))
    )
    def play(self, which: int, what: str) -> None:
        session = self.sessions[which % len(self.sessions)]
        if what == "fail":
            self.has_failed = True
            broken = RuntimeFailure("it stumbled", hint="Wait.")
            session.fault = None if session.fault else broken
        else:
            getattr(session, what)()
        self.run(0.001)

    @rule(wall_s=st.sampled_from((0.01, 0.3, 1.0, 6.0)))
    def pass_time(self, wall_s: float) -> None:
        self.bench.clock.advance(wall_s=wall_s)
        self.run()
        self.run(0.001)

    @invariant()
    def figures_make_sense(self) -> None:
        for name in self.engine.names():
            figures = self.engine.figures(name)
            assert figures.failed <= figures.requests
            assert figures.late <= figures.requests
            assert figures.waiting >= 0
            assert 0 <= figures.running <= THREADS
            assert figures.waiting + figures.running <= THREADS + MAX_WAITING

    def teardown(self) -> None:
        try:
            self.loop.run_until_complete(self._end())
            self._check_answers()
            assert self.complaints == []
        finally:
            self.loop.close()
            self.folder.cleanup()

    async def _end(self) -> None:
        turns = self.engine._turns
        for session in self.sessions:
            session.open()
        async with asyncio.timeout(30):
            await asyncio.gather(
                *(asked.task for asked in self.asked), return_exceptions=True
            )
            self.bench.close()
            await until(lambda: all(session.is_closed for session in self.sessions))
            await until(lambda: turns._free == CPUS)
        assert turns._lines == {}
        assert turns._background_left == CPUS - 1
        assert all(share.pending == 0 for share in turns._shares.values())
        for thread in threading.enumerate():
            if thread.name.startswith("skerry-"):
                thread.join(timeout=10)
                assert not thread.is_alive()

    def _check_answers(self) -> None:
        for asked in self.asked:
            assert asked.task.done()
            if asked.task.cancelled():
                assert asked.is_cancelled
                continue
            error = asked.task.exception()
            if error is None:
                answer = asked.task.result()
                assert answer.release == asked.release
                expected = np.full(
                    (1, 4), asked.x * self.gains[asked.release], np.float32
                )
                np.testing.assert_array_equal(answer.outputs["y"], expected)
            elif isinstance(error, LateError):
                assert asked.has_deadline
            elif isinstance(error, RuntimeFailure):
                assert self.has_failed
                assert "stumbled" in str(error)
            else:
                assert isinstance(error, BusyError), error
                assert isinstance(error, SkerryError)


def _id(name: str, version: int) -> ReleaseId:
    return ReleaseId(name=name, version=version)


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
