"""Scales for what quantizers leave in float."""

from __future__ import annotations

from skerry.adapt.tflite import count_floats, write_tflite
from skerry.adapt.tflite.complete import insert_pair, unscaled, with_scales
from tests.tflite import float_graph


def test_results_of_codes_are_found_in_order() -> None:
    """Behind what is fused; and none where floats go in."""
    graph = float_graph(
        """net (float[1, 4, 9, 9] x, float[1, 4, 9, 9] z) => (float[] y, float[] u) {
            a = HardSwish(x) b = Add(a, x) r = Relu(b) y = Softmax<axis=3>(r)
            u = Add(r, z)
        }"""
    )
    insert_pair(graph, graph.value("x"), 0.125, 3)
    assert unscaled(graph) == ("a", "r", "y")
    scaled = with_scales(graph, dict.fromkeys(("a", "r", "y"), (-1.0, 3.0)))
    assert unscaled(scaled) == ()
    integers, floats = count_floats(write_tflite(scaled, keep_layout=True))
    assert (integers, len(floats)) == (3, 2)
    assert graph.nodes != scaled.nodes


def test_blocks_carry_scales_along() -> None:
    """DepthToSpace moves codes: what is computed behind it needs a scale too."""
    graph = float_graph(
        """net (float[1, 4, 4, 4] x) => (float[] y) {
            a = HardSwish(x) b = DepthToSpace<blocksize=2>(a) y = HardSwish(b)
        }"""
    )
    insert_pair(graph, graph.value("x"), 0.125, 3)
    assert unscaled(graph) == ("a", "y")
    scaled = with_scales(graph, dict.fromkeys(("a", "y"), (-1.0, 3.0)))
    _, floats = count_floats(write_tflite(scaled))
    assert floats == ()


def test_softmax_has_the_scale_of_its_kernel() -> None:
    """1/256, whatever the samples showed."""
    graph = float_graph(
        "net (float[1, 4] x) => (float[1, 4] y) { y = Softmax<axis=1>(x) }"
    )
    insert_pair(graph, graph.value("x"), 0.125, 3)
    scaled = with_scales(graph, {"y": (0.0, 0.4)})
    (quantize,) = [
        node
        for node in scaled.nodes
        if node.op_type == "QuantizeLinear" and node.inputs[0] is not scaled.value("x")
    ]
    scale, zero_point = (scaled.constant(value) for value in quantize.inputs[1:])
    assert (scale, zero_point) == (1 / 256, -128)
