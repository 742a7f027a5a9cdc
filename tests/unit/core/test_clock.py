from __future__ import annotations

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
