"""The CPU time of a server: of its process, its workers, and all that they began."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuStat:
    """What Linux tells of a process (proc(5), `/proc/PID/stat`).

    Attributes:
        parent: The process that began it.
        own_s: Its user and system time in seconds, to the clock's tick (usually 10 ms).
        reaped_s: The same of children that have ended and that it waited for.
    """

    parent: int
    own_s: float
    reaped_s: float


def processes() -> dict[int, CpuStat]:
    """All processes that run here, by number."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        stat = _read(folder)
        if stat is not None:
            found[int(folder.name)] = stat
    return found


def tree(roots: Iterable[int], known: Mapping[int, CpuStat]) -> set[int]:
    """Some processes and all that descend from them, of those that are known."""
    found: set[int] = set()
    more = set(roots) & set(known)
    while more:
        found |= more
        more = {pid for pid, stat in known.items() if stat.parent in more} - found
    return found


def tree_cpu_s(roots: Iterable[int]) -> float | None:
    """CPU time of some processes and of all that descend from them.

    Children that have ended count with whoever waited for them.

    Args:
        roots: Their numbers; what is not here counts for nothing.

    Returns:
        User and system time in seconds, to the clock's tick; None where none of them
        runs here.
    """
    known = processes()
    stats = [known[pid] for pid in tree(roots, known)]
    return sum(one.own_s + one.reaped_s for one in stats) if stats else None


def _read(folder: Path) -> CpuStat | None:
    try:
        text = (folder / "stat").read_text(encoding="ascii", errors="replace")
        fields = text.rpartition(")")[2].split()
        own, reaped = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
        return CpuStat(
            parent=int(fields[1]), own_s=own / _TICKS_S, reaped_s=reaped / _TICKS_S
        )
    except (OSError, ValueError, IndexError):
        return None  # it has ended
