"""Pairs inside what TFLite computes as one operator."""

from __future__ import annotations

from collections import Counter

from skerry.adapt.tflite import _schema, write_tflite
from skerry.adapt.tflite.fuse import fuse_pairs
from skerry.graph import Graph, infer_shapes
from tests.tflite import float_graph, quantized

PICTURE = "net (float[1, 4, 9, 9] x) => (float[] y)"


def operators(graph: Graph) -> dict[str, int]:
    """How often a graph's file has each operator."""
    net = _schema.decode(write_tflite(graph), "net")
    return dict(Counter(operator.code for operator in net.operators))


def test_sums_take_their_relu_along() -> None:
    """With the pair between them gone, it is one operator."""
    body = "a = Conv(x, w) b = Add(a, x) r = Relu(b) y = Conv(r, w)"
    graph = quantized(float_graph(f"{PICTURE} {{ {body} }}", {"w": (4, 4, 1, 1)}))
    assert operators(graph) == {"CONV_2D": 2, "ADD": 1, "RELU": 1}
    fused = infer_shapes(fuse_pairs(graph))
    assert operators(fused) == {"CONV_2D": 2, "ADD": 1}
    assert operators(graph)["RELU"] == 1


def test_products_take_their_bias_along() -> None:
    """Where the constant is added to the last dimension, on either side."""
    for add in ("Add(m, b)", "Add(b, m)"):
        body = f"g = GlobalAveragePool(x) f = Flatten(g) m = MatMul(f, v) y = {add}"
        graph = quantized(
            float_graph(f"{PICTURE} {{ {body} }}", {"v": (4, 6), "b": (6,)})
        )
        fused = operators(infer_shapes(fuse_pairs(graph)))
        assert fused["FULLY_CONNECTED"] == 1
        assert "ADD" not in fused


def test_what_others_read_stays() -> None:
    """A sum that is used twice keeps its pair."""
    body = "a = Conv(x, w) b = Add(a, x) r = Relu(b) y = Add(r, b)"
    graph = quantized(float_graph(f"{PICTURE} {{ {body} }}", {"w": (4, 4, 1, 1)}))
    assert operators(infer_shapes(fuse_pairs(graph)))["RELU"] == 1
