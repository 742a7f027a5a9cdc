from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skerry.compress.ptq.kept_float import shield_floats
from skerry.core.seams import Array
from skerry.graph import Graph, name_all_nodes, parse_graph
from tests import models, running

PICTURE = "float[1, 4, 8, 8]"
MATRIX = "float[2, 4]"
WEIGHTS = {
    **models.random_weights(
        {
            "w": (4, 4, 1, 1),
            "v": (4, 4, 1, 1),
            "u": (4, 4, 1, 1),
            "r": (4, 4),
            "line": (4,),
        }
    ),
    "step": np.float32(0.02),
    "zero": np.uint8(128),
}
LAYERS = [
    (PICTURE, "b = Conv(a, v, line)"),
    (PICTURE, "b = Conv(a, v)"),
    (PICTURE, "m = Conv(a, v, line) b = Relu(m)"),
    (PICTURE, "m = Conv(a, v, line) b = Transpose<perm = [0, 1, 3, 2]>(m)"),
    (PICTURE, "b = ConvTranspose(a, v, line)"),
    (MATRIX, "b = Gemm(a, r, line)"),
    (MATRIX, "m = MatMul(a, r) b = Add(m, line)"),
]
BETWEEN = (
    "p = QuantizeLinear(x, step, zero) a = DequantizeLinear(p, step, zero) {}"
    " q = QuantizeLinear(b, step, zero) y = DequantizeLinear(q, step, zero)"
)

Quantized = Callable[..., Graph]


def net(kind: str, text: str, given: str = "x", result: str = "y") -> Graph:
    """A model that makes one value of another; its weights are by name."""
    used = {name: array for name, array in WEIGHTS.items() if f", {name}" in text}
    whole = f"net ({kind} {given}) => ({kind} {result}) {{ {text} }}"
    return name_all_nodes(parse_graph(models.model_bytes(whole, used)))


def rounded(array: Array) -> Array:
    """Pass an array through a pair."""
    codes = np.clip(np.rint(array / WEIGHTS["step"]) + 128, 0, 255)
    return ((codes - 128) * WEIGHTS["step"]).astype(np.float32)


@pytest.mark.parametrize(("kind", "layer"), LAYERS)
def test_a_kept_layer_computes_what_it_did(kind: str, layer: str) -> None:
    """Between pairs onnxruntime gives what the float layer makes of the same input."""
    graph = net(kind, BETWEEN.format(layer))
    sample = running.random_inputs(graph, seed=3)
    alone = net(kind, layer, "a", "b")
    expected = rounded(running.run(alone, {"a": rounded(sample["x"])})["b"])
    shield_floats(graph)
    assert running.run(graph, sample)["y"] == pytest.approx(expected, abs=1e-6)


def test_what_is_kept_float_is_shielded(quantized: Quantized) -> None:
    """The step itself leaves no layer that it keeps in float in danger."""
    text = f"net ({PICTURE} x) => ({PICTURE} y) {{ a = Conv(x, w) b = Conv(a, v, line)"
    text += " c = Conv(b, u) y = Sin(c) }"
    used = {name: WEIGHTS[name] for name in ("w", "v", "u", "line")}
    content = models.model_bytes(text, used)
    graph = quantized(content, operators="weights", keep_float=("b",))
    shields = [node for node in graph.nodes if node.op_type == "LeakyRelu"]
    assert [node.inputs[0].name for node in shields if node.inputs[0]] == ["b"]
    whole = quantized(content, operators="weights")
    assert not [node for node in whole.nodes if node.op_type == "LeakyRelu"]


@pytest.mark.parametrize(
    "layer",
    [
        "b = Conv(x, v)",
        "m = Conv(a, v) b = Sin(m)",
        "m = Conv(a, v) n = Cos(m) b = Add(m, n)",
        "m = MatMul(a, a) b = Relu(m)",
    ],
)
def test_what_is_in_no_danger_is_left_as_it_was(layer: str) -> None:
    """Floats that come from elsewhere or go elsewhere need no shield."""
    graph = net("float[1, 4, 4, 4]", BETWEEN.format(layer))
    content = graph.to_bytes()
    shield_floats(graph)
    assert graph.to_bytes() == content


def test_shielding_twice_changes_nothing() -> None:
    """A layer that is shielded is in no danger any more."""
    graph = net(PICTURE, BETWEEN.format(LAYERS[0][1]))
    shield_floats(graph)
    content = graph.to_bytes()
    shield_floats(graph)
    assert graph.to_bytes() == content
