"""TFLite operators as ONNX: the same numbers as on LiteRT's reference kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from skerry.adapt.tflite import _schema, read_tflite_graph, write_tflite
from skerry.adapt.tflite.net import Net, Operator, Option, Quantization, Tensor
from skerry.core.errors import ModelError
from skerry.core.seams import Array
from tests.tflite import Reference, float_graph, quantized
from tests.twins import tflite_net

PICTURE = (1, 4, 6, 8)

INT = np.int32


def one_operator(
    code: str,
    inputs: list[tuple[int, ...] | Array],
    outputs: list[tuple[int, ...]],
    options: Mapping[str, Option] | None = None,
    dtype: str = "float32",
) -> Net:
    """A net of one operator: shapes are inputs, arrays constants."""
    tensors = []
    for place, one in enumerate(inputs):
        content = one if isinstance(one, np.ndarray) else None
        tensors.append(
            Tensor(
                name=f"in{place}",
                dtype="float32" if content is None else content.dtype.name,
                shape=one.shape if isinstance(one, np.ndarray) else one,
                content=content,
            )
        )
    varying = [n for n, one in enumerate(tensors) if one.content is None]
    count = len(tensors)
    for place, shape in enumerate(outputs):
        tensors.append(Tensor(name=f"out{place}", dtype=dtype, shape=shape))
    made = tuple(range(count, len(tensors)))
    operator = Operator(
        code=code, inputs=tuple(range(count)), outputs=made, options=options or {}
    )
    return Net(
        tensors=tuple(tensors),
        operators=(operator,),
        inputs=tuple(varying),
        outputs=made,
    )


def ints(*numbers: int) -> Array:
    """A constant of int32."""
    return np.array(numbers, INT)


POSITIVE = {"LOG", "RSQRT", "SQRT", "POW"}
"""Operators that take nothing below zero."""

NO_MASKS = {"ellipsis_mask": 0, "new_axis_mask": 0}

CASES: dict[str, Net] = {
    **{
        code: one_operator(code, [PICTURE], [PICTURE])
        for code in (
            *("ABS", "COS", "EXP", "FLOOR", "HARD_SWISH", "LOG"),
            *("LOG_SOFTMAX", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "RSQRT"),
            *("SIN", "SQRT", "SQUARE", "TANH", "LOGISTIC", "RELU_0_TO_1"),
        )
    },
    **{
        code: one_operator(code, [PICTURE, (1, 4, 6, 8)], [PICTURE])
        for code in ("MAXIMUM", "MINIMUM", "POW", "DIV", "SUB")
    },
    "GELU": one_operator("GELU", [PICTURE], [PICTURE], {"approximate": False}),
    "GELU, tanh": one_operator("GELU", [PICTURE], [PICTURE], {"approximate": True}),
    "LEAKY_RELU": one_operator("LEAKY_RELU", [PICTURE], [PICTURE], {"alpha": 0.25}),
    "SOFTMAX": one_operator("SOFTMAX", [PICTURE], [PICTURE], {"beta": 0.5}),
    "PRELU": one_operator(
        "PRELU",
        [PICTURE, np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 1, 8)],
        [PICTURE],
    ),
    "MIRROR_PAD": one_operator(
        "MIRROR_PAD",
        [PICTURE, ints(0, 0, 1, 2, 3, 0, 0, 0).reshape(4, 2)],
        [(1, 7, 9, 8)],
        {"mode": 0},
    ),
    "PADV2": one_operator(
        "PADV2",
        [
            PICTURE,
            ints(0, 0, 1, 2, 3, 0, 0, 0).reshape(4, 2),
            np.array([2.5], np.float32),
        ],
        [(1, 7, 9, 8)],
    ),
    "SLICE": one_operator(
        "SLICE", [PICTURE, ints(0, 1, 2, 3), ints(1, 2, -1, 4)], [(1, 2, 4, 4)]
    ),
    "STRIDED_SLICE": one_operator(
        "STRIDED_SLICE",
        [PICTURE, ints(0, 3, 1, -1), ints(1, 0, 6, 0), ints(1, -1, 2, 1)],
        [(1, 4, 3)],
        {**NO_MASKS, "begin_mask": 1, "end_mask": 2, "shrink_axis_mask": 8},
    ),
    "SPLIT": one_operator(
        "SPLIT", [np.array(3, INT), PICTURE], [(1, 4, 6, 4)] * 2, {"num_splits": 2}
    ),
    "SPLIT_V": one_operator(
        "SPLIT_V",
        [PICTURE, ints(2, 4), np.array(2, INT)],
        [(1, 4, 2, 8), (1, 4, 4, 8)],
        {"num_splits": 2},
    ),
    "PACK": one_operator(
        "PACK", [(3, 4), (3, 4)], [(3, 2, 4)], {"axis": 1, "values_count": 2}
    ),
    "UNPACK": one_operator("UNPACK", [(3, 2, 4)], [(3, 4)] * 2, {"axis": 1, "num": 2}),
    "GATHER": one_operator(
        "GATHER", [PICTURE, ints(3, 1)], [(1, 4, 2, 8)], {"axis": 2}
    ),
    "ARG_MAX": one_operator(
        "ARG_MAX",
        [PICTURE, np.array(3, INT)],
        [(1, 4, 6)],
        {"output_type": 2},
        dtype="int32",
    ),
    "CAST": one_operator("CAST", [PICTURE], [PICTURE], dtype="int32"),
    **{
        code: one_operator(
            code, [PICTURE, ints(1, 3)], [(1, 1, 6, 1)], {"keep_dims": True}
        )
        for code in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
    },
    "MEAN of places": one_operator(
        "MEAN", [PICTURE, ints(1, 2)], [(1, 8)], {"keep_dims": False}
    ),
    "SPACE_TO_BATCH_ND": one_operator(
        "SPACE_TO_BATCH_ND",
        [PICTURE, ints(2, 2), ints(1, 1, 0, 2).reshape(2, 2)],
        [(4, 3, 4, 8)],
    ),
    "BATCH_TO_SPACE_ND": one_operator(
        "BATCH_TO_SPACE_ND",
        [(4, 3, 4, 8), ints(2, 2), ints(1, 1, 0, 2).reshape(2, 2)],
        [(1, 4, 6, 8)],
    ),
    "DEPTH_TO_SPACE": one_operator(
        "DEPTH_TO_SPACE", [PICTURE], [(1, 8, 12, 2)], {"block_size": 2}
    ),
    "SPACE_TO_DEPTH": one_operator(
        "SPACE_TO_DEPTH", [PICTURE], [(1, 2, 3, 32)], {"block_size": 2}
    ),
    "BATCH_MATMUL": one_operator(
        "BATCH_MATMUL",
        [(2, 3, 4), (2, 5, 4)],
        [(2, 3, 5)],
        {"adj_x": False, "adj_y": True},
    ),
    "AVERAGE_POOL_2D, padded": one_operator(
        "AVERAGE_POOL_2D",
        [PICTURE],
        [(1, 2, 3, 8)],
        {
            "padding": 0,
            "filter_height": 3,
            "filter_width": 3,
            "stride_h": 2,
            "stride_w": 2,
        },
    ),
    **{
        f"{code}, {corners}, {centers}": one_operator(
            code,
            [PICTURE, ints(7, 5)],
            [(1, 7, 5, 8)],
            {"align_corners": corners, "half_pixel_centers": centers},
        )
        for code in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
        for corners, centers in ((False, False), (True, False), (False, True))
    },
    "TRANSPOSE_CONV": one_operator(
        "TRANSPOSE_CONV",
        [
            ints(1, 8, 12, 3),
            np.random.default_rng(2).normal(size=(3, 3, 3, 8)).astype(np.float32),
            PICTURE,
        ],
        [(1, 8, 12, 3)],
        {"padding": 0, "stride_h": 2, "stride_w": 2},
    ),
    "EXPAND_DIMS": one_operator("EXPAND_DIMS", [(3, 4), np.array(1, INT)], [(3, 1, 4)]),
    "SQUEEZE": one_operator("SQUEEZE", [(3, 1, 4)], [(3, 4)]),
    "TRANSPOSE": one_operator("TRANSPOSE", [PICTURE, ints(0, 3, 1, 2)], [(1, 8, 4, 6)]),
}


@pytest.mark.parametrize("case", CASES)
def test_operators_compute_the_same(case: str) -> None:
    """Each on noise: LiteRT and onnxruntime agree."""
    net = CASES[case]
    content = _schema.encode(net, "a test")
    graph = read_tflite_graph(content)
    rng = np.random.default_rng(0)
    given = {
        net.tensors[index].name: rng.normal(size=net.tensors[index].shape).astype(
            np.float32
        )
        for index in net.inputs
    }
    if net.operators[0].code in POSITIVE:
        given = {name: np.abs(array) + 0.1 for name, array in given.items()}
    wanted = Reference(content).codes(given)
    session = onnxruntime.InferenceSession(graph.to_bytes())
    for spec, found in zip(graph.outputs, session.run(None, given), strict=True):
        assert found.dtype == wanted[spec.name].dtype
        np.testing.assert_allclose(found, wanted[spec.name], rtol=1e-4, atol=1e-5)


def test_names_are_those_of_the_signature() -> None:
    """Inputs and outputs are called as callers call them."""
    graph = read_tflite_graph(tflite_net(is_signed=True))
    assert [str(spec) for spec in graph.inputs] == ["picture float32[1×8×8×3]"]
    assert [str(spec) for spec in graph.outputs] == ["scores float32[1×3]"]


def test_a_free_batch_is_one() -> None:
    """Files whose batch may be of any size are read with the size they begin with."""
    assert read_tflite_graph(tflite_net(is_open=True)).inputs[0].shape == (1, 8, 8, 3)


def test_layouts_are_changed_once() -> None:
    """Between operators that agree there is no Transpose."""
    body = """
        a = Conv<pads=[1, 1, 1, 1]>(x, w) r = Relu(a) b = Add(r, x)
        c = Concat<axis=1>(b, r) d = Conv(c, v) p = GlobalAveragePool(d)
        y = Flatten(p)
    """
    graph = float_graph(
        f"net (float[1, 4, 6, 6] x) => (float[] y) {{ {body} }}",
        {"w": (4, 4, 3, 3), "v": (3, 8, 1, 1)},
    )
    for content in (write_tflite(graph), write_tflite(quantized(graph))):
        counts = Counter(node.op_type for node in read_tflite_graph(content).nodes)
        assert counts["Transpose"] == 1


def test_an_unknown_operator_is_named() -> None:
    """With what it makes, and its shape."""
    net = one_operator("CUMSUM", [(3, 4), np.array(1, INT)], [(3, 4)])
    with pytest.raises(ModelError, match=r"CUMSUM.*'out0' of shape 3×4") as caught:
        read_tflite_graph(_schema.encode(net, "a test"), name="net.tflite")
    assert "Export the model to ONNX" in caught.value.hint


def test_codes_of_16_bits_are_refused() -> None:
    """They are not read as if they had 8."""
    net = one_operator("RELU", [(3, 4)], [(3, 4)])
    scale = Quantization(scale=np.ones(1, np.float32), zero_point=np.zeros(1))
    wide = tuple(replace(one, dtype="int16", quantization=scale) for one in net.tensors)
    with pytest.raises(ModelError, match="codes of int16"):
        read_tflite_graph(_schema.encode(replace(net, tensors=wide), "a test"))


def test_weights_may_be_kept_smaller_than_what_is_computed() -> None:
    """float16 behind DEQUANTIZE, and int8 beside floats."""
    half = np.linspace(-1, 1, 12, dtype=np.float16).reshape(3, 4)
    net = one_operator("DEQUANTIZE", [half], [(3, 4)])
    tensors = (*net.tensors, *one_operator("ADD", [(3, 4)], [(3, 4)]).tensors)
    names = ("half", "whole", "x", "y")
    tensors = tuple(
        replace(one, name=name) for one, name in zip(tensors, names, strict=True)
    )
    add = Operator(code="ADD", inputs=(2, 1), outputs=(3,), options={})
    whole = Net(
        tensors=tensors, operators=(*net.operators, add), inputs=(2,), outputs=(3,)
    )
    graph = read_tflite_graph(_schema.encode(whole, "a test"))
    x = np.ones((3, 4), np.float32)
    (found,) = onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": x})
    np.testing.assert_allclose(found, x + half.astype(np.float32))
