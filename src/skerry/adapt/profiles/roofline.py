"""How near each operator of a profile comes to what the hardware could do.

Bytes are those of the operator's own tensors: one whose tensors stay in a cache from
the operator before may pass over the memory's roof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.adapt.roofline import Bound, computing_us, moving_us, roof
from skerry.adapt.speed import peak_of
from skerry.core.profile import OperatorTime, Profile
from skerry.core.target import Target

DTYPES = ("float32", "float16", "int8")
"""What targets' files state peaks in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """The roofs under which a processor works.

    Attributes:
        gops: 10⁹ operations a second, a multiply-add counted as two.
        dtype: What those compute in.
        bandwidth_gb_s: 10⁹ bytes a second, to and from the memory together.
        source: Where the figures are from.
        others: The same as `gops` in other dtypes; what computes in one that is not
            here has no roof.
    """

    gops: float
    dtype: str
    bandwidth_gb_s: float
    source: str
    others: Mapping[str, float] = field(default_factory=dict)

    def gops_in(self, dtype: str) -> float | None:
        """The roof of what computes in a dtype; an empty one stands for `dtype`."""
        known = {**self.others, self.dtype: self.gops, "": self.gops}
        return known.get("int8" if dtype == "uint8" else dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoofPoint:
    """One operator under the roof; None for what its profile does not tell.

    Attributes:
        name: The operator's.
        op_type: Its type.
        share: Its share of the operators' time, 0–1.
        gops: 10⁹ operations a second that it achieved.
        gb_s: 10⁹ bytes a second that it achieved.
        intensity: Operations a byte.
        bound: What its roof is made of.
        of_roof: Its speed ÷ what the roof allows, 0–1, or more for what a cache holds.
    """

    name: str
    op_type: str
    share: float
    gops: float | None
    gb_s: float | None
    intensity: float | None
    bound: Bound
    of_roof: float | None


def roofline(profile: Profile, peaks: Peaks) -> tuple[RoofPoint, ...]:
    """Hold each operator of a profile against the roof, in order of execution."""
    total_ms = profile.total_ms or 1.0
    return tuple(_point(each, total_ms, peaks) for each in profile.operators)


def peaks_of(target: Target, dtype: str) -> Peaks | None:
    """The roofs that a target's file states for its first processor.

    Args:
        target: The hardware.
        dtype: One of `DTYPES`; the roofs of the rest stand beside it.

    Returns:
        None where a figure that it takes is not known.
    """
    processor = target.processors[0]
    gops = peak_of(processor, dtype)
    bandwidth = processor.bandwidth_gb_s
    if gops is None or bandwidth is None or not bandwidth.value:
        return None
    return Peaks(
        gops=gops,
        dtype=dtype,
        bandwidth_gb_s=bandwidth.value,
        source=f"the target {target.name}, its {processor.name}",
        others={
            other: peak
            for other in DTYPES
            if other != dtype and (peak := peak_of(processor, other)) is not None
        },
    )


def _point(operator: OperatorTime, total_ms: float, peaks: Peaks) -> RoofPoint:
    time_s = operator.latency_ms / 1000
    ops = None if operator.macs is None else 2 * operator.macs
    moved = operator.moved_bytes
    is_timed = time_s > 0
    gops = peaks.gops_in(operator.dtype)
    bound = Bound.UNKNOWN
    of_roof = None
    if moved is not None and (gops or not ops):
        computing = computing_us(operator.macs or 0, gops or peaks.gops)
        least_us, bound = roof(computing, moving_us(moved, peaks.bandwidth_gb_s))
        of_roof = least_us / (operator.latency_ms * 1000) if is_timed else None
    return RoofPoint(
        name=operator.name,
        op_type=operator.op_type,
        share=operator.latency_ms / total_ms,
        gops=ops / time_s / 1e9 if ops and is_timed else None,
        gb_s=moved / time_s / 1e9 if moved and is_timed else None,
        intensity=ops / moved if ops and moved else None,
        bound=bound,
        of_roof=of_roof,
    )
