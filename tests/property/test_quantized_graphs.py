from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress import UINT8_ACTIVATIONS
from skerry.compress.ptq.calibrate import calibrate
from skerry.compress.ptq.operators import Operators
from skerry.compress.ptq.plan import observable
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import Quantize
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import output_distance
from tests import models, running

LAYERS = {
    "Conv": "Conv<pads = [1, 1, 1, 1]>({x}, w)",
    "depthwise": "Conv<group = 4>({x}, d, b)",
    "Relu": "Relu({x})",
    "Sin": "Sin({x})",
    "Add": "Add({x}, {back})",
    "shift": "Add({x}, c)",
    "MaxPool": "MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>({x})",
    "Transpose": "Transpose<perm = [0, 1, 3, 2]>({x})",
    "Concat": "Concat<axis = 1>({x}, {back})",
    "Sigmoid": "Sigmoid({x})",
}
WEIGHTS = {"w": (4, 4, 3, 3), "d": (4, 1, 1, 1), "b": (4,), "c": (4, 1, 1)}


@cache
def runtime() -> Runtime:
    """The runtime that calibrates."""
    return get_runtime("onnxruntime")


@st.composite
def nets(draw: st.DrawFn) -> Graph:
    """Draw a chain of layers with shortcuts; some values inside are outputs too."""
    lines, values = ["v0 = Conv<pads = [1, 1, 1, 1]>(x, w)"], ["v0"]
    for kind in draw(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=7)):
        text = LAYERS[kind].format(x=values[-1], back=draw(st.sampled_from(values)))
        name = f"v{len(values)}"
        if kind == "Concat":
            lines.append(f"{name}_wide = {text}")
            text = f"Conv({name}_wide, narrow)"
        lines.append(f"{name} = {text}")
        values.append(name)
    also = draw(st.sets(st.sampled_from(values[:-1]), max_size=2))
    outputs = ", ".join(f"float[1, 4, 6, 6] {v}" for v in sorted({*also, values[-1]}))
    body = "\n".join(lines)
    content = models.model_bytes(
        f"net (float[1, 4, 6, 6] x) => ({outputs}) {{ {body} }}",
        models.random_weights(WEIGHTS | {"narrow": (4, 8, 1, 1)}),
    )
    return prepare(parse_graph(content))


@settings(max_examples=25, deadline=None)
@given(nets(), st.sampled_from(["weights", "all"]), st.data())
def test_any_net_is_quantized(
    graph: Graph, operators: Operators, choices: st.DataObject
) -> None:
    """Legal ONNX of the same signature, near the float net, whatever stays float."""
    names = [node.name or "" for node in graph.nodes]
    kept = choices.draw(st.sets(st.sampled_from(names)))
    samples = [running.random_inputs(graph, seed) for seed in range(4)]
    ranges = calibrate(
        graph,
        observable(graph, operators),
        samples,
        runtime=runtime(),
        scheme=UINT8_ACTIVATIONS,
    )
    after = Quantize(operators=operators, keep_float=tuple(kept)).write(graph, ranges)
    onnx.checker.check_model(onnx.load_from_string(after.to_bytes()), full_check=True)
    assert (after.inputs, after.outputs) == (graph.inputs, graph.outputs)
    expected = running.run(graph, samples[0])
    assert output_distance(expected, running.run(after, samples[0])) < 0.05
    by_name = {node.name: node for node in after.nodes}
    for name in kept & by_name.keys():
        read = [after.constant(value) for value in by_name[name].inputs[1:]]
        assert all(one is None or one.dtype != np.int8 for one in read)
    everything = Quantize(operators=operators, keep_float=tuple(names))
    untouched = running.run(everything.write(graph, ranges), samples[0])
    assert output_distance(expected, untouched) == 0
