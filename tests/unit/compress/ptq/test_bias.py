from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from skerry.compress.ptq.bias import correct_biases, measure_shifts
from skerry.compress.ptq.calibrate import calibrate
from skerry.compress.ptq.plan import observable, plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.qdq import DEFAULT_SCHEMES, insert_qdq
from skerry.compress.ptq.quantize import Quantize
from skerry.core.seams import Array, Runtime
from skerry.graph import Graph, parse_graph
from tests import models, running

LAYERS = {
    "Conv": "Conv<pads = [2, 1, 0, 1], strides = [2, 1]>(x, w, b)",
    "no bias": "Conv(x, w)",
    "depthwise": "Conv<group = 4, pads = [1, 1, 1, 1]>(x, d, b)",
    "dilated": "Conv<dilations = [2, 2], group = 2>(x, g, b)",
    "transposed": "ConvTranspose<strides = [2, 2]>(x, w, b)",
}
DENSE = {
    "Gemm": "y = Gemm(x, m, v)",
    "Gemm transB": "y = Gemm<transB = 1>(x, t)",
    "MatMul": "p = MatMul(x, m) y = Add(v, p)",
}
WEIGHTS = {
    "w": (4, 4, 3, 3),
    "d": (4, 1, 3, 3),
    "g": (4, 2, 3, 3),
    "b": (4,),
    "m": (6, 4),
    "t": (4, 6),
    "v": (4,),
}


def picture_net(layer: str) -> Graph:
    """One layer on x [1, 4, 8, 8]."""
    text = f"net (float[1, 4, 8, 8] x) => (float[1, 4, h, w_] y) {{ y = {layer} }}"
    return prepare(
        parse_graph(models.model_bytes(text, models.random_weights(WEIGHTS)))
    )


def dense_net(body: str) -> Graph:
    """One layer on x [1, 6]."""
    text = f"net (float[1, 6] x) => (float[1, 4] y) {{ {body} }}"
    return prepare(
        parse_graph(models.model_bytes(text, models.random_weights(WEIGHTS)))
    )


def samples(graph: Graph) -> list[dict[str, Array]]:
    """Inputs whose mean is far from zero, as behind a ReLU."""
    drawn = [running.random_inputs(graph, seed) for seed in range(6)]
    return [{name: np.abs(array) + 1 for name, array in one.items()} for one in drawn]


def measured(graph: Graph, runtime: Runtime) -> tuple[Graph, Mapping[str, Array]]:
    """The quantized graph, and how far its layers are off."""
    inputs = samples(graph)
    ranges = calibrate(
        graph,
        observable(graph, "weights"),
        inputs,
        runtime=runtime,
        scheme=DEFAULT_SCHEMES.activations,
    )
    plan = plan_quantization(graph, operators="weights")
    quantized = insert_qdq(graph, plan, ranges)
    shifts = measure_shifts(graph, quantized, inputs, runtime=runtime)
    corrected = correct_biases(graph, shifts)
    return insert_qdq(corrected, plan, ranges), shifts


def mean_output(graph: Graph, given: list[dict[str, Array]]) -> Array:
    """The mean of each channel over some inputs."""
    found = np.concatenate([running.run(graph, one)["y"] for one in given])
    return found.mean(axis=tuple(axis for axis in range(found.ndim) if axis != 1))


@pytest.mark.parametrize(
    "graph",
    [*map(picture_net, LAYERS.values()), *map(dense_net, DENSE.values())],
    ids=[*LAYERS, *DENSE],
)
def test_the_mean_is_what_it_was(graph: Graph, runtime: Runtime) -> None:
    """Whatever padding, strides, dilations and groups, the mean error is gone."""
    after, shifts = measured(graph, runtime)
    given = samples(graph)
    expected = mean_output(graph, given)
    off = np.abs(mean_output(after, given) - expected).max()
    (shift,) = shifts.values()
    assert shift.shape == (4,)
    assert off < 0.1 * np.abs(shift).max()


def test_no_operator_is_added() -> None:
    """Only constants change; a convolution without a bias is given one."""
    graph = picture_net(LAYERS["no bias"])
    (name,) = (str(node.name) for node in graph.nodes)
    corrected = correct_biases(graph, {name: np.ones(4)})
    assert [node.op_type for node in corrected.nodes] == ["Conv"]
    bias = corrected.constant(corrected.nodes[0].inputs[2])
    np.testing.assert_array_equal(bias, -np.ones(4, np.float32))
    assert len(graph.nodes[0].inputs) == 2


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul(x, m)",
        "p = MatMul(x, m) y = Mul(p, v)",
        "p = MatMul(x, m) q = Add(p, v) y = Mul(q, p)",
        "y = Gemm<alpha = 0.5>(x, m, v)",
    ],
)
def test_layers_without_a_place_for_it_are_left_out(
    body: str, runtime: Runtime
) -> None:
    """Nothing is measured where a correction would need an operator of its own."""
    _, shifts = measured(dense_net(body), runtime)
    assert shifts == {}


def test_what_stays_float_is_not_corrected(
    quantized: Callable[..., Graph], node_of: Callable[..., object]
) -> None:
    """The bias of a node kept float is the one it had."""
    content = models.conv_net()
    names = [node.name for node in prepare(parse_graph(content)).nodes]
    assert "point" in names
    kept = quantized(content, correct_bias=True, keep_float=("point",))
    source = parse_graph(content)
    before = source.constant(source.value("point.bias"))
    node = node_of(kept, "point")
    np.testing.assert_array_equal(kept.constant(node.inputs[2]), before)
    corrected = quantized(content, correct_bias=True)
    assert corrected.to_bytes() != quantized(content).to_bytes()
    assert Quantize(correct_bias=True) != Quantize()


def test_layers_are_corrected_one_after_the_other(runtime: Runtime) -> None:
    """A layer makes up for its own error, not for that which those before correct."""
    weights = models.random_weights(WEIGHTS | {"wide": (4, 4)})
    text = """net (float[1, 6] x) => (float[1, 4] y) {
      a = Gemm(x, m, v) r = Relu(a) y = Gemm(r, wide, v) }"""
    graph = prepare(parse_graph(models.model_bytes(text, weights)))
    after, shifts = measured(graph, runtime)
    assert len(shifts) == 2
    given = samples(graph)
    expected = mean_output(graph, given)
    off = np.abs(mean_output(after, given) - expected).max()
    assert off < 0.2 * max(np.abs(shift).max() for shift in shifts.values())


def test_memory_is_flat_and_samples_are_seen_once(runtime: Runtime) -> None:
    """Samples are taken one at a time: a generator that forgets them is enough."""
    graph = picture_net(LAYERS["Conv"])
    _, expected = measured(graph, runtime)
    ranges = calibrate(
        graph,
        observable(graph, "weights"),
        iter(samples(graph)),
        runtime=runtime,
        scheme=DEFAULT_SCHEMES.activations,
    )
    plan = plan_quantization(graph, operators="weights")
    quantized = insert_qdq(graph, plan, ranges)
    found = measure_shifts(graph, quantized, iter(samples(graph)), runtime=runtime)
    assert found.keys() == expected.keys()
    for name, shift in found.items():
        np.testing.assert_array_equal(shift, expected[name])
