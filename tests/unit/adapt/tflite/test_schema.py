"""TFLite files as plain nets, and back."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.adapt.tflite import _schema
from skerry.adapt.tflite.net import LEFT_OUT, Net, Operator, Quantization, Tensor
from skerry.core.errors import ModelError
from skerry.runtimes._tflite_file import parse_tflite

NET = Net(
    tensors=(
        Tensor(
            name="x",
            dtype="int8",
            shape=(1, 3),
            quantization=Quantization(
                scale=np.array([0.5], np.float32), zero_point=np.array([-7])
            ),
        ),
        Tensor(
            name="w",
            dtype="int8",
            shape=(2, 3),
            content=np.arange(6, dtype=np.int8).reshape(2, 3),
            quantization=Quantization(
                scale=np.array([0.5, 0.25], np.float32), zero_point=np.zeros(2)
            ),
        ),
        Tensor(
            name="y",
            dtype="int8",
            shape=(1, 2),
            quantization=Quantization(
                scale=np.array([1.5], np.float32), zero_point=np.array([3])
            ),
        ),
    ),
    operators=(
        Operator(
            code="FULLY_CONNECTED",
            inputs=(0, 1, LEFT_OUT),
            outputs=(2,),
            options={"fused_activation_function": 1, "keep_num_dims": True},
            version=4,
        ),
    ),
    inputs=(0,),
    outputs=(2,),
)


def test_what_is_written_is_read() -> None:
    """Tensors, scales, constants, options and versions come back."""
    content = _schema.encode(NET, "a test")
    net = _schema.decode(content, "net")
    assert (net.inputs, net.outputs) == (NET.inputs, NET.outputs)
    for found, wanted in zip(net.tensors, NET.tensors, strict=True):
        assert (found.name, found.dtype, found.shape) == (
            wanted.name,
            wanted.dtype,
            wanted.shape,
        )
        assert wanted.quantization is not None
        assert wanted.quantization.is_like(found.quantization)
    assert net.tensors[1].content is not None
    np.testing.assert_array_equal(net.tensors[1].content, NET.tensors[1].content)
    (operator,) = net.operators
    assert (operator.code, operator.version) == ("FULLY_CONNECTED", 4)
    assert operator.inputs == (0, 1, LEFT_OUT)
    assert operator.options["fused_activation_function"] == 1
    assert operator.options["keep_num_dims"]
    assert operator.options["weights_format"] == 0


def test_files_are_the_same_each_time_and_aligned() -> None:
    """The same net gives the same bytes; constants begin at multiples of 16."""
    content = _schema.encode(NET, "a test")
    assert content == _schema.encode(NET, "a test")
    assert content.index(np.arange(6, dtype=np.int8).tobytes()) % 16 == 0


def test_the_signature_is_one_for_runtimes() -> None:
    """The reader of signatures, which needs no flatbuffers, agrees."""
    signature = parse_tflite(_schema.encode(NET, "a test"))
    assert [str(port.spec) for port in signature.inputs] == ["x int8[1×3]"]
    assert [str(port.spec) for port in signature.outputs] == ["y int8[1×2]"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not a TFLite model"),
        (b"\x08\0\0\0ONNX", "is not a TFLite model"),
        (b"\xff\0\0\0TFL3" + bytes(40), "is a damaged TFLite model"),
    ],
)
def test_other_files_are_refused(content: bytes, what: str) -> None:
    """What is wrong is told, and what to do."""
    with pytest.raises(ModelError, match=what) as caught:
        _schema.decode(content, "net")
    assert "whole file" in caught.value.hint
