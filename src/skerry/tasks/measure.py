"""Measure time and memory on a noisy machine, so that ratios can be believed.

Subjects take turns: a neighbour that slows the machine down slows all of them. What
is compared is the ratio within a round, and its median over the rounds.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import StateError, UsageError

WARMUP = 2

_TAIL = 0.025

_MEMORY_FILE = Path("/proc/self/smaps_rollup")
_STATUS = Path("/proc/self/status")
_CLEAR_PEAK = Path("/proc/self/clear_refs")

# Linux keeps the peak of a process over fork and exec: a child of a large process seems
# large. So a small one starts it, whose few megabytes are the least that is ever found.
_LAUNCHER = """
import json, os, sys, time
started_s = time.perf_counter()
try:
    child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
except OSError as error:
    found = {"error": error.strerror}
else:
    _, status, usage = os.wait4(child, 0)
    found = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - started_s,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
    }
os.write(int(sys.argv[1]), json.dumps(found).encode())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Times of one subject, one entry a round.

    Attributes:
        wall_ms: Elapsed time of one call.
        cpu_ms: CPU time of this process during the call, all threads.
    """

    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median elapsed time."""
        return float(np.median(self.wall_ms))

    @property
    def median_cpu_ms(self) -> float:
        """The median CPU time."""
        return float(np.median(self.cpu_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as long one subject takes as another.

    Attributes:
        median: Median over the rounds.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCost:
    """What a child process used.

    Attributes:
        cpu_s: User and system time, its own children included.
        wall_s: Elapsed time.
        peak_rss_bytes: The largest resident set that it, or one of its own children,
            reached; at least the 10 MB or so of a bare Python.
    """

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int


def measure_latency(
    subjects: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int = WARMUP,
    clock: Clock | None = None,
) -> dict[str, Latency]:
    """Time subjects in turns; each round begins with another of them.

    A turn is one call that is not timed and one that is: the first finds the caches as
    the subject before left them, which is not how a model runs that runs alone.

    Args:
        subjects: What to call, by name; at least one.
        repeats: Number of rounds, at least one.
        warmup: Calls of each subject before the first round.
        clock: What measures time; this machine's clock by default.

    Raises:
        UsageError: There is nothing to time, or no round to time it in.
    """
    if not subjects or repeats < 1:
        raise UsageError(
            f"got {len(subjects)} subjects and {repeats} rounds, expected at least 1",
            hint="Name what to time, and how often.",
        )
    clock = clock or SystemClock()
    for call in subjects.values():
        for _ in range(warmup):
            call()
    names = list(subjects)
    wall_ms: dict[str, list[float]] = {name: [] for name in names}
    cpu_ms: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(repeats):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            call = subjects[name]
            call()
            wall_s, cpu_s = clock.wall_s(), clock.cpu_s()
            call()
            wall_ms[name].append((clock.wall_s() - wall_s) * 1000)
            cpu_ms[name].append((clock.cpu_s() - cpu_s) * 1000)
    return {
        name: Latency(wall_ms=tuple(wall_ms[name]), cpu_ms=tuple(cpu_ms[name]))
        for name in names
    }


def ratio(after: Latency, before: Latency) -> Ratio:
    """Compare two subjects that were timed in turns.

    The interval is the distribution-free one of the median: the order statistics
    between which it lies with at least 95 % probability by the binomial law (W. J.
    Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2). Fewer than six
    rounds cannot say as much: the interval is then the whole span.

    Raises:
        StateError: They were not timed in the same number of rounds, or in none.
    """
    n = len(after.wall_ms)
    if n == 0 or n != len(before.wall_ms):
        raise StateError(
            f"got {n} and {len(before.wall_ms)} rounds, expected as many of each",
            hint="Time both subjects in one call of measure_latency.",
        )
    ratios = np.sort(np.divide(after.wall_ms, np.maximum(before.wall_ms, 1e-9)))
    outside = _rank_outside(n)
    return Ratio(
        median=float(np.median(ratios)),
        low=float(ratios[outside]),
        high=float(ratios[n - 1 - outside]),
    )


def pss_bytes() -> int:
    """Memory of this process now, pages shared with others counted in part.

    Raises:
        StateError: The system does not tell (it is not Linux).
    """
    found = _kept_bytes(_MEMORY_FILE, "Pss")
    if found is None:
        raise StateError(
            "this system does not tell a process's memory", hint="Measure on Linux."
        )
    return found


def added_memory(call: Callable[[], object]) -> int | None:
    """How many bytes a call adds to what this process holds, at the peak.

    Linux forgets the old peak when it is told to (`clear_refs` in proc(5)).

    Args:
        call: What is called, once; its errors are the caller's.

    Returns:
        None where the system does not tell.
    """
    try:
        _CLEAR_PEAK.write_text("5", encoding="ascii")
    except OSError:
        call()
        return None
    before = _kept_bytes(_STATUS, "VmRSS")
    call()
    peak = _kept_bytes(_STATUS, "VmHWM")
    return None if before is None or peak is None else max(0, peak - before)


def _kept_bytes(path: Path, field: str) -> int | None:
    """A line of a file of proc(5) that counts kB; None where it is not there."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    match = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return None if match is None else int(match.group(1)) * 1024


def run_measured(argv: Sequence[str], *, environment: Mapping[str, str]) -> ChildCost:
    """Run a program to its end and tell what it used; what it prints is dropped.

    Args:
        argv: The program and its arguments.
        environment: Its environment.

    Raises:
        StateError: It cannot be started, or ends with an error.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as answer:
        try:
            launcher = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(writer), *argv],
                env=dict(environment),
                pass_fds=[writer],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
        finally:
            os.close(writer)
        found = msgspec.json.decode(answer.read() or b'{"error": "it was stopped"}')
    if "error" in found:
        raise StateError(
            f"cannot start {argv[0]}: {found['error']}", hint="Is it installed?"
        )
    exit_code = found.pop("exit_code")
    if exit_code:
        said = launcher.stderr.decode(errors="replace").strip().splitlines()
        raise StateError(
            f"{argv[0]} ended with exit code {exit_code}",
            hint=f"It said: {said[-1]}" if said else "Run it by hand to see why.",
        )
    return ChildCost(**found)


def _rank_outside(n: int) -> int:
    """How many order statistics lie outside the median's 95 % interval, each side."""
    outside, below = 0, math.comb(n, 0) / 2**n
    while below <= _TAIL:
        outside += 1
        below += math.comb(n, outside) / 2**n
    return max(0, outside - 1)
