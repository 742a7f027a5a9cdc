"""Requests that the event loop drives, and what becomes of them when it cannot."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import LateError, RuntimeFailure
from skerry.edge import loaded
from skerry.edge.engine import Answer, Engine
from tests.gated import Bench, StartableSession, until
from tests.serving import X

Story = Callable[[Bench, StartableSession], Awaitable[None]]


def _run(folder: Path, story: Story, **options: Any) -> None:
    bench = Bench(folder, kind=StartableSession, **options)

    async def whole() -> None:
        try:
            await story(bench, cast("StartableSession", bench.switch()))
        finally:
            bench.close()

    asyncio.run(whole())


def _ask(
    engine: Engine, x: float = 1, name: str = "meter", **options: Any
) -> asyncio.Task[Answer]:
    inputs = {"x": np.full((1, 4), x, np.float32)}
    return asyncio.create_task(engine.infer(name, inputs, **options))


def _begun(session: StartableSession, n: int) -> Callable[[], bool]:
    return lambda: len(session.started) == n


def test_the_loop_drives_it(tmp_path: Path) -> None:
    """No thread sees a request that ends as it should."""

    async def story(bench: Bench, session: StartableSession) -> None:
        asked = _ask(bench.engine, 3, deadline_s=5)
        await until(_begun(session, 1))
        assert bench.engine.figures("meter").running == 1
        session.started[0].answer()
        assert (await asked).outputs["y"].tolist() == [[3] * 4]
        assert session.started[0].finished_by == threading.get_ident()
        assert session.begun == []
        figures = bench.engine.figures("meter")
        assert (figures.requests, figures.failed, figures.running) == (1, 0, 0)

    _run(tmp_path, story)


@pytest.mark.parametrize("is_shy", [True, False])
def test_what_the_loop_cannot_do_a_thread_does(tmp_path: Path, *, is_shy: bool) -> None:
    """Whether it could not be started, or has no good reply: one answer, one run."""

    async def story(bench: Bench, session: StartableSession) -> None:
        session.is_shy = is_shy
        asked = _ask(bench.engine, 3)
        if not is_shy:
            await until(_begun(session, 1))
            session.started[0].answer(is_ready=False)
        assert (await asked).outputs["y"].tolist() == [[3] * 4]
        assert len(session.begun) == 1
        assert is_shy or session.started[0].finished_by != threading.get_ident()
        assert bench.engine.figures("meter").requests == 1

    _run(tmp_path, story)


def test_an_error_is_told_as_ever(tmp_path: Path) -> None:
    """The thread that finishes it says what it was, and the turn is free again."""

    async def story(bench: Bench, session: StartableSession) -> None:
        session.fault = RuntimeFailure("it broke", hint="Mend it.")
        asked = _ask(bench.engine)
        await until(_begun(session, 1))
        session.started[0].answer(is_ready=False)
        with pytest.raises(RuntimeFailure, match="it broke"):
            await asked
        figures = bench.engine.figures("meter")
        assert (figures.failed, figures.running) == (1, 0)
        after = _ask(bench.engine)
        await until(_begun(session, 2))
        session.started[1].answer()
        await after

    _run(tmp_path, story, cpus=1)


def test_a_session_that_fails_to_start_is_run(tmp_path: Path) -> None:
    """Whatever a runtime of a third party raises."""

    async def story(bench: Bench, session: StartableSession) -> None:
        def start(*_: object) -> None:
            raise KeyError("x")

        session.start = start  # type: ignore[method-assign,assignment]
        assert (await _ask(bench.engine, 2)).outputs["y"].tolist() == [[2] * 4]

    _run(tmp_path, story)


def test_the_next_begins_before_the_last_is_told(tmp_path: Path) -> None:
    """In the order of the line."""

    async def story(bench: Bench, session: StartableSession) -> None:
        asked = [_ask(bench.engine, x) for x in range(3)]
        asked.append(_ask(bench.engine, 9, priority=1))
        await until(_begun(session, 1))
        seen: list[float] = []
        for at in range(4):
            seen.append(float(session.started[at]._inputs["x"][0, 0]))
            session.started[at].answer()
            assert len(session.started) == min(at + 2, 4)
            assert not asked[0].done() or at
        await asyncio.gather(*asked)
        assert seen == [0, 9, 1, 2]

    _run(tmp_path, story, threads=1)


def test_two_names_take_turns(tmp_path: Path) -> None:
    """On one CPU, one after the other, whoever has more to do."""

    async def story(bench: Bench, session: StartableSession) -> None:
        bench.switch(2, name="other")
        other = cast("StartableSession", bench.runtime.sessions[-1])
        asked = [_ask(bench.engine) for _ in range(6)]
        asked += [_ask(bench.engine, name="other") for _ in range(3)]
        await until(_begun(session, 1))
        order = []
        for _ in asked:
            running = [s for s in (session, other) if s.started]
            assert sum(len(s.started) for s in running) == 1
            order.append(running[0] is session)
            bench.clock.advance(wall_s=0.5)
            running[0].started.pop().answer()
        await asyncio.gather(*asked)
        assert sum(order[:6]) in {3, 4}

    _run(tmp_path, story, cpus=1, clock=FakeClock())


def test_what_hangs_is_interrupted(tmp_path: Path) -> None:
    """At its deadline a thread takes it over, by which it is interrupted."""

    async def story(bench: Bench, session: StartableSession) -> None:
        session.shut()
        hung = _ask(bench.engine, deadline_s=1)
        await until(_begun(session, 1))
        bench.clock.advance(wall_s=1)
        with pytest.raises(LateError):
            await hung
        assert session.started[0].has_left
        await until(lambda: len(session.begun) == 1)
        bench.clock.advance(wall_s=loaded.HANG_GRACE_S)
        await until(lambda: session.interruptions == 1)
        await until(lambda: bench.engine.figures("meter").running == 0)
        figures = bench.engine.figures("meter")
        assert (figures.late, figures.failed, figures.interrupted) == (1, 1, 1)

    _run(tmp_path, story, clock=FakeClock())


def test_who_shares_the_fate_of_what_hung_is_run_again(tmp_path: Path) -> None:
    """The interruption of another counts from when it was started."""

    async def story(bench: Bench, session: StartableSession) -> None:
        session.shut()
        hung = _ask(bench.engine, deadline_s=1)
        innocent = _ask(bench.engine, 3, deadline_s=60)
        await until(_begun(session, 2))
        bench.clock.advance(wall_s=1)
        with pytest.raises(LateError):
            await hung
        await until(lambda: len(session.begun) == 1)
        bench.clock.advance(wall_s=loaded.HANG_GRACE_S)
        await until(lambda: session.interruptions == 1)
        session.open()
        fault = RuntimeFailure("its worker died, too", hint="Ask again.")
        session.started[1].answer(is_ready=False, fault=fault)
        assert (await innocent).outputs["y"].tolist() == [[3] * 4]

    _run(tmp_path, story, clock=FakeClock(), threads=2)


def test_without_a_deadline_a_thread_takes_it_over(tmp_path: Path) -> None:
    """The loop waits for nothing without end; the thread has a limit."""

    async def story(bench: Bench, session: StartableSession) -> None:
        asked = _ask(bench.engine, 3)
        await until(_begun(session, 1))
        bench.clock.advance(wall_s=loaded.LOOP_S)
        assert (await asked).outputs["y"].tolist() == [[3] * 4]
        assert session.started[0].has_left

    _run(tmp_path, story, clock=FakeClock())


@pytest.mark.parametrize("how", ["remove", "cancel"])
def test_it_ends_without_the_loop(tmp_path: Path, how: str) -> None:
    """Where the release or its caller goes, a thread ends it, and closes the rest."""

    async def story(bench: Bench, session: StartableSession) -> None:
        session.shut()
        asked, waits = _ask(bench.engine, 3), _ask(bench.engine, 4)
        await until(_begun(session, 1))
        if how == "cancel":
            asked.cancel()
            await asyncio.wait([asked])
        bench.engine.remove("meter")
        assert session.started[0].has_left
        session.open()
        assert (await waits).outputs["y"].tolist() == [[4] * 4]
        assert how == "cancel" or (await asked).outputs["y"].tolist() == [[3] * 4]
        await until(lambda: session.is_closed)
        assert len(session.started) == 1

    _run(tmp_path, story)


def test_a_comparison_stays_on_a_thread(tmp_path: Path) -> None:
    """It is in nobody's way there."""

    async def story(bench: Bench, session: StartableSession) -> None:
        comparing = bench.loaded().compare({"x": X}, lambda outputs, _: outputs["y"])
        assert comparing is not None
        np.testing.assert_array_equal(await comparing, X)
        assert session.started == []

    _run(tmp_path, story)


@pytest.mark.parametrize("deadline_s", [None, 60])
def test_its_tensors_go_with_the_answer(
    tmp_path: Path, deadline_s: float | None
) -> None:
    """They wait neither for the deadline nor for a collection of cycles."""

    async def story(bench: Bench, session: StartableSession) -> None:
        gc.disable()
        try:
            x = np.ones((1, 4), np.float32)
            seen = weakref.ref(x)
            asking = bench.engine.infer("meter", {"x": x}, deadline_s=deadline_s)
            asked = asyncio.create_task(asking)
            del x, asking
            await until(_begun(session, 1))
            session.started.pop().answer()
            await asked
            del asked
            await asyncio.sleep(0)
            assert seen() is None
        finally:
            gc.enable()

    _run(tmp_path, story)


def test_a_thread_hands_turns_to_the_loop(tmp_path: Path) -> None:
    """What a thread's end makes room for is started on the loop all the same."""

    async def story(bench: Bench, session: StartableSession) -> None:
        session.is_shy = True
        session.shut()
        first, second = _ask(bench.engine), _ask(bench.engine, 3)
        await until(lambda: len(session.begun) == 1)
        session.is_shy = False
        session.open()
        await until(_begun(session, 1))
        session.started[0].answer()
        await first
        assert (await second).outputs["y"].tolist() == [[3] * 4]
        assert len(session.begun) == 1

    _run(tmp_path, story, cpus=1)
