from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skerry.compress.ptq import adaptive
from skerry.compress.ptq.adaptive import round_layers
from skerry.compress.ptq.calibrate import calibrate
from skerry.compress.ptq.operators import weight
from skerry.compress.ptq.plan import observable, plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import ACCURATE, Quantize, StepContext
from skerry.compress.ptq.sequence import Chosen
from skerry.compress.ptq.weight_ranges import quantize_weights
from skerry.core.seams import Array, Runtime
from skerry.graph import Graph, parse_graph
from skerry.tasks.evaluate import output_distance
from skerry.tasks.samples import MemorySource, Sample
from tests import models, running

ADAPTIVE = ACCURATE
NEAREST = replace(ACCURATE, rounding="nearest")
BODIES = {
    "convolutions": """
      a = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(a)
      d = Conv<group = 4, strides = [2, 2]>(r, dw) s = Relu(d)
      u = ConvTranspose<strides = [2, 2]>(s, t, b) z = Add(u, u)
      p = Conv<group = 2>(z, g) y = ReduceMean<axes = [2, 3], keepdims = 0>(p)""",
    "branches": """
      a = Conv(x, w, b) h = HardSwish(a)
      one = Conv<pads = [1, 1, 1, 1], group = 4>(h, dw)
      two = Conv<pads = [1, 1, 1, 1]>(h, w)
      k = Add(one, two) j = Add(k, h) q = Conv<group = 2>(j, g)
      m = GlobalAveragePool(q) y = Flatten(m)""",
    "products": """
      f = GlobalAveragePool(x) e = Flatten(f)
      a = MatMul(e, m1) c = Add(a, v) r = Relu(c)
      n = Gemm(r, m2, v2) y = Gemm<transB = 1>(n, m3, v3)""",
}
WEIGHTS = {
    "w": (4, 4, 3, 3),
    "b": (4,),
    "dw": (4, 1, 3, 3),
    "t": (4, 4, 2, 2),
    "g": (4, 2, 3, 3),
    "m1": (4, 16),
    "v": (16,),
    "m2": (16, 8),
    "v2": (8,),
    "m3": (4, 8),
    "v3": (4,),
}


def net(name: str) -> Graph:
    """A net on x [1, 4, 12, 12] with four outputs."""
    text = f"net (float[1, 4, 12, 12] x) => (float[1, 4] y) {{ {BODIES[name]} }}"
    return prepare(
        parse_graph(models.model_bytes(text, models.random_weights(WEIGHTS)))
    )


def inputs(first: int, count: int) -> list[dict[str, Array]]:
    """Pictures that are smooth and of one sign, as pictures are."""
    drawn = []
    for seed in range(first, first + count):
        rough = np.random.default_rng(seed).normal(size=(1, 4, 14, 14))
        smooth = sum(
            rough[..., i : i + 12, j : j + 12] for i in range(3) for j in range(3)
        )
        drawn.append({"x": np.abs(smooth).astype(np.float32)})
    return drawn


def context(runtime: Runtime, count: int = 24) -> StepContext:
    """What the step is given."""
    samples = tuple(
        Sample(inputs=one, label=None, name=str(number))
        for number, one in enumerate(inputs(0, count))
    )
    return StepContext(calibration=MemorySource(samples=samples), runtime=runtime)


def distance(step: Quantize, graph: Graph, runtime: Runtime) -> float:
    """How far the step moves the outputs on samples that it has not seen."""
    quantized = step.apply(graph, context(runtime))
    return float(
        np.mean(
            [
                output_distance(running.run(graph, one), running.run(quantized, one))
                for one in inputs(1000, 20)
            ]
        )
    )


def chosen(graph: Graph, step: Quantize, runtime: Runtime, count: int = 24) -> Chosen:
    """Codes and shifts of all layers."""
    given = inputs(0, count)
    ranges = calibrate(
        graph,
        observable(graph, step.operators),
        given,
        runtime=runtime,
        scheme=step.schemes.activations,
    )
    return round_layers(
        graph,
        plan_quantization(graph, operators=step.operators),
        ranges,
        step.schemes,
        given,
        correct_bias=step.correct_bias,
        runtime=runtime,
    )


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("weight_bits", [4, 8])
def test_less_is_lost_on_samples_not_seen(
    name: str, weight_bits: int, runtime: Runtime
) -> None:
    """Never notably more than by the nearest codes; with four bits far less."""
    graph = net(name)
    nearest = replace(NEAREST, weight_bits=weight_bits)
    together = replace(nearest, rounding="adaptive")
    ours, theirs = (distance(step, graph, runtime) for step in (together, nearest))
    assert ours <= theirs * (0.9 if weight_bits == 4 else 1.2)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("operators", ["weights", "all"])
def test_every_layer_is_looked_at(name: str, operators: str, runtime: Runtime) -> None:
    """Each layer has codes, whatever lies between layers; its bias, a shift."""
    graph = net(name)
    step = replace(ADAPTIVE, operators=operators)
    found = chosen(graph, step, runtime)
    layers = [
        node.name
        for node in graph.nodes
        if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm")
    ]
    shared = 2 if name == "branches" else 0
    assert len(found.codes) == len(layers) - shared
    assert all(np.isfinite(shift).all() for shift in found.shifts.values())
    for codes in found.codes.values():
        assert np.abs(codes.values.astype(int)).max() <= codes.scheme.qmax


def test_biases_stay_where_they_must(runtime: Runtime) -> None:
    """No shift is measured where biases are not to be corrected."""
    found = chosen(net("products"), replace(ADAPTIVE, correct_bias=False), runtime)
    assert found.codes
    assert not found.shifts


def test_the_same_samples_give_the_same_bytes(runtime: Runtime) -> None:
    """A recipe is repeatable."""
    graph = net("convolutions")
    first, second = (ADAPTIVE.apply(graph, context(runtime)) for _ in "ab")
    assert first.to_bytes() == second.to_bytes()


def test_few_samples_leave_weights_alone(runtime: Runtime) -> None:
    """With none held back there is nothing to judge a fit by; biases are corrected."""
    graph = net("convolutions")
    found = chosen(graph, ADAPTIVE, runtime, count=2)
    for node in graph.nodes:
        floats = graph.constant(weight(graph, node))
        if floats is not None:
            codes = quantize_weights(
                node, floats, ADAPTIVE.schemes.weights, per_channel=True
            )
            assert np.array_equal(found.codes[str(node.name)].values, codes.values)
    assert found.shifts


def test_layers_too_large_to_fit_have_their_bias_corrected(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes are then those next to the trained weights."""
    graph = net("products")
    fitted = chosen(graph, ADAPTIVE, runtime)
    monkeypatch.setattr(adaptive, "LARGEST_READ", 3)
    kept = chosen(graph, ADAPTIVE, runtime)
    assert kept.shifts.keys() == fitted.shifts.keys()
    step = quantize_weights(
        graph.nodes[2],
        np.asarray(graph.constant(graph.nodes[2].inputs[1])),
        ADAPTIVE.schemes.weights,
        per_channel=True,
    )
    assert np.array_equal(kept.codes[str(graph.nodes[2].name)].values, step.values)
