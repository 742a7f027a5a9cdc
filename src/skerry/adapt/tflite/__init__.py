"""TFLite in and out: files of LiteRT as ONNX graphs, and ONNX graphs as such files."""

from skerry.adapt.tflite.fuse import fuse_pairs
from skerry.adapt.tflite.reader import operator_codes, read_tflite_graph
from skerry.adapt.tflite.writer import count_floats, write_tflite

__all__ = [
    "count_floats",
    "fuse_pairs",
    "operator_codes",
    "read_tflite_graph",
    "write_tflite",
]
