from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from skerry.core.errors import ModelError
from skerry.graph import (
    Graph,
    _onnx,
    attribute,
    constants_to_initializers,
    dtype_name,
    fold_batch_norm,
    fold_constants,
    infer_shapes,
    insert_after,
    make_initializer,
    make_node,
    name_all_nodes,
    parse_graph,
    place_after,
    read_graph,
    remove_dead,
    replace_all_uses,
    set_attribute,
    set_constant,
    upgrade_opset,
    write_graph,
)
from tests import models
from tests.running import random_inputs, run, same_outputs


def parsed(text: str, **fields: object) -> Graph:
    """A graph from text."""
    return parse_graph(models.model_bytes(text, **fields))


def kinds(graph: Graph) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op_type for node in graph.nodes]


def checked(graph: Graph) -> Graph:
    """The same graph, written and read again: it must be a valid model."""
    return parse_graph(graph.to_bytes())


def double(graph: Graph, name: str) -> None:
    """Insert a multiplication by two after a value."""
    two = graph.add_initializer(
        make_initializer(np.float32(2).reshape(()), graph.unique_name("two"))
    )
    value = graph.value(name)
    insert_after(graph, value, [make_node("Mul", [value, two])])


@pytest.mark.parametrize("build", models.ALL)
@pytest.mark.parametrize(
    "rewrite",
    [
        remove_dead,
        fold_constants,
        constants_to_initializers,
        fold_batch_norm,
        name_all_nodes,
        infer_shapes,
        lambda graph: upgrade_opset(graph, 18),
    ],
)
def test_rewrites_keep_what_is_computed(
    build: models.Builder, rewrite: Callable[[Graph], Graph]
) -> None:
    """Each rewrite leaves its graph as it was and returns one with equal outputs."""
    graph = parse_graph(build())
    before = graph.to_bytes()
    after = rewrite(graph)
    assert graph.to_bytes() == before
    assert after.inputs == graph.inputs
    assert [spec.name for spec in after.outputs] == [s.name for s in graph.outputs]
    assert same_outputs(graph, checked(after))
    assert rewrite(graph).to_bytes() == after.to_bytes()


def test_insert_after_a_node() -> None:
    """All readers of the value read the chain's result."""
    graph = parsed(
        "net (float[2] x) => (float[2] y) {a = Relu(x) b = Neg(a) y = Sub(a, b)}"
    )
    inputs = random_inputs(graph)
    double(graph, "a")
    assert kinds(graph) == ["Relu", "Mul", "Neg", "Sub"]
    expected = 4 * np.maximum(inputs["x"], 0)
    np.testing.assert_allclose(run(checked(graph), inputs)["y"], expected)


def test_insert_after_an_input() -> None:
    """A chain after an input stands first, and only others are led to it."""
    graph = parsed("net (float[2] x) => (float[2] y) {y = Add(x, x)}")
    inputs = random_inputs(graph)
    double(graph, "x")
    assert kinds(graph) == ["Mul", "Add"]
    np.testing.assert_allclose(run(checked(graph), inputs)["y"], 4 * inputs["x"])


def test_insert_after_an_output() -> None:
    """The chain's result becomes the output, of the same name, dtype and shape."""
    graph = parse_graph(models.mlp())
    signature, inputs = graph.outputs, random_inputs(graph)
    expected = 2 * run(graph, inputs)["y"]
    double(graph, "y")
    assert graph.outputs == signature
    np.testing.assert_allclose(run(checked(graph), inputs)["y"], expected, rtol=1e-6)


def test_insert_after_what_a_branch_reads() -> None:
    """Readers inside an If are led to the chain too."""
    graph = parse_graph(models.if_net())
    inputs = random_inputs(graph) | {"flag": np.array(1, dtype=bool)}
    expected = 2 * run(graph, inputs)["y"]
    double(graph, "x")
    np.testing.assert_allclose(run(checked(graph), inputs)["y"], expected, rtol=1e-6)


def test_insert_after_an_input_that_is_an_output() -> None:
    """Such an output stays what the caller gave."""
    graph = parsed("net (float[2] x) => (float[2] x, float[2] y) {y = Relu(x)}")
    inputs = random_inputs(graph)
    double(graph, "x")
    outputs = run(checked(graph), inputs)
    np.testing.assert_array_equal(outputs["x"], inputs["x"])
    np.testing.assert_allclose(outputs["y"], 2 * np.maximum(inputs["x"], 0))


def test_insert_a_chain() -> None:
    """Quantize and dequantize go in together, and dtypes are inferred."""
    graph = parse_graph(models.mlp())
    scale = graph.add_initializer(make_initializer(np.array(0.1, np.float32), "scale"))
    zero = graph.add_initializer(make_initializer(np.array(0, np.int8), "zero"))
    value = graph.value("active")
    quantize = make_node("QuantizeLinear", [value, scale, zero])
    dequantize = make_node("DequantizeLinear", [quantize.outputs[0], scale, zero])
    insert_after(graph, value, [quantize, dequantize])
    assert kinds(graph)[1:4] == ["Relu", "QuantizeLinear", "DequantizeLinear"]
    assert infer_shapes(graph).value("product").shape is not None
    checked(graph)


def test_place_after() -> None:
    """New nodes stand right after what they read; its readers stay as they were."""
    graph = parsed("net (float[2] x) => (float[2] y) {a = Relu(x) y = Neg(a)}")
    place_after(graph, graph.value("a"), [make_node("Exp", [graph.value("a")])])
    place_after(graph, graph.value("x"), [make_node("Abs", [graph.value("x")])])
    assert kinds(graph) == ["Abs", "Relu", "Exp", "Neg"]
    assert kinds(remove_dead(graph)) == ["Relu", "Neg"]


def test_replace_all_uses() -> None:
    """Readers of one value read the other."""
    graph = parsed(
        "net (float[2] x) => (float[2] y) {a = Relu(x) b = Neg(x) y = Mul(b, b)}"
    )
    inputs = random_inputs(graph)
    replace_all_uses(graph, graph.value("b"), graph.value("a"))
    expected = np.maximum(inputs["x"], 0) ** 2
    np.testing.assert_allclose(run(checked(graph), inputs)["y"], expected)
    assert kinds(remove_dead(graph)) == ["Relu", "Mul"]


@pytest.mark.parametrize("new", ["a", "x", "w", "z"])
def test_replace_an_output(new: str) -> None:
    """Whatever takes an output's place, names and signature stay."""
    graph = parsed(
        """net (float[2] x) => (float[2] y, float[2] z) <float[2] w = {5, 6}> {
          a = Relu(x) y = Neg(x) z = Add(a, w)
        }"""
    )
    inputs, signature = random_inputs(graph), graph.outputs
    relu = np.maximum(inputs["x"], 0)
    weight = np.array([5, 6], np.float32)
    expected = {"a": relu, "x": inputs["x"], "w": weight, "z": relu + weight}[new]
    replace_all_uses(graph, graph.value("y"), graph.value(new))
    assert graph.outputs == signature
    outputs = run(checked(remove_dead(graph)), inputs)
    np.testing.assert_allclose(outputs["y"], expected)
    np.testing.assert_allclose(outputs["z"], relu + weight)


def test_remove_dead() -> None:
    """What no output depends on goes, weights included; inputs stay."""
    graph = parsed(
        """net (float[2] x, float[2] unused) => (float[2] y) <float[2] w = {5, 6}> {
          y = Neg(x) a = Add(x, w) b = Relu(a)
        }"""
    )
    alive = remove_dead(graph)
    assert kinds(alive) == ["Neg"]
    assert alive.initializers == ()
    assert alive.inputs == graph.inputs


def test_fold_constants() -> None:
    """What depends on constants alone becomes one; large ones where asked."""
    graph = parsed(
        """net (float[2000] x) => (float[2000] y) {
          shifted = Add(w, w)
          scale = Mul(shifted, shifted)
          y = Mul(x, scale)
        }""",
        weights={"w": np.arange(2000, dtype=np.float32)},
    )
    folded = fold_constants(graph)
    assert kinds(folded) == ["Mul"]
    assert [value.name for value in folded.initializers] == ["scale"]
    assert kinds(fold_constants(graph, max_folded_bytes=100)) == ["Add", "Mul", "Mul"]


def test_constant_outputs_are_not_folded_away() -> None:
    """An output that is constant stays an output that a node makes."""
    graph = parsed("net (float[2] x) => (int64[1] y) {y = Shape(x)}")
    assert kinds(fold_constants(graph)) == ["Shape"]


def test_what_the_reference_cannot_compute_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A constant node that ONNX's reference refuses is left to the runtime."""

    def refuse(*_: object) -> None:
        raise ModelError("no", hint="no")

    graph = parsed(
        "net (float[2] x) => (float[2] y) <float[2] c = {1, 0}> {q=Abs(c) y=Add(x, q)}"
    )
    assert kinds(fold_constants(graph)) == ["Add"]
    monkeypatch.setattr(_onnx, "evaluate", refuse)
    assert kinds(fold_constants(graph)) == ["Abs", "Add"]


def test_insert_into_a_graph_without_nodes() -> None:
    """An initializer that is the output can be put through a chain."""
    graph = parsed("net (float[2] x) => (float[2] w) <float[2] w = {1, 2}> {}")
    double(graph, "w")
    np.testing.assert_array_equal(
        run(checked(graph), random_inputs(graph))["w"], [2, 4]
    )


def test_constants_to_initializers() -> None:
    """Constant nodes of every kind, in branches too, become initializers."""
    graph = parsed(
        """net (float[2] x) => (float[2] y, float z) {
          a = Constant<value_floats = [1.0, 2.0]>()
          b = Constant<value = float {3.0}>()
          c = Add(x, a)
          y = Mul(c, b)
          z = Constant<value_float = 4.0>()
        }"""
    )
    lifted = constants_to_initializers(graph)
    assert kinds(lifted) == ["Add", "Mul", "Constant"]
    assert [value.name for value in lifted.initializers] == ["a", "b"]
    assert same_outputs(graph, checked(lifted))


def test_fold_batch_norm() -> None:
    """Batch norms go into the convolutions before them, with or without a bias."""
    graph = parse_graph(models.conv_net())
    folded = fold_batch_norm(graph)
    assert "BatchNormalization" not in kinds(folded)
    assert len(folded.nodes) == len(graph.nodes) - 2
    stem, depth = (node for node in folded.nodes[:3] if node.op_type == "Conv")
    assert [value.name for value in stem.inputs if value] == [
        "x",
        "stem.weight.folded",
        "stem.bias.folded",
    ]
    assert folded.constant(depth.inputs[2]) is not None
    assert "stem.scale" not in {value.name for value in folded.initializers}


@pytest.mark.parametrize(
    "body",
    [
        # Another reads the convolution's result.
        "c = Conv(x, w) n = BatchNormalization(c, s, s, s, s) y = Add(n, c)",
        # The parameters are not constant.
        "c = Conv(x, w) t = Exp(v) y = BatchNormalization(c, t, s, s, s)",
        # There is no convolution.
        "c = Relu(x) y = BatchNormalization(c, s, s, s, s)",
        # The convolution's bias is not constant.
        "c = Conv(x, w, v) y = BatchNormalization(c, s, s, s, s)",
        # It is in training.
        """c = Conv(x, w)
        y, m, r = BatchNormalization<training_mode = 1>(c, s, s, s, s)""",
        # The weights are not constant.
        "u = Exp(w) v2 = Mul(u, v3) c = Conv(x, v2) y = BatchNormalization(c,s,s,s,s)",
    ],
)
def test_batch_norms_that_stay(body: str) -> None:
    """A batch norm that cannot be folded is left, and so is what it computes."""
    graph = parsed(
        f"""net (float[1, 2, 3, 3] x, float[2] v, float[1] v3)
        => (float[1, 2, 3, 3] y) {{ {body} }}""",
        weights=models.random_weights({"w": (2, 2, 1, 1)})
        | {"s": np.array([1, 2], np.float32)},
    )
    folded = fold_batch_norm(graph)
    assert "BatchNormalization" in kinds(folded)
    assert same_outputs(graph, folded)


def test_batch_norm_as_output() -> None:
    """A batch norm that makes an output leaves its name to the convolution."""
    graph = parsed(
        """net (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] y) {
          c = Conv(x, w) y = BatchNormalization(c, s, s, s, s)
        }""",
        weights=models.random_weights({"w": (2, 2, 1, 1)})
        | {"s": np.array([1, 2], np.float32)},
    )
    folded = fold_batch_norm(graph)
    assert kinds(folded) == ["Conv"]
    assert folded.outputs == graph.outputs
    assert same_outputs(graph, folded)


def test_upgrade_opset() -> None:
    """An old model computes the same in a newer opset; metadata stays with it."""
    graph = parsed(
        """net (float[2, 3, 4] x) => (float[2, 3, 4] y) {
          a = Clip<min = -1.0, max = 1.0>(x)
          y = Softmax<axis = 1>(a)
        }""",
        opset=10,
    )
    graph.metadata["labels"] = "a b c"
    newer = upgrade_opset(graph, 17)
    assert (graph.opset, newer.opset) == (10, 17)
    assert newer.metadata == {"labels": "a b c"}
    assert same_outputs(graph, checked(newer))


def test_upgrade_opset_keeps_large_weights() -> None:
    """Weights that the converter never sees are there afterwards."""
    graph = parsed(
        "net (float[1, 64] x) => (float[1, 64] y) {y = MatMul(x, w)}",
        weights=models.random_weights({"w": (64, 64)}),
        opset=12,
    )
    newer = upgrade_opset(graph, 17)
    assert newer.inputs == graph.inputs
    assert same_outputs(graph, newer)


def test_edits_of_a_model_with_weights_apart(tmp_path: Path) -> None:
    """Weights in another file, small ones too, come through inference and upgrade."""
    graph = parsed(
        "net (float[1, 8] x) => (float[1, 8] y) {a = MatMul(x, w) y = Add(a, b)}",
        weights=models.random_weights({"w": (8, 8), "b": (8,)}),
        opset=12,
    )
    write_graph(graph, tmp_path / "model.onnx", max_embedded_bytes=0)
    apart = read_graph(tmp_path / "model.onnx")
    assert same_outputs(graph, upgrade_opset(infer_shapes(apart), 17))


def test_upgrade_opset_is_a_minimum() -> None:
    """A model that is new enough stays in its opset."""
    graph = parse_graph(models.mlp())
    assert upgrade_opset(graph, 13).to_bytes() == graph.to_bytes()


def test_upgrade_opset_that_cannot_be() -> None:
    """An opset that nobody knows is an error of our tree."""
    with pytest.raises(ModelError, match="cannot be converted to ONNX opset 999"):
        upgrade_opset(parse_graph(models.mlp()), 999)


def test_name_all_nodes() -> None:
    """Nameless nodes are named after their first output; names are unique."""
    content = models.model_bytes(
        "net (float[2] x) => (float[2] y) {a = Relu(x) b = Neg(a) y = Exp(b)}"
    )
    model = onnx.load_model_from_string(content)
    model.graph.node[0].name = "same"
    model.graph.node[1].name = "same"
    named = name_all_nodes(parse_graph(model.SerializeToString()))
    assert [node.name for node in named.nodes] == ["same", "b", "y"]


def test_name_all_nodes_avoids_taken_names() -> None:
    """A name that another node has gets a number."""
    model = onnx.load_model_from_string(
        models.model_bytes("net (float[2] x) => (float[2] y) {a = Relu(x) y = Exp(a)}")
    )
    model.graph.node[1].name = "a"
    named = name_all_nodes(parse_graph(model.SerializeToString()))
    assert [node.name for node in named.nodes] == ["a_2", "a"]


def test_an_initializer_may_hold_another_array() -> None:
    """In its own dtype, and of any shape; copies keep what they had."""
    graph = parse_graph(models.mlp())
    before, copied = graph.to_bytes(), copy.deepcopy(graph)
    name = str(graph.initializers[0].name)
    set_constant(graph.value(name), np.ones((2, 3)))
    held = graph.constant(graph.value(name))
    assert held is not None
    assert (held.dtype, held.shape, held.sum()) == (np.float32, (2, 3), 6)
    assert graph.value(name).shape == (2, 3)
    assert copied.to_bytes() == before


def test_codes_of_four_bits_stay_so() -> None:
    """An array of whole numbers is stored as the initializer's dtype is."""
    value = make_initializer(np.zeros(4, np.int8), "codes", "int4")
    set_constant(value, np.array([-8, 7, 1]))
    assert dtype_name(value) == "int4"
    held = _onnx.constant_array(value)
    assert held is not None
    assert held.astype(int).tolist() == [-8, 7, 1]


def test_an_attribute_is_set_where_it_was_or_was_not() -> None:
    """The next reader finds the number."""
    graph = parse_graph(models.conv_net())
    node = graph.nodes[0]
    set_attribute(node, "group", 2)
    set_attribute(node, "axis", -1)
    assert (attribute(node, "group", 1), attribute(node, "axis", 0)) == (2, -1)
