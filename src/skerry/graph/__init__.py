"""The model graph: read, write, infer shapes, count, match and edit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from skerry.graph._onnx import (
    Node,
    Value,
    attribute,
    dims,
    dtype_code,
    dtype_name,
    is_tensor,
    make_initializer,
    make_node,
    make_value,
    places_for,
    set_dtype,
    subgraphs,
)
from skerry.graph.affine import fold_affine, fold_products
from skerry.graph.edit import (
    constants_to_initializers,
    fold_batch_norm,
    fold_constants,
    insert_after,
    name_all_nodes,
    place_after,
    remove_dead,
    replace_all_uses,
    set_attribute,
    set_constant,
    upgrade_opset,
)
from skerry.graph.files import (
    content_hash,
    graph_contents,
    open_model,
    parse_graph,
    read_graph,
    write_graph,
)
from skerry.graph.match import Match, anything, chain, constant, find, op, sole_use
from skerry.graph.model_graph import Graph
from skerry.graph.new import make_graph
from skerry.graph.shapes import forget_shapes, infer_shapes, with_static_inputs

if TYPE_CHECKING:
    from skerry.graph.cost import GraphCost, NodeCost, count, peak_activation_bytes

__all__ = [
    "Graph",
    "GraphCost",
    "Match",
    "Node",
    "NodeCost",
    "Value",
    "anything",
    "attribute",
    "chain",
    "constant",
    "constants_to_initializers",
    "content_hash",
    "count",
    "dims",
    "dtype_code",
    "dtype_name",
    "find",
    "fold_affine",
    "fold_batch_norm",
    "fold_constants",
    "fold_products",
    "forget_shapes",
    "graph_contents",
    "infer_shapes",
    "insert_after",
    "is_tensor",
    "make_graph",
    "make_initializer",
    "make_node",
    "make_value",
    "name_all_nodes",
    "op",
    "open_model",
    "parse_graph",
    "peak_activation_bytes",
    "place_after",
    "places_for",
    "read_graph",
    "remove_dead",
    "replace_all_uses",
    "set_attribute",
    "set_constant",
    "set_dtype",
    "sole_use",
    "subgraphs",
    "upgrade_opset",
    "with_static_inputs",
    "write_graph",
]


def __getattr__(name: str) -> object:
    """Import what counts the cost of a graph when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("skerry.graph.cost"), name)
