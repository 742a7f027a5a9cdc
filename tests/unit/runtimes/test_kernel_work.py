from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime, open_any
from skerry.runtimes.kernel_work import Shaped, count_bytes, count_macs
from tests import models


def shaped(*sizes: int, dtype: str = "float") -> Shaped:
    """A tensor of these sizes."""
    return Shaped(dtype=dtype, sizes=sizes)


PICTURE = shaped(1, 3, 8, 8)
CASES = [
    ("Conv", [PICTURE, shaped(4, 3, 3, 3)], [shaped(1, 4, 8, 8)], 4 * 64 * 27),
    ("Conv", [PICTURE, shaped(3, 1, 3, 3)], [shaped(1, 3, 8, 8)], 3 * 64 * 9),
    (
        "GroupConvolution jit",
        [PICTURE, shaped(3, 1, 1, 3, 3)],
        [shaped(1, 3, 8, 8)],
        3 * 64 * 9,
    ),
    (
        "QLinearConv",
        [PICTURE, shaped(), shaped(), shaped(4, 3, 1, 1), shaped(4)],
        [shaped(1, 4, 8, 8)],
        4 * 64 * 3,
    ),
    ("ConvTranspose", [PICTURE, shaped(3, 5, 2, 2)], [shaped(1, 5, 16, 16)], 64 * 60),
    ("Gemm", [shaped(2, 16), shaped(4)], [shaped(2, 4)], 2 * 4 * 16),
    ("MatMul", [shaped(2, 5, 16), shaped(16, 4)], [shaped(2, 5, 4)], 40 * 16),
    ("Conv", [PICTURE], [shaped(1, 4, 8, 8)], None),
    ("Relu", [PICTURE], [PICTURE], None),
    ("Gemm", [], [], None),
]


@pytest.mark.parametrize(("kind", "inputs", "outputs", "macs"), CASES)
def test_macs_are_those_of_the_shapes(
    kind: str, inputs: list[Shaped], outputs: list[Shaped], macs: int | None
) -> None:
    """Groups, quantized and transposed forms too; what is not told stays unknown."""
    assert count_macs(kind, inputs, outputs) == macs


def test_bytes_are_those_of_all_tensors() -> None:
    """By the width of each dtype, in the words of either runtime."""
    dtypes = ("float", "float32", "int8", "uint8", "bfloat16", "int64", "boolean")
    widths = [count_bytes([shaped(3, dtype=dtype)], []) for dtype in dtypes]
    assert widths == [12, 12, 3, 3, 6, 24, 3]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_profile_tells_the_work(runtime: str, tmp_path: Path) -> None:
    """The multiply-accumulates are those of the graph, or a little more for padding."""
    path = tmp_path / "net.onnx"
    path.write_bytes(models.conv_net(size=64))
    inputs = {"x": np.ones((1, 3, 64, 64), np.float32)}
    options = LoadOptions(precision="float32")
    found = get_runtime(runtime).profile(open_any(path), inputs, options, repeats=2)
    macs = sum(operator.macs or 0 for operator in found.operators)
    # stem 221184, depthwise 73728, pointwise 131072, head 64; onnxruntime pads 8 to 16.
    assert 426_048 <= macs <= 2 * 426_048
    assert all(operator.moved_bytes for operator in found.operators)
    assert all(operator.times_ms for operator in found.operators)
