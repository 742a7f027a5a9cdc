from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.ptq.layer_weights import LayerWeights
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.regions import find_regions
from skerry.graph import Graph, parse_graph
from tests import models, running

LAYERS = {
    "Conv": "r = Relu(c) y = Conv(r, w)",
    "grouped": "y = Conv<group = 2>(c, g)",
    "depthwise": "y = Conv<group = 4>(c, d)",
    "shift": "s = Add(c, k) y = Conv(s, w)",
    "Mul": "h = HardSwish(c) m = Mul(k, h) s = Sub(m, k) y = Conv(s, w)",
    "Div": "h = HardSwish(c) m = Div(h, k) y = Conv(m, w)",
    "MatMul": "t = Transpose<perm = [0, 2, 3, 1]>(c) y = MatMul(t, dense)",
    "Flatten": "f = Flatten(c) y = MatMul(f, f_w)",
    "Gemm": "p = GlobalAveragePool(c) f = Flatten(p) y = Gemm(f, dense)",
    "Gemm transB": """p = GlobalAveragePool(c) f = Flatten(p)
      y = Gemm<transB = 1>(f, turned)""",
}


def net(body: str) -> Graph:
    """A convolution with a bias, then what is to be tested."""
    weights = models.random_weights(
        {
            "first": (4, 3, 1, 1),
            "bias": (4,),
            "w": (5, 4, 3, 3),
            "g": (6, 2, 1, 1),
            "d": (8, 1, 1, 1),
            "k": (4, 1, 1),
            "dense": (4, 7),
            "turned": (7, 4),
            "f_w": (144, 2),
        }
    )
    weights["k"] = np.abs(weights["k"]) + np.float32(0.5)
    rank = 2 if "Flatten" in body else 4
    shape = ", ".join(f"s{axis}" for axis in range(rank))
    text = f"""net (float[1, 3, 6, 6] x) => (float[{shape}] y) {{
      c = Conv(x, first, bias) {body} }}"""
    return prepare(parse_graph(models.model_bytes(text, weights)))


@pytest.mark.parametrize("body", LAYERS.values(), ids=LAYERS.keys())
def test_dividing_channels_keeps_the_function(body: str) -> None:
    """Whatever makes the channels, shifts them and reads them."""
    graph = net(body)
    changed = graph.copy()
    regions = find_regions(changed)
    assert regions
    weights = LayerWeights(changed)
    for region in regions:
        scale = 2.0 ** np.random.default_rng(0).uniform(-2, 2, region.channels)
        weights.divide(region, scale)
    assert changed.to_bytes() == graph.to_bytes()
    weights.write()
    assert running.same_outputs(graph, changed, atol=1e-4)
    assert changed.to_bytes() != graph.to_bytes()


def test_channels_lie_where_they_say() -> None:
    """What a region reports of its weights follows what it is divided by."""
    graph = net(LAYERS["grouped"])
    (region,) = find_regions(graph)
    weights = LayerWeights(graph)
    made, read = weights.made_by(region), weights.read_by(region.sinks[0], 4)
    assert made is not None
    assert (made.shape, read.shape) == ((4, 3), (2, 3, 2, 1))
    scale = np.array([1.0, 2.0, 4.0, 8.0])
    weights.divide(region, scale)
    after = weights.made_by(region)
    assert after is not None
    np.testing.assert_allclose(after * scale[:, None], made)
    again = weights.read_by(region.sinks[0], 4)
    np.testing.assert_allclose(again, read * scale.reshape(2, 1, 2, 1))


def test_products_have_no_weights() -> None:
    """A region behind a product with constants has no layer that makes it."""
    graph = net(LAYERS["Mul"])
    (region,) = find_regions(graph)
    assert LayerWeights(graph).made_by(region) is None
