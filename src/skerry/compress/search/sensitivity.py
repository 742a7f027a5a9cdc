"""Measure how much each operator suffers from being quantized alone.

All operators stand ready in one graph, each behind a switch that an input of the graph
sets, so a model is loaded once and not once an operator. The weights are rounded in
every run: per channel they hardly matter, and constant weights keep the graph fast.
Method: the sensitivity analysis of Wu et al. 2020 (arXiv:2004.09602), section 5.1, with
the distance of the outputs in place of the task's accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skerry.compress.numbers.ranges import Range, scale_and_zero_point
from skerry.compress.ptq.calibrate import Progress
from skerry.compress.ptq.operators import operands, weight
from skerry.compress.ptq.plan import Plan
from skerry.compress.ptq.qdq import DEFAULT_SCHEMES, Schemes
from skerry.compress.ptq.weight_ranges import quantize_weights
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, LoadOptions, Runtime, Session, Tensors
from skerry.graph import (
    Graph,
    Node,
    Value,
    make_initializer,
    make_node,
    place_after,
    write_graph,
)
from skerry.tasks.evaluate import output_distance

SWITCHES = "skerry.switches"
"""Name of the added input: bool, one an operator."""


def measure_sensitivity(
    graph: Graph,
    plan: Plan,
    ranges: Mapping[str, Range],
    samples: Sequence[Tensors],
    *,
    runtime: Runtime,
    schemes: Schemes = DEFAULT_SCHEMES,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Quantize one operator at a time and see how far the outputs move.

    Args:
        graph: The float graph that the plan was made for.
        plan: The operators to measure.
        ranges: Range by name of value, for each value of the plan.
        samples: Inputs of single inferences; a few are enough to rank operators.
        runtime: What runs the graph.
        schemes: How the operators would be quantized.
        threads: CPU threads.
        progress: Told of each operator.

    Returns:
        By name of node: the relative squared error of the outputs (mean over the
        samples) when the values that this node reads and writes are quantized; 0 is
        none, 1 is as large as the outputs themselves.
    """
    switched = _Switched(graph.copy(), plan, ranges, schemes)
    for index, name in enumerate(plan.nodes):
        switched.add(name, index)
    compared = compared_outputs(switched.graph)
    switched.graph.add_outputs(compared)
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        model = write_graph(switched.graph, Path(folder) / "switched.onnx")
        session = runtime.load(model, LoadOptions(threads=threads, precision="float32"))
        try:
            return _distances(session, plan.nodes, compared, samples, progress)
        finally:
            session.close()


def _distances(
    session: Session,
    names: Sequence[str],
    compared: Sequence[str],
    samples: Sequence[Tensors],
    progress: Progress | None,
) -> dict[str, float]:
    def outputs(sample: Tensors, switches: NDArray[np.bool_]) -> dict[str, Array]:
        found = session.run({**sample, SWITCHES: switches})
        return {name: found[name] for name in compared}

    off = np.zeros(len(names), np.bool_)
    references = [outputs(sample, off) for sample in samples]
    found = {}
    for index, name in enumerate(names):
        on: NDArray[np.bool_] = off.copy()
        on[index] = True
        found[name] = float(
            np.mean(
                [
                    output_distance(reference, outputs(sample, on))
                    for sample, reference in zip(samples, references, strict=True)
                ]
            )
        )
        if progress is not None:
            progress("sensitivity", index + 1, len(names))
    return found


def compared_outputs(graph: Graph) -> list[str]:
    """The outputs, or what goes into a softmax that makes one.

    A softmax hides errors until they change the answer, and then shows them whole.
    """
    names = []
    for output in graph.output_values:
        node = output.producer()
        is_softmax = node is not None and node.op_type in ("Softmax", "LogSoftmax")
        source = node.inputs[0] if node is not None and is_softmax else output
        names.append(str((source or output).name))
    return names


class _Switched:
    """A graph in which each operator can be quantized by a switch."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        ranges: Mapping[str, Range],
        schemes: Schemes,
    ) -> None:
        self.graph = graph
        self._outputs = plan.outputs
        self._ranges = {
            name: ranges[source]
            for name, source in {**plan.reads, **plan.writes}.items()
            if source in ranges
        }
        self._schemes = schemes
        self._nodes = {node.name: node for node in graph.nodes}
        self._origin: dict[str, str] = {}
        self._switches = graph.add_input(
            TensorSpec(name=SWITCHES, dtype="bool", shape=(len(plan.nodes),))
        )

    def add(self, name: str, index: int) -> None:
        """Put one node, and what it writes, behind the switch of this index."""
        node = self._nodes[name]
        self._round_weights(node)
        for position, value in enumerate(operands(node)):
            if value is not None and self._origin_of(value) in self._ranges:
                choice = self._choice(value, index, f"{name}.{position}")
                node.replace_input_with(position, choice)
        if self._outputs.get(name) in self._ranges:
            value = self.graph.value(self._outputs[name])
            uses = list(value.uses())
            choice = self._choice(value, index, f"{name}.out")
            for use in uses:
                use.node.replace_input_with(use.idx, choice)

    def _origin_of(self, value: Value) -> str:
        name = str(value.name)
        return self._origin.get(name, name)

    def _choice(self, value: Value, index: int, name: str) -> Value:
        """The value, rounded where the switch of this index is on."""
        origin = self._origin_of(value)
        scale, zero_point = scale_and_zero_point(
            self._ranges[origin], self._schemes.activations
        )
        parameters = [
            self._constant(f"{name}.scale", scale),
            self._constant(f"{name}.zero_point", zero_point),
        ]
        position = self._constant(f"{name}.switch", np.array(index, np.int64))
        switch = self._node("Gather", [self._switches, position], f"{name}.on")
        codes = self._node("QuantizeLinear", [value, *parameters], f"{name}.q")
        rounded = self._node(
            "DequantizeLinear", [codes.outputs[0], *parameters], f"{name}.dq"
        )
        choice = self._node(
            "Where", [switch.outputs[0], rounded.outputs[0], value], f"{name}.choice"
        )
        place_after(self.graph, value, [switch, codes, rounded, choice])
        self._origin[str(choice.outputs[0].name)] = origin
        return choice.outputs[0]

    def _round_weights(self, node: Node) -> None:
        value = weight(self.graph, node)
        floats = None if value is None else self.graph.constant(value)
        if floats is None:
            return
        codes = quantize_weights(
            node,
            floats,
            self._schemes.weights,
            per_channel=self._schemes.per_channel,
        )
        rounded = self._constant(f"{node.name}.rounded", codes.dequantize())
        node.replace_input_with(1, rounded)

    def _constant(self, name: str, array: Array) -> Value:
        unique = self.graph.unique_name(name)
        return self.graph.add_initializer(make_initializer(array, unique))

    def _node(self, op_type: str, inputs: Sequence[Value], output: str) -> Node:
        return make_node(op_type, inputs, outputs=[self.graph.unique_name(output)])
