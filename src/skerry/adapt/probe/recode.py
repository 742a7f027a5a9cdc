"""A net of int8 codes as one of uint8 or int16, to ask about those too.

TFLite's 16-bit nets keep weights of 8 bits and take biases of 64 (TFLite's
quantization specification, "16x8"); their codes are symmetric.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skerry.adapt.tflite import _schema
from skerry.adapt.tflite.net import Net, Tensor
from skerry.adapt.tflite.pairs import SHIFT
from skerry.adapt.tflite.writer import DESCRIPTION

_WEIGHTED = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)


def recoded(content: bytes, dtype: str) -> bytes:
    """Rewrite a TFLite file of int8 codes.

    Args:
        content: A file that `write_tflite` made.
        dtype: `uint8` or `int16`; of any other the file stays as it is.
    """
    if dtype not in {"uint8", "int16"}:
        return content
    net = _schema.decode(content, "the probe")
    change = _unsigned if dtype == "uint8" else _widened
    kept = _weights(net) if dtype == "int16" else frozenset()
    tensors = [
        tensor if number in kept else change(tensor)
        for number, tensor in enumerate(net.tensors)
    ]
    for number in _biases(net) if dtype == "int16" else ():
        tensors[number] = _long(tensors[number])
    return _schema.encode(replace(net, tensors=tuple(tensors)), DESCRIPTION)


def _weights(net: Net) -> frozenset[int]:
    return frozenset(
        one.inputs[1]
        for one in net.operators
        if one.code in _WEIGHTED and net.tensors[one.inputs[1]].content is not None
    )


def _biases(net: Net) -> frozenset[int]:
    return frozenset(
        one.inputs[-1]
        for one in net.operators
        if one.code in _WEIGHTED
        and len(one.inputs) > 2
        and one.inputs[-1] >= 0
        and net.tensors[one.inputs[-1]].dtype == "int32"
    )


def _unsigned(tensor: Tensor) -> Tensor:
    if tensor.dtype != "int8":
        return tensor
    content = tensor.content
    if content is not None:
        content = (content.astype(np.int16) + SHIFT).astype(np.uint8)
    how = tensor.quantization and tensor.quantization.moved(SHIFT)
    return replace(tensor, dtype="uint8", content=content, quantization=how)


def _widened(tensor: Tensor) -> Tensor:
    if tensor.dtype != "int8":
        return tensor
    content = None if tensor.content is None else tensor.content.astype(np.int16)
    how = tensor.quantization
    if how is not None:
        scale = (how.scale / 256).astype(np.float32)
        how = replace(how, scale=scale, zero_point=np.zeros_like(how.zero_point))
    return replace(tensor, dtype="int16", content=content, quantization=how)


def _long(tensor: Tensor) -> Tensor:
    content = None if tensor.content is None else tensor.content.astype(np.int64)
    return replace(tensor, dtype="int64", content=content)
