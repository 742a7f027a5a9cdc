"""Equalized graphs compute what they computed."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress.ptq.equalize import equalize
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.smooth import smooth
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import output_distance
from tests import models, running

LAYERS = {
    "Conv": "Conv<pads = [1, 1, 1, 1]>({x}, w, b)",
    "grouped": "Conv<group = 2>({x}, g)",
    "depthwise": "Conv<group = 4>({x}, d, b)",
    "Relu": "Relu({x})",
    "LeakyRelu": "LeakyRelu({x})",
    "HardSwish": "HardSwish({x})",
    "Add": "Add({x}, {back})",
    "gate": "Mul({x}, {back})",
    "shift": "Add({x}, c)",
    "product": "Mul({x}, c)",
    "quotient": "Div({x}, c)",
    "MaxPool": "MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>({x})",
    "Transpose": "Transpose<perm = [0, 1, 3, 2]>({x})",
    "Sigmoid": "Sigmoid({x})",
}
WEIGHTS = {
    "w": (4, 4, 3, 3),
    "g": (4, 2, 1, 1),
    "d": (4, 1, 1, 1),
    "b": (4,),
    "c_variance": (4, 1, 1),
    "head": (144, 3),
}


@cache
def runtime() -> Runtime:
    """The runtime that calibrates."""
    return get_runtime("onnxruntime")


@st.composite
def nets(draw: st.DrawFn) -> Graph:
    """Draw a chain of layers with shortcuts and a dense head."""
    lines, values = ["v0 = Conv<pads = [1, 1, 1, 1]>(x, w)"], ["v0"]
    for kind in draw(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=8)):
        text = LAYERS[kind].format(x=values[-1], back=draw(st.sampled_from(values)))
        name = f"v{len(values)}"
        lines.append(f"{name} = {text}")
        values.append(name)
    lines += [f"flat = Flatten({values[-1]})", "y = MatMul(flat, head)"]
    also = draw(st.sets(st.sampled_from(values), max_size=1))
    outputs = ", ".join(["float[1, 3] y", *(f"float[1, 4, 6, 6] {v}" for v in also)])
    body = "\n".join(lines)
    weights = models.random_weights(WEIGHTS, seed=draw(st.integers(0, 5)))
    weights["c"] = weights.pop("c_variance")
    content = models.model_bytes(
        f"net (float[1, 4, 6, 6] x) => ({outputs}) {{ {body} }}", weights
    )
    return prepare(parse_graph(content))


@settings(max_examples=40, deadline=None)
@given(graph=nets(), by_samples=st.booleans(), per_channel=st.booleans())
def test_any_net_computes_the_same(
    graph: Graph, *, by_samples: bool, per_channel: bool
) -> None:
    """By weights or by samples: the outputs are those before, to 1e-4 of them."""
    inputs = [running.random_inputs(graph, seed) for seed in range(3)]
    after = equalize(
        graph,
        inputs if by_samples else None,
        runtime=runtime(),
        per_channel=per_channel,
    )
    assert (after.inputs, after.outputs) == (graph.inputs, graph.outputs)
    assert len(after.nodes) <= len(graph.nodes)
    for given_inputs in inputs:
        expected, found = (
            running.run(graph, given_inputs),
            running.run(after, given_inputs),
        )
        # The distance is of squares.
        assert output_distance(expected, found) < 1e-4**2


SMOOTHED = {
    "normalized": "{y} = LayerNormalization({x}, scale_variance, shift)",
    "no shift": "{y} = LayerNormalization({x}, scale_variance)",
    "product": "{y} = MatMul({x}, m)",
    "biased": "{y}p = MatMul({x}, m) {y} = Add({y}p, shift)",
    "scaled": "{y} = Mul({x}, scale_variance)",
    "shortcut": "{y} = Add({x}, {back})",
    "relu": "{y} = Relu({x})",
    "two readers": "{y}l = MatMul({x}, m) {y}r = MatMul({x}, n) {y} = Mul({y}l, {y}r)",
}


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(sorted(SMOOTHED)), min_size=1, max_size=8),
    alpha=st.floats(0, 1),
    back=st.integers(0, 8),
)
def test_any_chain_of_products_computes_the_same_once_smoothed(
    kinds: list[str], alpha: float, back: int
) -> None:
    """Whatever is folded into normalizations, layers and products."""
    lines = []
    for index, kind in enumerate(kinds):
        names = {"x": f"v{index}", "y": f"v{index + 1}", "back": f"v{min(back, index)}"}
        lines.append(SMOOTHED[kind].format(**names))
    body = "\n".join([*lines, f"y = MatMul(v{len(kinds)}, n)"])
    shapes = {"m": (6, 6), "n": (6, 6), "scale_variance": (6,), "shift": (6,)}
    content = models.model_bytes(
        f"net (float[1, 5, 6] v0) => (float[1, 5, 6] y) {{ {body} }}",
        models.random_weights(shapes),
    )
    graph = prepare(parse_graph(content))
    inputs = [running.random_inputs(graph, seed) for seed in range(3)]
    after = smooth(graph, inputs, alpha=alpha, runtime=runtime())
    for one in inputs:
        given_, got = running.run(graph, one), running.run(after, one)
        assert output_distance(given_, got) < 1e-6
    assert len(after.nodes) == len(graph.nodes)
