"""What would help a model on a target: each remedy tried on paper before it is named.

A remedy is an assumption about the workload (its floats are INT8, its divisions are
multiplications). The workload is laid out again under the assumption, and the gain is
the difference; a remedy without gain is not named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from skerry.adapt.arrangement import find_arrangements
from skerry.adapt.fits import Fit
from skerry.adapt.gains import Remedy, gain_of, moving
from skerry.adapt.operators import Operator, Workload
from skerry.adapt.placement import refusal
from skerry.adapt.plan import Plan, make_plan
from skerry.adapt.wording import show_bytes, show_counts, show_share


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rewrite:
    """An operator that others can stand in for.

    Attributes:
        op_type: The operator.
        applies: Whether this one can be replaced.
        by: The operators that replace it, all on tensors of the same dtype and shape.
        advice: What to do, without its gain.
    """

    op_type: str
    applies: Callable[[Operator], bool]
    by: tuple[str, ...]
    advice: str


def _always(_: Operator) -> bool:
    return True


def _second_is_constant(operator: Operator) -> bool:
    second = operator.inputs[1] if len(operator.inputs) > 1 else None
    return second is not None and second.is_constant


def _squares(operator: Operator) -> bool:
    second = operator.inputs[1] if len(operator.inputs) > 1 else None
    return second is not None and second.scalar == 2


_REWRITES = (
    _Rewrite(
        op_type="Div",
        applies=_second_is_constant,
        by=("Mul",),
        advice="Replace Div by a constant with Mul by its reciprocal",
    ),
    _Rewrite(
        op_type="Pow",
        applies=_squares,
        by=("Mul",),
        advice="Replace Pow with exponent 2 by Mul of its input with itself",
    ),
    _Rewrite(
        op_type="HardSigmoid",
        applies=_always,
        by=("Mul", "Add", "Clip"),
        advice="Write HardSigmoid out as Mul, Add and Clip",
    ),
    _Rewrite(
        op_type="BatchNormalization",
        applies=_always,
        by=("Mul", "Add"),
        advice="Fold BatchNormalization into the convolution before it, or write it "
        "out as Mul and Add",
    ),
    _Rewrite(
        op_type="Erf",
        applies=_always,
        by=("Gelu",),
        advice="Fuse Erf and the operators around it into Gelu",
    ),
)


def find_remedies(
    plan: Plan, quantized: Plan, fits: tuple[Fit, ...]
) -> tuple[Remedy, ...]:
    """Find what would help.

    Args:
        plan: The model as it is.
        quantized: The same with all floats imagined as INT8.
        fits: Whether the two fit into the target's memories.

    Returns:
        First what takes a problem away, then what else changes the whole model, then
        rewrites, which build on it; among those, most gain first: in
        multiply-accumulates, in changes of processor, in operators.
    """
    whole = [
        *_fixed_shapes(plan.workload),
        *_quantization(plan, quantized, fits),
        *_less_memory(quantized, fits),
    ]
    rewrites = [
        *_rewriting(plan, quantized),
        *find_arrangements(plan),
    ]
    return (
        *sorted(whole, key=_rank, reverse=True),
        *sorted(rewrites, key=_rank, reverse=True),
    )


def _rank(remedy: Remedy) -> tuple[bool, float, int, int, int]:
    return (
        remedy.solves,
        remedy.macs_share,
        remedy.changes,
        remedy.operators,
        remedy.moved_bytes,
    )


def _fixed_shapes(workload: Workload) -> list[Remedy]:
    """Advise fixed input sizes where sizes are known only when the model runs."""
    unknown = [
        operator
        for operator in workload.operators
        if any(tensor.shape is None for tensor in operator.activations)
    ]
    if not unknown:
        return []
    return [
        Remedy(
            advice="Fix the sizes of the model's inputs and audit again: "
            f"{len(unknown)} of {len(workload.operators)} operators have tensors "
            "whose size is known only when the model runs, so neither their work nor "
            "the memory for them is counted.",
            solves=True,
        )
    ]


def _quantization(plan: Plan, quantized: Plan, fits: tuple[Fit, ...]) -> list[Remedy]:
    """Advise INT8 for what it moves, what it computes faster, or what then fits."""
    best = plan.target.processors[0]
    gain = gain_of(plan, quantized)
    reasons = []
    if gain.operators:
        left = _left_behind(quantized)
        reasons.append(moving(gain, plan))
        if left:
            reasons.append(f"still on other processors: {show_counts(left)}")
    speedup = best.int8_speedup.value if best.int8_speedup else None
    floats = _float_share(plan)
    if speedup and floats:
        # Amdahl's law, over the multiply-accumulates alone.
        times = 1 / (1 - floats + floats / speedup)
        gain = replace(gain, macs_share=max(floats, gain.macs_share))
        reasons.append(
            f"{show_share(floats)} of the multiply-adds could use 8-bit instructions, "
            f"at most {times:.1f} times as fast where computing is the limit"
        )
    solved = [fit for fit in fits if fit.over_bytes and _fits_as_int8(fit)]
    reasons += [f"{fit.what} would fit" for fit in solved]
    if not reasons:
        return []
    before, after = plan.workload.weight_bytes, quantized.workload.weight_bytes
    reasons.append(f"weights shrink from {show_bytes(before)} to {show_bytes(after)}")
    advice = f"Quantize to INT8: {'; '.join(reasons)}."
    return [replace(gain, advice=advice, solves=bool(solved))]


def _rewriting(plan: Plan, quantized: Plan) -> list[Remedy]:
    """Advise to replace operators that the most wanted processor does not take.

    Each is tried alone, on the quantized model: accelerators take few floats.
    """
    best = plan.target.processors[0]
    after = "Once quantized: " if gain_of(plan, quantized).operators else ""
    found = []
    for rewrite in _REWRITES:
        operators = tuple(
            replace(operator, op_type=rewrite.by[0])
            if operator.op_type == rewrite.op_type
            and rewrite.applies(operator)
            and refusal(operator, best)
            and not any(
                refusal(replace(operator, op_type=op_type), best)
                for op_type in rewrite.by
            )
            else operator
            for operator in quantized.workload.operators
        )
        rewritten = replace(quantized.workload, operators=operators)
        gain = gain_of(quantized, make_plan(rewritten, plan.target))
        if gain.operators:
            advice = f"{after}{rewrite.advice}: {moving(gain, plan)}."
            found.append(replace(gain, advice=advice))
    return found


def _less_memory(quantized: Plan, fits: tuple[Fit, ...]) -> list[Remedy]:
    """Say how far the model must shrink where even INT8 does not make it fit."""
    found = []
    for fit in fits:
        if not fit.over_bytes or _fits_as_int8(fit):
            continue
        needed, limit = fit.as_int8_bytes or 0, fit.limit_bytes or 0
        where = _peak_operator(quantized) if fit.what == "activations" else ""
        found.append(
            Remedy(
                advice=f"{_SHRINK[fit.what]}: even at INT8 {fit.what} need "
                f"{show_bytes(needed)}{where}, {needed / limit:.1f} times what "
                f"{fit.processor} has.",
                solves=True,
            )
        )
    return found


_SHRINK = {
    "activations": "Give the model a smaller input, or fewer channels at its widest",
    "weights": "Prune the model or choose a smaller one",
}


def _fits_as_int8(fit: Fit) -> bool:
    return (
        fit.as_int8_bytes is not None
        and fit.limit_bytes is not None
        and fit.as_int8_bytes <= fit.limit_bytes
    )


def _peak_operator(plan: Plan) -> str:
    live = plan.workload.live_bytes()
    if not live:
        return ""
    operator = plan.workload.operators[live.index(max(live))]
    return f" while {operator.op_type} {operator.name!r} runs"


def _left_behind(plan: Plan) -> list[str]:
    placed = zip(plan.workload.operators, plan.reasons, strict=True)
    return [operator.op_type for operator, reason in placed if reason]


def _float_share(plan: Plan) -> float:
    """Share of the multiply-accumulates that the first processor computes in floats."""
    floats = [
        operator.macs
        for operator in plan.operators_on(plan.target.processors[0].name)
        if operator.activations and operator.activations[0].is_float
    ]
    return sum(floats) / plan.workload.macs if plan.workload.macs else 0.0
