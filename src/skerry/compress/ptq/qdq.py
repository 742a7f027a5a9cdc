"""Write a plan into a graph as QuantizeLinear and DequantizeLinear pairs.

The format (QDQ) is the one that onnxruntime, OpenVINO and TensorRT fuse into integer
kernels: each quantized value passes through a pair, weights are stored as integers
behind a DequantizeLinear (INT8 a byte each, INT4
two a byte), biases as int32 with the scale of the sum they are added to
(ONNX operator specification; Jacob et al. 2018, section 2.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from skerry.compress.numbers.ranges import Range, scale_and_zero_point
from skerry.compress.numbers.schemes import (
    BYTE_BITS,
    INT8_WEIGHTS,
    PACKED_BITS,
    UINT8_ACTIVATIONS,
    Scheme,
)
from skerry.compress.numbers.tensors import QuantizedTensor, quantize_tensor
from skerry.compress.ptq.operators import Role, operands, role, weight
from skerry.compress.ptq.plan import Plan
from skerry.compress.ptq.weight_ranges import quantize_rows, quantize_weights
from skerry.core.errors import ModelError
from skerry.core.seams import Array
from skerry.graph import (
    Graph,
    Node,
    Value,
    attribute,
    constants_to_initializers,
    infer_shapes,
    make_initializer,
    make_node,
    name_all_nodes,
    place_after,
    remove_dead,
    upgrade_opset,
)

_INT32 = np.iinfo(np.int32)
_LARGEST_BIAS = 2.0**30
"""Half of what fits: sums are added to it."""
_LEAST_SUM = 1e-28
"""Smaller biases are taken for this: the scale of a sum must be a normal float."""

WIDE_OPSET = 21
"""Here QuantizeLinear and DequantizeLinear learnt 16 and 4 bits; before it, they are
operators of onnxruntime's own domain, which OpenVINO reads as well."""

_OWN_DOMAIN = "com.microsoft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schemes:
    """How the three kinds of tensor are quantized.

    Attributes:
        weights: Axis is set per node; `per_channel` says whether it is used.
        activations: One scale a tensor.
        per_channel: Whether weights have one scale an output channel.
        weight_block: Over how many inputs in a row weights of matrix products share a
            scale; 0 for all of a channel.
    """

    weights: Scheme = INT8_WEIGHTS
    activations: Scheme = UINT8_ACTIVATIONS
    per_channel: bool = True
    weight_block: int = 0

    @property
    def needs_wide_opset(self) -> bool:
        """Whether there are codes of 16 or 4 bits."""
        return self.weights.bits != BYTE_BITS or self.activations.bits != BYTE_BITS


DEFAULT_SCHEMES = Schemes()


def raise_opset(graph: Graph, schemes: Schemes) -> Graph:
    """Return the graph in an opset that has codes of these widths, where that works.

    Where an operator cannot be converted it is returned as it was: `insert_qdq` then
    writes the operators of onnxruntime's domain.

    Args:
        graph: Its nodes are named; those names stay.
        schemes: What will be written into it.
    """
    if not schemes.needs_wide_opset or graph.opset >= WIDE_OPSET:
        return graph
    try:
        raised = constants_to_initializers(upgrade_opset(graph, WIDE_OPSET))
        return infer_shapes(name_all_nodes(raised))
    except ModelError:
        return graph


def insert_qdq(
    graph: Graph,
    plan: Plan,
    ranges: Mapping[str, Range],
    schemes: Schemes = DEFAULT_SCHEMES,
    codes: Mapping[str, QuantizedTensor] = MappingProxyType({}),
) -> Graph:
    """Quantize a graph by a plan.

    Args:
        graph: The graph that the plan was made for; it is left as it was.
        plan: What to quantize.
        ranges: Range by name of value, for each value of the plan.
        schemes: How.
        codes: Weights by name of node that were rounded already, whatever `schemes`
            says; all others are rounded to the nearest.

    Returns:
        A graph of the same signature and opset; codes of 16 or 4 bits want opset 21,
        see `raise_opset`.

    Raises:
        DataError: Weights are NaN or infinite.
    """
    writer = _Writer(graph.copy(), plan, ranges, schemes, codes)
    writer.quantize_weights()
    writer.quantize_activations()
    return remove_dead(writer.graph)


class _Writer:
    """Holds the graph being written and what was made for it so far."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        ranges: Mapping[str, Range],
        schemes: Schemes,
        codes: Mapping[str, QuantizedTensor],
    ) -> None:
        self.graph = graph
        self._plan = plan
        self._ranges = ranges
        self._schemes = schemes
        self._codes = codes
        self._quantized = frozenset(plan.nodes)
        added = frozenset(plan.biases.values())
        self._added = {
            str(node.name): node for node in graph.nodes if node.name in added
        }
        self._parameters: dict[str, tuple[Value, Value]] = {}
        self._shared: dict[tuple[str, str], Value] = {}
        self._domain = ""
        if schemes.needs_wide_opset and graph.opset < WIDE_OPSET:
            self._domain = _OWN_DOMAIN
            graph.import_domain(_OWN_DOMAIN, 1)

    def quantize_weights(self) -> None:
        """Put integer weights, biases and constant operands before their nodes."""
        for node in list(self.graph.nodes):
            if node.name not in self._quantized:
                continue
            if role(node) is Role.WEIGHTS:
                self._weights_of(node)
            elif role(node) is Role.ARITHMETIC and node.name not in self._added:
                self._operands_of(node)

    def quantize_activations(self) -> None:
        """Pass each planned value through a pair, for those who read it so."""
        for name, source in {**self._plan.reads, **self._plan.writes}.items():
            value = self.graph.value(name)
            uses = [
                use
                for use in value.uses()
                if name in self._plan.writes or self._computes_with(use.node, use.idx)
            ]
            pair = self._pair(value, source)
            for use in uses:
                use.node.replace_input_with(use.idx, pair)

    def _computes_with(self, node: Node, index: int) -> bool:
        """Whether a node of the plan takes its input of this index as an operand."""
        return node.name in self._quantized and index < len(operands(node))

    def _weights_of(self, node: Node) -> None:
        value = weight(self.graph, node)
        if value is None:
            self._operands_of(node)
            return
        blocks = self._blocks(node, value)
        if blocks is not None:
            node.replace_input_with(1, blocks)
            return
        codes = self._codes.get(node.name or "")
        # Codes made for one node serve it alone, others may share what it reads.
        sharing = "" if codes is None else f" of {node.name}"
        if codes is None:
            codes = quantize_weights(
                node,
                self._constant(value),
                self._schemes.weights,
                per_channel=self._schemes.per_channel,
            )
        fitting = self._fitting_bias(node, codes)
        if fitting is not codes:
            codes, sharing = fitting, f" of {node.name}"
        axis = codes.scheme.axis
        key = (str(value.name), f"weights axis {axis}{sharing}")
        if key not in self._shared:
            self._shared[key] = self._dequantized(
                f"{value.name}.{'tensor' if axis is None else axis}",
                codes.values,
                codes.scale,
                codes.zero_point,
                axis,
                bits=codes.scheme.bits,
            )
        node.replace_input_with(1, self._shared[key])
        add = self._added.get(self._plan.biases.get(node.name or "", ""))
        if add is not None:
            index = int(add.inputs[0] is node.outputs[0])
            self._bias_of(node, add, index, codes.scale)
        elif len(node.inputs) > 2:
            self._bias_of(node, node, 2, codes.scale)

    def _blocks(self, node: Node, value: Value) -> Value | None:
        """Store the weights of a product with a scale a block; None where not.

        Blocked quantization of DequantizeLinear, opset 21. The bias stays float: its
        scale would be one a block too.
        """
        block, weights = self._schemes.weight_block, self._constant(value)
        axis = int(node.op_type == "Gemm" and bool(attribute(node, "transB", 0)))
        is_product = node.op_type in ("Gemm", "MatMul") and weights.ndim == 2
        # A short block at the end is not what all runtimes take.
        if not (block and is_product) or self._domain or weights.shape[axis] % block:
            return None
        key = (str(value.name), f"blocks axis {axis}")
        if key not in self._shared:
            rows = np.moveaxis(weights, axis, 1)
            scheme = replace(self._schemes.weights, axis=0)
            codes = quantize_rows(rows.reshape(-1, block), scheme)
            shape = (len(rows), -1)
            self._shared[key] = self._dequantized(
                f"{value.name}.blocks",
                np.moveaxis(codes.values.reshape(rows.shape), 1, axis),
                np.moveaxis(codes.scale.reshape(shape), 1, axis),
                np.moveaxis(codes.zero_point.reshape(shape), 1, axis),
                axis,
                bits=scheme.bits,
                block=block,
            )
        return self._shared[key]

    def _fitting_bias(self, node: Node, codes: QuantizedTensor) -> QuantizedTensor:
        """Codes of a scale with which the bias fits into int32.

        A channel that training has switched off has next to no weights, and a bias.
        Its scale would be so fine that the bias overflows: onnxruntime quantizes it
        all the same.
        """
        bias = self.graph.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        source = node.inputs[0]
        if bias is None or source is None or bias.ndim != 1:
            return codes
        if codes.zero_point.any() or not np.isfinite(bias).all():
            return codes
        largest = np.maximum(np.abs(bias.astype(np.float64)), _LEAST_SUM)
        needed = largest / self._input_scale(source) / _LARGEST_BIAS
        if codes.scheme.axis is None or needed.size != codes.scale.size:
            needed = needed.max()
        if (codes.scale >= needed).all():
            return codes
        high = np.maximum(codes.scale, needed).astype(np.float32) * codes.scheme.qmax
        floats = codes.dequantize()
        return quantize_tensor(floats, codes.scheme, Range(low=-high, high=high))

    def _bias_of(
        self, node: Node, holder: Node, index: int, weight_scale: Array
    ) -> None:
        """Store the bias as int32, unless it is no vector or would not fit."""
        bias = self.graph.constant(holder.inputs[index])
        source = node.inputs[0]
        scaled_alike = node.op_type != "Gemm" or (
            attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
        )
        if bias is None or bias.ndim != 1 or source is None or not scaled_alike:
            return
        scale = np.asarray(self._input_scale(source) * weight_scale)
        if scale.min() <= np.finfo(np.float32).tiny:
            return
        codes = np.rint(bias.astype(np.float64) / scale)
        if not np.abs(codes).max() <= _INT32.max:
            return
        stored = self._dequantized(
            f"{node.name}.bias",
            codes.astype(np.int32),
            scale.astype(np.float32),
            np.zeros(scale.shape, np.int32),
            0 if scale.ndim else None,
            bits=_INT32.bits,
        )
        holder.replace_input_with(index, stored)

    def _operands_of(self, node: Node) -> None:
        """Quantize the constant float operands of arithmetic (`Add`, `Mul`, …).

        Of matrix products too, where the constant is on the left: there runtimes take
        the codes of activations alone.
        """
        for index, value in enumerate(operands(node)):
            constant = None if value is None else self.graph.constant(value)
            if value is None or constant is None or not _has_range(constant):
                continue
            key = (str(value.name), "operand")
            if key not in self._shared:
                codes = quantize_tensor(constant, self._constant_scheme)
                self._shared[key] = self._dequantized(
                    f"{value.name}.operand",
                    codes.values,
                    codes.scale,
                    codes.zero_point,
                    None,
                    bits=codes.scheme.bits,
                )
            node.replace_input_with(index, self._shared[key])

    @property
    def _constant_scheme(self) -> Scheme:
        """How constant operands are quantized: a handful is no distribution."""
        scheme = self._schemes.activations
        return (
            replace(scheme, method="minmax") if scheme.method == "entropy" else scheme
        )

    def _constant(self, value: Value) -> Array:
        constant = self.graph.constant(value)
        if constant is None:
            raise ValueError(f"{value.name} is not a constant")
        return constant

    def _input_scale(self, value: Value) -> Array:
        name = str(value.name)
        source = self._plan.writes.get(name) or self._plan.reads[name]
        return scale_and_zero_point(self._ranges[source], self._schemes.activations)[0]

    def _pair(self, value: Value, source: str) -> Value:
        if source not in self._parameters:
            scale, zero_point = scale_and_zero_point(
                self._ranges[source], self._schemes.activations
            )
            self._parameters[source] = (
                self._constant_value(f"{source}.scale", scale),
                self._constant_value(f"{source}.zero_point", zero_point),
            )
        scale_value, zero_value = self._parameters[source]
        name = str(value.name)
        quantize = make_node(
            "QuantizeLinear",
            [value, scale_value, zero_value],
            outputs=[self.graph.unique_name(f"{name}.q")],
            name=self.graph.unique_name(f"{name}.QuantizeLinear"),
            domain=self._domain,
        )
        dequantize = make_node(
            "DequantizeLinear",
            [quantize.outputs[0], scale_value, zero_value],
            outputs=[self.graph.unique_name(f"{name}.dq")],
            name=self.graph.unique_name(f"{name}.DequantizeLinear"),
            domain=self._domain,
        )
        place_after(self.graph, value, [quantize, dequantize])
        return dequantize.outputs[0]

    def _dequantized(
        self,
        name: str,
        codes: Array,
        scale: Array,
        zero_point: Array,
        axis: int | None,
        *,
        bits: int,
        block: int = 0,
    ) -> Value:
        packed = "int4" if bits == PACKED_BITS else None
        stored = self._constant_value(f"{name}.codes", codes, packed)
        node = make_node(
            "DequantizeLinear",
            [
                stored,
                self._constant_value(f"{name}.codes.scale", scale),
                self._constant_value(f"{name}.codes.zero_point", zero_point, packed),
            ],
            ({} if axis is None else {"axis": axis})
            | ({"block_size": block} if block else {}),
            outputs=[self.graph.unique_name(f"{name}.dequantized")],
            name=self.graph.unique_name(f"{name}.DequantizeLinear"),
            domain=self._domain,
        )
        place_after(self.graph, stored, [node])
        return node.outputs[0]

    def _constant_value(
        self, name: str, array: Array, dtype: str | None = None
    ) -> Value:
        unique = self.graph.unique_name(name)
        return self.graph.add_initializer(make_initializer(array, unique, dtype))


def _has_range(constant: Array) -> bool:
    """Whether a constant has numbers, and all of them are finite floats."""
    is_float = constant.dtype == np.float32 and constant.size > 0
    return bool(is_float and np.isfinite(constant).all())
