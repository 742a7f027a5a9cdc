"""From the slices of a time line to operators: what encloses nothing is one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from skerry.core.profile import OperatorTime, Profile, lowest_quintile, noise_of

MOST_PROFILES = 16
"""Processes of a trace that are kept: those that took longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Something that took its time.

    Attributes:
        owner: The process that it ran in.
        thread: The thread.
        name: What it was.
        kind: Of which kind; empty where that is not told.
        start_us: When it began.
        duration_us: How long it took.
    """

    owner: str
    thread: str
    name: str
    kind: str
    start_us: float
    duration_us: float


def profiles_of(slices: Iterable[Slice]) -> tuple[Profile, ...]:
    """Make one profile a process, the longest first.

    A slice with others inside is a whole (an inference, a call): the innermost are
    the operators. One that ran several times is one operator, with several times.
    """
    tracks: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for each in slices:
        tracks[each.owner, each.thread].append(each)
    leaves: dict[str, list[Slice]] = defaultdict(list)
    for (owner, _), track in tracks.items():
        leaves[owner] += _innermost(track)
    found = [_profile(owner, track) for owner, track in leaves.items() if track]
    found.sort(key=lambda profile: profile.total_ms, reverse=True)
    if len(found) > MOST_PROFILES:
        left_out = f"{len(found) - MOST_PROFILES} shorter processes are left out."
        found = [replace(found[0], notes=(left_out,)), *found[1:MOST_PROFILES]]
    return tuple(found)


def _innermost(track: list[Slice]) -> list[Slice]:
    """The slices of one thread that no other lies in."""
    ordered = sorted(track, key=lambda each: (each.start_us, -each.duration_us))
    kept = []
    for each, following in zip(ordered, [*ordered[1:], None], strict=True):
        end_us = each.start_us + each.duration_us
        if following is None or following.start_us >= end_us:
            kept.append(each)
    return kept


def _profile(owner: str, leaves: list[Slice]) -> Profile:
    leaves.sort(key=lambda each: each.start_us)
    threads = {each.thread for each in leaves}
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for each in leaves:
        thread = each.thread if len(threads) > 1 else ""
        times[each.name, each.kind, thread].append(each.duration_us / 1000)
    operators = tuple(
        OperatorTime(
            name=name,
            op_type=kind,
            latency_ms=lowest_quintile(times_ms),
            noise=noise_of([[time_ms] for time_ms in times_ms]),
            processor=thread,
        )
        for (name, kind, thread), times_ms in times.items()
    )
    return Profile(
        runtime=owner,
        threads=0,
        repeats=max(map(len, times.values())),
        operators=operators,
    )
