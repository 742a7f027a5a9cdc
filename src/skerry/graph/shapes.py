"""Shapes: give the inputs theirs, and find those of everything else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from skerry.core.errors import DataError, ModelError
from skerry.core.model import TensorSpec
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.graph import _onnx
from skerry.graph._onnx import Node, Value, attribute
from skerry.graph.model_graph import Graph

_NOT_FOLDED = frozenset(
    {
        "Bernoulli",
        "Constant",
        "DequantizeLinear",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Random ones, and those that say how a constant is kept: folding would undo it."""

_MAX_ROUNDS = 64
"""Real models need a handful; this bounds the time that a hostile one can take."""


def with_static_inputs(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """Return a copy whose inputs have these shapes.

    A symbol of the model (such as `"batch"`) that gets a size has it everywhere.

    Args:
        graph: The model's graph; left as it was.
        shapes: Shapes by input name; inputs left out keep theirs.

    Raises:
        DataError: There is no such input, or the shape does not fit it.
    """
    specs = {spec.name: spec for spec in graph.inputs}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in specs:
            raise DataError(
                f"{graph.name} has no input {name!r}", hint=did_you_mean(name, specs)
            )
        _check_fit(specs[name], shape, sizes)
    static = graph.copy()
    for value in static.values():
        _bind_symbols(value, sizes)
    for value in static.input_values:
        if value.name is not None and value.name in shapes:
            _onnx.set_dims(value, shapes[value.name])
    return static


def infer_shapes(graph: Graph, *, max_folded_bytes: int = 4096) -> Graph:
    """Return a copy in which each tensor has the shape that can be known for it.

    ONNX shape inference, then all nodes whose result is thereby a small constant (a
    `Shape` of what is static, and what is computed from it) become initializers, which
    lets inference see further; again until nothing changes. What nothing reads any
    more is removed.

    Args:
        graph: The model's graph; left as it was.
        max_folded_bytes: No node with a larger result becomes an initializer.

    Raises:
        ModelError: An operator's inputs do not fit it.
    """
    inferred = graph.copy()
    for _ in range(_MAX_ROUNDS):
        _onnx.infer_value_shapes(inferred.ir, inferred.name)
        if not _fold(inferred, max_folded_bytes):
            break
        _onnx.remove_unused(inferred.ir)
    return inferred


def forget_shapes(graph: Graph) -> None:
    """Forget the shapes of what nodes make, in place; those of outputs stay.

    What reads weights of another shape now makes something of another shape too.
    """
    for node in graph.nodes:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None


def _check_fit(spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    got = "×".join(str(size) for size in shape)
    if not spec.accepts(shape) or min(shape, default=1) < 1:
        raise DataError(
            f"the shape {got} does not fit the input: expected {spec}",
            hint="Give one positive size for each dimension, the fixed ones unchanged.",
        )
    for symbol, size in zip(spec.shape, shape, strict=True):
        if isinstance(symbol, str) and sizes.setdefault(symbol, size) != size:
            raise DataError(
                f"the shape {got} gives {symbol!r} the size {size}, but another input "
                f"or dimension gives it {sizes[symbol]}",
                hint=f"Give {symbol!r} one size everywhere: {spec}.",
            )


def _bind_symbols(value: Value, sizes: Mapping[str, int]) -> None:
    dims = _onnx.dims(value)
    if dims is not None and any(size in sizes for size in dims):
        bound = [
            sizes.get(size, size) if isinstance(size, str) else size for size in dims
        ]
        _onnx.set_dims(value, bound)


def _fold(graph: Graph, max_bytes: int) -> int:
    """Turn nodes with a constant result into initializers; returns how many."""
    folded = 0
    for node in graph.nodes:
        if any(value.is_graph_output() for value in node.outputs):
            continue
        arrays = _constant_results(graph, node, max_bytes)
        if arrays is None:
            continue
        for value, array in zip(node.outputs, arrays, strict=True):
            constant = _onnx.make_initializer(array, value.name or "")
            value.replace_all_uses_with(constant)
            graph.add_initializer(constant)
        graph.ir.graph.remove(node, safe=True)
        folded += 1
    return folded


def _constant_results(graph: Graph, node: Node, max_bytes: int) -> list[Array] | None:
    if node.domain != "" or node.op_type in _NOT_FOLDED or any(_onnx.subgraphs(node)):
        return None
    sizes = [_onnx.size_bytes(value) for value in node.outputs]
    if any(size is None or size > max_bytes for size in sizes):
        return None
    if node.op_type in {"Shape", "Size"}:
        return _shape_result(node)
    inputs: dict[str, Array] = {}
    for value in node.inputs:
        if value is None:
            continue
        array = graph.constant(value)
        if array is None:
            return None
        inputs[value.name or ""] = array
    try:
        arrays = _onnx.evaluate(node, inputs, graph.opset)
    except ModelError:
        # The node stays as it is; runtimes know more operators than the reference.
        return None
    names = [_onnx.dtype_name(value) for value in node.outputs]
    return arrays if [array.dtype.name for array in arrays] == names else None


def _shape_result(node: Node) -> list[Array] | None:
    value = node.inputs[0]
    dims = None if value is None else _onnx.dims(value)
    if dims is None or not all(isinstance(size, int) for size in dims):
        return None
    sizes = [size for size in dims if isinstance(size, int)]
    if node.op_type == "Size":
        return [np.asarray(math.prod(sizes), dtype=np.int64)]
    start, end = attribute(node, "start", 0), attribute(node, "end", len(sizes))
    return [np.asarray(sizes[start:end], dtype=np.int64)]
