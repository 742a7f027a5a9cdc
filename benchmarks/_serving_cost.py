"""What a tree of processes uses: CPU time, memory, open files.

The CPU time of a process is read from its own clock, to the nanosecond
(clock_getcpuclockid(3): the number of a process's clock is made of its PID), which
counts threads that have ended, too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from skerry.app.serving import cpu

_SCHED_CLOCK = 2
"""What a process's clock counts: its time on a CPU (linux/posix-timers.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The CPU time of a tree of processes.

    Attributes:
        own_s: Seconds of each process that runs, by PID.
        reaped_s: Seconds of children that ended, by the PID that waited for them.
    """

    own_s: Mapping[int, float]
    reaped_s: Mapping[int, float]

    def since(self, before: Usage) -> float:
        """Seconds used by the tree since another look at it."""
        own = _growth(before.own_s, self.own_s)
        return own + _growth(before.reaped_s, self.reaped_s)

    def is_same_tree(self, other: Usage) -> bool:
        """Whether no process came or went between two looks."""
        return self.own_s.keys() == other.own_s.keys()


def usage(root: int) -> Usage:
    """Look at the CPU time of a process and of all that descends from it."""
    known, own_s, reaped_s = cpu.processes(), {}, {}
    for pid in cpu.tree({root}, known):
        with suppress(OSError):
            own_s[pid] = time.clock_gettime(_clock_of(pid))
            reaped_s[pid] = known[pid].reaped_s
    return Usage(own_s=own_s, reaped_s=reaped_s)


def tree(root: int) -> set[int]:
    """A process and all that descends from it."""
    return cpu.tree({root}, cpu.processes())


def pss_mb(root: int) -> float:
    """Proportional set size of a tree, in MB of 10⁶ bytes."""
    return sum(_pss_kib(pid) for pid in tree(root)) * 1024 / 1e6


def open_files(root: int) -> int:
    """Descriptors that the processes of a tree have open."""
    return sum(_count(Path(f"/proc/{pid}/fd")) for pid in tree(root))


def _clock_of(pid: int) -> int:
    return (~pid << 3) | _SCHED_CLOCK


def _pss_kib(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def _count(folder: Path) -> int:
    with suppress(OSError):
        return sum(1 for _ in folder.iterdir())
    return 0


def _growth(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    return sum(value - before.get(pid, 0.0) for pid, value in after.items())
