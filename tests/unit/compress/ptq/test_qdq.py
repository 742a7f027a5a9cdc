from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from skerry.compress.numbers.ranges import Range
from skerry.compress.numbers.schemes import INT8_WEIGHTS
from skerry.compress.numbers.tensors import quantize_tensor
from skerry.compress.ptq.plan import Plan, plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.qdq import insert_qdq
from skerry.core.seams import Array
from skerry.graph import Graph, Node, parse_graph
from tests import models, running

Quantized = Callable[..., Graph]
NodeOf = Callable[[Graph, str], Node]
Stored = Callable[[Graph, Node, int], Array | None]


def scale_of(graph: Graph, node: Node, index: int) -> Array:
    """The scale of the DequantizeLinear in front of a node's input."""
    value = node.inputs[index]
    maker = None if value is None else value.producer()
    assert maker is not None
    scale = graph.constant(maker.inputs[1])
    assert scale is not None
    return scale


@pytest.mark.parametrize("operators", ["weights", "all"])
@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
def test_pairs_have_legal_types(
    build: models.Builder, operators: str, quantized: Quantized
) -> None:
    """Codes and zero points are uint8, int8 or int32, of one type; scales float32."""
    graph = quantized(build(), operators=operators)
    for node in graph.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale, zero_point = (graph.constant(value) for value in node.inputs[1:3])
        assert scale is not None
        assert zero_point is not None
        assert scale.dtype == np.float32
        assert (scale > 0).all()
        assert scale.shape == zero_point.shape
        codes = graph.constant(node.inputs[0])
        expected = np.uint8 if codes is None else codes.dtype
        assert zero_point.dtype == expected
        assert expected in (np.uint8, np.int8, np.int32)


def test_weights_are_int8_per_channel_and_biases_int32(
    quantized: Quantized, node_of: NodeOf, stored: Stored
) -> None:
    """Plain, depthwise and pointwise convolutions and Gemm transB, each on its axis."""
    graph = quantized(models.conv_net())
    for name, channels in (("stem", 8), ("depth", 8), ("point", 16), ("logits", 4)):
        node = node_of(graph, name)
        codes, bias = stored(graph, node, 1), stored(graph, node, 2)
        assert codes is not None
        assert bias is not None
        assert codes.dtype == np.int8
        assert codes.min() >= -127
        assert bias.dtype == np.int32
        weights = scale_of(graph, node, 1)
        assert weights.shape == (channels,)
        expected = scale_of(graph, node, 0) * weights
        assert np.array_equal(scale_of(graph, node, 2), expected)


@pytest.mark.parametrize(
    ("operator", "shape", "expected"),
    [
        ("Gemm(x, w)", (4, 3), (3,)),
        ("Gemm<transB = 1>(x, w)", (3, 4), (3,)),
        ("MatMul(x, w)", (4, 3), (3,)),
        ("MatMul(x, w)", (4,), ()),
        ("MatMul(x, w)", (2, 4, 3), ()),
        ("ConvTranspose(x, w)", (4, 3, 1, 1), (3,)),
        ("ConvTranspose<group = 2>(x, w)", (4, 3, 1, 1), ()),
        ("Conv<group = 4>(x, w)", (4, 1, 1, 1), (4,)),
    ],
)
def test_the_axis_of_scales(
    operator: str,
    shape: tuple[int, ...],
    expected: tuple[int, ...],
    quantized: Quantized,
) -> None:
    """Scales lie along the output channels, and are one where runtimes take but one."""
    given = "1, 4, 2, 2" if "Conv" in operator else "1, 4"
    ranks = {"Conv": 4, "Gemm": 2}.get(operator[:4], len(shape))
    out = ", ".join("abcd"[: max(1, ranks)])
    content = models.model_bytes(
        f"net (float[{given}] x) => (float[{out}] y) {{ y = {operator} }}",
        models.random_weights({"w": shape}),
    )
    graph = quantized(content)
    node = next(node for node in graph.nodes if node.name == "y")
    assert scale_of(graph, node, 1).shape == expected


def test_no_pair_between_convolution_and_relu(
    quantized: Quantized, node_of: NodeOf
) -> None:
    """The activation reads the convolution itself; what it writes is quantized."""
    graph = quantized(models.conv_net(), operators="all")
    relu = node_of(graph, "point_a")
    assert relu.inputs[0].producer() is node_of(graph, "point")
    assert [use.node.op_type for use in relu.outputs[0].uses()] == ["QuantizeLinear"]


def test_outputs_have_no_pair(quantized: Quantized) -> None:
    """What the caller gets comes from the operator itself."""
    graph = quantized(models.conv_net(), operators="all")
    assert graph.output_values[0].producer().op_type == "Softmax"


def test_what_is_kept_float_has_its_weights(
    quantized: Quantized, node_of: NodeOf
) -> None:
    """Weights, biases and results of a node kept float are the source's."""
    before = parse_graph(models.mlp())
    graph = quantized(models.mlp(), operators="all", keep_float=("hidden", "active"))
    node = node_of(graph, "hidden")
    assert [value.name for value in node.inputs] == ["x", "first.weight", "first.bias"]
    for index in (1, 2):
        ours = graph.constant(node.inputs[index])
        theirs = before.constant(before.nodes[0].inputs[index])
        assert np.array_equal(ours, theirs)
    assert [use.node.op_type for use in node.outputs[0].uses()] == ["Relu"]


def test_shared_weights_are_stored_once(quantized: Quantized) -> None:
    """Two convolutions with the same weights read the same codes."""
    graph = quantized(
        models.model_bytes(
            """net (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y) {
              a = Conv(x, w, b) y = Conv(a, w, b)
            }""",
            models.random_weights({"w": (4, 4, 1, 1), "b": (4,)}),
        )
    )
    codes = [
        array.dtype
        for array in map(graph.constant, graph.initializers)
        if array is not None and array.ndim == 4
    ]
    assert codes == [np.int8]


def test_weights_read_by_a_float_node_too(quantized: Quantized) -> None:
    """A node that is not quantized still reads the float weights."""
    graph = quantized(
        models.model_bytes(
            """net (float[4, 4] x) => (float[4, 4] y) {
              a = MatMul(x, w) s = Sin(w) y = Mul(a, w)
            }""",
            models.random_weights({"w": (4, 4)}),
        )
    )
    product = next(node for node in graph.nodes if node.op_type == "Mul")
    assert product.inputs[1].name == "w"


def test_a_pair_is_shared_by_its_readers(quantized: Quantized) -> None:
    """A residual block quantizes what two operators read once; Add reads integers."""
    graph = quantized(
        models.model_bytes(
            """net (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y) {
              a = Conv(x, w) r = Relu(a) b = Conv(r, w) s = Add(b, r) y = Conv(s, w)
            }""",
            models.random_weights({"w": (4, 4, 1, 1)}),
        ),
        operators="all",
    )
    counts = Counter(node.op_type for node in graph.nodes)
    assert counts["QuantizeLinear"] == 4
    add = next(node for node in graph.nodes if node.op_type == "Add")
    makers = [value.producer().op_type for value in add.inputs]
    assert makers == ["DequantizeLinear", "DequantizeLinear"]


def test_constant_operands_are_quantized_with_all(
    quantized: Quantized, stored: Stored
) -> None:
    """What is added or multiplied is stored as uint8, once for all its readers."""
    graph = quantized(
        models.model_bytes(
            """net (float[1, 4] x) => (float[1, 4] y) {
              a = MatMul(x, w) b = Add(a, v) y = Mul(b, v)
            }""",
            models.random_weights({"w": (4, 4), "v": (4,)}),
        ),
        operators="all",
    )
    nodes = [node for node in graph.nodes if node.name in ("b", "y")]
    assert [stored(graph, node, 1).dtype for node in nodes] == [np.uint8, np.uint8]
    assert nodes[0].inputs[1] is nodes[1].inputs[1]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Gemm<alpha = 2.0>(x, w, b)", {"b": np.ones(4, np.float32)}),
        ("y = Gemm<beta = 2.0>(x, w, b)", {"b": np.ones(4, np.float32)}),
        ("y = Gemm(x, w, b)", {"b": np.ones((1, 4), np.float32)}),
        ("y = Gemm(x, w, b)", {"b": np.full(4, 1e9, np.float32)}),
        ("y = Gemm(x, w, b)", {"w": np.full((4, 4), 1e-36, np.float32)}),
    ],
)
def test_a_bias_that_does_not_fit_stays_float(
    body: str,
    weights: dict[str, Array],
    quantized: Quantized,
    node_of: NodeOf,
    stored: Stored,
) -> None:
    """A bias that is scaled, no vector, too large or without a scale is left alone."""
    given = models.random_weights({"w": (4, 4), "b": (4,)}) | weights
    content = models.model_bytes(
        f"net (float[1, 4] x) => (float[1, 4] y) {{ {body} }}", given
    )
    graph = quantized(content)
    assert stored(graph, node_of(graph, "y"), 1) is not None
    assert stored(graph, node_of(graph, "y"), 2) is None
    inputs = running.random_inputs(graph)
    expected = running.run(parse_graph(content), inputs)["y"]
    assert np.allclose(running.run(graph, inputs)["y"], expected, rtol=0.05, atol=0.2)


def test_names_do_not_clash(quantized: Quantized) -> None:
    """A model that uses the names that pairs would get is quantized like any other."""
    content = models.model_bytes(
        """net (float[1, 4] x) => (float[1, 4] y) {
          "x.q" = Sin(x) "x.dq" = MatMul("x.q", "x.scale") y = MatMul(x, "x.zero_point")
          z = Add("x.dq", y)
        }""".replace(" z = Add", ' "x.QuantizeLinear" = Add'),
        models.random_weights({"x.scale": (4, 4), "x.zero_point": (4, 4)}),
    )
    graph = quantized(content)
    names = [value.name for value in graph.values()]
    assert len(set(names)) == len(names)
    assert running.same_outputs(parse_graph(content), graph, atol=0.2)


def test_the_graph_given_is_left_as_it_was() -> None:
    """An empty plan gives the same model, as another graph."""
    graph = parse_graph(models.mlp())
    after = insert_qdq(graph, Plan(nodes=(), carries=()), {})
    assert after is not graph
    assert after.to_bytes() == graph.to_bytes()


def test_codes_chosen_elsewhere_are_written_as_they_are() -> None:
    """They serve the node that they were made for, not another with its weights."""
    text = """net (float[1, 4] x) => (float[1, 2] y) {
      a = MatMul(x, w)
      b = MatMul(x, w)
      y = Add(a, b)
    }"""
    weights = {"w": np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.float32)}
    graph = prepare(parse_graph(models.model_bytes(text, weights)))
    first, second = (str(node.name) for node in graph.nodes[:2])
    nearest = quantize_tensor(weights["w"], replace(INT8_WEIGHTS, axis=1))
    codes = replace(nearest, values=nearest.values - np.int8(1))
    ranges = {"x": Range(low=np.float32(0), high=np.float32(1))}
    plan = plan_quantization(graph, operators="weights")
    written = insert_qdq(graph, plan, ranges, codes={first: codes})
    stored = {
        str(node.name): written.constant(node.inputs[1].producer().inputs[0])
        for node in written.nodes
        if node.op_type == "MatMul"
    }
    assert np.array_equal(stored[first], codes.values)
    assert np.array_equal(stored[second], nearest.values)
