"""A model with an operator that onnxruntime has not, and a real library that has it.

The library is that of Microsoft's onnxruntime-extensions, as its wheel brings it.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime_extensions

from tests.models import model_bytes

FOREIGN_LIBRARY = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9) + b"\x03\x00\xf3\x00" * 9
"""The beginning of a shared library for RISC-V."""


def operator_net() -> bytes:
    """Inverts a matrix, float32[2, 2], from `x` to `y`."""
    return model_bytes(
        "net (float[2, 2] x) => (float[2, 2] y) { y = ai.onnx.contrib.Inverse(x) }",
        domains=', "ai.onnx.contrib": 1',
    )


def operator_library() -> Path:
    """Where the library lies."""
    return Path(onnxruntime_extensions.get_library_path())
