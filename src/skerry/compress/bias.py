"""Correct the shift that quantization gives the mean of a layer's output.

Rounding a layer's weights, and its input, moves the mean of each output channel, as
the errors of its few weights do not cancel: most where each output is the sum of few
products, as in depthwise convolutions, and where inputs are often the same, as on an
even background. The mean shift is measured on the calibration samples and subtracted
from the bias (Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", ICCV 2019, section 4.2 and appendix D). It is measured where each
layer stands, not computed from E[x], so padding and strides are accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from skerry.compress.calibrate import Progress, watch
from skerry.compress.operators import weight
from skerry.compress.plan import Plan
from skerry.compress.qdq import Schemes
from skerry.compress.ranges import Range, scale_and_zero_point
from skerry.compress.weight_ranges import quantize_weights
from skerry.core.seams import Array, Runtime, Tensors
from skerry.graph import (
    Graph,
    Node,
    Value,
    attribute,
    dims,
    make_initializer,
    make_node,
    make_value,
    place_after,
)


def measure_shifts(
    graph: Graph,
    plan: Plan,
    ranges: Mapping[str, Range],
    samples: Iterable[Tensors],
    *,
    runtime: Runtime,
    schemes: Schemes,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Measure how far quantization moves the mean of each layer's output.

    Each layer of the plan is computed twice on the float graph's values: as it is, and
    with its weights and its input rounded. Only the means of the differences leave the
    runtime, so memory does not grow with the number of samples.

    Args:
        graph: The float graph that the plan was made for.
        plan: The layers to measure; those without a bias to correct are left out.
        ranges: Range by name of value, for each value of the plan.
        samples: Inputs of single inferences.
        runtime: What runs the graph.
        schemes: How the layers will be quantized.
        threads: CPU threads.
        progress: Told of each sample.

    Returns:
        By name of node, quantized less float, float64 `[output channels]`.

    Raises:
        DataError: There are no samples, or they do not fit the graph.
    """
    probes = _Probes(graph.copy(), plan, ranges, schemes)
    names = {
        str(node.name): probes.add(node)
        for node in probes.graph.nodes
        if node.name in set(plan.nodes) and _bias_index(probes.graph, node) is not None
    }
    if not names:
        return {}
    sums: dict[str, Array] = {}
    seen = 0
    for found in watch(
        probes.graph,
        names.values(),
        samples,
        runtime=runtime,
        threads=threads,
        progress=progress,
    ):
        seen += 1
        for name, output in names.items():
            mean = found[output].astype(np.float64)
            sums[name] = sums[name] + mean if name in sums else mean
    means = {name: np.asarray(total / seen) for name, total in sums.items()}
    return {name: mean for name, mean in means.items() if np.isfinite(mean).all()}


def correct_biases(graph: Graph, shifts: Mapping[str, Array]) -> Graph:
    """Return a copy with biases that make up for shifts of the mean.

    Args:
        graph: The float graph that the shifts were measured on.
        shifts: By name of node, `[output channels]`; a convolution without a bias is
            given one.
    """
    corrected = graph.copy()
    for node in corrected.nodes:
        shift = shifts.get(node.name or "")
        place = None if shift is None else _bias_index(corrected, node)
        if shift is None or place is None:
            continue
        holder, index = place
        if len(holder.inputs) <= index:
            holder.resize_inputs(index + 1)
        old = holder.inputs[index]
        bias = corrected.constant(old)
        wide = np.zeros(len(shift)) if bias is None else bias.astype(np.float64)
        wish = f"{node.name}.bias" if old is None else str(old.name)
        made = make_initializer(
            (wide - shift).astype(np.float32),
            corrected.unique_name(f"{wish}.corrected"),
        )
        holder.replace_input_with(index, corrected.add_initializer(made))
    return corrected


def _bias_index(graph: Graph, node: Node) -> tuple[Node, int] | None:
    """The node and input that hold a layer's bias; None where it can have none."""
    value = weight(graph, node)
    if value is None:
        return None
    channels = (dims(node.outputs[0]) or (None,))[-1]
    if node.op_type == "MatMul":
        return _added_bias(graph, node, channels)
    if node.op_type == "Gemm":
        is_plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
        if not is_plain:
            return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return node, 2
    constant = graph.constant(bias)
    is_vector = constant is not None and constant.ndim == 1 and constant.size > 1
    return (node, 2) if is_vector else None


def _added_bias(
    graph: Graph, node: Node, channels: int | str | None
) -> tuple[Node, int] | None:
    """The constant vector that alone is added to a matrix product."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    add, index = uses[0]
    if add.op_type != "Add" or add.graph is not node.graph:
        return None
    constant = graph.constant(add.inputs[1 - index])
    is_bias = constant is not None and constant.shape == (channels,)
    return (add, 1 - index) if is_bias else None


class _Probes:
    """A graph in which layers are computed a second time, quantized."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        ranges: Mapping[str, Range],
        schemes: Schemes,
    ) -> None:
        self.graph = graph
        self._ranges = {
            name: ranges[source]
            for name, source in {**plan.reads, **plan.writes}.items()
        }
        self._schemes = schemes
        self._rounded: dict[str, Value] = {}

    def add(self, node: Node) -> str:
        """Compute a layer a second time; returns the name of the mean difference."""
        source, output = node.inputs[0], node.outputs[0]
        if source is None:
            raise ValueError(f"{node.name} reads nothing")
        again = make_node(
            node.op_type,
            [self._input(source), self._weights(node), *node.inputs[2:]],
            {name: one.value for name, one in node.attributes.items()},
            outputs=[self._name(f"{node.name}.rounded")],
        )
        difference = make_node(
            "Sub", [again.outputs[0], output], outputs=[self._name(f"{node.name}.off")]
        )
        shape = dims(output) or ()
        rank = len(shape)
        channel = rank - 1 if node.op_type in ("Gemm", "MatMul") else 1
        mean = make_node(
            "ReduceMean",
            [difference.outputs[0]],
            {"axes": [axis for axis in range(rank) if axis != channel], "keepdims": 0},
            outputs=[
                make_value(
                    self._name(f"{node.name}.shift"), "float32", (shape[channel],)
                )
            ],
        )
        place_after(self.graph, output, [again, difference, mean])
        return str(mean.outputs[0].name)

    def _weights(self, node: Node) -> Value:
        value = weight(self.graph, node)
        floats = self.graph.constant(value)
        if value is None or floats is None:
            raise ValueError(f"{node.name} has no weights")
        codes = quantize_weights(
            node,
            floats,
            self._schemes.weights,
            per_channel=self._schemes.per_channel,
        )
        constant = make_initializer(
            codes.dequantize(), self._name(f"{node.name}.rounded_weights")
        )
        return self.graph.add_initializer(constant)

    def _input(self, value: Value) -> Value:
        name = str(value.name)
        if name not in self._ranges:
            return value
        if name not in self._rounded:
            scale, zero_point = scale_and_zero_point(
                self._ranges[name], self._schemes.activations
            )
            parameters = [
                self.graph.add_initializer(
                    make_initializer(array, self._name(f"{name}.{part}"))
                )
                for part, array in (("scale", scale), ("zero_point", zero_point))
            ]
            codes = make_node(
                "QuantizeLinear",
                [value, *parameters],
                outputs=[self._name(f"{name}.q")],
            )
            rounded = make_node(
                "DequantizeLinear",
                [codes.outputs[0], *parameters],
                outputs=[self._name(f"{name}.dq")],
            )
            place_after(self.graph, value, [codes, rounded])
            self._rounded[name] = rounded.outputs[0]
        return self._rounded[name]

    def _name(self, wish: str) -> str:
        return self.graph.unique_name(wish)
