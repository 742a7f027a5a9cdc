"""What a process and its workers hold: to see whether anything stays behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is held at one moment.

    Attributes:
        descriptors: Of this process, by kind.
        threads: Of this process, by name.
        workers: PIDs of the processes that were started with a mark.
    """

    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    workers: tuple[int, ...]


def look(mark: str) -> Held:
    """See what is held now.

    Args:
        mark: What the workers of this process have in their environment, and no others.
    """
    gc.collect()  # an event loop that ended keeps its descriptors until then
    descriptors = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            kind = str(entry.readlink())
        except OSError:  # the listing's own
            continue
        descriptors.append(kind.split("[", maxsplit=1)[0].split(" ", maxsplit=1)[0])
    return Held(
        descriptors=tuple(sorted(descriptors)),
        threads=tuple(sorted(thread.name for thread in threading.enumerate())),
        workers=workers(mark),
    )


def workers(mark: str) -> tuple[int, ...]:
    """The processes whose environment names the mark, without this one."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        try:
            is_ours = mark.encode() in (place / "environ").read_bytes()
        except OSError:
            continue
        if is_ours:
            found.append(int(place.name))
    return tuple(sorted(found))


def pss_bytes(pids: tuple[int, ...]) -> int:
    """The memory of processes, what they share counted once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:
            continue
        total += next(int(e.split()[1]) for e in lines if e.startswith("Pss:")) * 1024
    return total


def until(holds: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until something holds; `what` says what there is instead."""
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, what()
        time.sleep(0.02)
