"""ONNX graphs as TFLite files: what is written, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnxruntime
import pytest

from skerry.adapt.tflite import (
    _schema,
    count_floats,
    read_tflite_graph,
    write_tflite,
)
from skerry.adapt.tflite.net import Net, Operator, Quantization, Tensor
from skerry.core.errors import ModelError
from skerry.graph import Graph, infer_shapes, parse_graph
from tests.models import model_bytes
from tests.tflite import Noise, Reference, float_graph, quantized

PICTURE = "net (float[1, 4, 9, 9] x) => (float[] y)"


def operators(graph: Graph, *, keep_layout: bool = False) -> dict[str, int]:
    """How often a graph's file has each operator."""
    content = write_tflite(graph, keep_layout=keep_layout)
    net = _schema.decode(content, "net")
    return dict(Counter(operator.code for operator in net.operators))


def conv(body: str, **shapes: tuple[int, ...]) -> Graph:
    """A float graph on a picture."""
    return float_graph(f"{PICTURE} {{ {body} }}", shapes)


def test_activations_are_fused() -> None:
    """Relu and the limits of relu6 stand inside the convolution."""
    body = """
        l = Constant<value=float {0.0}>() h = Constant<value=float {6.0}>()
        a = Conv(x, w) r = Relu(a) b = Conv(r, w) y = Clip(b, l, h)
    """
    assert operators(conv(body, w=(4, 4, 3, 3))) == {"CONV_2D": 2}
    assert operators(quantized(conv(body, w=(4, 4, 3, 3)))) == {"CONV_2D": 2}


def test_channels_go_last_where_that_saves_transposes() -> None:
    """Unless the layout is to be kept."""
    graph = conv("y = Conv(x, w)", w=(4, 4, 3, 3))
    assert operators(graph) == {"CONV_2D": 1}
    assert operators(graph, keep_layout=True) == {"CONV_2D": 1, "TRANSPOSE": 2}


def test_a_graph_with_channels_last_outside_keeps_them() -> None:
    """Its own transposes are none of the file's."""
    body = """
        t = Transpose<perm=[0, 3, 1, 2]>(x) c = Conv(t, w)
        y = Transpose<perm=[0, 2, 3, 1]>(c)
    """
    graph = conv(body, w=(4, 9, 3, 3))
    content = write_tflite(graph)
    assert operators(graph) == {"CONV_2D": 1}
    assert read_tflite_graph(content).inputs[0].shape == (1, 4, 9, 9)


def test_flattened_pictures_stay_where_they_are() -> None:
    """The weights of the dense layer follow the channels; nothing is transposed."""
    body = "c = Conv(x, w) f = Flatten(c) y = Gemm<transB=1>(f, v)"
    graph = conv(body, w=(3, 4, 3, 3), v=(5, 147))
    assert operators(graph) == {"CONV_2D": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1}


def test_uneven_padding_has_an_operator_of_its_own() -> None:
    """As PyTorch pads a stride of two; what SAME does needs none."""
    uneven = conv("y = Conv<strides=[2, 2], pads=[1, 1, 0, 0]>(x, w)", w=(4, 4, 2, 2))
    assert operators(uneven) == {"PAD": 1, "CONV_2D": 1}
    even = conv("y = Conv<pads=[1, 1, 1, 1]>(x, w)", w=(4, 4, 3, 3))
    assert operators(even) == {"CONV_2D": 1}


def test_what_is_not_quantized_stays_float() -> None:
    """And is told."""
    graph = conv("a = Relu(x) y = Sigmoid(a)")
    assert count_floats(write_tflite(graph)) == (0, ("a", "y"))


def test_mixed_graphs_pass_from_codes_to_floats_and_back() -> None:
    """An operator without a kernel for codes is computed in float between them."""
    body = "a = Conv(x, w) b = Relu(a) e = Cos(b) y = Conv(e, w)"
    graph = conv(body, w=(4, 4, 1, 1))
    mixed = quantized(graph)
    content = write_tflite(mixed)
    assert "DEQUANTIZE" in operators(mixed)
    reference = Reference(content)
    session = onnxruntime.InferenceSession(mixed.to_bytes())
    for row in Noise(graph, count=2, seed=5).rows:
        (wanted,) = session.run(None, row)
        found = reference.run(row)["y"].transpose(0, 3, 1, 2)
        step = reference.steps()["y"] or float(np.ptp(wanted)) / 255
        assert np.abs(found - wanted).max() < 2.5 * step


def test_codes_of_uint8_outside_stay_so() -> None:
    """A file whose pictures are uint8 is written with uint8 again."""
    scale = Quantization(scale=np.ones(1, np.float32) / 64, zero_point=np.array([128]))
    tensors = tuple(
        Tensor(name=name, dtype="uint8", shape=(1, 5), quantization=scale)
        for name in ("x", "y")
    )
    relu = Operator(code="RELU", inputs=(0,), outputs=(1,))
    net = Net(tensors=tensors, operators=(relu,), inputs=(0,), outputs=(1,))
    graph = read_tflite_graph(_schema.encode(net, "a test"))
    reference = Reference(write_tflite(graph))
    codes = np.array([[0, 100, 128, 129, 255]], np.uint8)
    np.testing.assert_array_equal(
        reference.codes({"x": codes})["y"], [[128, 128, 128, 129, 255]]
    )


def test_the_same_graph_gives_the_same_bytes() -> None:
    """Files can be compared, and cached."""
    graph = quantized(conv("y = Conv(x, w)", w=(4, 4, 3, 3)))
    assert write_tflite(graph) == write_tflite(graph.copy())


def test_kernels_for_codes_are_asked_for() -> None:
    """Old runtimes see that they lack them."""
    content = write_tflite(quantized(conv("y = Conv(x, w)", w=(4, 4, 3, 3))))
    (operator,) = _schema.decode(content, "net").operators
    assert operator.version == 3


REFUSED = {
    "y = Erf(x)": "no operator for the Erf 'y', which makes 1×4×9×9",
    'y = DepthToSpace<blocksize=2, mode="CRD">(x)': "columns before rows",
    "y = Elu<alpha=0.5>(x)": "an alpha other than 1",
    'y = Pad<mode="edge">(x, p)': "pads by edge",
    "y = AveragePool<kernel_shape=[3, 3], pads=[2, 2, 0, 0]>(x)": "pads unevenly",
    "y = MaxPool<kernel_shape=[2, 2], dilations=[2, 2]>(x)": "is dilated",
    'y = Resize<mode="cubic">(x, , s)': "resizes by cubic",
    "y = ConvTranspose<group=2>(x, w)": "groups or dilations",
}


@pytest.mark.parametrize("body", REFUSED)
def test_what_tflite_lacks_is_named(body: str) -> None:
    """With the node, its shape, and what to try."""
    weights = {
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "s": np.array([1, 1, 2, 2], np.float32),
        "w": np.ones((4, 2, 3, 3), np.float32),
    }
    used = {name: one for name, one in weights.items() if f" {name})" in body}
    text = f"net (float[1, 4, 9, 9] x) => (float[N, C, H, W] y) {{ {body} }}"
    graph = infer_shapes(parse_graph(model_bytes(text, used)))
    with pytest.raises(ModelError, match=REFUSED[body]) as caught:
        write_tflite(graph)
    assert caught.value.hint


def test_an_activation_of_others_is_not_fused() -> None:
    """A vendor's Relu may be anything, so there is no such file."""
    text = "net (float[1, 4, 9, 9] x) => (float[1, 4, 9, 9] y)"
    content = model_bytes(
        f"{text} {{ a = Add(x, x) y = com.example.Relu(a) }}",
        domains=', "com.example": 1',
    )
    with pytest.raises(ModelError, match="no operator for the Relu 'y'"):
        write_tflite(infer_shapes(parse_graph(content)))


def test_open_shapes_are_refused() -> None:
    """TFLite's are fixed; how to fix them is told."""
    text = "net (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }"
    with pytest.raises(ModelError, match="does not fix the shape of 'x'") as caught:
        write_tflite(parse_graph(model_bytes(text)))
    assert "--shape" in caught.value.hint


def pairs(dtype: str, *, zero_point: int = 0) -> Graph:
    """A convolution whose weights are codes of a dtype."""
    text = """net (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) {
        q = QuantizeLinear(x, s, a) d = DequantizeLinear(q, s, a)
        v = DequantizeLinear(w, s, z) c = Conv(d, v)
        r = QuantizeLinear(c, s, a) y = DequantizeLinear(r, s, a)
    }"""
    weights = {
        "s": np.array(0.1, np.float32),
        "a": np.array(3, np.int8),
        "z": np.array(zero_point, dtype),
        "w": np.ones((1, 1, 1, 1), dtype),
    }
    return parse_graph(model_bytes(text, weights, opset=21))


def test_codes_that_tflite_lacks_are_refused() -> None:
    """Weights with a zero point, and codes of 16 bits."""
    with pytest.raises(ModelError, match="weights with a zero point"):
        write_tflite(pairs("int8", zero_point=4))
    with pytest.raises(ModelError, match="codes of int16"):
        write_tflite(pairs("int16"))
    assert count_floats(write_tflite(pairs("uint8", zero_point=128)))[1] == ()
