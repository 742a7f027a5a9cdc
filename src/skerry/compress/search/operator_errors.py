"""Measure what each operator of a quantized graph adds to the error of the outputs.

Each pair of the graph stands behind a switch that an input of the graph sets, so a
model is loaded once; an operator's error is that of the outputs when only the pairs
that it reads and writes round. Weights are rounded in every run. Method: as
`skerry.compress.search.sensitivity`, on the graph as it was written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.search.quantized_values import Operands, read_operands, read_pairs
from skerry.compress.search.sensitivity import SWITCHES, compared_outputs
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, LoadOptions, Runtime, Session, Tensors
from skerry.graph import (
    Graph,
    count,
    infer_shapes,
    make_initializer,
    make_node,
    place_after,
    with_static_inputs,
    write_graph,
)
from skerry.tasks.evaluate import output_distance

MOST_SAMPLES = 6
MOST_WORK = 1.2e11
"""Work of all runs together, in multiply-accumulates: a few seconds of one CPU core."""

WORK_OF_A_NODE = 1e5
"""What a node costs beside its multiply-accumulates, in as many."""

WORK_OF_A_NUMBER = 12
"""What rounding a number costs, in multiply-accumulates."""


def operator_errors(
    graph: Graph,
    samples: Sequence[Tensors],
    *,
    hardest: Mapping[str, float],
    runtime: Runtime,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Quantize the values of one operator at a time and see how far outputs move.

    How many samples that takes, and of a large net how many operators, is bounded by
    the work that it is; that bound depends on the graph alone.

    Args:
        graph: A quantized graph.
        samples: Inputs of single inferences.
        hardest: By name of node, what its own values lose: where not all can be
            measured, those that lose most are.
        runtime: What runs the graph.
        threads: CPU threads.
        progress: Told of each operator.

    Returns:
        By name of node: the relative squared error of the outputs, mean over the
        samples. Nodes that compute in floats have none.
    """
    pairs = read_pairs(graph)
    touched = {
        name: _touched(one)
        for name, one in read_operands(graph, pairs).items()
        if _touched(one)
    }
    if not touched or not samples:
        return {}
    runs = int(MOST_WORK / _work(graph, samples[0], len(pairs)))
    groups = {frozenset(names) for names in touched.values()}
    if len(groups) + 1 > runs:
        order = sorted(touched, key=lambda name: -hardest.get(name, 0.0))
        touched = {name: touched[name] for name in order[: max(runs - 1, 1)]}
        groups = {frozenset(names) for names in touched.values()}
    few = samples[: min(max(runs // (len(groups) + 1), 1), MOST_SAMPLES)]
    names = list(pairs)
    switched = _switched(graph, names)
    compared = compared_outputs(switched)
    switched.add_outputs(compared)
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        model = write_graph(switched, Path(folder) / "switched.onnx")
        session = runtime.load(model, LoadOptions(threads=threads, precision="float32"))
        try:
            measured = _Measured(session, names, compared, few)
            found = {}
            for index, (name, own) in enumerate(touched.items()):
                found[name] = measured.error(frozenset(own))
                if progress is not None:
                    progress("operators", index + 1, len(touched))
            return found
        finally:
            session.close()


def _touched(one: Operands) -> tuple[str, ...]:
    return (*one.reads, *((one.writes,) if one.writes is not None else ()))


def _work(graph: Graph, sample: Tensors, n_pairs: int) -> float:
    """What one run costs: the nodes' work, and the rounding of what they write."""
    shapes = {name: array.shape for name, array in sample.items()}
    cost = count(infer_shapes(with_static_inputs(graph, shapes)))
    numbers = sum(node.output_bytes for node in cost.nodes) / 4
    nodes = len(cost.nodes) + 4 * n_pairs
    return cost.macs + WORK_OF_A_NODE * nodes + WORK_OF_A_NUMBER * numbers


def _switched(graph: Graph, names: Sequence[str]) -> Graph:
    """A copy in which each pair can be turned off."""
    switched = graph.copy()
    pairs = read_pairs(switched)
    switches = switched.add_input(
        TensorSpec(name=SWITCHES, dtype="bool", shape=(len(names),))
    )
    for index, name in enumerate(names):
        pair = pairs[name]
        for restored in pair.restored:
            uses = list(restored.uses())
            place = switched.add_initializer(
                make_initializer(
                    np.array(index, np.int64), switched.unique_name(f"{name}.switch")
                )
            )
            switch = make_node(
                "Gather",
                [switches, place],
                outputs=[switched.unique_name(f"{name}.on")],
            )
            choice = make_node(
                "Where",
                [switch.outputs[0], restored, pair.value],
                outputs=[switched.unique_name(f"{name}.choice")],
            )
            place_after(switched, restored, [switch, choice])
            for use in uses:
                use.node.replace_input_with(use.idx, choice.outputs[0])
    return switched


class _Measured:
    """Runs a switched graph; what was run once is not run again."""

    def __init__(
        self,
        session: Session,
        names: Sequence[str],
        compared: Sequence[str],
        samples: Sequence[Tensors],
    ) -> None:
        self._session = session
        self._places = {name: index for index, name in enumerate(names)}
        self._compared = compared
        self._samples = samples
        self._errors: dict[frozenset[str], float] = {}
        self._references = [self._run(sample, frozenset()) for sample in samples]

    def error(self, on: frozenset[str]) -> float:
        if on not in self._errors:
            distances = [
                output_distance(reference, self._run(sample, on))
                for sample, reference in zip(
                    self._samples, self._references, strict=True
                )
            ]
            self._errors[on] = float(np.mean(distances))
        return self._errors[on]

    def _run(self, sample: Tensors, on: frozenset[str]) -> dict[str, Array]:
        switches = np.zeros(len(self._places), np.bool_)
        switches[[self._places[name] for name in on]] = True
        outputs = self._session.run({**sample, SWITCHES: switches})
        return {name: outputs[name] for name in self._compared}
