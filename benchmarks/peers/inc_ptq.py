"""Neural Compressor for ONNX, per channel; its defaults otherwise."""

from __future__ import annotations

from _peer import Asked, Reader, run
from onnx_neural_compressor import data_reader
from onnx_neural_compressor.quantization import QuantFormat, config, quantize


class _Reader(Reader, data_reader.CalibrationDataReader):
    """It looks for its own class among the ancestors."""


def per_channel(asked: Asked) -> None:
    """Quantize into QDQ form with one scale a channel."""
    reader = _Reader(asked.samples("calibration"))
    settings = config.StaticQuantConfig(
        calibration_data_reader=reader,
        calibration_sampling_size=len(reader),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )
    quantize(str(asked.model), str(asked.out / "model.onnx"), settings)


run({"per channel": per_channel})
