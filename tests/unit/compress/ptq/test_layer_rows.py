from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.ptq.layer_rows import LayerRows, rows_of
from skerry.compress.ptq.operators import weight
from skerry.core.seams import Array
from skerry.graph import Graph, parse_graph
from tests import models, running

WEIGHTS = {
    "w": (6, 4, 3, 2),
    "d": (4, 1, 3, 3),
    "e": (8, 1, 3, 3),
    "g": (6, 2, 2, 3),
    "t": (4, 3, 3, 2),
    "tg": (4, 3, 2, 2),
    "l": (5, 4, 3),
    "c": (2, 4, 2, 2, 2),
    "m": (6, 5),
    "mt": (5, 6),
    "stack": (2, 6, 5),
}
PICTURES = {
    "plain": "Conv(x, w)",
    "padded, strided": "Conv<pads = [2, 0, 1, 1], strides = [2, 3]>(x, w)",
    "dilated": "Conv<dilations = [2, 3], pads = [1, 1, 1, 1]>(x, w)",
    "depthwise": "Conv<group = 4, pads = [1, 1, 1, 1], strides = [2, 2]>(x, d)",
    "depthwise, two of each": "Conv<group = 4>(x, e)",
    "grouped": "Conv<group = 2>(x, g)",
    "same upper": 'Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w)',
    "same lower": 'Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, w)',
    "valid": 'Conv<auto_pad = "VALID">(x, w)',
    "transposed": "ConvTranspose(x, t)",
    "transposed, strided": "ConvTranspose<strides = [2, 3]>(x, t)",
    "transposed, cut": "ConvTranspose<strides = [2, 2], pads = [1, 1, 2, 1]>(x, t)",
    "transposed, dilated": "ConvTranspose<dilations = [2, 2], strides = [3, 1]>(x, t)",
    "transposed, grouped": "ConvTranspose<group = 2, strides = [2, 2]>(x, tg)",
    "transposed, longer": (
        "ConvTranspose<strides = [3, 3], output_padding = [1, 2]>(x, t)"
    ),
}
OTHERS = {
    "line": ("float[2, 4, 9] x", "float[2, 5, n] y", "Conv<strides = [2]>(x, l)"),
    "volume": ("float[1, 4, 3, 4, 5] x", "float[1, 2, i, j, k] y", "Conv(x, c)"),
    "MatMul": ("float[2, 3, 6] x", "float[2, 3, 5] y", "MatMul(x, m)"),
    "Gemm": ("float[3, 6] x", "float[3, 5] y", "Gemm(x, m)"),
    "Gemm transB": ("float[3, 6] x", "float[3, 5] y", "Gemm<transB = 1>(x, mt)"),
}
CASES = {
    name: ("float[2, 4, 9, 10] x", "float[2, o, h, v] y", text)
    for name, text in PICTURES.items()
} | OTHERS


def net(case: tuple[str, str, str]) -> Graph:
    """One layer."""
    given, made, text = case
    body = f"net ({given}) => ({made}) {{ y = {text} }}"
    return parse_graph(models.model_bytes(body, models.random_weights(WEIGHTS)))


def taken_apart(graph: Graph) -> tuple[LayerRows | None, Array, Array]:
    """The layer, its weights, and an input."""
    node = graph.nodes[0]
    weights = graph.constant(weight(graph, node))
    assert weights is not None
    given = running.random_inputs(graph)["x"]
    return rows_of(node, weights, given.shape), weights, given


@pytest.mark.parametrize("name", CASES)
def test_rows_times_weights_is_what_the_layer_makes(name: str) -> None:
    """At every position, for every kind of layer, in any order of positions."""
    graph = net(CASES[name])
    rows, weights, given = taken_apart(graph)
    assert rows is not None
    made = running.run(graph, {"x": given})["y"]
    picked = np.random.default_rng(0).permutation(rows.positions(made))
    read = rows.read(given, made.shape, picked)
    product = read @ rows.matrix(weights).swapaxes(1, 2)
    assert np.allclose(product, rows.made(made, picked), atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_weights_come_back_from_their_matrix(name: str) -> None:
    """Taking weights apart loses nothing."""
    rows, weights, _ = taken_apart(net(CASES[name]))
    assert rows is not None
    assert np.array_equal(rows.weights(rows.matrix(weights), weights.shape), weights)


@pytest.mark.parametrize(
    "case",
    [
        ("float[2, 2, 6] x", "float[2, 2, 5] y", "MatMul(x, stack)"),
        ("float[3, 6] x", "float[3, 5] y", "Gemm<alpha = 0.5>(x, m)"),
        ("float[6, 3] x", "float[3, 5] y", "Gemm<transA = 1>(x, m)"),
        (
            "float[2, 4, 9, 10] x",
            "float[2, 3, 12, 12] y",
            "ConvTranspose<output_shape = [12, 12]>(x, t)",
        ),
        (
            "float[2, 4, 9, 10] x",
            "float[2, 3, h, v] y",
            'ConvTranspose<auto_pad = "SAME_UPPER">(x, t)',
        ),
    ],
)
def test_what_is_not_known_is_left_alone(case: tuple[str, str, str]) -> None:
    """A stack of matrices, scaled products, paddings that follow from the output."""
    rows, _, _ = taken_apart(net(case))
    assert rows is None
