"""TFLite in and out: files of LiteRT as ONNX graphs, and ONNX graphs as such files."""

from skerry.adapt.tflite.reader import read_tflite_graph

__all__ = ["read_tflite_graph"]
