import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import StateError, UsageError
from skerry.tasks import measure
from skerry.tasks.measure import (
    Latency,
    added_memory,
    measure_latency,
    pss_bytes,
    ratio,
    run_measured,
)

ENVIRONMENT = dict(os.environ)


def latency(*wall_ms: float) -> Latency:
    """Times of one subject; CPU time as long."""
    return Latency(wall_ms=wall_ms, cpu_ms=wall_ms)


def taking(
    clock: FakeClock, calls: list[str], name: str, wall_s: float, cpu_s: float
) -> Callable[[], None]:
    """A subject that takes its time on a fake clock, and notes that it was called."""

    def call() -> None:
        calls.append(name)
        clock.advance(wall_s=wall_s, cpu_s=cpu_s)

    return call


def test_times_are_those_of_the_clock_in_milliseconds() -> None:
    """One entry a round, elapsed and CPU time apart."""
    clock, calls = FakeClock(), list[str]()
    timed = measure_latency(
        {
            "slow": taking(clock, calls, "slow", 0.25, 0.5),
            "fast": taking(clock, calls, "fast", 0.125, 0.0625),
        },
        repeats=3,
        clock=clock,
    )
    assert timed["slow"] == Latency(wall_ms=(250.0,) * 3, cpu_ms=(500.0,) * 3)
    assert timed["fast"] == Latency(wall_ms=(125.0,) * 3, cpu_ms=(62.5,) * 3)
    assert (timed["slow"].median_ms, timed["slow"].median_cpu_ms) == (250, 500)


def test_subjects_take_turns_and_each_is_first_once() -> None:
    """Warm-ups come before; a turn is one call for the caches and one for the clock."""
    clock, calls = FakeClock(), list[str]()
    measure_latency(
        {name: taking(clock, calls, name, 1, 1) for name in "abc"},
        repeats=3,
        warmup=1,
        clock=clock,
    )
    assert "".join(calls) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"


def test_the_first_call_of_a_turn_is_not_timed() -> None:
    """What another subject did to the caches is not this one's time."""
    clock, called = FakeClock(), [0]

    def call() -> None:
        called[0] += 1
        clock.advance(wall_s=9 if called[0] % 2 else 1)

    timed = measure_latency({"a": call}, repeats=4, warmup=0, clock=clock)
    assert timed["a"].wall_ms == (1000.0,) * 4


def test_this_machines_clock_is_the_default() -> None:
    """Elapsed time of real work is more than nothing."""
    timed = measure_latency({"sum": lambda: sum(range(1000))}, repeats=3)
    assert all(wall_ms > 0 for wall_ms in timed["sum"].wall_ms)


@pytest.mark.parametrize(("subjects", "repeats"), [({}, 1), ({"a": lambda: None}, 0)])
def test_nothing_to_time_is_refused(
    subjects: dict[str, Callable[[], None]], repeats: int
) -> None:
    """No subject, or no round."""
    with pytest.raises(UsageError, match="expected at least 1"):
        measure_latency(subjects, repeats=repeats)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """Not the ratio of the medians: a slow round is slow for both of its pair."""
    found = ratio(latency(2, 5, 10), latency(1, 10, 10))
    assert (found.low, found.median, found.high) == (0.5, 1, 2)


@pytest.mark.parametrize(
    ("n", "ranks"),
    [
        # The largest rank r, counted from 1, for which P(Bin(n, 1/2) < r) ≤ 2.5 %.
        (6, (1, 6)),
        (8, (1, 8)),
        (9, (2, 8)),
        (12, (3, 10)),
        (15, (4, 12)),
        (20, (6, 15)),
        (25, (8, 18)),
        (30, (10, 21)),
        (100, (40, 61)),
    ],
)
def test_the_interval_is_that_of_the_binomial_law(
    n: int, ranks: tuple[int, int]
) -> None:
    """Its ends are the order statistics that the tables name."""
    shuffled = np.random.default_rng(0).permutation(n) + 1.0
    found = ratio(latency(*shuffled), latency(*[1.0] * n))
    assert (found.low, found.high) == ranks
    assert found.median == pytest.approx((n + 1) / 2)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_rounds_leave_the_whole_span(n: int) -> None:
    """They cannot bound a median with 95 % probability."""
    found = ratio(latency(*range(1, n + 1)), latency(*[1.0] * n))
    assert (found.low, found.high) == (1, n)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """On skewed noise, in at least 95 of 100 trials, up to the luck of 400 of them."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = ratio(latency(*rng.exponential(size=15)), latency(*[1.0] * 15))
        held += found.low <= np.log(2) <= found.high
    assert 375 <= held < 400


def test_rounds_that_are_no_pairs_are_refused() -> None:
    """As many of each, and at least one."""
    with pytest.raises(StateError, match="got 2 and 1 rounds"):
        ratio(latency(1, 2), latency(1))
    with pytest.raises(StateError, match="got 0 and 0 rounds"):
        ratio(latency(), latency())


def test_memory_in_use_is_counted() -> None:
    """A process that holds 64 MB more has 64 MB more."""
    before = pss_bytes()
    held = np.ones(64_000_000, np.uint8)
    assert pss_bytes() - before == pytest.approx(held.nbytes, rel=0.1)


def test_memory_that_a_call_adds_is_counted_at_its_peak() -> None:
    """What it gave back before it ended, too; each call anew."""

    def hold(size_bytes: int) -> None:
        # Not of the heap, which may have as much to spare.
        np.frombuffer(mmap.mmap(-1, size_bytes), np.uint8).fill(1)

    added = [added_memory(lambda: hold(40 << 20)), added_memory(lambda: hold(1 << 20))]
    if None not in added:
        most, least = (each or 0 for each in added)
        assert 35 << 20 < most < 100 << 20
        assert least < 20 << 20


def test_memory_of_a_system_that_does_not_tell_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None, not a guess."""
    monkeypatch.setattr(measure, "_CLEAR_PEAK", tmp_path / "no" / "clear_refs")
    assert added_memory(lambda: None) is None


def test_what_is_measured_is_called_once_and_may_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk under the call is not a system that does not tell."""
    calls = []

    def fail() -> None:
        calls.append(1)
        raise OSError(28, "No space left on device")

    for path in (measure._CLEAR_PEAK, tmp_path / "no" / "clear_refs"):
        monkeypatch.setattr(measure, "_CLEAR_PEAK", path)
        with pytest.raises(OSError, match="No space left"):
            added_memory(fail)
    assert len(calls) == 2


@pytest.mark.parametrize("text", [None, "", "Rss: 12 kB\n"])
def test_a_system_that_does_not_tell_memory_is_an_error(
    tmp_path: Path, text: str | None
) -> None:
    """Rather than 0 bytes."""
    path = tmp_path / "smaps_rollup"
    if text is not None:
        path.write_text(text)
    with (
        patch.object(measure, "_MEMORY_FILE", path),
        pytest.raises(StateError, match="does not tell"),
    ):
        pss_bytes()


def test_a_childs_cost_is_its_own() -> None:
    """Its peak is what it held at once, not what its parent holds."""
    ours = np.ones(200_000_000, np.uint8)
    idle, busy = (
        run_measured([sys.executable, "-S", "-c", script], environment=ENVIRONMENT)
        for script in ("pass", "held = b'x' * 80_000_000; sum(range(3_000_000))")
    )
    assert idle.peak_rss_bytes < ours.nbytes / 4
    assert busy.peak_rss_bytes - idle.peak_rss_bytes == pytest.approx(8e7, rel=0.1)
    assert busy.cpu_s > idle.cpu_s > 0
    assert busy.wall_s > 0


def test_a_child_sees_the_environment_given_and_no_other() -> None:
    """And what it prints is dropped."""
    script = (
        "import os, sys; print('talk'); "
        "sys.exit(os.environ.get('SEEN') != 'yes' or 'HOME' in os.environ)"
    )
    run_measured([sys.executable, "-c", script], environment={"SEEN": "yes"})


def test_a_child_that_fails_is_an_error_with_its_last_word(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The exit code, and the last line on its stderr as the hint."""
    with pytest.raises(StateError, match="ended with exit code 3") as caught:
        run_measured(
            ["sh", "-c", "echo first >&2; echo why >&2; exit 3"],
            environment=ENVIRONMENT,
        )
    assert caught.value.hint == "It said: why"
    with pytest.raises(StateError, match="exit code 1") as caught:
        run_measured(["false"], environment=ENVIRONMENT)
    assert "by hand" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_program_that_is_not_there_is_an_error() -> None:
    """It names the program."""
    with pytest.raises(StateError, match="cannot start no-such-program: No such file"):
        run_measured(["no-such-program"], environment=ENVIRONMENT)
