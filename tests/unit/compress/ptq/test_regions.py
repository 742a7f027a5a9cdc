from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.regions import Place, Region, find_regions, scaled_along
from skerry.graph import Graph, parse_graph
from tests import models

WEIGHTS = {
    "a": (8, 8, 1, 1),
    "b": (8, 8, 3, 3),
    "depth": (8, 1, 1, 1),
    "each": (1, 8, 1, 1),
    "slope": (8, 1, 1),
    "dense": (8, 4),
    "wide": (128, 4),
    "deconv": (8, 8, 1, 1),
}


def net(body: str, *, outputs: str = "y") -> Graph:
    """A graph on x [batch, 8, 4, 4], ready to be quantized."""
    weights = models.random_weights(WEIGHTS)
    weights["six"] = np.asarray(6, np.float32)
    weights["zero"] = np.asarray(0, np.float32)
    weights["flat"] = np.array([-1, 128], np.int64)
    used = {name: one for name, one in weights.items() if name in body}
    named = ", ".join(
        f"float[batch, c_{name}, h, w] {name}" for name in outputs.split()
    )
    if "MatMul" in body or "Gemm" in body:
        named = "float[batch, 4] y"
    text = f"net (float[batch, 8, 4, 4] x) => ({named}) {{ {body} }}"
    return prepare(parse_graph(models.model_bytes(text, used)))


def told(regions: tuple[Region, ...]) -> list[tuple[str, list[str]]]:
    """Sources, and their sinks, by name of what they make."""
    return [
        (
            str(region.source.outputs[0].name),
            [str(sink.node.outputs[0].name) for sink in region.sinks],
        )
        for region in regions
    ]


@pytest.mark.parametrize(
    "between",
    [
        "r = Identity(c)",
        "r = Relu(c)",
        "r = LeakyRelu(c)",
        "r = PRelu(c, slope)",
        "r = Clip(c, zero)",
        "r = MaxPool<kernel_shape = [2, 2]>(c)",
        "r = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(c)",
        "r = GlobalAveragePool(c)",
        "q = Relu(c) r = Add(q, each)",
        "q = Relu(c) r = Sub(q, six)",
        "q = Relu(c) r = Mul(six, q)",
    ],
)
def test_layers_are_joined_by_what_lets_factors_through(between: str) -> None:
    """Positively homogeneous operators, and constants on the way, join two layers."""
    regions = find_regions(net(f"c = Conv(x, a) {between} y = Conv(r, b)"))
    assert told(regions)[0] == ("c", ["y"])
    assert regions[0].channels == 8
    assert regions[0].sinks[0].place == Place(axis=1)
    assert len(regions[0].shifts) == ("Add" in between or "Sub" in between)


@pytest.mark.parametrize(
    "between",
    [
        "r = Clip(c, zero, six)",
        "r = Sigmoid(c)",
        "r = Add(c, x)",
        "r = Mul(c, c)",
        "r = Div(six, c)",
        "r = Sub(six, c)",
        "r = Concat<axis = 1>(c, x)",
        "r = Softmax<axis = 1>(c)",
    ],
)
def test_what_ends_a_chain(between: str) -> None:
    """Saturating operators, residual connections and squares leave it alone."""
    body = f"c = Conv(x, a) {between} s = Relu(r) y = GlobalAveragePool(s)"
    assert find_regions(net(body)) == ()


def test_an_output_is_left_alone() -> None:
    """What the caller sees is not scaled."""
    graph = net("c = Conv(x, a) y = Conv(c, b)", outputs="y c")
    assert find_regions(graph) == ()


def test_all_readers_must_make_up_for_it() -> None:
    """Two layers that read one value are both sinks; another reader ends it."""
    body = "c = Conv(x, a) d = Conv(c, a) e = Conv(c, depth) y = Add(d, e)"
    depthwise = body.replace("Conv(c, depth)", "Conv<group = 8>(c, depth)")
    assert told(find_regions(net(depthwise))) == [("c", ["d", "e"])]
    sine = body.replace("Conv(c, depth)", "Sin(c)")
    assert find_regions(net(sine)) == ()


def test_a_gate_is_passed() -> None:
    """Squeeze and excitation: the pooled path and the gated one end in a layer each."""
    body = """c = Conv(x, a) r = Relu(c) p = GlobalAveragePool(r) s = Conv(p, a)
      g = HardSigmoid(s) m = Mul(r, g) y = Conv(m, a)"""
    assert told(find_regions(net(body))) == [("c", ["s", "y"])]


def test_a_product_with_constants_is_a_source() -> None:
    """Behind a hard-swish, whose own input cannot be scaled, its division can be."""
    body = """c = Conv(x, a) h = HardSwish(c) d = Div(h, six) e = Add(d, each)
      y = Conv(e, b)"""
    (region,) = find_regions(net(body))
    assert region.source.op_type == "Div"
    assert told((region,)) == [("d", ["y"])]


def test_flattened_pictures_repeat_their_channels() -> None:
    """A dense layer behind Flatten or Reshape has as many rows a channel as pixels."""
    for flatten in ("Flatten(c)", "Reshape(c, flat)"):
        graph = net(f"c = Conv(x, a) f = {flatten} y = MatMul(f, wide)")
        regions = find_regions(graph)
        if flatten.startswith("Flatten"):
            assert regions[0].sinks[0].place == Place(axis=1, repeats=16)


def test_channels_are_followed_through_transposes() -> None:
    """What was second is last, and a matrix product makes up for it."""
    body = """c = Conv(x, a) p = GlobalAveragePool(c)
      t = Transpose<perm = [0, 2, 3, 1]>(p) m = MatMul(t, dense)
      y = ReduceMean<axes = [1, 2], keepdims = 0>(m)"""
    (region,) = find_regions(net(body))
    assert region.sinks[0].place == Place(axis=3)


def test_grouped_transposed_convolutions_are_no_sources() -> None:
    """Their weights have no axis of output channels; plain ones have."""
    body = "c = ConvTranspose<group = {}>(x, {}) y = Conv(c, b)"
    assert told(find_regions(net(body.format(1, "deconv")))) == [("c", ["y"])]
    assert find_regions(net(body.format(8, "depth"))) == ()


def test_one_number_a_channel_is_spread() -> None:
    """It broadcasts over the value, repeated where the value repeats it."""
    scale = np.array([1.0, 2.0])
    assert scaled_along(Place(axis=1), 4, scale).shape == (2, 1, 1)
    spread = scaled_along(Place(axis=1, repeats=2), 2, scale)
    np.testing.assert_array_equal(spread, [1, 1, 2, 2])
