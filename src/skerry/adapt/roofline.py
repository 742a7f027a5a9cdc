"""The roofline: what an operator takes at least, and what keeps it from less.

An operator takes the longer of the time to compute and the time to move its bytes
(S. Williams, A. Waterman and D. Patterson, "Roofline: an insightful visual performance
model for multicore architectures", Communications of the ACM 52(4), 2009).
"""

from __future__ import annotations

from enum import StrEnum


class Bound(StrEnum):
    """What limits an operator's speed, by the roofline of its processor."""

    COMPUTE = "compute"
    MEMORY = "memory"
    UNKNOWN = "unknown"


def computing_us(macs: int, gops: float) -> float:
    """The time to compute, in microseconds.

    Args:
        macs: Multiply-accumulates, each two operations.
        gops: 10⁹ operations a second.
    """
    return 2 * macs / gops / 1000


def moving_us(size_bytes: int, bandwidth_gb_s: float) -> float:
    """The time to move bytes, in microseconds.

    Args:
        size_bytes: What is read and written.
        bandwidth_gb_s: 10⁹ bytes a second.
    """
    return size_bytes / bandwidth_gb_s / 1000


def roof(computing: float, moving: float) -> tuple[float, Bound]:
    """The longer of two times, and what it is spent on.

    What takes as long to compute as to move is bound by computing.
    """
    return max(computing, moving), Bound.MEMORY if moving > computing else Bound.COMPUTE
