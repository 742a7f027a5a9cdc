from __future__ import annotations

import asyncio
import threading

import pytest

from skerry.app.simulate.disk import PowerCut
from skerry.app.simulate.loop import Life, simulate, simulated_loop
from skerry.core.clock import FakeClock
from skerry.core.errors import StateError


def test_blocking_work_is_done_on_the_loop_itself() -> None:
    """No thread is begun, results and errors come where they are awaited."""

    async def scenario() -> None:
        assert await asyncio.to_thread(threading.get_ident) == threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)

    simulate(scenario())


def test_it_settles_when_only_time_can_bring_anything_on() -> None:
    """All that can go on without time passing has gone on, and no more."""

    async def scenario() -> list[str]:
        clock, done = FakeClock(), list[str]()

        async def work() -> None:
            for _ in range(50):
                await asyncio.to_thread(lambda: None)
            done.append("before")
            await clock.sleep(1)
            done.append("after")

        task = asyncio.ensure_future(work())
        assert not await simulated_loop().settle()
        assert done == ["before"]
        clock.advance(wall_s=1)
        await simulated_loop().settle()
        await task
        return done

    assert simulate(scenario()) == ["before", "after"]


def test_it_stops_in_the_middle_when_told_what_to_look_for() -> None:
    """Between any two steps of a task."""

    async def scenario() -> None:
        steps = list[int]()

        async def work() -> None:
            for step in range(100):
                steps.append(step)
                await asyncio.sleep(0)

        task = asyncio.ensure_future(work())
        assert await simulated_loop().settle(until=lambda: len(steps) == 7)
        assert len(steps) == 7
        await task

    simulate(scenario())


def test_what_never_settles_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits for nothing is a bug, and is said to be one."""
    monkeypatch.setattr("skerry.app.simulate.loop.MOST_ROUNDS", 50)

    async def scenario() -> None:
        async def spin() -> None:
            while True:
                await asyncio.to_thread(lambda: None)

        task = asyncio.ensure_future(spin())
        with pytest.raises(StateError, match="round and round"):
            await simulated_loop().settle()
        task.cancel()

    simulate(scenario())


def test_a_life_that_ends_takes_everything_with_it() -> None:
    """Tasks, the tasks that they began, and blocking work that has not begun."""

    async def scenario() -> list[str]:
        life, done = Life(), list[str]()

        async def child() -> None:
            await asyncio.sleep(3600)

        async def parent() -> None:
            task = asyncio.ensure_future(child())
            try:
                await task
            finally:
                done.append("cleaning up")
                await asyncio.to_thread(lambda: done.append("saved"))

        life.start(parent())
        await simulated_loop().settle()
        life.end()
        await life.ended()
        return done

    assert simulate(scenario()) == ["cleaning up"]


def test_a_life_that_is_stopped_may_clean_up() -> None:
    """Blocking work is still done."""

    async def scenario() -> list[str]:
        life, done = Life(), list[str]()

        async def work() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.to_thread(lambda: done.append("saved"))

        life.start(work())
        await simulated_loop().settle()
        life.stop()
        await life.ended()
        return done

    assert simulate(scenario()) == ["saved"]


def test_a_power_cut_ends_the_life_that_it_happens_to() -> None:
    """And only that one."""

    async def scenario() -> None:
        def cut() -> None:
            raise PowerCut

        struck, other = Life(), Life()
        beside = other.start(asyncio.sleep(3600))
        task = struck.start(asyncio.to_thread(cut))
        await struck.ended()
        assert task.cancelled()
        assert struck.is_over
        assert not beside.done()
        other.end()
        await other.ended()

    simulate(scenario())


def test_a_fleet_needs_a_simulated_loop() -> None:
    """On a real one its threads would not be waited for."""

    async def scenario() -> None:
        simulated_loop()

    with pytest.raises(StateError, match="simulated loop"):
        asyncio.run(scenario())
