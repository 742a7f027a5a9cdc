from __future__ import annotations

from skerry.edge.workers.crashes import CrashLoop


def test_a_third_death_in_a_row_makes_a_pause() -> None:
    """It doubles with each more, up to a minute, and is over when it is over."""
    loop = CrashLoop()
    loop.died(0)
    loop.died(1)
    assert loop.pause_s(1) == 0
    loop.died(2)
    assert loop.pause_s(2) == 1
    assert loop.pause_s(2.5) == 0.5
    assert loop.pause_s(3) == 0
    pauses = []
    for now_s in range(3, 12):
        loop.died(now_s)
        pauses.append(loop.pause_s(now_s))
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_a_good_answer_makes_up_for_all() -> None:
    """Deaths with answers between them are no loop."""
    loop = CrashLoop()
    for now_s in range(10):
        loop.died(now_s)
        loop.died(now_s)
        loop.answered()
    assert loop.pause_s(9) == 0
    for _ in range(3):
        loop.died(10)
    assert loop.pause_s(10) == 1


def test_rare_deaths_are_no_loop() -> None:
    """Three in more than a minute are not counted together."""
    loop = CrashLoop()
    for now_s in range(0, 1000, 31):
        loop.died(now_s)
        assert loop.pause_s(now_s) == 0
