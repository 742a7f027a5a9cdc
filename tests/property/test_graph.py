from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.graph import (
    Graph,
    constants_to_initializers,
    count,
    fold_batch_norm,
    fold_constants,
    infer_shapes,
    insert_after,
    make_initializer,
    make_node,
    name_all_nodes,
    open_model,
    parse_graph,
    read_graph,
    remove_dead,
    upgrade_opset,
    write_graph,
)
from tests.running import random_inputs, run, same_outputs
from tests.strategies import small_models

REWRITES: dict[str, Callable[[Graph], Graph]] = {
    "infer_shapes": infer_shapes,
    "fold_constants": fold_constants,
    "remove_dead": remove_dead,
    "constants_to_initializers": constants_to_initializers,
    "fold_batch_norm": fold_batch_norm,
    "name_all_nodes": name_all_nodes,
    "upgrade_opset": lambda graph: upgrade_opset(graph, 18),
}


def structure(content: bytes) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Operators, what they read and what they make, as onnx itself sees them."""
    nodes = onnx.load_model_from_string(content).graph.node
    return [(node.op_type, tuple(node.input), tuple(node.output)) for node in nodes]


@given(small_models())
def test_reading_keeps_the_structure(content: bytes) -> None:
    """Read and written again, a model has the same nodes, and then the same bytes."""
    written = parse_graph(content).to_bytes()
    assert structure(written) == structure(content)
    assert parse_graph(written).to_bytes() == written


@settings(max_examples=30)
@given(small_models())
def test_files_round_trip(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """What is written is read back, in one file or with its weights apart."""
    graph = parse_graph(content)
    folder = tmp_path_factory.mktemp("models")
    for path, limit in ((folder / "a.onnx", 10**6), (folder / "b.onnx", 0)):
        assert write_graph(graph, path, max_embedded_bytes=limit) == open_model(path)
        assert read_graph(Path(path)).to_bytes() == graph.to_bytes()


@settings(max_examples=60)
@given(small_models(), st.lists(st.sampled_from(sorted(REWRITES)), max_size=4))
def test_rewrites_in_any_order_keep_the_outputs(
    content: bytes, names: list[str]
) -> None:
    """However rewrites follow each other, inputs, outputs and results stay."""
    graph = parse_graph(content)
    after = graph
    for name in names:
        after = REWRITES[name](after)
    after = parse_graph(after.to_bytes())
    assert (after.inputs, after.outputs) == (graph.inputs, graph.outputs)
    assert same_outputs(graph, after)


@settings(max_examples=60)
@given(small_models(), st.randoms(use_true_random=False))
def test_inserting_identities_changes_nothing(content: bytes, random: Random) -> None:
    """A multiplication by one after any value leaves all outputs as they were."""
    graph = parse_graph(content)
    changed = graph.copy()
    name = random.choice([value.name or "" for value in graph.values()])
    value = changed.value(name)
    one = changed.add_initializer(make_initializer(np.ones((), np.float32), "one"))
    insert_after(changed, value, [make_node("Mul", [value, one])])
    assert changed.outputs == graph.outputs
    inputs = random_inputs(graph)
    expected = run(graph, inputs)
    for output, array in run(parse_graph(changed.to_bytes()), inputs).items():
        np.testing.assert_array_equal(array, expected[output])


@given(small_models())
def test_counts(content: bytes) -> None:
    """The peak holds each node's own operands and result, and no more than all."""
    graph = infer_shapes(parse_graph(content))
    cost = count(graph)
    everything = sum(node.output_bytes for node in cost.nodes) + 2 * 24
    largest = max((node.output_bytes for node in cost.nodes), default=0)
    assert largest <= cost.peak_activation_bytes <= everything
    assert cost.weight_bytes == sum(
        array.nbytes
        for value in graph.values()
        if (array := graph.constant(value)) is not None
    )
