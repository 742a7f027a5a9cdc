"""A new version is made like the one before, and only as far as it may be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from skerry.compress.alike.choose import Alike, Loss, make_alike
from skerry.compress.alike.freeze import (
    find_layers,
    freeze,
    grids_of,
    norms_moved,
)
from skerry.evolve.delta import diff
from skerry.graph import Graph, parse_graph, set_constant
from tests.deltas import Weights, floats, quantized, trained_on

OLD = quantized(floats())
PREVIOUS = parse_graph(OLD)
INPUTS = np.random.default_rng(2).normal(0, 1, (20, 1, 16, 8, 8)).astype(np.float32)


def _wanted() -> Alike:
    return Alike(
        previous=PREVIOUS,
        patch_size_bytes=lambda graph: len(diff(OLD, graph.to_bytes())),
        title="meter/1",
    )


def _run(graph: Graph) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph.to_bytes())
    return np.stack([session.run(None, {"x": one})[0] for one in INPUTS])


def _distance(one: Graph, other: Graph) -> float:
    answers = _run(one), _run(other)
    step = np.square(answers[0] - answers[1]).sum()
    return float(step / np.square(answers[0]).sum())


def _lose(graph: Graph) -> Callable[[Graph], Loss]:
    def lose(other: Graph) -> Loss:
        distance = _distance(graph, other)
        return Loss(drop=distance, at_worst=distance)

    return lose


def _codes(graph: Graph, name: str) -> NDArray[np.generic]:
    found = graph.constant(graph.value(name))
    assert found is not None
    return found


def test_weights_are_written_on_the_old_scales() -> None:
    """On the grid, with biases that follow; the graph given stays as it was."""
    graph = parse_graph(quantized(trained_on(floats(), 2e-3)))
    before = graph.to_bytes()
    (layer,) = find_layers(graph, PREVIOUS)
    frozen = freeze(graph, [layer], grids_of([layer], 2))
    codes = _codes(frozen, "w_codes").astype(int)
    steps = codes - _codes(PREVIOUS, "w_codes")
    is_kept = _codes(frozen, "w_scale") == _codes(PREVIOUS, "w_scale")
    assert is_kept.mean() > 0.8
    # At the last code, a step may be cut short.
    inside = is_kept[:, None, None, None] & (np.abs(codes) < 127)
    assert (steps[inside] % 2 == 0).all()
    assert steps[inside].any()
    sums = np.float32(0.02) * _codes(frozen, "w_scale").astype(np.float32)
    np.testing.assert_array_equal(_codes(frozen, "b_scale"), sums)
    assert _distance(graph, frozen) < 1e-3
    assert graph.to_bytes() == before


def test_weights_whose_zero_is_elsewhere_are_made_alike() -> None:
    """Codes, scales and zeros are those of before; what was outgrown keeps its own."""
    weights = trained_on(floats(), 2e-3)
    wide = np.asarray(weights["w"]).copy()
    wide[5] *= 3
    grown: Weights = {**weights, "w": wide}
    graph = parse_graph(quantized(grown, is_skewed=True))
    old = quantized(floats(), is_skewed=True)
    previous = parse_graph(old)
    layers = find_layers(graph, previous)
    assert len(layers) == 1
    frozen = freeze(graph, layers, grids_of(layers, 2))
    is_kept = _codes(frozen, "w_scale") == _codes(previous, "w_scale")
    zeros = [_codes(one, "w_zero") for one in (frozen, previous, graph)]
    assert 0.8 < is_kept.mean() < 1
    assert (zeros[0] == np.where(is_kept, zeros[1], zeros[2])).all()
    assert (zeros[1] != zeros[2]).any()
    assert _distance(graph, frozen) < 1e-3
    sizes = [len(diff(old, one.to_bytes())) for one in (frozen, graph)]
    assert sizes[0] < 0.85 * sizes[1]


def test_a_zero_that_others_share_is_not_moved() -> None:
    """Their weights would move with it."""
    old = quantized(floats(), is_skewed=True)
    graph, previous = parse_graph(old), parse_graph(old)
    zero = graph.value("w_zero")
    set_constant(zero, np.asarray(graph.constant(zero)) + np.uint8(1))
    assert find_layers(graph, previous)
    inputs = next(one for one in graph.nodes if one.op_type == "DequantizeLinear")
    inputs.replace_input_with(2, zero)
    assert not find_layers(graph, previous)


def test_channels_that_outgrew_their_scale_keep_their_own() -> None:
    """Nothing large is cut off."""
    weights = trained_on(floats(), 1e-3)
    wide = np.asarray(weights["w"]).copy()
    wide[5] *= 3
    grown: Weights = {**weights, "w": wide}
    graph = parse_graph(quantized(grown))
    layers = find_layers(graph, PREVIOUS)
    frozen = freeze(graph, layers, grids_of(layers, 1))
    own, old = (_codes(one, "w_scale") for one in (graph, PREVIOUS))
    scale = _codes(frozen, "w_scale")
    assert scale[5] == own[5] != old[5]
    assert _distance(graph, frozen) < 1e-3


def test_the_smallest_delta_that_holds_is_chosen() -> None:
    """Coarser grids cost less; the search stops where too much is lost."""
    graph = parse_graph(quantized(trained_on(floats(), 2e-3)))
    losses = iter([0.0, 0.0, 0.0, 0.2, 0.1, 0.0, 0.1])

    def lose(_: Graph) -> Loss:
        drop = next(losses)
        return Loss(drop=drop, at_worst=drop)

    made = make_alike(graph, _wanted(), lose, allowed=0.05)
    chosen = next(row for row in made.rows if row.chosen)
    assert chosen.patch_bytes == min(row.patch_bytes for row in made.rows if row.holds)
    assert chosen.patch_bytes < 0.7 * made.rows[0].patch_bytes
    assert len(diff(OLD, made.graph.to_bytes())) == chosen.patch_bytes
    assert chosen.name == "grid 3"
    assert [row.holds for row in made.rows] == [*[True] * 4, False, False, True, False]


def test_a_model_trained_anew_keeps_its_scales() -> None:
    """Freezing would ruin it: that is noticed and told."""
    graph = parse_graph(quantized(floats(9)))
    made = make_alike(graph, _wanted(), _lose(graph), allowed=1e-6)
    assert made.graph.to_bytes() == graph.to_bytes()
    assert any("trained anew" in note for note in made.notes)


def test_norms_that_moved_are_told() -> None:
    """Codes stay and scales change: a batch norm was folded in."""
    weights = floats()
    factors = np.linspace(0.9, 1.1, 64)[:, None, None, None]
    moved: Weights = {**weights, "w": (np.asarray(weights["w"]) * factors)}
    graph = parse_graph(quantized(moved))
    layers = find_layers(graph, PREVIOUS)
    assert norms_moved(layers)[0] > 50
    made = make_alike(graph, _wanted(), _lose(graph), allowed=1e-3)
    assert any("Freeze them" in note for note in made.notes)


def test_a_model_without_the_same_weights_stays_as_it_is() -> None:
    """There is nothing to be like."""
    graph = parse_graph(quantized(floats()))
    other = parse_graph(quantized(floats(), x_scale=0.5))
    other.ir.graph.initializers.pop("w_scale")
    wanted = Alike(previous=other, patch_size_bytes=lambda _: 7, title="meter/1")
    made = make_alike(graph, wanted, _lose(graph), allowed=1.0)
    assert made.graph is graph
    assert "has no INT8 weights" in made.notes[0]


def test_all_grids_may_hold() -> None:
    """Where nothing is lost at all, the coarsest is chosen."""
    graph = parse_graph(quantized(trained_on(floats(), 1e-4)))
    made = make_alike(
        graph, _wanted(), lambda _: Loss(drop=0.0, at_worst=0.0), allowed=1e-3
    )
    assert all(row.holds for row in made.rows)
