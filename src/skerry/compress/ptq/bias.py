"""Correct the shift that quantization gives the mean of a layer's output.

Rounding weights and activations moves the mean of each output channel, as the errors
of a sum's few terms do not cancel: most in depthwise convolutions, and where inputs
are often the same, as on an even background. What all layers before add up to is worse
than what a layer does itself, so layers are corrected one after the other: the mean of
each is measured with those before it corrected, and the shift against the float graph
is subtracted from the bias (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", ICCV 2019, section 4.2 and appendix D).

One pass over the samples does for all layers, since each sample's own mean stands in
for that of all: the float graph tells the means, and in the quantized one each layer's
output is moved to them before it is passed on. Padding and strides are accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from skerry.compress.ptq.calibrate import Progress, watch
from skerry.compress.ptq.operators import weight
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Runtime, Tensors
from skerry.graph import (
    Graph,
    Node,
    Value,
    attribute,
    dims,
    insert_after,
    make_initializer,
    make_node,
    make_value,
    place_after,
    sole_use,
)

_FLOAT_MEAN = ".float_mean"

AXES_ARE_INPUTS = 18
"""The opset from which on ReduceMean reads the axes that were an attribute."""


def measure_shifts(
    graph: Graph,
    quantized: Graph,
    samples: Iterable[Tensors],
    *,
    runtime: Runtime,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Measure how far quantization moves the mean of each layer's output.

    Only means leave the runtime, so memory does not grow with the number of samples.

    Args:
        graph: The float graph.
        quantized: What was made of it, with the same names; layers that stayed float
            there are measured too, as are those before them.
        samples: Inputs of single inferences.
        runtime: What runs the graphs.
        threads: CPU threads.
        progress: Told of each sample.

    Returns:
        By name of node, quantized less float, float64 `[output channels]`; layers
        without a bias that could be corrected have no entry.

    Raises:
        DataError: There are no samples, or they do not fit the graph.
    """
    layers = [node for node in graph.nodes if bias_place(graph, node) is not None]
    if not layers:
        return {}
    names = {str(node.name): str(node.outputs[0].name) for node in layers}
    reference, moved = graph.copy(), quantized.copy()
    means = {name: _add_mean(reference, value) for name, value in names.items()}
    shifts = {name: _move_mean(moved, value) for name, value in names.items()}
    inputs = [spec.name for spec in graph.inputs]
    running = watch(
        reference,
        means.values(),
        samples,
        runtime=runtime,
        threads=threads,
    )
    given = (
        {name: found[name] for name in inputs}
        | {names[name] + _FLOAT_MEAN: found[mean] for name, mean in means.items()}
        for found in running
    )
    sums: dict[str, Array] = {}
    seen = 0
    for found in watch(
        moved,
        shifts.values(),
        given,
        runtime=runtime,
        threads=threads,
        progress=progress,
    ):
        seen += 1
        for name, output in shifts.items():
            shift = found[output].astype(np.float64).reshape(-1)
            sums[name] = sums[name] + shift if name in sums else shift
    found_all = {name: np.asarray(total / seen) for name, total in sums.items()}
    return {name: mean for name, mean in found_all.items() if np.isfinite(mean).all()}


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
        place = None if shift is None else bias_place(corrected, node)
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


def bias_place(graph: Graph, node: Node) -> tuple[Node, int] | None:
    """The node and input that hold a layer's bias; None where it can have none.

    A convolution or Gemm that has none yet can be given one as input 2; the bias of a
    matrix product is what an `Add` behind it adds.
    """
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
    use = sole_use(node.outputs[0])
    if use is None:
        return None
    add, index = use
    if add.op_type != "Add" or add.graph is not node.graph:
        return None
    constant = graph.constant(add.inputs[1 - index])
    is_bias = constant is not None and constant.shape == (channels,)
    return (add, 1 - index) if is_bias else None


def _add_mean(graph: Graph, name: str) -> str:
    """Compute the mean of each channel of a layer's output, as an output."""
    value = graph.value(name)
    mean = _mean(graph, value)
    place_after(graph, value, [mean])
    return str(mean.outputs[0].name)


def _move_mean(graph: Graph, name: str) -> str:
    """Move a layer's output to a mean that is an input; returns by how much it is."""
    value = graph.value(name)
    mean = _mean(graph, value)
    shape = dims(mean.outputs[0]) or ()
    wanted = graph.add_input(
        TensorSpec(
            name=name + _FLOAT_MEAN,
            dtype="float32",
            shape=shape,
        )
    )
    shift = make_node(
        "Sub",
        [mean.outputs[0], wanted],
        outputs=[make_value(graph.unique_name(f"{name}.shift"), "float32", shape)],
    )
    move = make_node(
        "Sub",
        [value, shift.outputs[0]],
        outputs=[
            make_value(graph.unique_name(f"{name}.moved"), "float32", dims(value) or ())
        ],
    )
    insert_after(graph, value, [mean, shift, move])
    return str(shift.outputs[0].name)


def _mean(graph: Graph, value: Value) -> Node:
    shape, layer = dims(value) or (), value.producer()
    is_dense = layer is not None and layer.op_type in ("Gemm", "MatMul")
    channel = len(shape) - 1 if is_dense else 1
    axes = [axis for axis in range(len(shape)) if axis != channel]
    kept = [size if axis == channel else 1 for axis, size in enumerate(shape)]
    name = graph.unique_name(f"{value.name}.mean")
    inputs = [value]
    attributes: dict[str, int | list[int]] = {"keepdims": 1}
    if graph.opset < AXES_ARE_INPUTS:
        attributes["axes"] = axes
    else:
        listed = make_initializer(np.array(axes, np.int64), f"{name}.axes")
        inputs.append(graph.add_initializer(listed))
    return make_node(
        "ReduceMean",
        inputs,
        attributes,
        outputs=[make_value(name, "float32", kept)],
    )
