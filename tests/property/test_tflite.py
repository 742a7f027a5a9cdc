"""TFLite's reference kernels make of our files what onnxruntime makes of ONNX."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.adapt.tflite import count_floats, read_tflite_graph, write_tflite
from skerry.core.seams import Array
from skerry.graph import Graph
from tests.tflite import Noise, Reference, float_graph, in_order, quantized

onnxruntime.set_default_logger_severity(3)

SIZE = 9
CHANNELS = 4

DRAWN = ("activations", "convolutions", "pools")
"""Kinds of which there is more than one."""

Shapes = dict[str, tuple[int, ...]]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[str, Shapes]:
    """A convolution of some kind, with an activation behind it or none."""
    kernel, stride, dilation = (draw(st.integers(1, most)) for most in (3, 3, 2))
    pads = [draw(st.integers(0, kernel // 2)) for _ in range(4)]
    group = draw(st.sampled_from((1, CHANNELS)))
    made = draw(st.sampled_from((CHANNELS, 2 * CHANNELS)))
    call = (
        f"Conv<pads={pads}, strides=[{stride}, {stride}], group={group}, "
        f"dilations=[{dilation}, {dilation}]>(x, w{draw(st.sampled_from(('', ', b')))})"
    )
    shapes = {"w": (made, CHANNELS // group, kernel, kernel), "b": (made,)}
    behind = draw(st.sampled_from(("Relu", "Identity")))
    return f"t = {call} y = {behind}(t)", shapes


ACTIVATIONS = ("Relu", "HardSwish", "Sigmoid", "LeakyRelu", "Tanh", "Softmax")


@st.composite
def activations(draw: st.DrawFn) -> tuple[str, Shapes]:
    """An activation by itself."""
    return f"y = {draw(st.sampled_from(ACTIVATIONS))}(x)", {}


@st.composite
def pools(draw: st.DrawFn) -> tuple[str, Shapes]:
    """A pool by itself."""
    kernel, stride = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    begin, end = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    window = f"kernel_shape=[{kernel}, {kernel}], strides=[{stride}, {stride}]"
    pads = f"pads=[{begin}, {begin}, {end}, {end}]"
    call = draw(
        st.sampled_from(
            (
                f"MaxPool<{window}, {pads}>(x)",
                f"AveragePool<{window}, {pads}, count_include_pad=1>(x)",
                f"AveragePool<{window}>(x)",
                "GlobalAveragePool(x)",
            )
        )
    )
    return f"y = {call}", {}


def moves(
    text: str, **shapes: tuple[int, ...]
) -> st.SearchStrategy[tuple[str, Shapes]]:
    """A fixed text."""
    return st.just((text, dict(shapes)))


NETS = {
    "convolutions": convolutions(),
    "activations": activations(),
    "pools": pools(),
    "residual": moves(
        "a = Conv<pads=[1, 1, 1, 1]>(x, w, b) r = Relu(a) y = Add(x, r)",
        w=(4, 4, 3, 3),
        b=(4,),
    ),
    "concat": moves(
        "a = Conv(x, w) b = Relu(x) c = Concat<axis=1>(a, b) y = Conv(c, v)",
        w=(3, 4, 1, 1),
        v=(5, 7, 1, 1),
    ),
    "flatten to dense": moves(
        "a = Conv(x, w) r = Relu(a) f = Flatten(r) y = Gemm<transB=1>(f, v, b)",
        w=(3, 4, 3, 3),
        v=(5, 147),
        b=(5,),
    ),
    "flatten to all": moves(
        "a = Conv(x, w) r = Relu(a) f = Flatten(r) y = LeakyRelu(f)",
        w=(2, 4, 7, 7),
    ),
    "matrix product": moves(
        "g = GlobalAveragePool(x) f = Flatten(g) m = MatMul(f, v) y = Add(m, b)",
        v=(4, 6),
        b=(6,),
    ),
    "attention over channels": moves(
        "g = GlobalAveragePool(x) c = Conv(g, w, b) s = Sigmoid(c) y = Mul(x, s)",
        w=(4, 4, 1, 1),
        b=(4,),
    ),
    "softmax over channels": moves(
        "t = Transpose<perm=[0, 3, 2, 1]>(x) y = Softmax<axis=1>(t)"
    ),
    "a constant for each channel": moves(
        "a = Conv(x, w) m = Mul(a, s) y = Add(m, o)",
        w=(4, 4, 1, 1),
        s=(1, 4, 1, 1),
        o=(4, 1, 1),
    ),
    "transposed": moves(
        "a = Conv(x, w) t = Transpose<perm=[0, 2, 3, 1]>(a) y = Relu(t)",
        w=(5, 4, 3, 3),
    ),
    "nested transposes": moves(
        "t = Transpose<perm=[0, 3, 1, 2]>(x) u = Transpose<perm=[0, 3, 1, 2]>(t)"
        "v = Transpose<perm=[0, 3, 1, 2]>(u) y = Conv(v, w)",
        w=(5, 4, 3, 3),
    ),
    "larger": moves(
        "s = Constant<value=float[4] {1.0, 1.0, 2.0, 2.0}>() r = Conv(x, u)"
        'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", '
        'nearest_mode="floor">(r, , s)',
        u=(4, 4, 1, 1),
    ),
    "smoothly larger": moves(
        "s = Constant<value=float[4] {1.0, 1.0, 2.0, 2.0}>() r = Conv(x, u)"
        'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">'
        "(r, , s)",
        u=(4, 4, 1, 1),
    ),
    "cut and padded": moves(
        "p = Constant<value=int64[8] {0, 0, 1, 0, 0, 0, 2, 3}>() r = Conv(x, u)"
        "b = Constant<value=int64[2] {1, 2}>() e = Constant<value=int64[2] {3, 9}>()"
        "a = Constant<value=int64[2] {1, 3}>() c = Slice(r, b, e, a) y = Pad(c, p)",
        u=(4, 4, 1, 1),
    ),
    "parts": moves(
        "r = Conv(x, u) n = Constant<value=int64[2] {1, 3}>() "
        "a, b = Split<axis=1>(r, n) y = Conv(b, w)",
        w=(2, 3, 3, 3),
        u=(4, 4, 1, 1),
    ),
    "upwards": moves(
        "y = ConvTranspose<strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]>"
        "(x, w, b)",
        w=(4, 3, 3, 3),
        b=(3,),
    ),
    "limited": moves(
        "l = Constant<value=float {-0.25}>() h = Constant<value=float {0.75}>()"
        "a = Conv(x, w) y = Clip(a, l, h)",
        w=(4, 4, 1, 1),
    ),
    "a number for each column": moves(
        "c = Conv(x, u) g = ReduceMean<axes=[0, 1, 2], keepdims=0>(c) y = Add(c, g)",
        u=(4, 4, 1, 1),
    ),
    "a mean": moves(
        "r = Conv(x, u) y = ReduceMean<axes=[2, 3], keepdims=0>(r)",
        u=(4, 4, 1, 1),
    ),
}


def build(drawn: tuple[str, Shapes]) -> Graph:
    """A float graph of a drawn body."""
    body, shapes = drawn
    used = {name: one for name, one in shapes.items() if f" {name}" in f" {body}"}
    given_shape = f"float[1, {CHANNELS}, {SIZE}, {SIZE}]"
    return float_graph(f"net ({given_shape} x) => (float[] y) {{ {body} }}", used)


def on_onnxruntime(graph: Graph, row: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a graph."""
    session = onnxruntime.InferenceSession(graph.to_bytes())
    names = [spec.name for spec in graph.outputs]
    return dict(zip(names, session.run(names, row), strict=True))


@pytest.mark.parametrize("kind", NETS)
def test_codes_are_those_of_onnx(kind: str) -> None:
    """Each operator alone is off by one code at most; a few in a row by two."""

    @settings(max_examples=12 if kind in DRAWN else 1)
    @given(NETS[kind])
    def check(drawn: tuple[str, Shapes]) -> None:
        graph = quantized(build(drawn))
        # Where all sizes are alike, nobody can tell which order an output is in.
        told = all(len(set(spec.shape[1:])) > 1 for spec in graph.outputs)
        content = write_tflite(graph, keep_layout=not told)
        assert count_floats(content)[1] == ()
        reference = Reference(content)
        for row in Noise(graph, count=3, seed=9).rows:
            found = reference.run(row)
            for name, wanted in on_onnxruntime(graph, row).items():
                off = in_order(found[name], wanted.shape) - wanted
                steps = np.abs(off) / reference.steps()[name]
                assert np.mean(steps > 1.01) <= 0.002
                assert steps.max() < 2.5

    check()


@pytest.mark.parametrize("kind", NETS)
def test_floats_are_those_of_onnx(kind: str) -> None:
    """Graphs without pairs become files without codes, and come back as they were."""

    @settings(max_examples=8 if kind in DRAWN else 1)
    @given(NETS[kind])
    def check(drawn: tuple[str, Shapes]) -> None:
        graph = build(drawn)
        content = write_tflite(graph, keep_layout=True)
        back = read_tflite_graph(content)
        reference = Reference(content)
        assert [s.name for s in back.inputs] == [s.name for s in graph.inputs]
        for row in Noise(graph, count=2, seed=9).rows:
            wanted = on_onnxruntime(graph, row)
            again = on_onnxruntime(back, row)
            for name, found in reference.run(row).items():
                np.testing.assert_allclose(found, wanted[name], rtol=2e-4, atol=2e-5)
                np.testing.assert_allclose(
                    again[name], wanted[name], rtol=2e-4, atol=2e-5
                )

    check()


@pytest.mark.parametrize("kind", NETS)
def test_a_file_that_was_read_is_written_alike(kind: str) -> None:
    """Out, in and out again: LiteRT gives the same codes, to the last one."""

    @settings(max_examples=6 if kind in DRAWN else 1)
    @given(NETS[kind])
    def check(drawn: tuple[str, Shapes]) -> None:
        first = write_tflite(quantized(build(drawn)))
        second = write_tflite(read_tflite_graph(first))
        before, after = Reference(first), Reference(second)
        rng = np.random.default_rng(1)
        (taken,) = before.inputs
        for _ in range(3):
            codes = rng.integers(-128, 128, taken["shape"]).astype(np.int8)
            made = before.codes({taken["name"]: codes})
            for name, array in after.codes({taken["name"]: codes}).items():
                np.testing.assert_array_equal(array, made[name])
        assert math.isclose(before.steps()[name], after.steps()[name], rel_tol=1e-6)

    check()
