from __future__ import annotations

import asyncio

import pytest

from skerry.core.clock import Clock, FakeClock, SystemClock


def test_the_clock_of_the_machine_goes_forward() -> None:
    """Wall and CPU time never go back, and work costs both."""
    clock: Clock = SystemClock()
    wall_s, cpu_s = clock.wall_s(), clock.cpu_s()
    sum(range(200_000))
    assert clock.wall_s() > wall_s
    assert clock.cpu_s() > cpu_s


def test_the_fake_clock_moves_by_hand() -> None:
    """CPU time follows wall time unless it is given."""
    clock = FakeClock()
    clock.advance(wall_s=2.0)
    clock.advance(wall_s=1.0, cpu_s=0.0)
    assert (clock.wall_s(), clock.cpu_s()) == (3.0, 2.0)


def test_the_fake_date_follows_and_can_be_set() -> None:
    """It moves with `advance`, and jumps to 1970 as after a power cut."""
    clock = FakeClock(unix_ms=1_000)
    clock.advance(wall_s=2.0)
    assert clock.unix_ms() == 3_000
    clock.set_unix_ms(0)
    assert (clock.unix_ms(), clock.wall_s()) == (0, 2.0)


def test_the_machine_knows_the_date_and_sleeps() -> None:
    """The date is past the day this was written; a short sleep returns."""
    clock = SystemClock()
    asyncio.run(clock.sleep(0.001))
    assert clock.unix_ms() > 1_760_000_000_000


def test_sleepers_wake_when_their_time_has_come() -> None:
    """Each at its own time, the earliest first; one who gave up is forgotten."""
    woken: list[str] = []
    clock = FakeClock()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async def scene() -> None:
        names = {"late": 3.0, "early": 1.0, "gone": 2.0, "now": 0.0}
        tasks = {
            name: asyncio.create_task(sleeper(name, s)) for name, s in names.items()
        }
        await asyncio.sleep(0)
        tasks["gone"].cancel()
        await asyncio.sleep(0)
        assert clock.next_wake_s() == 1.0
        clock.advance(wall_s=0.5)
        await asyncio.sleep(0)
        assert woken == ["now"]
        clock.advance(wall_s=5.0)
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert clock.next_wake_s() is None

    asyncio.run(scene())
    assert woken == ["now", "early", "late"]


@pytest.mark.parametrize("clock_kind", ["system", "fake"])
def test_a_call_comes_when_its_time_has(clock_kind: str) -> None:
    """Neither early nor, once it was cancelled, at all; a past time is soon."""

    async def story() -> None:
        clock = SystemClock() if clock_kind == "system" else FakeClock()
        made: list[str] = []
        clock.call_later(0.01, lambda: made.append("first"))
        clock.call_later(0.02, lambda: made.append("cancelled")).cancel()
        clock.call_later(-1, lambda: made.append("soon"))
        last = clock.call_later(0.02, lambda: made.append("last"))
        async with asyncio.timeout(10):
            while "last" not in made:
                if isinstance(clock, FakeClock):
                    clock.advance(wall_s=0.01)
                await asyncio.sleep(0.001)
        last.cancel()
        assert made == ["soon", "first", "last"]

    asyncio.run(story())
