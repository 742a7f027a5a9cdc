"""What profiles allow to say, and when they allow nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from skerry.core.profile import UNSTABLE, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One profile against the first.

    Attributes:
        title: What it is of.
        against: What the first is of.
        ratio: Its time ÷ the first's.
        noise: How far apart the ratio of equals may be, as a fraction; None where a
            profile does not tell.
        is_real: Whether the difference is larger than that; None where nothing is known
            of the noise, or where it is too large for any conclusion.
    """

    title: str
    against: str
    ratio: float
    noise: float | None
    is_real: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeShare:
    """The time of all operators of one type.

    Attributes:
        op_type: The type, without the name of its kernel.
        operators: How many there are.
        latency_ms: Their times together.
        share: Of the time of all operators, 0–1.
    """

    op_type: str
    operators: int
    latency_ms: float
    share: float


def refusal_of(profiles: Sequence[Profile]) -> str:
    """Why nothing may be concluded: halves too far apart; empty if all are stable."""
    unstable = [
        f"{profile.title} by {noise * 100:.0f} %"
        for profile in profiles
        if (noise := noise_floor(profile)) is not None and noise > UNSTABLE
    ]
    if not unstable:
        return ""
    return (
        f"two interleaved halves of a measurement differ: {', '.join(unstable)}; "
        f"at most {UNSTABLE * 100:.0f} % allow a conclusion"
    )


def noise_floor(profile: Profile) -> float | None:
    """How far the halves of a profile's measurement are apart; None if not known."""
    return profile.inference.noise if profile.inference else None


def compare(profiles: Sequence[Profile]) -> tuple[Compared, ...]:
    """Hold each profile against the first.

    Whole inferences are compared where both were measured, else the sums of operators.
    """
    if len(profiles) < 2:
        return ()
    first = profiles[0]
    return tuple(
        found for other in profiles[1:] if (found := _against(other, first)) is not None
    )


def type_shares(profile: Profile) -> tuple[TypeShare, ...]:
    """The operators' time by type, the longest first."""
    times: dict[str, list[float]] = defaultdict(list)
    for operator in profile.operators:
        kind = operator.op_type.partition(" ")[0] or operator.name
        times[kind].append(operator.latency_ms)
    total_ms = profile.total_ms or 1.0
    shares = [
        TypeShare(
            op_type=kind,
            operators=len(each),
            latency_ms=sum(each),
            share=sum(each) / total_ms,
        )
        for kind, each in times.items()
    ]
    return tuple(sorted(shares, key=lambda one: one.latency_ms, reverse=True))


def _against(other: Profile, first: Profile) -> Compared | None:
    if other.inference and first.inference:
        after, before = other.inference.cpu_ms, first.inference.cpu_ms
    else:
        after, before = other.total_ms, first.total_ms
    if before <= 0:
        return None
    ratio = after / before
    floors = noise_floor(other), noise_floor(first)
    noise, is_real = None, None
    if floors[0] is not None and floors[1] is not None:
        noise = floors[0] + floors[1]
        if max(floors[0], floors[1]) <= UNSTABLE:
            is_real = abs(ratio - 1) > noise
    return Compared(
        title=other.title,
        against=first.title,
        ratio=ratio,
        noise=noise,
        is_real=is_real,
    )
