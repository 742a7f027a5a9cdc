"""Scaling and shifting become part of the convolution before them."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.graph import Graph, fold_affine, fold_products, parse_graph
from tests import models
from tests.running import same_outputs

SHAPES = {"w": (4, 3, 3, 3), "b": (4,), "channels": (1, 4, 1, 1), "short": (4, 1, 1)}
PLACES = {"place": (1, 1, 6, 6), "each": (1, 4, 6, 6), "row": (6,)}
CONV = "c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>"


def net(body: str, outputs: str = "float[1, 4, 6, 6] y") -> Graph:
    """A graph on a picture of three channels, with constants of many shapes."""
    weights = models.random_weights(SHAPES | PLACES, seed=5)
    weights["one"] = np.asarray(-1.75, np.float32)
    weights["ones"] = np.full((1, 1, 1, 1), 0.5, np.float32)
    used = {name: array for name, array in weights.items() if name in body}
    text = f"net (float[1, 3, 6, 6] x) => ({outputs}) {{ {body} }}"
    return parse_graph(models.model_bytes(text, used))


def kinds(graph: Graph) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op_type for node in graph.nodes]


@pytest.mark.parametrize("inputs", ["(x, w)", "(x, w, b)"])
@pytest.mark.parametrize("op_type", ["Mul", "Add"])
@pytest.mark.parametrize("name", ["one", "ones", "channels", "short"])
@pytest.mark.parametrize("order", ["(c, {})", "({}, c)"])
def test_one_number_or_one_a_channel_is_folded(
    inputs: str, op_type: str, name: str, order: str
) -> None:
    """The operator is gone and the outputs are the same, with or without a bias."""
    graph = net(f"{CONV}{inputs} y = {op_type}{order.format(name)}")
    folded = fold_affine(graph)
    assert kinds(folded) == ["Conv"]
    assert same_outputs(graph, parse_graph(folded.to_bytes()))
    assert kinds(graph) == ["Conv", op_type]


def test_a_row_of_them_is_folded() -> None:
    """Scaling, shifting and scaling again leave the convolution alone."""
    graph = net(
        f"{CONV}(x, w, b) d = Mul(c, channels) e = Add(one, d) f = Mul(e, ones)"
        " y = Relu(f)"
    )
    folded = fold_affine(graph)
    assert kinds(folded) == ["Conv", "Relu"]
    assert same_outputs(graph, parse_graph(folded.to_bytes()))


@pytest.mark.parametrize("name", ["place", "each", "row"])
@pytest.mark.parametrize("op_type", ["Mul", "Add"])
def test_spatial_constants_stay(name: str, op_type: str) -> None:
    """What differs from place to place is no matter of a channel."""
    graph = net(f"{CONV}(x, w, b) y = {op_type}(c, {name})")
    folded = fold_affine(graph)
    assert kinds(folded) == ["Conv", op_type]
    assert same_outputs(graph, folded)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (
            "y = Mul(c, one) z = Relu(c)",
            "float[1, 4, 6, 6] y, float[1, 4, 6, 6] z",
        ),
        ("y = Mul(c, one)", "float[1, 4, 6, 6] y, float[1, 4, 6, 6] c"),
        ("y = Mul(c, c)", "float[1, 4, 6, 6] y"),
    ],
)
def test_shared_outputs_stay(body: str, outputs: str) -> None:
    """Where something else reads the convolution, its result must not change."""
    graph = net(f"{CONV}(x, w) {body}", outputs)
    folded = fold_affine(graph)
    assert sorted(kinds(folded)) == sorted(kinds(graph))
    assert same_outputs(graph, folded)


def test_weights_that_two_convolutions_share_are_not_changed() -> None:
    """Folding into one convolution leaves the other one's weights alone."""
    graph = net(f"{CONV}(x, w, b) {CONV.replace('c', 'd', 1)}(x, w, b) "
                "e = Mul(c, channels) y = Sub(e, d)")  # fmt: skip
    folded = fold_affine(graph)
    assert sorted(kinds(folded)) == ["Conv", "Conv", "Sub"]
    assert same_outputs(graph, folded)


def test_what_would_overflow_stays() -> None:
    """A product beyond float32 is left to the operator that makes it."""
    weights = {
        "w": np.full((4, 3, 3, 3), 1e30, np.float32),
        "huge": np.asarray(1e30, np.float32),
    }
    text = f"net (float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y) {{ {CONV}(x, w) "
    graph = parse_graph(models.model_bytes(f"{text} y = Mul(c, huge) }}", weights))
    folded = fold_affine(graph)
    assert kinds(folded) == ["Conv", "Mul"]
    assert len(folded.nodes[0].inputs) == 2


def test_an_operator_of_another_domain_stays() -> None:
    """A Mul that is not the standard's may mean anything."""
    weights = models.random_weights({"w": (4, 3, 3, 3), "one": (1,)})
    text = f"net (float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y) {{ {CONV}(x, w) "
    content = models.model_bytes(
        f"{text} y = com.example.Mul(c, one) }}", weights, domains=', "com.example": 1'
    )
    assert kinds(fold_affine(parse_graph(content))) == ["Conv", "Mul"]


@pytest.mark.parametrize(
    "body",
    [
        "d = Div(x, one) y = Mul(d, ones)",
        "d = Mul(one, x) y = Div(d, row)",
        "d = Mul(x, row) e = Div(d, ones) y = Mul(one, e)",
    ],
)
def test_products_in_a_row_are_one(body: str) -> None:
    """Products and quotients by constants become one, of the same outputs."""
    graph = net(body, "float[1, 3, 6, 6] y")
    folded = fold_products(graph)
    assert len(folded.nodes) == 1
    assert same_outputs(graph, parse_graph(folded.to_bytes()))
    assert len(graph.nodes) > 1


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("d = Div(x, one) y = Mul(d, ones) z = Relu(d)", ", float[1, 3, 6, 6] z"),
        ("d = Div(x, one) y = Mul(d, ones)", ", float[1, 3, 6, 6] d"),
        ("d = Div(one, x) y = Mul(d, ones)", ""),
        ("d = Mul(x, ones) y = Div(one, d)", ""),
        ("d = Mul(x, ones) y = Mul(d, d)", ""),
    ],
)
def test_products_that_others_need_stay(body: str, outputs: str) -> None:
    """What another reads, what is an output, and what is divided by stay."""
    graph = net(body, f"float[1, 3, 6, 6] y{outputs}")
    assert kinds(fold_products(graph)) == kinds(graph)


def test_a_product_beyond_float_stays() -> None:
    """Constants whose product does not fit float32, or that are zero, stay two."""
    for first, second in ((1e30, 1e30), (0.0, 2.0)):
        weights = {
            "a": np.asarray(first, np.float32),
            "b": np.asarray(second, np.float32),
        }
        text = "net (float[2] x) => (float[2] y) { d = Mul(x, a) y = Mul(d, b) }"
        graph = parse_graph(models.model_bytes(text, weights))
        assert len(fold_products(graph).nodes) == 2
