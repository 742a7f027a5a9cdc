"""What following an advice brings: one layout of a workload against another."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.adapt.plan import Plan, runs
from skerry.adapt.speed import time_of
from skerry.adapt.wording import show_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """Advice, and what following it is expected to bring.

    Attributes:
        advice: A sentence or two.
        solves: Whether something that keeps the model from running, or from being
            audited, goes away.
        operators: How many operators would move to the most wanted processor.
        macs_share: Share of all multiply-accumulates that would move there, or run
            faster where they are, 0–1.
        changes: How many times less often the work would change processor.
        moved_bytes: How many bytes less would be read and written.
        saved_us: How much less time it would take, where the target's costs say so.
    """

    advice: str
    solves: bool = False
    operators: int = 0
    macs_share: float = 0.0
    changes: int = 0
    moved_bytes: int = 0
    saved_us: float | None = None


def gain_of(before: Plan, after: Plan) -> Remedy:
    """What laying a workload out another way brings; it says no advice yet."""
    best = before.target.processors[0].name
    times = [time_of(plan) for plan in (before, after)]
    saved_us = None
    if times[0] is not None and times[1] is not None:
        saved_us = times[0] - times[1]
    return Remedy(
        advice="",
        saved_us=saved_us,
        operators=len(after.operators_on(best)) - len(before.operators_on(best)),
        macs_share=after.macs_share(best) - before.macs_share(best),
        changes=len(list(runs(before))) - len(list(runs(after))),
    )


def moving(gain: Remedy, plan: Plan) -> str:
    """Say what a gain moves, such as `38 of 46 operators would move to the NPU`."""
    best = plan.target.processors[0].name
    moving = f"{gain.operators} of {len(plan.workload.operators)} operators"
    if gain.macs_share:
        moving += f" with {show_share(gain.macs_share)} of the multiply-adds"
    moving += f" would move to {best}"
    if gain.changes:
        more = "fewer" if gain.changes > 0 else "more"
        moving += f", {abs(gain.changes)} {more} changes of processor"
    return moving
