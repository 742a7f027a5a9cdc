from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skerry.compress.ptq.calibrate import calibrate
from skerry.compress.ptq.plan import observable, plan_quantization
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.qdq import DEFAULT_SCHEMES, insert_qdq
from skerry.compress.ptq.sequence import Chosen, Kept, LayerWalk, find_cuts, restrict
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from tests import models, running

TEXT = """net (float[1, 4, 8, 8] x) => (float[1, 4, 2, 2] y) {
  a = Conv(x, w) r = Relu(a)
  b = Conv<group = 4>(r, d) s = Sigmoid(b)
  e = Conv(x, v) m = Mul(s, e)
  y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(m)
}"""
WEIGHTS = {"w": (4, 4, 3, 3), "d": (4, 1, 3, 3), "v": (4, 4, 5, 5)}


def net() -> Graph:
    """Three layers, of which the last reads the input again."""
    return prepare(
        parse_graph(models.model_bytes(TEXT, models.random_weights(WEIGHTS)))
    )


def layers(graph: Graph) -> list[str]:
    """Names of the convolutions."""
    return [str(node.name) for node in graph.nodes if node.op_type == "Conv"]


def values(graph: Graph, *, after: bool) -> Sequence[set[str]]:
    """What crosses each cut."""
    return [set(cut.values) for cut in find_cuts(graph, layers(graph), after=after)]


def test_a_cut_is_crossed_by_what_is_read_behind_it() -> None:
    """The input is, for as long as a layer to come reads it; weights never are."""
    assert values(net(), after=False) == [{"x"}, {"r", "x"}, {"s", "x"}]


def test_after_the_last_layer_nothing_is_needed() -> None:
    """What operators behind it read was of use to no layer."""
    assert values(net(), after=True)[-1] == set()


def test_a_plan_is_restricted_to_a_part() -> None:
    """Only nodes and values of the part are left."""
    graph = net()
    plan = plan_quantization(graph, operators="weights")
    part = graph.extract(["r", "x"], ["s"])
    left = restrict(plan, part)
    assert left.nodes == (layers(graph)[1],)
    assert {*left.reads, *left.writes} <= {str(one.name) for one in part.values()}


def test_tensors_are_kept_in_order_in_memory_and_in_a_file(tmp_path: Path) -> None:
    """Whatever fits into memory, all come back, as often as asked for."""
    given = [
        {"a": np.full((2, 3), index, np.float32), "b": np.array(index)}
        for index in range(6)
    ]
    for most_bytes in (0, 70, 10**6):
        kept = Kept(tmp_path, most_bytes)
        for one in given:
            kept.add(one)
        for _ in range(2):
            for one, other in zip(kept, given, strict=True):
                assert one.keys() == other.keys()
                assert all(np.array_equal(one[name], other[name]) for name in one)
        kept.close()


def test_layers_see_what_the_whole_graphs_give(runtime: Runtime) -> None:
    """In parts, both graphs compute what they compute in one piece."""
    graph = net()
    given = [running.random_inputs(graph, seed) for seed in range(3)]
    ranges = calibrate(
        graph,
        observable(graph, "weights"),
        given,
        runtime=runtime,
        scheme=DEFAULT_SCHEMES.activations,
    )
    plan = plan_quantization(graph, operators="weights")
    walk = LayerWalk(
        graph=graph,
        plan=plan,
        ranges=ranges,
        schemes=DEFAULT_SCHEMES,
        runtime=runtime,
    )
    whole, quantized = graph.copy(), insert_qdq(graph, plan, ranges)
    whole.add_outputs(["a", "b", "e"])
    quantized.add_outputs(["r", "x"])
    reads = {"a": "x", "b": "r", "e": "x"}
    for (_, pairs), (made, read) in zip(
        walk.walk(layers(graph), given, Chosen()), reads.items(), strict=True
    ):
        for (found, known), sample in zip(pairs, given, strict=True):
            expected = running.run(whole, sample)[made]
            assert np.allclose(known, expected, atol=1e-4)
            before = {**running.run(quantized, sample), **sample}[read]
            scale = float(ranges[read].high - ranges[read].low) / 255
            assert np.abs(found - before).max() <= scale * 1.01
