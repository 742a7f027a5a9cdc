"""A busy process gets its share of a CPU and no more, and is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.app.simulate.throttle import CpuLimit

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.system


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that counts for ever."""
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield child
    child.kill()
    child.wait()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_busy_process_gets_its_share(busy: subprocess.Popen[bytes]) -> None:
    """About 0.3 of the time of one core at most; after the limit it runs on."""
    with CpuLimit(busy.pid, 0.3) as limit:
        limit.start()  # a second time changes nothing
        began_s, before = time.perf_counter(), _cpu_ticks(busy.pid)
        time.sleep(1.5)
        share = (_cpu_ticks(busy.pid) - before) / 100 / (time.perf_counter() - began_s)
    assert share < 0.5
    assert _state(busy.pid) != "T"
    limit.stop()
    with limit:  # it can begin again
        time.sleep(0.05)
    assert _state(busy.pid) != "T"


def test_what_it_starts_is_limited_with_it() -> None:
    """A child that does the work gets no more; both run on after the limit."""
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'while True: pass'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        with CpuLimit(parent.pid, 0.3):
            began_s, before = time.perf_counter(), _cpu_ticks(child)
            time.sleep(1.5)
            share = (_cpu_ticks(child) - before) / 100 / (time.perf_counter() - began_s)
        assert share < 0.5
        assert _state(parent.pid) != "T"
        assert _state(child) != "T"
        os.kill(child, signal.SIGKILL)


def test_the_end_of_the_process_ends_the_limit(busy: subprocess.Popen[bytes]) -> None:
    """Killed in the middle of it, nothing is raised and nothing hangs."""
    limit = CpuLimit(busy.pid, 0.5, period_s=0.02)
    limit.start()
    time.sleep(0.05)
    busy.kill()
    busy.wait()
    time.sleep(0.05)
    limit.stop()


MEASURE = """
import sys, time
from pathlib import Path
from skerry.core.budget import Budget
from skerry.core.clock import SystemClock
from skerry.core.errors import RefusedError
from skerry.edge.checks import prepare
from tests.serving import ScriptedRuntime, install

installed = install(Path(sys.argv[1]), cpu_s=0.004, budget=Budget(latency_ms=0.001))
print("ready", flush=True)
for _ in sys.stdin:
    try:
        prepare(installed, runtimes=lambda _: ScriptedRuntime(), clock=SystemClock())
    except RefusedError as error:
        print(error.measured, flush=True)
"""


def test_a_quota_shows_in_the_latency_check(tmp_path: Path) -> None:
    """With 0.3 of a CPU a model takes more than twice its time: it can be refused."""
    with subprocess.Popen(
        [sys.executable, "-c", MEASURE, tmp_path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()

        def measure_ms() -> float:
            print(file=child.stdin, flush=True)
            return float(child.stdout.readline())

        free_ms = measure_ms()
        with CpuLimit(child.pid, 0.3):
            limited_ms = measure_ms()
        child.stdin.close()
    assert free_ms >= 4
    assert limited_ms > 2 * free_ms
