"""Which of the candidates that hold is the one to return: pure rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skerry.compress.search.request import Preference
from skerry.compress.search.timing import TIE


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What counts of a candidate that holds the budget.

    Attributes:
        latency: Latency ÷ the source's.
        size_bytes: Of its file.
        drop: What it loses; below 0 is a gain.
    """

    latency: float
    size_bytes: int
    drop: float


def best(standings: Sequence[Standing], source: Standing, prefer: Preference) -> int:
    """Choose among candidates and the source.

    Latencies that nobody would tell apart count as the same, and then the smaller file
    is better: so a candidate as fast as the source wins by its size.

    Args:
        standings: Of the candidates that hold.
        source: Of the source model; its latency is 1.
        prefer: What counts.

    Returns:
        The index of the best candidate, or -1 for the source.
    """
    everyone = [source, *standings]
    if prefer == "size":
        smallest = min(one.size_bytes for one in everyone)
        near = [one for one in everyone if one.size_bytes == smallest]
        chosen = min(near, key=lambda one: one.latency)
    elif prefer == "accuracy":
        # The source loses nothing: it is asked for something better than itself.
        gaining = [one for one in standings if _gains(one, source)] or [source]
        chosen = min(gaining, key=lambda one: (one.drop, one.latency))
    else:
        fastest = min(one.latency for one in everyone)
        near = [one for one in everyone if one.latency <= fastest * (1 + TIE)]
        chosen = min(near, key=lambda one: (one.size_bytes, one.latency))
    return everyone.index(chosen) - 1


def _gains(one: Standing, source: Standing) -> bool:
    """Whether a candidate is faster than the source, or as fast and smaller."""
    if one.latency < source.latency * (1 - TIE):
        return True
    is_as_fast = one.latency <= source.latency * (1 + TIE)
    return is_as_fast and one.size_bytes < source.size_bytes
