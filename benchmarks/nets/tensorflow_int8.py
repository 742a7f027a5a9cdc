"""Convert a net of MLPerf Tiny to INT8 by TensorFlow's own converter.

A script for the toolchain environment `tensorflow-onnx`:

    python tensorflow_int8.py NET.h5|SAVED_MODEL_FOLDER CALIBRATION.npz OUT.tflite

The `.npz` has the samples as its array `input`; inputs and outputs become int8.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf


def converter_of(source: Path) -> Any:
    """The converter of a Keras file, or of a SavedModel as TensorFlow 1 loads it."""
    if source.is_file():
        net = tf.keras.models.load_model(source, compile=False)
        return tf.lite.TFLiteConverter.from_keras_model(net)
    return tf.compat.v1.lite.TFLiteConverter.from_saved_model(str(source))


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    samples = np.load(chosen.samples)["input"].astype(np.float32)

    def rows() -> Iterator[list[Any]]:
        for row in samples:
            yield [row[np.newaxis]]

    converter = converter_of(chosen.source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = rows
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    chosen.out.write_bytes(converter.convert())


if __name__ == "__main__":
    main()
