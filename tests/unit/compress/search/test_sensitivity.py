from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest

from skerry.compress import INT8_WEIGHTS, UINT8_ACTIVATIONS, quantize_tensor
from skerry.compress.numbers.ranges import Range
from skerry.compress.ptq.calibrate import calibrate
from skerry.compress.ptq.operators import Operators
from skerry.compress.ptq.plan import Plan, observable, plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.qdq import DEFAULT_SCHEMES
from skerry.compress.search.sensitivity import SWITCHES, _Switched, measure_sensitivity
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.tasks.samples import MemorySource
from tests import models, running

MakeSource = Callable[..., MemorySource]


def outlier_net() -> bytes:
    """Build three convolutions; one channel of the middle one is huge and then unused.

    Its range is that of the huge channel, so nothing is left of the others.
    """
    weights = models.random_weights(
        {"first": (4, 4, 1, 1), "middle": (4, 4, 1, 1), "last": (4, 4, 1, 1)}
    )
    weights["middle"][3] *= 10_000
    weights["last"][:, 3] = 0
    return models.model_bytes(
        """net (float[1, 4, 4, 4] x) => (float[1, 4, 4, 4] y) {
          a = Conv(x, first) b = Conv(a, middle) d = Conv(b, last)
          e = Sin(d) f = Conv(e, first) y = Conv(f, first)
        }""",
        weights,
    )


def measured(
    graph: Graph, source: MemorySource, runtime: Runtime, operators: Operators
) -> tuple[Plan, dict[str, Range]]:
    """Plan and calibrate a prepared graph."""
    ranges = calibrate(
        graph,
        observable(graph, operators),
        (sample.inputs for sample in source),
        runtime=runtime,
        scheme=UINT8_ACTIVATIONS,
    )
    return plan_quantization(graph, operators=operators), ranges


def test_the_hard_operator_ranks_first(
    runtime: Runtime, make_source: MakeSource
) -> None:
    """An operator whose output has one huge channel hurts most by far."""
    graph = prepare(parse_graph(outlier_net()))
    source = make_source(graph)
    plan, ranges = measured(graph, source, runtime, "weights")
    told: list[tuple[str, int, int]] = []
    found = measure_sensitivity(
        graph,
        plan,
        ranges,
        [sample.inputs for sample in source],
        runtime=runtime,
        progress=lambda *step: told.append(step),
    )
    assert tuple(found) == plan.nodes == ("a", "b", "d", "f", "y")
    # What the middle one writes, the one behind it reads: both suffer from that range.
    assert sorted(found, key=found.__getitem__)[-2:] in (["b", "d"], ["d", "b"])
    assert found["b"] > 20 * max(found[name] for name in ("a", "f", "y"))
    assert all(0 < error < 0.01 for name, error in found.items() if name in "afy")
    assert told == [("sensitivity", done, 5) for done in range(1, 6)]


@pytest.mark.parametrize("operators", ["weights", "all"])
@pytest.mark.parametrize("build", [models.conv_net, models.mlp, models.reshape_net])
def test_switches_off_is_float_with_rounded_weights(
    build: models.Builder,
    operators: Operators,
    runtime: Runtime,
    make_source: MakeSource,
) -> None:
    """With no switch on, only the weights differ from the float net."""
    graph = prepare(parse_graph(build()))
    plan, ranges = measured(graph, make_source(graph), runtime, operators)
    switched = _Switched(graph.copy(), plan, ranges, DEFAULT_SCHEMES)
    for index, name in enumerate(plan.nodes):
        switched.add(name, index)
    onnx.checker.check_model(
        onnx.load_from_string(switched.graph.to_bytes()), full_check=True
    )
    proto = onnx.load_from_string(graph.to_bytes())
    read_as = {
        node.input[1]: 1 if node.op_type == "MatMul" else 0
        for node in proto.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
    }
    for tensor in proto.graph.initializer:
        if tensor.name in read_as:
            array = onnx.numpy_helper.to_array(tensor)
            axis = 1 if tensor.name == "first.weight" else read_as[tensor.name]
            scheme = replace(INT8_WEIGHTS, axis=axis)
            rounded = quantize_tensor(array, scheme).dequantize()
            tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    expected_graph = parse_graph(proto.SerializeToString())
    inputs = running.random_inputs(graph, 3)
    off = np.zeros(len(plan.nodes), np.bool_)
    outputs = running.run(switched.graph, {**inputs, SWITCHES: off})
    for name, array in running.run(expected_graph, inputs).items():
        assert np.allclose(outputs[name], array, rtol=1e-4, atol=1e-6)
    on = np.ones(len(plan.nodes), np.bool_)
    rounded_outputs = running.run(switched.graph, {**inputs, SWITCHES: on})
    assert any(not np.array_equal(outputs[k], rounded_outputs[k]) for k in outputs)


def test_the_graph_is_left_as_it_was(runtime: Runtime, make_source: MakeSource) -> None:
    """The graph that was given has neither switches nor rounded weights."""
    graph = prepare(parse_graph(models.mlp()))
    content, source = graph.to_bytes(), make_source(graph)
    plan, ranges = measured(graph, source, runtime, "all")
    measure_sensitivity(
        graph, plan, ranges, [source.samples[0].inputs], runtime=runtime
    )
    assert graph.to_bytes() == content
