from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import DataError, ModelError
from skerry.graph import (
    Graph,
    forget_shapes,
    infer_shapes,
    parse_graph,
    read_graph,
    with_static_inputs,
)
from tests import models
from tests.running import same_outputs


def open_shapes(graph: Graph) -> list[str]:
    """The names of the values whose shape is not all numbers."""
    return [
        value.name or ""
        for value in graph.values()
        if value.shape is None or not value.shape.is_static()
    ]


def test_static_inputs_bind_symbols() -> None:
    """A symbol that gets a size has it everywhere; the graph given is left alone."""
    graph = parse_graph(models.dynamic_net())
    static = with_static_inputs(graph, {"x": (2, 3, 32, 32)})
    assert static.inputs[0].shape == (2, 3, 32, 32)
    assert static.outputs[0].shape == (2, 4)
    assert graph.inputs[0].shape == ("batch", 3, "size", "size")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1, 3, 8, 8)}, "no input 'z'"),
        ({"x": (1, 3, 8)}, r"1×3×8 does not fit the input: expected x float32\["),
        ({"x": (1, 4, 8, 8)}, "1×4×8×8 does not fit"),
        ({"x": (0, 3, 8, 8)}, "0×3×8×8 does not fit"),
        ({"x": (-1, 3, 8, 8)}, "does not fit"),
        ({"x": (1, 3, 8, 16)}, "gives 'size' the size 16, but .* gives it 8"),
    ],
)
def test_static_inputs_that_do_not_fit(
    shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    """A wrong name, rank or size is refused with what was got and expected."""
    with pytest.raises(DataError, match=message):
        with_static_inputs(parse_graph(models.dynamic_net()), shapes)


@pytest.mark.parametrize(
    ("build", "shapes"),
    [
        (models.conv_net, {}),
        (models.dynamic_net, {"x": (3, 3, 12, 12)}),
        (models.mlp, {}),
        (models.reshape_net, {"x": (2, 5, 8)}),
        (models.if_net, {}),
    ],
)
def test_all_shapes_become_known(
    build: models.Builder, shapes: dict[str, tuple[int, ...]]
) -> None:
    """With static inputs each tensor gets a static shape, and outputs stay the same."""
    graph = with_static_inputs(parse_graph(build()), shapes)
    inferred = infer_shapes(graph)
    assert open_shapes(inferred) == []
    assert same_outputs(graph, inferred)


def test_shape_computations_are_folded() -> None:
    """Of a chain from Shape to Reshape only the Reshape is left."""
    graph = with_static_inputs(parse_graph(models.reshape_net()), {"x": (2, 5, 8)})
    kinds = {node.op_type for node in infer_shapes(graph).nodes}
    assert kinds == {"Reshape", "Transpose", "MatMul", "Softmax"}


def test_size_and_parts_of_a_shape_are_folded() -> None:
    """`Size`, and a `Shape` with a start and an end, are constants too."""
    content = models.model_bytes(
        """net (float[2, 3, 5] x) => (int64 n, int64[1] m) {
          size = Size(x) n = Neg(size)
          part = Shape<start = -2, end = -1>(x) m = Neg(part)
        }"""
    )
    graph = infer_shapes(parse_graph(content))
    assert [node.op_type for node in graph.nodes] == ["Neg", "Neg"]
    constants = {value.name: graph.constant(value) for value in graph.initializers}
    np.testing.assert_array_equal(constants["size"], 30)
    np.testing.assert_array_equal(constants["part"], [3])


def test_what_depends_on_symbols_stays() -> None:
    """Without static inputs the same chain is left whole."""
    graph = parse_graph(models.reshape_net())
    kinds = {node.op_type for node in infer_shapes(graph).nodes}
    assert {"Shape", "Gather", "Concat", "Reshape"} <= kinds


def test_large_results_are_not_folded() -> None:
    """A constant larger than the bound stays the node that makes it."""
    content = models.model_bytes(
        """net (float[1000] x) => (float[1000] y) {
          size = Shape(x)
          ones = ConstantOfShape<value = float[1] {1.0}>(size)
          y = Add(x, ones)
        }"""
    )
    graph = parse_graph(content)
    assert [node.op_type for node in infer_shapes(graph).nodes] == ["Add"]
    small = infer_shapes(graph, max_folded_bytes=1000)
    assert [node.op_type for node in small.nodes] == ["ConstantOfShape", "Add"]


def test_dequantized_weights_are_not_folded() -> None:
    """Folding DequantizeLinear would make integers floats again."""
    content = models.model_bytes(
        """net (float[2] x) => (float[2] y)
        <int8[2] w = {1, 2}, float scale = {0.5}> {
          weight = DequantizeLinear(w, scale)
          y = Mul(x, weight)
        }"""
    )
    kinds = [node.op_type for node in infer_shapes(parse_graph(content)).nodes]
    assert kinds == ["DequantizeLinear", "Mul"]


def test_random_nodes_are_not_folded() -> None:
    """What is drawn anew each time is no constant."""
    content = models.model_bytes(
        """net (float[2] x) => (float[2] y) {
          noise = RandomNormal<shape = [2]>()
          y = Add(x, noise)
        }"""
    )
    assert len(infer_shapes(parse_graph(content)).nodes) == 2


def test_shapes_that_do_not_fit_together() -> None:
    """An operator whose inputs do not fit it is an error that names it."""
    graph = parse_graph(
        models.model_bytes(
            "net (float[2, 3] x, float[4, 5] z) => (float[a, b] y) {y = MatMul(x, z)}"
        )
    )
    with pytest.raises(ModelError, match=r"do not fit together: .*MatMul"):
        infer_shapes(graph)


def test_wrong_shapes_inside_are_corrected() -> None:
    """What the model says of its inside is not trusted where inference knows better."""
    graph = parse_graph(
        models.model_bytes("net (float[2, 3] x) => (float[3, 9] y) {y = Transpose(x)}")
    )
    assert infer_shapes(graph).outputs[0].shape == (3, 2)


def test_shapes_of_custom_operators_are_kept() -> None:
    """Inference knows nothing of a custom operator: the model's word stands."""
    content = models.model_bytes(
        """net (float[2] x) => (float[5] y) <float[5] a> {
          a = com.example.Grow(x) y = Relu(a)
        }""",
        domains=', "com.example": 1',
    )
    assert open_shapes(infer_shapes(parse_graph(content))) == []


def test_endless_range_does_not_hang() -> None:
    """A Range of 2⁶² elements is inferred without listing them."""
    content = models.model_bytes(
        """net (float[1] x) => (int64[n] y)
        <int64 first = {0}, int64 last = {4611686018427387904}, int64 step = {1}> {
          all = Range(first, last, step)
          y = Neg(all)
        }"""
    )
    assert infer_shapes(parse_graph(content)).outputs[0].shape == (2**62,)


def test_real_recognition_net() -> None:
    """The PP-OCR recognition net, given a picture's size, is static throughout."""
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-onnxruntime is not installed")
    path = Path(spec.origin).parent / "models" / "ch_PP-OCRv4_rec_infer.onnx"
    graph = with_static_inputs(read_graph(path), {"x": (1, 3, 48, 320)})
    inferred = infer_shapes(graph)
    assert open_shapes(inferred) == []
    assert inferred.outputs[0].shape == (1, 40, 6625)
    assert inferred.metadata == graph.metadata


def test_forgotten_shapes_are_found_again() -> None:
    """Those of inputs and outputs stay: they are the signature."""
    graph = infer_shapes(parse_graph(models.conv_net()))
    forget_shapes(graph)
    forgotten = open_shapes(graph)
    assert len(forgotten) == len(graph.nodes) - 1
    assert open_shapes(infer_shapes(graph)) == []
