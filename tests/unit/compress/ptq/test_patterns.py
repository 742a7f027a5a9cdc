from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.compress.ptq.patterns import ONNXRUNTIME, patterns_of
from skerry.core.errors import UsageError
from skerry.core.seams import LoadOptions, Runtime
from skerry.graph import parse_graph, write_graph
from tests import models, running

KERNELS = {
    "Add": "QLinearAdd",
    "Concat": "QLinearConcat",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
    "LeakyRelu": "QLinearLeakyRelu",
    "Mul": "QLinearMul",
    "Sigmoid": "QLinearSigmoid",
}
TWO = frozenset({"Add", "Concat", "Mul"})


def kernels(op_type: str, runtime: Runtime, folder: Path) -> set[str]:
    """What onnxruntime runs for one operator between pairs."""
    operands = "b, b" if op_type in TWO else "b"
    axis = "<axis = 1>" if op_type == "Concat" else ""
    content = models.model_bytes(
        f"""net (float[1, 4, 8, 8] x) => (float[1, n, h, w] y) {{
          a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z)
          c = {op_type}{axis}({operands})
          d = QuantizeLinear(c, s, z) y = DequantizeLinear(d, s, z)
        }}""",
        {"s": np.float32(0.05), "z": np.uint8(100)},
    )
    graph = parse_graph(content)
    model = write_graph(graph, folder / "net.onnx")
    sample = running.random_inputs(graph)
    profile = runtime.profile(model, sample, LoadOptions(), repeats=1)
    return {one.op_type for one in profile.operators}


@pytest.mark.parametrize("op_type", sorted(ONNXRUNTIME.arithmetic))
def test_onnxruntime_computes_in_integers_what_the_table_says(
    op_type: str, runtime: Runtime, tmp_path: Path
) -> None:
    """The installed onnxruntime has an integer kernel for each operator listed."""
    assert KERNELS[op_type] in kernels(op_type, runtime, tmp_path)


@pytest.mark.parametrize("op_type", ["HardSigmoid", "HardSwish", "Tanh"])
def test_onnxruntime_computes_the_rest_in_float(
    op_type: str, runtime: Runtime, tmp_path: Path
) -> None:
    """What the table leaves out runs in float between its pairs."""
    found = kernels(op_type, runtime, tmp_path)
    assert not [kernel for kernel in found if kernel.startswith("QLinear")]


def test_patterns_are_known_by_the_names_of_runtimes() -> None:
    """An unknown runtime is refused with the nearest name."""
    assert patterns_of("onnxruntime") is ONNXRUNTIME
    with pytest.raises(UsageError, match="openvin") as caught:
        patterns_of("openvin")
    assert "openvino" in caught.value.hint
