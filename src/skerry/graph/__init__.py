"""The model graph: read, write, infer shapes, count, match and edit."""

from skerry.graph._onnx import Node, Value, make_initializer, make_node, make_value
from skerry.graph.files import open_model, parse_graph, read_graph, write_graph
from skerry.graph.model_graph import Graph
from skerry.graph.shapes import infer_shapes, with_static_inputs

__all__ = [
    "Graph",
    "Node",
    "Value",
    "infer_shapes",
    "make_initializer",
    "make_node",
    "make_value",
    "open_model",
    "parse_graph",
    "read_graph",
    "with_static_inputs",
    "write_graph",
]
