from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import ModelError
from skerry.graph import (
    GraphCost,
    count,
    infer_shapes,
    parse_graph,
    with_static_inputs,
)
from tests import models


def cost_of(text: str, weights: models.Weights | None = None) -> GraphCost:
    """Count what a model in text form costs."""
    return count(infer_shapes(parse_graph(models.model_bytes(text, weights))))


def test_hand_counted_net() -> None:
    """The convolutional net costs what paper and pencil say."""
    cost = count(infer_shapes(parse_graph(models.conv_net())))
    macs = {node.name: node.macs for node in cost.nodes if node.macs}
    assert macs == {
        "stem": 8 * 8 * 8 * 3 * 3 * 3,
        "depth": 8 * 8 * 8 * 1 * 3 * 3,
        "point": 16 * 8 * 8 * 8,
        "logits": 4 * 16,
    }
    assert cost.macs == sum(macs.values())
    assert cost.weight_bytes == 4 * (
        8 * 3 * 9 + 8 * 4 + 8 * 9 + 8 + 8 * 4 + 16 * 8 + 16 + 4 * 16 + 4 + 3
    )
    # While the point convolution runs: what it reads, 8·8·8, and makes, 16·8·8. Twice
    # that makes the Relu after it.
    assert cost.peak_activation_bytes == 4 * 2 * 16 * 8 * 8
    stem = cost.nodes[0]
    assert (stem.name, stem.op_type) == ("stem", "Conv")
    assert stem.weight_bytes == 4 * 8 * 3 * 9
    assert stem.input_bytes == 4 * 3 * 16 * 16
    assert stem.output_bytes == 4 * 8 * 8 * 8


@pytest.mark.parametrize(
    ("text", "shapes", "macs"),
    [
        # MatMul, batched and broadcast: 2·5·7 results of 3 products each.
        ("(float[2, 5, 3] x) => (float[a, b, c] y) {y = MatMul(x, w)}", (3, 7), 210),
        # A vector times a matrix.
        ("(float[3] x) => (float[c] y) {y = MatMul(x, w)}", (3, 7), 21),
        # Gemm on a transposed input: 5·7 results of 3 products each.
        (
            "(float[3, 5] x) => (float[a, b] y) {y = Gemm<transA = 1>(x, w)}",
            (3, 7),
            105,
        ),
        # Each of 4·5·5 inputs meets 2 output channels of 3·3.
        (
            "(float[1,4,5,5] x) => (float[a,b,c,d] y) {y=ConvTranspose<group=2>(x,w)}",
            (4, 2, 3, 3),
            4 * 25 * 2 * 9,
        ),
        # Two groups: 6·3·3 results of 2·3·3 products each.
        (
            "(float[1,4,5,5] x) => (float[a,b,c,d] y) {y = Conv<group=2>(x,w)}",
            (6, 2, 3, 3),
            6 * 9 * 2 * 9,
        ),
        ("(float[2, 3] x) => (float[a, b] y) {y = Add(x, w)}", (3,), 0),
    ],
)
def test_macs(text: str, shapes: tuple[int, ...], macs: int) -> None:
    """Each operator that multiplies and accumulates is counted by its own rule."""
    assert cost_of("net " + text, {"w": np.ones(shapes, np.float32)}).macs == macs


def test_liveness() -> None:
    """A value that is read late stays; one that is not read any more goes."""
    cost = cost_of(
        """net (float[10] x) => (float[10] y) {
          a = Relu(x)
          b = Concat<axis = 0>(a, a, a)
          c = ReduceMax<keepdims = 1>(b)
          y = Add(a, c)
        }"""
    )
    # Relu: x, a. Concat: a, b (30). ReduceMax: a, b, c (1). Add: a, c, y.
    assert cost.peak_activation_bytes == 4 * (10 + 30 + 1)


def test_inputs_and_outputs_are_counted() -> None:
    """An input lives until its last reader, an output from its maker to the end."""
    cost = cost_of(
        """net (float[10] x, float[20] z) => (float[10] y, float[20] v) {
          y = Relu(x)
          a = Relu(z)
          v = Relu(a)
        }"""
    )
    # First: x, z, y. Second: z, a and y, which stays. Third: a, v, y.
    assert cost.peak_activation_bytes == 4 * (10 + 20 + 20)


def test_views_take_no_memory() -> None:
    """A chain of reshapes holds one tensor, as long as any of them is read."""
    cost = cost_of(
        """net (float[2, 6] x) => (float[12] y) <int64[1] flat = {12}> {
          a = Relu(x)
          b = Flatten(a)
          c = Reshape(b, flat)
          y = Relu(c)
        }"""
    )
    assert cost.peak_activation_bytes == 4 * 2 * 12


def test_quantized_graphs_hold_integers() -> None:
    """Activations between QuantizeLinear and DequantizeLinear count one byte each."""
    cost = cost_of(
        """net (float[1, 100] x) => (float[a, b] y)
        <float scale = {0.1}, int8 zero = {0}> {
          xq = QuantizeLinear(x, scale, zero)
          xd = DequantizeLinear(xq, scale, zero)
          wd = DequantizeLinear(w, scale, zero)
          a = MatMul(xd, wd)
          aq = QuantizeLinear(a, scale, zero)
          ad = DequantizeLinear(aq, scale, zero)
          b = Relu(ad)
          bq = QuantizeLinear(b, scale, zero)
          y = DequantizeLinear(bq, scale, zero)
        }""",
        {"w": np.ones((100, 50), np.int8)},
    )
    # The float input and its integer form are the most; the rest is 100 + 50 bytes.
    assert cost.peak_activation_bytes == 400 + 100
    assert cost.weight_bytes == 5000 + 4 + 1
    assert cost.nodes[-1].op_type == "DequantizeLinear"
    product = next(node for node in cost.nodes if node.op_type == "MatMul")
    assert product.weight_bytes == 5000 + 4 + 1
    assert product.macs == 5000


def test_shared_weights_are_counted_once() -> None:
    """Two readers of a weight each count it; the total has it once."""
    cost = cost_of(
        "net (float[3] x) => (float[3] y) {a = Add(x, w) y = Mul(a, w)}",
        {"w": np.ones(3, np.float32)},
    )
    assert [node.weight_bytes for node in cost.nodes] == [12, 12]
    assert cost.weight_bytes == 12


def test_constant_nodes_are_weights() -> None:
    """A Constant node costs its bytes as a weight and is no node that runs."""
    cost = cost_of(
        """net (float[2] x) => (float[2] y) {
          c = Constant<value_floats = [1.0, 2.0]>()
          y = Add(x, c)
        }"""
    )
    assert [node.op_type for node in cost.nodes] == ["Add"]
    assert cost.weight_bytes == 8
    assert cost.peak_activation_bytes == 16


def test_what_a_branch_reads_stays_alive() -> None:
    """A value read inside an If lives until the If has run."""
    cost = cost_of(
        """net (bool flag, float[100] x) => (float[1] y) {
          a = Relu(x)
          s = ReduceMax<keepdims = 1>(a)
          y = If(flag) <
            then_branch = yes () => (float[1] t) { t = ReduceSum<keepdims = 1>(a) },
            else_branch = no () => (float[1] e) { e = Relu(s) }
          >
        }"""
    )
    # Relu: flag (1 byte, for the If), x and a.
    assert cost.peak_activation_bytes == 1 + 400 + 400
    assert [node.op_type for node in cost.nodes] == ["Relu", "ReduceMax", "If"]


def test_unknown_shapes() -> None:
    """Without static shapes the first open tensor is named, and what to give."""
    graph = parse_graph(models.dynamic_net())
    with pytest.raises(
        ModelError, match=r"shape of the tensor '.*' of .* is unknown"
    ) as caught:
        count(graph)
    assert caught.value.hint == "Give the inputs static shapes: x=?×3×?×?."
    count(infer_shapes(with_static_inputs(graph, {"x": (1, 3, 8, 8)})))


def test_shapes_that_were_not_inferred() -> None:
    """With static inputs but no inference, the hint is to infer."""
    with pytest.raises(ModelError) as caught:
        count(parse_graph(models.conv_net()))
    assert caught.value.hint.startswith("Infer the shapes first")
