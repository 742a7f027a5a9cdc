"""Load: due moments are nobody's to delay, and each request is counted once."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable

import pytest

from skerry.app.output import Output
from skerry.app.serving.bench import BenchResult, summarize
from skerry.app.serving.load import LoadPlan, Tally, run_load
from skerry.app.serving.load_page import load_page
from skerry.app.serving.load_view import live_view, show_result, show_tally
from skerry.core.errors import UsageError


class Async:
    """A connection whose answers take a while, and may fail."""

    def __init__(self, answer: Callable[[int], tuple[float, str]]) -> None:
        self.asked = 0
        self._answer = answer

    async def ask(self) -> str:
        takes_s, failure = self._answer(self.asked)
        self.asked += 1
        await asyncio.sleep(takes_s)
        return failure

    async def close(self) -> None:
        """Nothing is open."""


class Blocking:
    """The same, waited for in a thread."""

    def __init__(self) -> None:
        self.asked = 0

    def ask_and_wait(self) -> str:
        self.asked += 1
        time.sleep(0.001)
        return "BusyError" if self.asked % 3 == 0 else ""

    def hang_up(self) -> None:
        """Nothing is open."""


def test_a_closed_loop_counts_each_request_once() -> None:
    """Answers and failures together are what was asked, of clients of either kind."""
    slow = [Async(lambda n: (0.002, "LateError" if n % 2 else "")) for _ in range(2)]
    threads = [Blocking(), Blocking()]
    tally = Tally()
    ticks: list[int] = []
    asyncio.run(
        run_load(
            [*slow, *threads],
            LoadPlan(duration_s=0.3),
            tally,
            on_tick=lambda t: ticks.append(t.latencies.count),
        )
    )
    asked = sum(client.asked for client in (*slow, *threads))
    assert tally.latencies.count + sum(tally.failures.values()) == asked
    assert set(tally.failures) == {"LateError", "BusyError"}
    assert ticks[-1] == tally.latencies.count
    assert tally.delayed == 0


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """One stall of a single client delays all that were due in it: they all say so.

    A closed loop would report one slow answer; the median here is near half the stall.
    """
    stall_s = 0.6
    client = Async(lambda n: (stall_s if n == 0 else 0.0, ""))
    tally = Tally()
    plan = LoadPlan(clients=1, rate_per_s=200, duration_s=stall_s, seed=3)
    asyncio.run(run_load([client], plan, tally))
    assert tally.latencies.count > 60
    assert tally.delayed >= tally.latencies.count - 2
    median_ms = tally.latencies.percentile(0.5)
    assert median_ms is not None
    assert median_ms > stall_s * 1000 / 4


def test_the_moments_are_those_of_the_seed() -> None:
    """As many are due with one seed each time, whatever the server does."""
    counts = []
    for seed in (1, 1, 2):
        tally = Tally()
        plan = LoadPlan(rate_per_s=2000, duration_s=0.1, seed=seed)
        asyncio.run(run_load([Async(lambda _: (0.0, ""))] * 2, plan, tally))
        counts.append(tally.latencies.count)
    assert counts[0] == counts[1] != counts[2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"clients": 0},
        {"rate_per_s": 0.0},
        {"rate_per_s": float("nan")},
        {"duration_s": float("inf")},
        {"timeout_ms": -1.0},
    ],
)
def test_a_load_that_makes_no_sense(wrong: dict[str, float]) -> None:
    """It is refused before anybody is asked."""
    with pytest.raises(UsageError, match="make no load"):
        LoadPlan(**wrong)  # type: ignore[arg-type]


def _result(*, failed: int, answered: int, rate_per_s: float | None) -> BenchResult:
    tally = Tally()
    for number in range(answered):
        tally.latencies.add(1.0 + number)
    return BenchResult(
        target="http://127.0.0.1:1",
        model="me<ter",
        face="http",
        load=LoadPlan(rate_per_s=rate_per_s),
        elapsed_s=2.0,
        count=answered,
        failures={"LateError": failed} if failed else {},
        delayed=2 if rate_per_s else 0,
        requests_per_s=answered / 2,
        latency_ms=summarize(tally),
        histogram=tally.latencies.buckets(),
        cpu_ms_per_request=0.5 if answered else None,
    )


@pytest.mark.parametrize(
    ("answered", "failed", "rate_per_s"),
    [(100, 0, None), (1, 1, 50.0), (0, 3, 5.0), (2, 0, 1e6)],
)
def test_a_result_is_shown(
    answered: int, failed: int, rate_per_s: float | None
) -> None:
    """Page and terminal show whatever came of it, nothing answered included."""
    found = _result(answered=answered, failed=failed, rate_per_s=rate_per_s)
    page = load_page(found)
    assert "me&lt;ter" in page
    assert ("<svg" in page) == (answered > 0)
    assert ("LateError" in page) == (failed > 0)
    console = Output().console
    with console.capture() as capture:
        console.print(show_result(found))
    assert ("█" in capture.get()) == (answered > 0)
    assert ("failed: LateError" in capture.get()) == (failed > 0)


def test_the_live_view_is_for_terminals_alone() -> None:
    """Where nobody watches nothing is drawn; what is drawn tells the moment's rate."""
    output = Output()
    plan = LoadPlan()
    with live_view(output, plan) as show:
        assert show is None
    tally = Tally()
    tally.add(tally.began_s, "", is_delayed=False)
    tally.add(tally.began_s, "BusyError", is_delayed=False)
    with output.console.capture() as capture:
        output.console.print(show_tally(tally, plan))
    assert "1 answered" in capture.get()
    assert "1 failed: BusyError 1" in capture.get()
    terminal = Terminal()
    with live_view(Output(stderr=terminal), plan) as show:
        assert show is not None
        show(tally)
    assert "1 answered" in terminal.getvalue()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True
