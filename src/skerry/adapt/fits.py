"""Whether a workload fits into the memories of a target."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.adapt.plan import Plan, memory_pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Whether something fits into a memory of the target.

    Attributes:
        what: `activations` (at their peak) or `weights`.
        processor: The processor whose memory it is.
        needed_bytes: What the model needs; None where a size is known only when it
            runs.
        as_int8_bytes: What it would need with all floats quantized to INT8.
        limit_bytes: What there is; None if unknown.
        source: Where that was read.
    """

    what: str
    processor: str
    needed_bytes: int | None
    as_int8_bytes: int | None
    limit_bytes: int | None
    source: str

    @property
    def fits(self) -> bool | None:
        """Whether it does; None if either figure is unknown."""
        if self.needed_bytes is None or self.limit_bytes is None:
            return None
        return self.needed_bytes <= self.limit_bytes

    @property
    def over_bytes(self) -> int:
        """By how much it does not fit; 0 if it does or nobody knows."""
        if self.needed_bytes is None or self.limit_bytes is None:
            return 0
        return max(0, self.needed_bytes - self.limit_bytes)


def find_fits(plan: Plan, quantized: Plan) -> tuple[Fit, ...]:
    """Compare what a workload needs with each memory the target says something of.

    Args:
        plan: The workload as it is.
        quantized: The same with all floats imagined as INT8.
    """
    fits = []
    for pool in memory_pools(plan.target):
        members = pool.members
        if not plan.operators_on(*members):
            continue
        needs = {
            "activations": (
                pool.memory,
                plan.peak_bytes(*members),
                quantized.peak_bytes(*members),
            ),
            "weights": (
                pool.storage,
                plan.weight_bytes(*members),
                quantized.weight_bytes(*members),
            ),
        }
        fits += [
            Fit(
                what=what,
                processor=pool.name,
                needed_bytes=needed,
                as_int8_bytes=as_int8,
                limit_bytes=None if figure.value is None else int(figure.value),
                source=figure.source,
            )
            for what, (figure, needed, as_int8) in needs.items()
            if figure is not None
        ]
    return tuple(fits)
