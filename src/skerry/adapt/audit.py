"""Audit a model against a target: what falls back, what does not fit, what to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from skerry.adapt.fits import Fit, find_fits
from skerry.adapt.operators import Operator, read_workload
from skerry.adapt.plan import NOWHERE, Plan, make_plan, runs
from skerry.adapt.remedies import Remedy, find_remedies
from skerry.adapt.rewrite.engine import adapt
from skerry.adapt.wording import show_bytes
from skerry.core.target import Figure, Processor, Target
from skerry.graph import Graph, infer_shapes


class Bound(StrEnum):
    """What limits an operator's speed, by the roofline of its processor."""

    COMPUTE = "compute"
    MEMORY = "memory"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOperator:
    """Where one operator runs.

    Attributes:
        name: The node's name.
        op_type: Its ONNX operator.
        dtype: What it computes in.
        processor: The processor that runs it; empty if none can.
        reason: Why the most wanted processor cannot; empty if it does.
        macs: Multiply-accumulates of one inference.
        weight_bytes: Bytes of its constants.
        bound: What limits its speed, were it run alone.
    """

    name: str
    op_type: str
    dtype: str
    processor: str
    reason: str
    macs: int
    weight_bytes: int
    bound: Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgraph:
    """Operators that run one after another on one processor.

    Attributes:
        processor: Its name; empty if none can run them.
        operators: Names of the operators, in order.
        cause: Why its first operator does not run on the most wanted processor; empty
            where it does.
    """

    processor: str
    operators: tuple[str, ...]
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one processor does of the work; shares are fractions of all MACs."""

    processor: str
    operators: int
    macs_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Operators that leave the most wanted processor for one reason.

    Attributes:
        reason: Why.
        op_types: Their ONNX operators, the most frequent first.
        operators: How many they are.
        macs_share: Their share of all multiply-accumulates, 0–1.
    """

    reason: str
    op_types: tuple[str, ...]
    operators: int
    macs_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a target makes of a model.

    Attributes:
        target: The target's short name.
        title: The target in one line.
        operators: One entry an operator of the model, in topological order.
        subgraphs: In an order of execution that changes processor seldom.
        shares: One entry a processor that has work, most wanted first.
        fallbacks: Why operators leave the most wanted processor, most work first.
        fits: One entry a memory of which the target says something.
        peak_activation_bytes: Most bytes of activations alive at once, each in the
            dtype it is computed in; None where a size is known only when it runs.
        weight_bytes: Bytes of all constants.
        transposes: Operators that do nothing but move data to another layout.
        problems: Why the model would not run, in plain sentences.
        remedies: What would help, most gain first.
    """

    target: str
    title: str
    operators: tuple[PlacedOperator, ...]
    subgraphs: tuple[Subgraph, ...]
    shares: tuple[Share, ...]
    fallbacks: tuple[Fallback, ...]
    fits: tuple[Fit, ...]
    peak_activation_bytes: int | None
    weight_bytes: int
    transposes: int
    problems: tuple[str, ...]
    remedies: tuple[Remedy, ...]

    @property
    def would_run(self) -> bool:
        """Whether nothing is known that keeps the model from running."""
        return not self.problems


def audit(graph: Graph, target: Target) -> Audit:
    """Find out what a target would do with a model, without running it.

    A quantized (QDQ) graph is audited as the integers it stands for.

    Args:
        graph: The model. Give its inputs fixed sizes first
            (`skerry.graph.with_static_inputs`): accelerators take no others.
        target: The hardware.

    Raises:
        ModelError: The shapes in the graph do not fit together.
    """
    workload = read_workload(infer_shapes(graph))
    plan = make_plan(workload, target)
    quantized = make_plan(workload.as_int8(), target)
    fits = find_fits(plan, quantized)
    return Audit(
        target=target.name,
        title=target.title,
        operators=_placed_operators(plan),
        subgraphs=_subgraphs(plan),
        shares=_shares(plan),
        fallbacks=_fallbacks(plan),
        fits=fits,
        peak_activation_bytes=max(workload.live_bytes() or (), default=None),
        weight_bytes=workload.weight_bytes,
        transposes=sum(one.op_type == "Transpose" for one in workload.operators),
        problems=_problems(plan, fits),
        remedies=find_remedies(plan, quantized, fits, adapt(graph, target)),
    )


def _placed_operators(plan: Plan) -> tuple[PlacedOperator, ...]:
    by_name = {processor.name: processor for processor in plan.target.processors}
    return tuple(
        PlacedOperator(
            name=operator.name,
            op_type=operator.op_type,
            dtype=operator.dtype,
            processor=name,
            reason=reason,
            macs=operator.macs,
            weight_bytes=sum(one.size_bytes or 0 for one in operator.constants),
            bound=_bound(operator, by_name.get(name)),
        )
        for operator, name, reason in zip(
            plan.workload.operators, plan.processors, plan.reasons, strict=True
        )
    )


def _bound(operator: Operator, processor: Processor | None) -> Bound:
    """Compare the time to compute with the time to move bytes.

    The roofline of S. Williams et al., "Roofline: An Insightful Visual Performance
    Model for Multicore Architectures", CACM 52(4), 2009; weights that come from a
    storage with a bus of its own move at the same time as activations.
    """
    if processor is None:
        return Bound.UNKNOWN
    peak_gops = _peak_gops(operator.dtype, processor)
    bandwidth = _known(processor.bandwidth_gb_s)
    sizes = [tensor.size_bytes for tensor in operator.activations]
    if peak_gops is None or bandwidth is None or None in sizes:
        return Bound.UNKNOWN
    activations = sum(size for size in sizes if size is not None)
    weights = sum(tensor.size_bytes or 0 for tensor in operator.constants)
    storage_bandwidth = _known(processor.storage_bandwidth_gb_s)
    if storage_bandwidth is None:
        moving_ns = (activations + weights) / bandwidth
    else:
        moving_ns = max(activations / bandwidth, weights / storage_bandwidth)
    computing_ns = 2 * operator.macs / peak_gops
    return Bound.MEMORY if moving_ns > computing_ns else Bound.COMPUTE


def _peak_gops(dtype: str, processor: Processor) -> float | None:
    peak = _known(processor.peak_gops)
    if peak is None or dtype in {"int8", "uint8"}:
        return peak
    speedup = _known(processor.int8_speedup)
    return peak / speedup if speedup and dtype == "float32" else None


def _known(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _subgraphs(plan: Plan) -> tuple[Subgraph, ...]:
    operators = plan.workload.operators
    return tuple(
        Subgraph(
            processor=name,
            operators=tuple(operators[index].name for index in run),
            cause=plan.reasons[run[0]],
        )
        for name, run in runs(plan)
    )


def _shares(plan: Plan) -> tuple[Share, ...]:
    counts = Counter(plan.processors)
    names = [processor.name for processor in plan.target.processors]
    return tuple(
        Share(processor=name, operators=counts[name], macs_share=plan.macs_share(name))
        for name in names
        if counts[name]
    )


def _fallbacks(plan: Plan) -> tuple[Fallback, ...]:
    groups: dict[str, list[Operator]] = {}
    for operator, reason in zip(plan.workload.operators, plan.reasons, strict=True):
        if reason:
            groups.setdefault(reason, []).append(operator)
    total = plan.workload.macs or 1
    fallbacks = [
        Fallback(
            reason=reason,
            op_types=tuple(
                op_type
                for op_type, _ in Counter(o.op_type for o in group).most_common()
            ),
            operators=len(group),
            macs_share=sum(operator.macs for operator in group) / total,
        )
        for reason, group in groups.items()
    ]
    return tuple(sorted(fallbacks, key=lambda one: (-one.macs_share, -one.operators)))


def _problems(plan: Plan, fits: tuple[Fit, ...]) -> tuple[str, ...]:
    nowhere = Counter(
        (operator.op_type, reason)
        for operator, name, reason in zip(
            plan.workload.operators, plan.processors, plan.reasons, strict=True
        )
        if name == NOWHERE
    )
    unplaced = [
        f"No processor runs {op_type} (×{number}): {reason}."
        for (op_type, reason), number in nowhere.items()
    ]
    too_large = [
        f"{fit.what.capitalize()} need {show_bytes(fit.needed_bytes)}; "
        f"{fit.processor} has {show_bytes(fit.limit_bytes)}: "
        f"{show_bytes(fit.over_bytes)} too much."
        for fit in fits
        if fit.needed_bytes is not None
        and fit.limit_bytes is not None
        and fit.over_bytes
    ]
    return (*unplaced, *too_large)
