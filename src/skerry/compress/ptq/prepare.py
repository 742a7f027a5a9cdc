"""Bring any float model into the form that quantization works on, or refuse it."""

from __future__ import annotations

import numpy as np

from skerry.compress.ptq.operators import Role, quantizable, role
from skerry.core.errors import ModelError
from skerry.graph import (
    Graph,
    constants_to_initializers,
    dtype_name,
    fold_affine,
    fold_batch_norm,
    fold_constants,
    infer_shapes,
    name_all_nodes,
    upgrade_opset,
)

QDQ_OPSET = 17
"""Pairs per channel need opset 13; 17 is what every runtime of today reads."""

_QUANTIZED_ALREADY = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)


def prepare(graph: Graph) -> Graph:
    """Bring a float graph into the form that quantization works on.

    Nodes are named, constants are initializers, batch normalization and other scaling
    are folded into convolutions (Jacob et al. 2018, section 3.2), value types are
    known.

    Args:
        graph: Any float graph; it is left as it was.

    Raises:
        ModelError: It cannot be brought to the opset that quantization needs, is
            quantized already, has no weights to quantize, or has NaN among them.
    """
    check_float(graph)
    ready = simplify(graph)
    _check_weights(ready)
    return ready


def simplify(graph: Graph) -> Graph:
    """Bring a graph into the form that steps work on, whatever is in it.

    Raises:
        ModelError: It cannot be brought to the opset that quantization needs.
    """
    ready = upgrade_opset(graph, QDQ_OPSET)
    ready = constants_to_initializers(ready)
    ready = fold_constants(ready)
    folded = name_all_nodes(fold_affine(fold_batch_norm(ready)))
    # Folding constants infers shapes too: only what was folded since may lack some.
    is_unchanged = len(folded.nodes) == len(ready.nodes)
    return folded if is_unchanged else infer_shapes(folded)


def check_float(graph: Graph) -> None:
    """Refuse a graph that is quantized already.

    Raises:
        ModelError: It is.
    """
    found = [node for node in graph.all_nodes if node.op_type in _QUANTIZED_ALREADY]
    if found:
        raise ModelError(
            f"{graph.name} is quantized already: it has {len(found)} operators such as "
            f"the {found[0].op_type} node {found[0].name!r}",
            hint="Give the float model that it was made from.",
        )


def _check_weights(graph: Graph) -> None:
    """Refuse what leaves nothing to do, or has weights that no scale fits."""
    nodes = quantizable(graph, "weights")
    if not nodes:
        layers = [node for node in graph.nodes if role(node) is Role.WEIGHTS]
        dtypes = {dtype_name(node.outputs[0]) or "unknown" for node in layers}
        other = ", ".join(sorted(dtypes - {"float32"}))
        found = f"; its {len(layers)} layers compute in {other}" if other else ""
        names = {node.name for node in graph.nodes}
        if any(
            role(node) is Role.WEIGHTS and node.name not in names
            for node in graph.all_nodes
        ):
            found += "; those inside If, Loop and Scan stay float"
        raise ModelError(
            f"{graph.name} has nothing to quantize: no Conv, Gemm or MatMul with "
            f"constant float32 weights{found}",
            hint="Export it again in float32."
            if other
            else "Give a model whose layers have weights of their own.",
        )
    for node in (one for one in graph.nodes if role(one) is Role.WEIGHTS):
        for value in filter(None, node.inputs):
            array = graph.constant(value)
            if array is not None and not np.isfinite(array).all():
                raise ModelError(
                    f"{graph.name}: the tensor {value.name!r} of the {node.op_type} "
                    f"node {node.name!r} holds NaN or infinity",
                    hint="Train or export the model again.",
                )
