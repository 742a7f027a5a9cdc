"""Take out pairs inside what TFLite computes as one operator.

Quantizers for CPUs round a sum before its Relu, and a product before its bias is added,
as their runtimes do. TFLite's kernels do both before they round once: without the inner
pair the result is nearer to the float net's, and there is one operator fewer.
"""

from __future__ import annotations

from skerry.adapt.tflite.pairs import (
    FUSING,
    behind_activation,
    constant_of,
    sole_reader,
    written_quantization,
)
from skerry.graph import Graph, Node, Value, dims, remove_dead


def fuse_pairs(graph: Graph) -> Graph:
    """Return a copy of a QDQ graph without the pairs inside single operators."""
    fused = graph.copy()
    for node in fused.nodes:
        if node.op_type in ("Clip", "Relu"):
            _fuse(fused, node, 0, FUSING)
        elif node.op_type == "Add":
            for place in (0, 1):
                if _is_bias(fused, node, 1 - place):
                    _fuse(fused, node, place, frozenset({"MatMul"}))
    return remove_dead(fused)


def _fuse(graph: Graph, node: Node, place: int, op_types: frozenset[str]) -> None:
    """Let a node read what a pair before it reads, if nothing else reads the pair."""
    source = _before_pair(node.inputs[place])
    producer = None if source is None else source.producer()
    if source is None or producer is None or producer.op_type not in op_types:
        return
    if producer.op_type == "MatMul":
        # A product of two activations has no operator that adds to it.
        weights = constant_of(graph, producer.inputs[1])
        if weights is None or weights.array.ndim != 2:
            return
    result = behind_activation(node.outputs[0])
    if written_quantization(graph, result) is not None:
        node.replace_input_with(place, source)


def _before_pair(value: Value | None) -> Value | None:
    """What stands before a pair that is read once; None where there is none."""
    dequantize = None if value is None else value.producer()
    if value is None or dequantize is None or sole_reader(value) is None:
        return None
    codes = dequantize.inputs[0]
    quantize = None if codes is None else codes.producer()
    is_pair = (
        dequantize.op_type == "DequantizeLinear"
        and quantize is not None
        and quantize.op_type == "QuantizeLinear"
    )
    if not is_pair or codes is None or quantize is None or sole_reader(codes) is None:
        return None
    source = quantize.inputs[0]
    return source if source is not None and sole_reader(source) is not None else None


def _is_bias(graph: Graph, node: Node, place: int) -> bool:
    """Whether an operand is a constant, one number for each place of the last axis."""
    found = constant_of(graph, node.inputs[place])
    sizes = dims(node.outputs[0])
    return (
        found is not None
        and bool(sizes)
        and sizes is not None
        and found.array.ndim > 0
        and found.array.size == found.array.shape[-1] == sizes[-1]
    )
