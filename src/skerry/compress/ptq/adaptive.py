"""Choose weights and biases layer by layer, each for what those before it lost.

Most of what a net of 8 bits loses is lost by its activations, and adds up from layer
to layer. Part of it can be foretold from what a layer reads: channels whose error goes
together, values that were clipped, means that moved. So each layer is fitted to make,
from what the quantized layers before it give, what it makes in the float graph
(asymmetric reconstruction: Nagel et al., arXiv:2004.10568, section 3.3; Zhang et al.,
"Accelerating Very Deep Convolutional Networks", arXiv:1505.06798, section 2.3), then
its weights are rounded, and its bias takes up what is left of the mean.

Some samples are held back. A fit that does not lower the error on those is left out,
and how strongly weights are drawn to the trained ones is chosen on them: so few samples
make the fit weaker, not wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from skerry.compress.numbers.arrays import along_axis
from skerry.compress.numbers.ranges import Range, scale_and_zero_point
from skerry.compress.numbers.schemes import Scheme
from skerry.compress.numbers.tensors import QuantizedTensor
from skerry.compress.ptq.bias import bias_place
from skerry.compress.ptq.calibrate import Progress, check_finite
from skerry.compress.ptq.layer_rows import LayerRows, rows_of
from skerry.compress.ptq.operators import weight
from skerry.compress.ptq.plan import Plan
from skerry.compress.ptq.qdq import Schemes
from skerry.compress.ptq.rounding import Moments, fit, round_together
from skerry.compress.ptq.sequence import Chosen, LayerWalk, names_of
from skerry.compress.ptq.weight_ranges import quantize_weights
from skerry.core.seams import Array, Runtime, Tensors
from skerry.graph import Graph, Node

MOST_SAMPLES = 48
"""More tell little that is new; a net is gone through twice with each."""

MOST_POSITIONS = 64
"""Of one output of a layer, evenly spread: neighbours tell much the same."""

LARGEST_READ = 1536
"""Numbers that one output is the sum of. So many weights are not fitted to as few
positions as this looks at, and their Gram matrix would be large: beyond, only biases
are."""

HELD_BACK = 4
"""Every fourth sample is held back."""

STIFFNESS = (0.03, 0.3, 3.0)
"""How strongly weights may be drawn to the trained ones; see `rounding.fit`."""

WORTH_ROUNDING = 1.02
"""Weights are rounded together where rounding each for itself costs more than this
factor of the error that is there anyway."""

_CHUNK_BYTES = 1 << 24


def round_layers(
    graph: Graph,
    plan: Plan,
    ranges: Mapping[str, Range],
    schemes: Schemes,
    samples: Iterable[Tensors],
    *,
    correct_bias: bool,
    runtime: Runtime,
    threads: int = 1,
    progress: Progress | None = None,
) -> Chosen:
    """Choose the codes of all layers' weights, and what their biases make up for.

    Memory does not grow with the number of samples: what layers hand on lies in files.

    Args:
        graph: The float graph that the plan was made for.
        plan: What is quantized.
        ranges: Range by name of value, for each value of the plan.
        schemes: How.
        samples: Inputs of single inferences.
        correct_bias: Whether biases may change.
        runtime: What runs the graph.
        threads: CPU threads.
        progress: Told of each layer.

    Returns:
        Codes and shifts of the layers that could be taken apart. Others are to be
        rounded to the nearest, and so are those that share their weights.

    Raises:
        DataError: The samples do not fit the graph.
        RuntimeFailure: The runtime cannot run a part of it.
    """
    nodes = {str(node.name): node for node in graph.nodes}
    chosen = Chosen()
    layers = [name for name in plan.nodes if weight(graph, nodes[name]) is not None]
    walk = LayerWalk(
        graph=graph,
        plan=plan,
        ranges=ranges,
        schemes=schemes,
        runtime=runtime,
        threads=threads,
    )
    for number, (name, pairs) in enumerate(walk.walk(layers, samples, chosen), start=1):
        node = nodes[name]
        source = names_of(node)[0]
        reads = ranges[plan.writes.get(source) or plan.reads[source]]
        layer = _Layer(graph, node, schemes, reads, correct_bias=correct_bias)
        for index, (read, made) in enumerate(pairs):
            layer.look(index, read, made)
        layer.decide(chosen)
        if progress is not None:
            progress("round", number, len(layers))
    return chosen


def _is_alone(node: Node) -> bool:
    """Whether no other node reads the weights of this: then they may become others."""
    value = node.inputs[1]
    return value is not None and len(list(value.uses())) == 1


class _Layer:
    """One layer: what samples show of it, and what follows from that."""

    def __init__(
        self,
        graph: Graph,
        node: Node,
        schemes: Schemes,
        reads: Range,
        *,
        correct_bias: bool,
    ) -> None:
        self._node = node
        self._schemes = schemes
        self._scale, self._zero = scale_and_zero_point(reads, schemes.activations)
        self._weights = np.asarray(graph.constant(node.inputs[1]))
        self._is_alone = self._is_fitted = _is_alone(node)
        self._is_free = correct_bias and bias_place(graph, node) is not None
        self._bias: Array | None = np.zeros(1, np.float32)
        if node.op_type != "MatMul" and len(node.inputs) > 2 and node.inputs[2]:
            bias = graph.constant(node.inputs[2])
            # One a row of a matrix is no bias of output channels.
            is_bias = bias is not None and bias.size in (1, *bias.shape[-1:])
            self._bias = bias if is_bias else None
        self._rows: LayerRows | None = None
        self._seen: tuple[_Sum, _Sum] | None = None
        self._origin: tuple[Array, Array] | None = None

    def look(self, index: int, read: Array, made: Array) -> None:
        """Take in what one sample gives the layer, and what it should make of it."""
        check_finite(made, str(self._node.outputs[0].name))
        if self._rows is None:
            self._rows = rows_of(self._node, self._weights, read.shape)
        rows = self._rows
        if rows is None or self._bias is None or not made.size:
            return
        picked = _spread(rows.positions(made), index)
        x = self._rounded(rows.read(read, made.shape, picked))
        y = rows.made(made, picked) - self._bias_rows(rows)
        if self._origin is None or self._seen is None:
            self._is_fitted = self._is_alone and x.shape[2] <= LARGEST_READ
            self._seen = _Sum(self._is_fitted), _Sum(self._is_fitted)
            # Sums about a point near the mean keep their digits.
            centre = float(self._is_free)
            self._origin = (
                x.mean(1, keepdims=True) * centre,
                y.mean(1, keepdims=True) * centre,
            )
        is_held = index % HELD_BACK == HELD_BACK - 1
        self._seen[is_held].add(x - self._origin[0], y - self._origin[1])

    def decide(self, chosen: Chosen) -> None:
        """Choose the codes, and the shift that the bias makes up for."""
        if self._rows is None or self._seen is None or self._origin is None:
            return
        fitted, held = (one.moments() for one in self._seen)
        if fitted is None:
            return
        codes = self._codes(fitted, held)
        name = str(self._node.name)
        if self._is_alone:
            chosen.codes[name] = codes
        if self._is_free:
            parts = [one for one in (fitted, held) if one is not None]
            count = sum(one.count for one in parts)
            read = sum(one.read for one in parts) / count + self._origin[0][:, 0]
            made = sum(one.made for one in parts) / count + self._origin[1][:, 0]
            matrix = self._rows.matrix(codes.dequantize().astype(np.float64))
            chosen.shifts[name] = (np.einsum("gok,gk->go", matrix, read) - made).ravel()

    def _codes(self, fitted: Moments, held: Moments | None) -> QuantizedTensor:
        """Fit and round; each step is taken only where held-back samples agree."""
        trained = self._matrix(self._weights)
        if held is None or not self._is_fitted:
            return self._nearest(trained)
        if self._is_free:
            # The bias takes up the mean.
            fitted, held = fitted.centered(), held.centered()
        best, least = trained, held.error(trained).sum()
        for stiffness in STIFFNESS:
            tried = fit(trained, fitted, stiffness)
            error = held.error(tried).sum()
            if error < least:
                best, least = tried, error
        nearest = self._nearest(best)
        error = held.error(self._matrix(nearest.dequantize())).sum()
        if error <= least * WORTH_ROUNDING:
            return nearest
        together = self._together(best, nearest, fitted)
        other = held.error(self._matrix(together.dequantize())).sum()
        return together if other < error else nearest

    def _nearest(self, matrix: Array) -> QuantizedTensor:
        rows = self._known_rows()
        weights = rows.weights(matrix, self._weights.shape).astype(np.float32)
        return quantize_weights(
            self._node,
            weights,
            self._schemes.weights,
            per_channel=self._schemes.per_channel,
        )

    def _together(
        self, matrix: Array, nearest: QuantizedTensor, seen: Moments
    ) -> QuantizedTensor:
        values, scheme = nearest.values, nearest.scheme

        def by_output(parameter: Array) -> Array:
            wide = np.broadcast_to(
                along_axis(parameter, values, scheme.axis), values.shape
            )
            return self._matrix(wide)[:, :, :1]

        scale, zero = by_output(nearest.scale), by_output(nearest.zero_point)
        low, high = (scheme.qmin - zero)[:, :, 0], (scheme.qmax - zero)[:, :, 0]
        steps = round_together(matrix / scale, seen.gram, low, high)
        codes = self._known_rows().weights(steps + zero, values.shape)
        return replace(nearest, values=codes.astype(values.dtype))

    def _matrix(self, weights: Array) -> Array:
        return self._known_rows().matrix(weights.astype(np.float64))

    def _known_rows(self) -> LayerRows:
        if self._rows is None:
            raise ValueError(f"{self._node.name} was not looked at")
        return self._rows

    def _bias_rows(self, rows: LayerRows) -> Array:
        bias = np.zeros(1, np.float32) if self._bias is None else self._bias
        return (
            bias.reshape(1, 1, -1)
            if bias.size == 1
            else bias.reshape(rows.groups, 1, -1)
        )

    def _rounded(self, rows: Array) -> Array:
        """What the codes of the layer's input stand for."""
        scheme: Scheme = self._schemes.activations
        zero = np.float32(self._zero)
        steps = np.rint(rows / self._scale)
        np.clip(steps, scheme.qmin - zero, scheme.qmax - zero, out=steps)
        return np.asarray(np.multiply(steps, self._scale, out=steps))


class _Sum:
    """Adds up moments, many samples at a time: large matrices are slow to add.

    Args:
        products: Whether products are wanted; see `Moments.of`.
    """

    def __init__(self, products: bool) -> None:  # noqa: FBT001
        self._products = products
        self._read: list[Array] = []
        self._made: list[Array] = []
        self._bytes = 0
        self._moments: Moments | None = None

    def add(self, read: Array, made: Array) -> None:
        """Take in some positions, as `Moments.of` does."""
        self._read.append(read)
        self._made.append(made)
        self._bytes += read.nbytes + made.nbytes
        if self._bytes >= _CHUNK_BYTES:
            self._flush()

    def moments(self) -> Moments | None:
        """Those of all positions; None where there were none."""
        if self._read:
            self._flush()
        return self._moments

    def _flush(self) -> None:
        more = Moments.of(
            np.concatenate(self._read, axis=1),
            np.concatenate(self._made, axis=1),
            products=self._products,
        )
        self._moments = more if self._moments is None else self._moments + more
        self._read, self._made, self._bytes = [], [], 0


def _spread(positions: int, index: int) -> Array:
    """Positions to look at, evenly spread, others from sample to sample."""
    count = min(positions, MOST_POSITIONS)
    stride = positions // count
    return np.asarray(
        (index % stride + np.arange(count) * positions // count) % positions
    )
