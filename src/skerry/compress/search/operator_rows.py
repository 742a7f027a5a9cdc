"""One row an operator: what it loses, why, what it takes, and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.ptq.operators import Role, role
from skerry.compress.ptq.quantize import Quantize
from skerry.compress.search.error_sources import (
    TensorError,
    value_errors,
    weight_error,
)
from skerry.compress.search.fixes import Finding, suggest_fix
from skerry.compress.search.kernels import Ran, count_for, read_kernels
from skerry.compress.search.operator_errors import operator_errors
from skerry.compress.search.quantized_values import Operands, read_operands, read_pairs
from skerry.core.errors import ModelError
from skerry.core.profile import Profile
from skerry.core.report import LayerRow, ValueHistogram
from skerry.core.seams import Runtime, Tensors
from skerry.graph import (
    Graph,
    Node,
    NodeCost,
    count,
    infer_shapes,
    with_static_inputs,
)

SOURCE_SAMPLES = 4
"""Samples on which rounding and clipping are told apart."""

_KEPT_FOR_ACCURACY = "kept float: quantizing it costs too much accuracy"
_KEPT_FOR_TIME = "kept float: integers make it slower here"
_KEPT_AS_TOLD = "kept float: the recipe that was given says so"
_NO_INTEGERS = "not an integer operator on this runtime"
_NO_WEIGHTS = "without weights: the recipe quantizes operators with weights"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What the rows are about.

    Attributes:
        prepared: The float graph, whose nodes the rows are.
        result: The graph that is returned.
        quantized: The graph whose errors are shown: the result, or the best that was
            tried where the result is float. None shows no errors.
        step: The step that made `quantized`, where it is known.
        samples: Inputs of single inferences, a few.
        before: Measured times of `prepared`.
        after: Measured times of `result`; those of `before` where that is the source.
        known: Errors by name of operator that a search measured already; they stand
            for operators that the quantized graph keeps in float.
        is_given: Whether the step was given, not found by a search.
    """

    prepared: Graph
    result: Graph
    quantized: Graph | None
    step: Quantize | None
    samples: Sequence[Tensors]
    before: Profile
    after: Profile
    known: Mapping[str, float]
    is_given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Errors:
    """What the quantized graph loses, by name of operator."""

    operands: Mapping[str, Operands]
    outputs: Mapping[str, float]
    tensors: Mapping[str, tuple[TensorError, ...]]
    histograms: Mapping[str, ValueHistogram]
    shown: Mapping[str, TensorError]


def operator_rows(
    subject: Subject,
    *,
    runtime: Runtime,
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[LayerRow, ...]:
    """Measure and join what a report says of each operator.

    Args:
        subject: The graphs, and what was measured of them.
        runtime: What runs them.
        threads: CPU threads; times are those of the profiles.
        progress: Told of each operator.

    Raises:
        DataError: The samples do not fit the graphs.
        RuntimeFailure: The runtime cannot run a graph.
    """
    errors = _measure(subject, runtime, threads, progress)
    costs = _costs(subject.prepared, subject.samples[0])
    operators = count_for(subject.prepared)
    before = read_kernels(subject.before, subject.prepared, operators)
    after = before
    if subject.after is not subject.before:
        after = read_kernels(subject.after, subject.result, operators)
    result = errors.operands
    if subject.quantized is not subject.result:
        result = read_operands(subject.result, read_pairs(subject.result))
    rows = [
        _Row(subject, node, errors, result.get(node.name or "")).make(
            costs[node.name or ""], before, after
        )
        for node in subject.prepared.nodes
        # Nodes that only compute shapes are gone once the shapes are known.
        if node.name in costs
    ]
    return tuple(rows)


def _measure(
    subject: Subject, runtime: Runtime, threads: int, progress: Progress | None
) -> _Errors:
    graph = subject.quantized
    if graph is None:
        return _Errors(operands={}, outputs={}, tensors={}, histograms={}, shown={})
    pairs = read_pairs(graph)
    operands = read_operands(graph, pairs)
    samples = subject.samples
    values = value_errors(
        graph, samples[:SOURCE_SAMPLES], runtime=runtime, threads=threads
    )
    tensors: dict[str, tuple[TensorError, ...]] = {}
    histograms, shown = {}, {}
    for name, one in operands.items():
        touched = [*one.reads, *([one.writes] if one.writes is not None else [])]
        found = [values[pair][0] for pair in touched if pair in values]
        weights = [] if one.weights is None else [weight_error(one.weights)]
        tensors[name] = (*found, *weights)
        if found:
            # What it writes comes last: that is shown, or else what it reads first.
            pair = [pair for pair in touched if pair in values][
                -1 if one.writes in values else 0
            ]
            shown[name], histograms[name] = values[pair]
    return _Errors(
        operands=operands,
        outputs=operator_errors(
            graph,
            samples,
            hardest={name: sum(t.total for t in own) for name, own in tensors.items()},
            runtime=runtime,
            threads=threads,
            progress=progress,
        ),
        tensors=tensors,
        histograms=histograms,
        shown=shown,
    )


def _costs(graph: Graph, sample: Tensors) -> dict[str, NodeCost]:
    """Costs by name of node; all nodes cost nothing where shapes cannot be known."""
    shapes = {name: array.shape for name, array in sample.items()}
    try:
        counted = count(infer_shapes(with_static_inputs(graph, shapes)))
    except ModelError:
        return {node.name or "": _no_cost(node) for node in graph.nodes}
    return {cost.name: cost for cost in counted.nodes}


def _no_cost(node: Node) -> NodeCost:
    return NodeCost(
        name=node.name or "",
        op_type=node.op_type,
        macs=0,
        weight_bytes=0,
        input_bytes=0,
        output_bytes=0,
    )


class _Row:
    """Joins what is known of one operator."""

    def __init__(
        self, subject: Subject, node: Node, errors: _Errors, result: Operands | None
    ) -> None:
        self._subject = subject
        self._node = node
        self._name = node.name or ""
        self._errors = errors
        self._dtype = result.dtype if result is not None else ""

    def make(
        self, cost: NodeCost, before: Mapping[str, Ran], after: Mapping[str, Ran]
    ) -> LayerRow:
        name, errors = self._name, self._errors
        was, ran = before.get(name), after.get(name)
        tensors = errors.tensors.get(name, ())
        is_rounded = name in errors.shown or bool(tensors)
        fell_back = bool(self._dtype) and ran is not None and ran.is_integer is False
        # What only carries integers on has kernels of the same name for floats.
        fell_back = fell_back and role(self._node) is not Role.CARRY
        return LayerRow(
            name=name,
            op_type=self._node.op_type,
            dtype=self._dtype or "float32",
            error=self._error(),
            latency_ms=ran.latency_ms if ran is not None else None,
            macs=cost.macs,
            weight_bytes=cost.weight_bytes,
            why="" if self._dtype else self._why(),
            latency_before_ms=was.latency_ms if was is not None else None,
            kernel=ran.kernel if ran is not None else "",
            fell_back=fell_back,
            rounding=sum(one.rounding for one in tensors) if is_rounded else None,
            clipping=sum(one.clipping for one in tensors) if is_rounded else None,
            wasted=errors.shown[name].wasted if name in errors.shown else None,
            fix=self._fix(tensors, was, ran, fell_back=fell_back),
            histogram=errors.histograms.get(name),
        )

    def _error(self) -> float | None:
        own = self._errors.outputs.get(self._name)
        return self._subject.known.get(self._name) if own is None else own

    def _why(self) -> str:
        step = self._subject.step
        is_returned = self._subject.quantized is self._subject.result
        if is_returned and step is not None and self._name in step.keep_float:
            return self._why_kept()
        kind = role(self._node)
        if kind is Role.FLOAT:
            return _NO_INTEGERS
        is_left = step is not None and step.operators == "weights"
        if is_returned and is_left and kind is Role.ARITHMETIC:
            return _NO_WEIGHTS
        return ""

    def _why_kept(self) -> str:
        if self._subject.is_given:
            return _KEPT_AS_TOLD
        # A search measures errors one by one only where accuracy is what is missing.
        return _KEPT_FOR_ACCURACY if self._subject.known else _KEPT_FOR_TIME

    def _fix(
        self,
        tensors: tuple[TensorError, ...],
        was: Ran | None,
        ran: Ran | None,
        *,
        fell_back: bool,
    ) -> str:
        if self._name not in self._errors.tensors:
            return ""
        error = self._errors.outputs.get(self._name)
        one = self._errors.operands[self._name]
        total = sum(self._errors.outputs.values())
        is_integer = bool(self._dtype)
        return suggest_fix(
            Finding(
                error=error,
                share=(error or 0.0) / total if total > 0 else 0.0,
                tensors=tensors,
                written=self._errors.shown.get(self._name) if one.writes else None,
                runtime=self._subject.after.runtime,
                fell_back=fell_back,
                before_ms=was.latency_ms if was and is_integer else None,
                after_ms=ran.latency_ms if ran and is_integer else None,
                total_ms=self._subject.before.total_ms,
                step=self._subject.step,
            )
        )
