"""Versions of small quantized models, for tests of deltas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from tests.models import model_bytes

Weights = dict[str, NDArray[np.generic]]

_TEXT = """net (float[1, 16, 8, 8] x) => (float[1, {outputs}] y) {{
  xq = QuantizeLinear(x, x_scale, x_zero)
  xd = DequantizeLinear(xq, x_scale, x_zero)
  w = DequantizeLinear<axis = 0>(w_codes, w_scale, w_zero)
  b = DequantizeLinear<axis = 0>(b_codes, b_scale, b_zero)
  h = Conv(xd, w, b)
  p = GlobalAveragePool(h)
  f = Flatten(p)
  y = MatMul(f, head)
}}"""


def floats(seed: int = 0, *, outputs: int = 10) -> Weights:
    """The weights of the first version, as trained."""
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(0, 0.1, (64, 16, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 0.1, 64).astype(np.float32),
        "head": rng.normal(0, 0.1, (64, outputs)).astype(np.float32),
    }


def trained_on(weights: Mapping[str, NDArray[np.generic]], step: float) -> Weights:
    """Weights that all changed a little."""
    rng = np.random.default_rng(5)
    return {
        name: (one + rng.normal(0, step, one.shape)).astype(np.float32)
        for name, one in weights.items()
    }


def quantized(
    weights: Mapping[str, NDArray[np.generic]],
    *,
    x_scale: float = 0.02,
    is_skewed: bool = False,
) -> bytes:
    """The model of some weights, with a scale a channel, as an ONNX file."""
    w, b = (np.asarray(weights[name], np.float32) for name in ("w", "b"))
    if is_skewed:
        low, high = (one(w, axis=(1, 2, 3)) for one in (np.min, np.max))
        scale = ((high - low) / 255).astype(np.float32)
        zero = np.rint(-low / scale).astype(np.uint8)
    else:
        scale = (np.abs(w).max(axis=(1, 2, 3)) / 127).astype(np.float32)
        zero = np.zeros(64, np.int8)
    sums = (np.float32(x_scale) * scale).astype(np.float32)
    sides = (slice(None), None, None, None)
    codes = np.rint(w / scale[sides]) + zero[sides]
    limits = np.iinfo(zero.dtype)
    codes = np.clip(codes, limits.min, limits.max).astype(zero.dtype)
    stored: Weights = {
        "x_scale": np.asarray(x_scale, np.float32),
        "x_zero": np.asarray(128, np.uint8),
        "w_codes": codes,
        "w_scale": scale,
        "w_zero": zero,
        "b_codes": np.rint(b / sums).astype(np.int32),
        "b_scale": sums,
        "b_zero": np.zeros(64, np.int32),
        "head": np.asarray(weights["head"], np.float32),
    }
    return model_bytes(_TEXT.format(outputs=stored["head"].shape[1]), stored)


def only_tensors(tensors: Mapping[str, onnx.TensorProto]) -> bytes:
    """A file with these constants, and nothing that computes."""
    model = onnx.ModelProto(ir_version=8)
    for name, tensor in tensors.items():
        tensor.name = name
        model.graph.initializer.append(tensor)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def raw_tensor(kind: int, content: bytes, shape: tuple[int, ...]) -> onnx.TensorProto:
    """A constant of an ONNX type, stored as raw bytes."""
    return onnx.TensorProto(data_type=kind, dims=shape, raw_data=content)
