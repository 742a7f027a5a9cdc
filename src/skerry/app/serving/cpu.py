"""The CPU time of a server: of its process, its workers, and all that they began."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def tree_cpu_s(roots: Iterable[int]) -> float | None:
    """CPU time of some processes and of all that descend from them.

    Children that have ended count with whoever waited for them.

    Args:
        roots: Their numbers; what is not here counts for nothing.

    Returns:
        User and system time in seconds, to the clock's tick (usually 10 ms); None
        where none of them runs here.
    """
    parents, used_s = {}, {}
    for folder in PROC.glob("[0-9]*"):
        told = _read(folder)
        if told is not None:
            parents[int(folder.name)], used_s[int(folder.name)] = told
    wanted = set(roots) & set(parents)
    if not wanted:
        return None
    while more := {pid for pid, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return sum(used_s[pid] for pid in wanted)


def _read(folder: Path) -> tuple[int, float] | None:
    """The parent of a process and its CPU time (proc(5), `/proc/PID/stat`)."""
    try:
        text = (folder / "stat").read_text(encoding="ascii", errors="replace")
        fields = text.rpartition(")")[2].split()
        ticks = sum(map(int, fields[11:15]))
        return int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None  # it has ended
