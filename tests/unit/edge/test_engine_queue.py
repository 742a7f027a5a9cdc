from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import BusyError, LateError, RuntimeFailure, UsageError
from skerry.edge import loaded, turns
from skerry.edge.engine import Answer, Engine
from tests.gated import Bench, GatedSession, InterruptibleSession, until
from tests.serving import X


def _run(
    folder: Path, story: Callable[[Bench], Awaitable[None]], **options: Any
) -> None:
    bench = Bench(folder, **options)
    complaints: list[dict[str, Any]] = []

    async def whole() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        try:
            await story(bench)
        finally:
            bench.close()

    asyncio.run(whole())
    gc.collect()
    assert complaints == []


def _ask(engine: Engine, x: float = 1, **options: Any) -> asyncio.Task[Answer]:
    inputs = {"x": np.full((1, 4), x, np.float32)}
    return asyncio.create_task(engine.infer("meter", inputs, **options))


def _order(session: GatedSession) -> list[float]:
    return [float(x[0, 0]) for x in session.begun if x[0, 0] >= 10]


def test_waiting_requests_go_by_priority(tmp_path: Path) -> None:
    """The more urgent first; among equals, who came first."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        session.shut()
        asked = [_ask(bench.engine, 10)]
        await until(lambda: _order(session) == [10])
        for x, priority in ((11, 0), (12, -1), (13, 2), (14, 0), (15, 2)):
            asked.append(_ask(bench.engine, x, priority=priority))
        await asyncio.sleep(0)
        session.let(len(asked))
        await asyncio.gather(*asked)
        assert _order(session) == [10, 13, 15, 11, 14, 12]

    _run(tmp_path, story)


@pytest.mark.parametrize("priority", [-11, 11])
def test_a_priority_has_its_limits(priority: int, tmp_path: Path) -> None:
    """Nobody puts off all others for ever."""

    async def story(bench: Bench) -> None:
        bench.switch()
        with pytest.raises(UsageError, match="expected -10 to 10"):
            await _ask(bench.engine, priority=priority)

    _run(tmp_path, story)


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    """By what waits and how long an inference takes; an urgent one is taken in."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        session.shut()
        running, low, normal = (
            _ask(bench.engine, priority=priority) for priority in (0, -1, 0)
        )
        await until(lambda: len(session.begun) == 1)
        bench.loaded()._line.typical_s = 3.0
        with pytest.raises(BusyError, match="meter/1 has 3 requests") as caught:
            await _ask(bench.engine, priority=-1)
        assert caught.value.retry_after_s == pytest.approx(6.0)
        assert caught.value.hint == "Ask again in 6 s, or less often."
        urgent = _ask(bench.engine, priority=1)
        with pytest.raises(BusyError):
            await low
        session.let(3)
        await asyncio.gather(running, normal, urgent)
        figures = bench.engine.figures("meter")
        assert (figures.requests, figures.busy, figures.failed) == (3, 2, 0)

    _run(tmp_path, story, max_waiting=2)


def test_the_figures_tell_what_waits_and_runs(tmp_path: Path) -> None:
    """At this moment, of those taken in."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        session.shut()
        asked = [_ask(bench.engine) for _ in range(3)]
        await until(lambda: len(session.begun) == 1)
        figures = bench.engine.figures("meter")
        assert (figures.running, figures.waiting) == (1, 2)
        session.let(3)
        await asyncio.gather(*asked)
        figures = bench.engine.figures("meter")
        assert (figures.running, figures.waiting) == (0, 0)

    _run(tmp_path, story)


def test_one_model_does_not_starve_another(tmp_path: Path) -> None:
    """With one CPU and one busy model, another's request is the next but one."""

    async def story(bench: Bench) -> None:
        busy = bench.switch()
        bench.switch(2, name="other")
        busy.shut()
        asked = [_ask(bench.engine) for _ in range(20)]
        await until(lambda: len(busy.begun) == 1)
        bench.loaded()._line.share.used_s += 1
        other = asyncio.create_task(bench.engine.infer("other", {"x": X}))
        await asyncio.sleep(0)
        assert not other.done()
        busy.let(1)
        assert (await other).release.name == "other"
        busy.let(20)
        await asyncio.gather(*asked)

    _run(tmp_path, story, cpus=1)


def test_a_deadline_passes_at_its_time_whatever_runs(tmp_path: Path) -> None:
    """One that waits is never run, one that runs goes on unheard."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        clock = bench.clock
        session.shut()
        asked = [_ask(bench.engine, 10, deadline_s=s) for s in (5, 6)]
        patient = _ask(bench.engine, 11, deadline_s=60)
        await until(lambda: _order(session) == [10])
        clock.advance(wall_s=5)
        with pytest.raises(LateError):
            await asked[0]
        assert not asked[1].done()
        clock.advance(wall_s=1)
        with pytest.raises(LateError):
            await asked[1]
        session.let(3)
        assert (await patient).release.version == 1
        assert _order(session) == [10, 11]
        figures = bench.engine.figures("meter")
        assert (figures.requests, figures.late, figures.failed) == (3, 2, 0)

    _run(tmp_path, story, clock=FakeClock())


def test_a_deadline_that_has_passed_already(tmp_path: Path) -> None:
    """It is late at once, and does not end as a cancellation."""

    async def story(bench: Bench) -> None:
        bench.switch()
        for deadline_s in (0.0, -1.0):
            with pytest.raises(LateError):
                await _ask(bench.engine, deadline_s=deadline_s)
        await until(lambda: bench.engine.figures("meter").running == 0)
        assert bench.engine.figures("meter").late == 2

    _run(tmp_path, story)


def test_an_inference_that_hangs_is_interrupted(tmp_path: Path) -> None:
    """Its caller is told at the deadline; those behind it are answered after it."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        assert isinstance(session, InterruptibleSession)
        clock = bench.clock
        session.shut()
        hung = _ask(bench.engine, deadline_s=1)
        behind = _ask(bench.engine, deadline_s=60)
        await until(lambda: len(session.begun) == 1)
        clock.advance(wall_s=1)
        with pytest.raises(LateError):
            await hung
        assert session.interruptions == 0
        clock.advance(wall_s=loaded.HANG_GRACE_S)
        await until(lambda: session.interruptions == 1)
        await until(lambda: len(session.begun) == 2)
        session.open()
        assert (await behind).release.version == 1
        await until(lambda: bench.engine.figures("meter").failed == 1)
        figures = bench.engine.figures("meter")
        assert (figures.late, figures.interrupted) == (1, 1)

    _run(tmp_path, story, kind=InterruptibleSession, clock=FakeClock())


def test_an_impatient_client_kills_no_worker(tmp_path: Path) -> None:
    """What has not run for long by its deadline is left alone until it has."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        assert isinstance(session, InterruptibleSession)
        clock = bench.clock
        bench.loaded()._line.typical_s = 0.5
        session.shut()
        asked = _ask(bench.engine, deadline_s=0.001)
        await until(lambda: len(session.begun) == 1)
        clock.advance(wall_s=0.001)
        with pytest.raises(LateError):
            await asked
        for _ in range(4):
            clock.advance(wall_s=1.0)
            await asyncio.sleep(0.001)
        assert session.interruptions == 0
        clock.advance(wall_s=1.1)
        await until(lambda: session.interruptions == 1)

    _run(tmp_path, story, kind=InterruptibleSession, clock=FakeClock())


def test_who_shares_the_fate_of_what_hung_is_run_again(tmp_path: Path) -> None:
    """Another inference that the interruption hits is not its victim."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        clock = bench.clock
        session.shut()
        hung = _ask(bench.engine, 10, deadline_s=1)
        await until(lambda: _order(session) == [10])
        innocent = _ask(bench.engine, 11)
        await until(lambda: _order(session) == [10, 11])
        clock.advance(wall_s=1)
        with pytest.raises(LateError):
            await hung
        clock.advance(wall_s=loaded.HANG_GRACE_S)
        await until(lambda: _order(session) == [10, 11, 11])
        session.open()
        answer = await innocent
        np.testing.assert_array_equal(answer.outputs["y"], X[:, :1] * 0 + [[11] * 4])
        await until(lambda: bench.engine.figures("meter").failed == 1)

    _run(tmp_path, story, kind=InterruptibleSession, clock=FakeClock(), threads=2)


def test_who_left_does_not_keep_a_hung_inference_alive(tmp_path: Path) -> None:
    """Its deadline holds, though nobody waits for it any more."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        assert isinstance(session, InterruptibleSession)
        clock = bench.clock
        session.shut()
        asked = _ask(bench.engine, deadline_s=1)
        await until(lambda: len(session.begun) == 1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        for _ in range(2):
            clock.advance(wall_s=1)
            await asyncio.sleep(0.001)
        await until(lambda: session.interruptions == 1)
        assert bench.engine.figures("meter").late == 0

    _run(tmp_path, story, kind=InterruptibleSession, clock=FakeClock())


def test_a_session_that_cannot_be_interrupted_after_all(tmp_path: Path) -> None:
    """Whatever its `interrupt` raises, the others are served."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        clock = bench.clock

        def fail() -> None:
            raise ZeroDivisionError

        session.interrupt = fail  # type: ignore[attr-defined]
        bench.switch(2, name="other")
        session.shut()
        hung = _ask(bench.engine, deadline_s=1)
        await until(lambda: len(session.begun) == 1)
        for wall_s in (1, loaded.HANG_GRACE_S):
            clock.advance(wall_s=wall_s)
            await asyncio.sleep(0.001)
        with pytest.raises(LateError):
            await hung
        assert await bench.engine.infer("other", {"x": X})
        del session.interrupt  # type: ignore[attr-defined]

    _run(tmp_path, story, kind=InterruptibleSession, clock=FakeClock(), cpus=1)


@pytest.mark.parametrize("deadline_s", [0.5, 60.0, None])
def test_what_hangs_keeps_no_turn(deadline_s: float | None, tmp_path: Path) -> None:
    """With one CPU, others run once its deadline or the longest turn is over."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        bench.switch(2, name="other")
        clock = bench.clock
        session.shut()
        hung = _ask(bench.engine, deadline_s=deadline_s)
        await until(lambda: len(session.begun) == 1)
        other = asyncio.create_task(bench.engine.infer("other", {"x": X}))
        await asyncio.sleep(0.01)
        assert not other.done()
        left_s = turns.LONGEST_TURN_S
        while left_s > 0:
            clock.advance(wall_s=0.5)
            await asyncio.sleep(0.001)
            left_s -= 0.5
        assert (await other).release.name == "other"
        session.open()
        ended = await asyncio.gather(hung, return_exceptions=True)
        assert isinstance(ended[0], LateError if deadline_s == 0.5 else Answer)
        assert await bench.engine.infer("meter", {"x": X}, deadline_s=60)

    _run(tmp_path, story, clock=FakeClock(), cpus=1)


def test_a_session_that_raises_anything_fails_one_request(tmp_path: Path) -> None:
    """The thread goes on, and the turn is given back."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        stumbled = RuntimeFailure("it stumbled", hint="Wait.")
        for fault in (MemoryError(), stumbled, SystemExit(3), KeyboardInterrupt()):
            session.fault = fault
            with pytest.raises(RuntimeFailure):
                await _ask(bench.engine)
        session.fault = None
        assert await _ask(bench.engine)
        assert bench.engine.figures("meter").failed == 4

    _run(tmp_path, story, cpus=1)


def test_a_session_that_cannot_be_closed_is_let_go(tmp_path: Path) -> None:
    """Its threads end all the same, and the others are served."""

    async def story(bench: Bench) -> None:
        session = bench.switch()

        def fail() -> None:
            session.is_closed = True
            raise ZeroDivisionError

        session.close = fail  # type: ignore[method-assign]
        bench.switch(2)
        bench.engine.settle("meter")
        await until(lambda: session.is_closed)
        assert (await _ask(bench.engine)).release.version == 2

    _run(tmp_path, story)


def test_an_engine_outlives_its_event_loop(tmp_path: Path) -> None:
    """What ran when the loop was closed is unheard; another loop is served."""
    bench = Bench(tmp_path, cpus=1)
    session = bench.switch()
    session.shut()

    async def leave() -> None:
        _ask(bench.engine, deadline_s=9)
        _ask(bench.engine)
        await until(lambda: len(session.begun) == 1)

    async def stay() -> None:
        answer = await bench.engine.infer("meter", {"x": X}, deadline_s=60)
        np.testing.assert_array_equal(answer.outputs["y"], X)

    asyncio.run(leave())
    session.open()
    asyncio.run(stay())
    bench.close()

    async def closed() -> None:
        await until(lambda: session.is_closed)

    asyncio.run(closed())


def test_cancelled_just_as_the_failure_comes(tmp_path: Path) -> None:
    """The error that nobody hears is not complained of."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        session.shut()
        session.fault = RuntimeFailure("it stumbled", hint="Wait.")
        asked = _ask(bench.engine)
        await until(lambda: len(session.begun) == 1)
        request = bench.loaded()
        finish = request._finish

        def both(*arguments: Any) -> None:
            finish(*arguments)
            asked.cancel()

        request._finish = both  # type: ignore[method-assign]
        session.let()
        with pytest.raises(asyncio.CancelledError):
            await asked

    _run(tmp_path, story)


def test_a_failure_lets_go_of_its_tensors(tmp_path: Path) -> None:
    """At once, not when the garbage collector comes round: they may be large."""

    async def story(bench: Bench) -> None:
        session = bench.switch()
        session.fault = RuntimeFailure("it stumbled", hint="Wait.")
        x = np.ones((1, 4), np.float32)
        held = weakref.ref(x)
        gc.disable()
        try:
            with pytest.raises(RuntimeFailure):
                await bench.engine.infer("meter", {"x": x})
            del x
            session.fault = None
            session.begun.clear()
            await until(lambda: held() is None)
        finally:
            gc.enable()

    _run(tmp_path, story)
