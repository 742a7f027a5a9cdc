"""Audit a model against a target: what falls back, what does not fit, what to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from skerry.adapt.findings import (
    DtypeTrouble,
    LargeTensor,
    LayoutChange,
    dtype_troubles,
    large_tensors,
    layout_changes,
)
from skerry.adapt.fits import Fit, find_fits
from skerry.adapt.gains import Remedy
from skerry.adapt.operators import Operator, read_workload
from skerry.adapt.placement import NOWHERE, UNKNOWN
from skerry.adapt.plan import Plan, make_plan, runs
from skerry.adapt.remedies import find_remedies
from skerry.adapt.rewrite.engine import adapt
from skerry.adapt.roofline import Bound
from skerry.adapt.speed import find_speed, time_of
from skerry.adapt.wording import show_bytes
from skerry.core.target import Target
from skerry.graph import Graph, infer_shapes


class Verdict(StrEnum):
    """Whether a model runs on a target."""

    RUNS = "runs"
    FAILS = "does not run"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOperator:
    """Where one operator runs.

    Attributes:
        name: The node's name.
        op_type: Its ONNX operator.
        dtype: What it computes in.
        processor: The processor that runs it; empty if none can, `unknown` if no
            public document says which.
        reason: Why the most wanted processor cannot; empty if it does.
        macs: Multiply-accumulates of one inference.
        weight_bytes: Bytes of its constants.
        bound: What limits its speed, were it run alone.
        intensity: Multiply-accumulates a byte moved; None where a size is unknown.
        time_us: What it takes there, were it run alone; None where unknown.
    """

    name: str
    op_type: str
    dtype: str
    processor: str
    reason: str
    macs: int
    weight_bytes: int
    bound: Bound
    intensity: float | None = None
    time_us: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgraph:
    """Operators that run one after another on one processor.

    Attributes:
        processor: Its name; empty if none can run them.
        operators: Names of the operators, in order.
        cause: Why its first operator does not run on the most wanted processor; empty
            where it does.
        read_bytes: What it is handed by other processors; None where a size is unknown.
    """

    processor: str
    operators: tuple[str, ...]
    cause: str
    read_bytes: int | None = 0


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
        large_tensors: Tensors that alone are more than a memory, the largest first.
        dtype_troubles: Operators in a dtype that costs more than their neighbours'.
        memory_bound_share: Share of the time of the operators whose time is known that
            goes to those bound by memory, 0–1; None where no time is known.
        time_us: Sum of all operators' times; None where one is unknown.
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
    transposes: tuple[LayoutChange, ...]
    large_tensors: tuple[LargeTensor, ...]
    dtype_troubles: tuple[DtypeTrouble, ...]
    memory_bound_share: float | None
    time_us: float | None
    problems: tuple[str, ...]
    remedies: tuple[Remedy, ...]

    @property
    def unknown_operators(self) -> int:
        """Operators of which no public document says whether they run."""
        return sum(one.processor == UNKNOWN for one in self.operators)

    @property
    def verdict(self) -> Verdict:
        """Whether the model runs there, as far as anybody knows."""
        if self.problems:
            return Verdict.FAILS
        return Verdict.UNKNOWN if self.unknown_operators else Verdict.RUNS

    @property
    def would_run(self) -> bool:
        """Whether it is known that the model runs there."""
        return self.verdict is Verdict.RUNS

    @property
    def said(self) -> str:
        """The verdict in a few words."""
        if self.verdict is Verdict.UNKNOWN:
            number = self.unknown_operators
            return f"{self.verdict}: {number} operator{'s' if number > 1 else ''}"
        return str(self.verdict)


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
    operators = _placed_operators(plan)
    return Audit(
        target=target.name,
        title=target.title,
        operators=operators,
        subgraphs=_subgraphs(plan),
        shares=_shares(plan),
        fallbacks=_fallbacks(plan),
        fits=fits,
        peak_activation_bytes=max(workload.live_bytes() or (), default=None),
        weight_bytes=workload.weight_bytes,
        transposes=layout_changes(plan),
        large_tensors=large_tensors(plan),
        dtype_troubles=dtype_troubles(plan),
        memory_bound_share=_memory_bound_share(operators),
        time_us=time_of(plan),
        problems=_problems(plan, fits),
        remedies=find_remedies(plan, quantized, fits, adapt(graph, target), graph),
    )


def _placed_operators(plan: Plan) -> tuple[PlacedOperator, ...]:
    by_name = {processor.name: processor for processor in plan.target.processors}
    speeds = [
        find_speed(operator, by_name.get(name))
        for operator, name in zip(plan.workload.operators, plan.processors, strict=True)
    ]
    return tuple(
        PlacedOperator(
            name=operator.name,
            op_type=operator.op_type,
            dtype=operator.dtype,
            processor=name,
            reason=reason,
            macs=operator.macs,
            weight_bytes=sum(one.size_bytes or 0 for one in operator.constants),
            bound=speed.bound,
            intensity=speed.intensity,
            time_us=speed.time_us,
        )
        for operator, name, reason, speed in zip(
            plan.workload.operators, plan.processors, plan.reasons, speeds, strict=True
        )
    )


def _memory_bound_share(operators: tuple[PlacedOperator, ...]) -> float | None:
    known = [(one.bound, one.time_us) for one in operators if one.time_us is not None]
    total = sum(time_us for _, time_us in known)
    if not total:
        return None
    return sum(time_us for bound, time_us in known if bound is Bound.MEMORY) / total


def _subgraphs(plan: Plan) -> tuple[Subgraph, ...]:
    operators = plan.workload.operators
    return tuple(
        Subgraph(
            processor=name,
            operators=tuple(operators[index].name for index in run),
            cause=plan.reasons[run[0]],
            read_bytes=_read_bytes(operators, run),
        )
        for name, run in runs(plan)
    )


def _read_bytes(operators: tuple[Operator, ...], run: list[int]) -> int | None:
    """Bytes that the operators of one run read and others made."""
    own = {tensor.name for index in run for tensor in operators[index].outputs}
    made = {tensor.name for operator in operators for tensor in operator.outputs} - own
    sizes = {
        tensor.name: tensor.size_bytes
        for index in run
        for tensor in operators[index].inputs
        if tensor is not None and tensor.name in made
    }
    if None in sizes.values():
        return None
    return sum(size or 0 for size in sizes.values())


def _shares(plan: Plan) -> tuple[Share, ...]:
    counts = Counter(plan.processors)
    names = [*(processor.name for processor in plan.target.processors), UNKNOWN]
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
