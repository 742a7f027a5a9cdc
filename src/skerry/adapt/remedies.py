"""What would help a model on a target: each remedy tried on paper before it is named.

A remedy is an assumption about the workload (its floats are INT8), or a rewrite that
`skerry.adapt.rewrite` has tried on the model itself. The workload is laid out again
under the assumption, and the gain is the difference; one without gain is not named.
"""

from __future__ import annotations

from dataclasses import replace

from skerry.adapt.arrangement import TILING, find_arrangements
from skerry.adapt.fits import Fit
from skerry.adapt.gains import Remedy, gain_of, moving
from skerry.adapt.operators import Workload, read_workload
from skerry.adapt.plan import Plan, make_plan
from skerry.adapt.rewrite.catalogue import RULES
from skerry.adapt.rewrite.engine import Adapted
from skerry.adapt.rewrite.transposes import TRANSPOSE_CANCEL
from skerry.adapt.wording import show_bytes, show_counts, show_share
from skerry.core.target import Target
from skerry.graph import Graph

_ARRANGED = frozenset({TRANSPOSE_CANCEL.name, *(rule.name for rule in TILING)})
"""Rules whose advice `find_arrangements` gives, with the numbers of the tiles."""


def find_remedies(
    plan: Plan,
    quantized: Plan,
    fits: tuple[Fit, ...],
    adapted: Adapted,
    graph: Graph,
) -> tuple[Remedy, ...]:
    """Find what would help.

    Args:
        plan: The model as it is.
        quantized: The same with all floats imagined as INT8.
        fits: Whether the two fit into the target's memories.
        adapted: What rewriting the model would replace.
        graph: The model itself.

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
        *_rewriting(plan, quantized, adapted),
        *find_arrangements(plan, graph, adapted),
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


def _rewriting(plan: Plan, quantized: Plan, adapted: Adapted) -> list[Remedy]:
    """Advise the rewrites that `skerry adapt` would make, one remedy a rule.

    Each is counted alone, on the quantized model: accelerators take few floats.
    """
    best = plan.target.processors[0].name
    after = "Once quantized: " if _needs_int8(adapted, plan.target) else ""
    replaced: dict[str, set[str]] = {}
    for one in adapted.applied:
        if not _ARRANGED & set(one.rules):
            replaced.setdefault(one.rules[0], set()).add(one.node)
    found = []
    for rule in RULES:
        names = replaced.get(rule.name, set())
        processors = tuple(
            best if operator.name in names else processor
            for operator, processor in zip(
                quantized.workload.operators, quantized.processors, strict=True
            )
        )
        gain = gain_of(quantized, replace(quantized, processors=processors))
        if gain.operators:
            advice = f"{after}{rule.advice}: {moving(gain, plan)}."
            found.append(replace(gain, advice=advice))
    return found


def _needs_int8(adapted: Adapted, target: Target) -> bool:
    """Whether a rewritten model runs better on the first processor as INT8."""
    if not adapted.applied:
        return False
    workload = read_workload(adapted.graph)
    quantized = make_plan(workload.as_int8(), target)
    return gain_of(make_plan(workload, target), quantized).operators > 0


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
