"""onnxruntime's `quantize_static`, its defaults where not said."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
from _peer import Asked, Reader, run
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantType,
    quant_pre_process,
    quantize_static,
)

WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")


def quantize(
    asked: Asked,
    *,
    method: str = "MinMax",
    per_channel: bool = True,
    operators: Sequence[str] = (),
    activations: str = "QInt8",
) -> None:
    """Prepare the model as onnxruntime's documentation says, then quantize it.

    Args:
        asked: Model, samples and where to write.
        method: A `CalibrationMethod`, by name.
        per_channel: Whether weights have one scale an output channel.
        operators: Types of operators to quantize; all that it can where empty.
        activations: A `QuantType`, by name.
    """
    onnxruntime.disable_telemetry_events()
    options: dict[str, Any] = {}
    if operators:
        options["op_types_to_quantize"] = list(operators)
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(asked.model, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            asked.out / "model.onnx",
            Reader(asked.samples("calibration")),
            per_channel=per_channel,
            calibrate_method=CalibrationMethod[method],
            activation_type=QuantType[activations],
            **options,
        )


run(
    {
        "per channel": quantize,
        "per tensor": partial(quantize, per_channel=False),
        "with weights": partial(quantize, operators=WITH_WEIGHTS),
        "per channel uint8": partial(quantize, activations="QUInt8"),
        "with weights uint8": partial(
            quantize, operators=WITH_WEIGHTS, activations="QUInt8"
        ),
        "percentile": partial(quantize, method="Percentile"),
        "entropy": partial(quantize, method="Entropy"),
    }
)
