from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import UsageError
from skerry.edge.queueing import AGE_S, BACKGROUND, Line, Request, State
from skerry.edge.turns import Turns, usable_cpus
from tests.serving import X


class _Hall:
    """Turns, and lines whose threads the test plays."""

    def __init__(
        self, *, cpus: int | None, weights: dict[str, float] | None = None
    ) -> None:
        self.clock = FakeClock()
        self.turns = Turns(self.clock, cpus=cpus, weights=weights)
        self._loop = asyncio.new_event_loop()

    def line(self, name: str, *, threads: int = 1, max_waiting: int = 64) -> Line:
        return self.turns.join(name, threads=threads, max_waiting=max_waiting)

    def request(self, priority: int = 0) -> Request:
        return Request(
            {"x": X},
            answered=self._loop.create_future(),
            make=lambda outputs, _: outputs,
            arrived_s=self.clock.wall_s(),
            priority=priority,
        )

    def put(self, line: Line, priority: int = 0) -> Request:
        request = self.request(priority)
        assert self.turns.put(line, request) is None
        return request

    def run(self, line: Line, took_s: float = 1.0) -> Request:
        """Let a thread of the line run what it has been given."""
        request = line.jobs.get_nowait()
        assert request is not None
        self.clock.advance(wall_s=took_s)
        self.turns.end(line, request, took_s=took_s)
        return request

    def close(self) -> None:
        self._loop.close()


@pytest.fixture
def hall() -> Iterator[_Hall]:
    """One CPU."""
    hall = _Hall(cpus=1)
    yield hall
    hall.close()


def _share_of(hall: _Hall, lines: list[Line], times: list[float]) -> list[float]:
    """What part of the time each line gets, while all have much to do."""
    spent = [0.0] * len(lines)
    for line in lines:
        for _ in range(60):
            hall.put(line)
    while all(line.waiting for line in lines):
        (index,) = [i for i, line in enumerate(lines) if not line.jobs.empty()]
        hall.run(lines[index], times[index])
        spent[index] += times[index]
    return [each / sum(spent) for each in spent]


def test_names_get_equal_time_however_long_an_inference_takes(hall: _Hall) -> None:
    """One takes eight times as long as another: it gets a turn an eighth as often."""
    lines = [hall.line("slow"), hall.line("quick")]
    shares = _share_of(hall, lines, [0.8, 0.1])
    assert shares == pytest.approx([0.5, 0.5], abs=0.06)


def test_a_weight_is_a_larger_share() -> None:
    """A name of weight 3 gets three times as much."""
    hall = _Hall(cpus=1, weights={"heavy": 3.0})
    shares = _share_of(hall, [hall.line("heavy"), hall.line("light")], [0.1, 0.1])
    assert shares == pytest.approx([0.75, 0.25], abs=0.05)
    hall.close()


def test_two_versions_of_a_name_share_its_time(hall: _Hall) -> None:
    """The name with two lines has no more than that with one."""
    lines = [hall.line("two"), hall.line("two"), hall.line("one")]
    shares = _share_of(hall, lines, [0.1, 0.1, 0.1])
    assert shares[2] == pytest.approx(0.5, abs=0.05)


def test_who_was_idle_saves_nothing_and_owes_nothing(hall: _Hall) -> None:
    """After 50 s of another's work, turns alternate from the first one on."""
    busy, idle = hall.line("busy"), hall.line("idle")
    for _ in range(50):
        hall.put(busy)
        hall.run(busy)
    for _ in range(8):
        hall.put(busy)
        hall.put(idle)
    order = []
    for _ in range(8):
        line = busy if not busy.jobs.empty() else idle
        hall.run(line)
        order.append(line is idle)
    assert 3 <= sum(order) <= 5
    assert any(order[:2])


def test_no_more_run_than_there_are_cpus() -> None:
    """Three names, two CPUs; a name without anything to do takes none."""
    hall = _Hall(cpus=2)
    lines = [hall.line(name) for name in "abc"]
    hall.line("empty")
    for line in lines:
        hall.put(line)
    assert [line.jobs.qsize() for line in lines] == [1, 1, 0]
    hall.run(lines[0])
    assert lines[2].jobs.qsize() == 1
    hall.close()


def test_the_higher_priority_goes_first_and_equal_ones_in_order(hall: _Hall) -> None:
    """Whatever the order in which they came."""
    line = hall.line("meter")
    first = hall.put(line)
    waiting = [hall.put(line, priority) for priority in (0, BACKGROUND, 3, 0, 3)]
    ran = [hall.run(line, 0.0) for _ in range(6)]
    assert ran == [first, *(waiting[i] for i in (2, 4, 0, 3, 1))]


def test_the_background_is_not_starved_for_ever(hall: _Hall) -> None:
    """Having waited `AGE_S`, it goes before those that came after that."""
    line = hall.line("meter", max_waiting=200)
    old = hall.put(line)
    late = hall.put(line, BACKGROUND)
    ran: list[Request] = []
    while len(ran) < 100:
        hall.put(line)
        hall.put(line)
        ran.append(hall.run(line, 0.1))
        if ran[-1] is late:
            break
    assert ran[0] is old
    assert AGE_S / 0.1 < len(ran) < 2 * AGE_S / 0.1 + 5


def test_the_background_of_one_name_waits_for_all_others() -> None:
    """A name that has used nothing so far has its background run last all the same."""
    hall = _Hall(cpus=2)
    busy, shadow = hall.line("busy"), hall.line("shadow")
    hall.put(busy)
    hall.run(busy, 60)
    hall.put(busy)
    behind = hall.put(shadow, BACKGROUND)
    second = hall.put(shadow, BACKGROUND)
    assert behind.is_background
    assert behind.state is State.RUNNING
    assert second.state is State.WAITING
    other = hall.line("shadow")
    hall.run(busy)
    # A CPU is free and a thread is idle, but one of both is kept for who is in a hurry.
    third = hall.put(other, BACKGROUND)
    assert third.state is State.WAITING
    assert hall.put(busy).state is State.RUNNING
    hall.run(shadow)
    assert (second.state, third.state) == (State.RUNNING, State.WAITING)
    hall.close()


def test_a_full_line_turns_away_the_least_urgent(hall: _Hall) -> None:
    """A newcomer of no higher priority goes; else the last of those that wait."""
    line = hall.line("meter", max_waiting=2)
    running = hall.put(line)
    low, high = hall.put(line, BACKGROUND), hall.put(line, 1)
    assert line.is_full
    for priority in (-2, BACKGROUND):
        newcomer = hall.request(priority)
        assert hall.turns.put(line, newcomer) is newcomer
    normal = hall.request()
    assert hall.turns.put(line, normal) is low
    assert low.state is State.ENDED
    assert hall.turns.put(line, again := hall.request()) is again
    assert [hall.run(line) for _ in range(3)] == [running, high, normal]
    assert (line.pending, line.waiting) == (0, 0)


def test_a_line_without_room_to_wait_turns_everybody_away(hall: _Hall) -> None:
    """Even the most urgent: what runs is not put aside."""
    line = hall.line("meter", max_waiting=0)
    hall.put(line)
    urgent = hall.request(10)
    assert hall.turns.put(line, urgent) is urgent


def test_what_is_withdrawn_is_never_run(hall: _Hall) -> None:
    """It makes room at once; what has begun cannot be withdrawn."""
    line = hall.line("meter", max_waiting=2)
    running = hall.put(line)
    waiting = [hall.put(line) for _ in range(2)]
    assert hall.turns.withdraw(line, waiting[0])
    assert not hall.turns.withdraw(line, waiting[0])
    assert not hall.turns.withdraw(line, running)
    last = hall.put(line)
    assert [hall.run(line) for _ in range(3)] == [running, waiting[1], last]
    assert line.jobs.empty()


def test_the_turn_of_what_hangs_goes_to_another(hall: _Hall) -> None:
    """Once, also if it ends after all; its own line waits for its thread."""
    hung, other = hall.line("hung"), hall.line("other")
    stuck = hall.put(hung)
    next_one = hall.put(hung)
    hall.put(other)
    assert other.jobs.empty()
    hall.turns.give_back(stuck)
    hall.turns.give_back(stuck)
    assert other.jobs.qsize() == 1
    assert next_one.state is State.WAITING
    hall.clock.advance(wall_s=1)
    assert hall.turns.running_s(stuck) == 1
    hall.turns.end(hung, hung.jobs.get_nowait() or stuck, took_s=None)
    assert hall.turns.running_s(stuck) is None
    assert next_one.state is State.WAITING
    hall.run(other)
    assert next_one.state is State.RUNNING


def test_a_retired_line_ends_its_threads_after_its_last_request(hall: _Hall) -> None:
    """Neither before it nor twice."""
    line = hall.line("meter")
    hall.put(line)
    waiting = hall.put(line)
    hall.turns.retire(line)
    hall.turns.retire(line)
    hall.run(line)
    assert hall.turns.withdraw(line, waiting) is False
    hall.run(line)
    assert line.jobs.get_nowait() is None
    assert line.jobs.empty()
    late = hall.request()
    assert hall.turns.put(line, late) is late


def test_the_last_that_waits_is_withdrawn_from_a_retired_line(hall: _Hall) -> None:
    """Then, too, its threads end."""
    line, other = hall.line("meter"), hall.line("other")
    hall.put(other)
    waiting = hall.put(line)
    hall.turns.retire(line)
    assert line.jobs.empty()
    assert hall.turns.withdraw(line, waiting)
    assert line.jobs.get_nowait() is None


def test_a_full_line_says_when_to_come_back(hall: _Hall) -> None:
    """As long as those who wait will take, on all of its threads."""
    line = hall.line("meter", threads=2)
    for _ in range(2):
        hall.put(line)
    for _ in range(2):
        hall.run(line, 0.4)
    for _ in range(8):
        hall.put(line)
    typical_s = 0.4 * (1 - 0.9**2)
    assert line.typical_s == pytest.approx(typical_s)
    assert line.retry_after_s() == pytest.approx(line.waiting * typical_s / 2)


def test_tensors_of_the_dropped_are_let_go(hall: _Hall) -> None:
    """A line that never empties does not keep those who left."""
    line = hall.line("meter", max_waiting=500)
    hall.put(line)
    kept = hall.put(line)
    for _ in range(100):
        hall.turns.withdraw(line, hall.put(line))
    assert len(line._heap) <= 3
    assert line.head() is kept
    np.testing.assert_array_equal(kept.inputs["x"], X)


@pytest.mark.parametrize(
    ("cpus", "weights"), [(0, {}), (1, {"a": 0.0}), (1, {"a": float("nan")})]
)
def test_turns_need_cpus_and_weights(cpus: int, weights: dict[str, float]) -> None:
    """No CPU, or a name that would never run, is refused."""
    with pytest.raises(UsageError, match="weights above 0"):
        Turns(FakeClock(), cpus=cpus, weights=weights)


def test_this_process_may_run_on_some_cpu() -> None:
    """At least on one, and on no more than there are."""
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
