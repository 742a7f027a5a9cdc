"""Chrome's *Trace Event Format*, as Chrome, Perfetto and onnxruntime write it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.adapt.profiles.slices import Slice, profiles_of
from skerry.adapt.profiles.words import LATEST_US, not_a_profile, number, word
from skerry.core.profile import Profile

_KERNEL = "_kernel_time"
"""Ends what onnxruntime calls an operator."""


def read_chrome(document: Any, *, name: str) -> tuple[Profile, ...]:
    """Read complete slices (`X`) and pairs of begin and end (`B`, `E`).

    Args:
        document: The JSON: a list of events, or an object that holds one.
        name: What messages call it.

    Raises:
        DataError: It is no such trace, or a time makes no sense.
    """
    events = document.get("traceEvents") if isinstance(document, dict) else document
    if not isinstance(events, list):
        raise not_a_profile(name)
    whole = [event for event in events if isinstance(event, dict)]
    if not any("ph" in event for event in whole):
        raise not_a_profile(name)
    return profiles_of(_slices(whole, name))


def _slices(events: list[dict[str, Any]], name: str) -> Iterator[Slice]:
    processes = _names(events, "process_name")
    threads = _names(events, "thread_name")
    begun: dict[tuple[str, str], list[tuple[dict[str, Any], float]]] = {}
    for event in events:
        phase = event.get("ph")
        if phase not in ("X", "B", "E"):
            continue
        pid, tid = str(event.get("pid", ""))[:40], str(event.get("tid", ""))[:40]
        owner = processes.get((pid, "")) or f"process {pid}"
        thread = threads.get((pid, tid)) or tid
        stamp = event.get("ts")
        start_us = number(stamp, name=name, what="a time stamp", most=LATEST_US)
        if phase == "B":
            begun.setdefault((pid, tid), []).append((event, start_us))
            continue
        if phase == "X":
            duration_us = number(event.get("dur", 0), name=name, what="a duration")
            yield _slice(event, owner, thread, start_us, duration_us)
        elif opened := begun.get((pid, tid)):
            first, began_us = opened.pop()
            took_us = max(0.0, start_us - began_us)
            yield _slice(first, owner, thread, began_us, took_us)


def _slice(
    event: dict[str, Any],
    owner: str,
    thread: str,
    start_us: float,
    duration_us: float,
) -> Slice:
    facts = event.get("args")
    kind = word(facts.get("op_name")) if isinstance(facts, dict) else ""
    return Slice(
        owner=owner,
        thread=thread,
        name=word(event.get("name")).removesuffix(_KERNEL) or "unnamed",
        kind=kind or word(event.get("cat")),
        start_us=start_us,
        duration_us=duration_us,
    )


def _names(events: list[dict[str, Any]], kind: str) -> dict[tuple[str, str], str]:
    """What processes, or threads, are called: by process, and thread if it is one."""
    found = {}
    for event in events:
        facts = event.get("args")
        if event.get("name") == kind and isinstance(facts, dict):
            tid = str(event.get("tid", ""))[:40] if kind == "thread_name" else ""
            found[str(event.get("pid", ""))[:40], tid] = word(facts.get("name"))
    return found
