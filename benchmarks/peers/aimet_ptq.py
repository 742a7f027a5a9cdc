"""AIMET for ONNX, its defaults where not said."""

from __future__ import annotations

from typing import Any

import onnx
from _peer import Asked, run
from aimet_onnx import QuantizationSimModel, apply_adaround, compute_encodings
from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
from aimet_onnx.cross_layer_equalization import equalize_model

ADAROUND_STEPS = 500
"""Steps a layer. Its default, 10,000, would take hours on these nets."""


def quantize(asked: Asked, *, equalize: bool = False, adaround: bool = False) -> None:
    """Fold batch normalization, quantize, and write standard operators.

    Args:
        asked: Model, samples and where to write.
        equalize: Whether to equalize layers first.
        adaround: Whether to learn how weights are rounded.
    """
    samples = asked.samples("calibration")
    model: Any = onnx.load(asked.model)
    if equalize:
        equalize_model(model)
    else:
        fold_all_batch_norms_to_weight(model)
    sim = QuantizationSimModel(model, providers=["CPUExecutionProvider"])
    if adaround:
        apply_adaround(sim, list(samples), num_iterations=ADAROUND_STEPS)
    with compute_encodings(sim):
        for sample in samples:
            sim.session.run(None, sample)
    done = sim.to_onnx_qdq(export_int32_bias=True, prequantize_constants=True)
    onnx.save(done, asked.out / "model.onnx")


run(
    {
        "defaults": quantize,
        "equalized": lambda asked: quantize(asked, equalize=True),
        "adaround": lambda asked: quantize(asked, adaround=True),
    }
)
