"""How fast an operator can be at best on a processor, and what keeps it from faster.

By the roofline, where weights that come from a storage with a bus of its own move at
the same time as activations. Where a target's table says what an operator was measured
to cost, that is believed instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.adapt.operators import VIEWS, Operator
from skerry.adapt.placement import accepting_rule
from skerry.adapt.plan import Plan
from skerry.adapt.roofline import Bound, computing_us, moving_us, roof
from skerry.core.target import Figure, Processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How long one operator takes, were it run alone.

    Attributes:
        bound: What limits its speed.
        intensity: Multiply-accumulates a byte moved; None where a size is unknown.
        balance: Those at which computing takes as long as moving; below it an operator
            is bound by memory. None where a figure of the target is unknown.
        time_us: By the table's cost where it has one, else by the roofline; None where
            neither is known.
    """

    bound: Bound
    intensity: float | None
    balance: float | None
    time_us: float | None


UNKNOWN_SPEED = Speed(bound=Bound.UNKNOWN, intensity=None, balance=None, time_us=None)


def find_speed(operator: Operator, processor: Processor | None) -> Speed:
    """Estimate an operator's speed on the processor that runs it."""
    if processor is None:
        return UNKNOWN_SPEED
    sizes = [tensor.size_bytes for tensor in operator.activations]
    if None in sizes:
        return UNKNOWN_SPEED
    activations = sum(size for size in sizes if size is not None)
    weights = sum(tensor.size_bytes or 0 for tensor in operator.constants)
    moved = activations + weights
    intensity = operator.macs / moved if moved else None
    rule = accepting_rule(operator, processor)
    cost = rule.cost if rule is not None else None
    measured_us = cost.time_us(operator.macs, moved) if cost is not None else None
    if operator.op_type in VIEWS:
        measured_us = 0.0  # another shape for the same bytes
    peak_gops = peak_of(processor, operator.dtype)
    bandwidth = _known(processor.bandwidth_gb_s)
    if peak_gops is None or bandwidth is None:
        return Speed(
            bound=Bound.UNKNOWN,
            intensity=intensity,
            balance=None,
            time_us=measured_us,
        )
    storage = _known(processor.storage_bandwidth_gb_s)
    if storage is None:
        moving = moving_us(moved, bandwidth)
    else:
        moving = max(moving_us(activations, bandwidth), moving_us(weights, storage))
    roof_us, bound = roof(computing_us(operator.macs, peak_gops), moving)
    return Speed(
        bound=bound,
        intensity=intensity,
        balance=peak_gops / 2 / bandwidth,
        time_us=roof_us if measured_us is None else measured_us,
    )


def time_of(plan: Plan) -> float | None:
    """Sum the times of all operators, in microseconds; None where one is unknown."""
    by_name = {processor.name: processor for processor in plan.target.processors}
    total = 0.0
    for operator, name in zip(plan.workload.operators, plan.processors, strict=True):
        time_us = find_speed(operator, by_name.get(name)).time_us
        if time_us is None:
            return None
        total += time_us
    return total


def peak_of(processor: Processor, dtype: str) -> float | None:
    """The most 10⁹ operations a second of a processor in a dtype; None if unknown."""
    peak = _known(processor.peak_gops)
    if dtype in {"int8", "uint8"}:
        return peak
    named = {
        "float16": processor.peak_fp16_gops,
        "float32": processor.peak_fp32_gops,
    }
    if (own := _known(named.get(dtype))) is not None:
        return own
    speedup = _known(processor.int8_speedup)
    return peak / speedup if peak and speedup and dtype == "float32" else None


def _known(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value
