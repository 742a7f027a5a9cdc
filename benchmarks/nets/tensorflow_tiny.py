"""Write a float net of MLPerf Tiny as ONNX.

A script for the toolchain environment `tensorflow-onnx`:

    python tensorflow_tiny.py MODEL.tflite|SAVED_MODEL_FOLDER OUT.onnx

Beside it an `.npz` of the same name is written, an input and TensorFlow's output for
it, to check the ONNX file with. The input is called `input`, the output `output`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

OPSET = 17
SEED = 0


def convert_tflite(path: Path) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Convert a TFLite file; also an input and TFLite's output for it."""
    net = tf.lite.Interpreter(str(path))
    net.allocate_tensors()
    (taken,), (given,) = net.get_input_details(), net.get_output_details()
    sample = _noise(tuple(taken["shape"]))
    net.set_tensor(taken["index"], sample)
    net.invoke()
    model, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET)
    return model, sample, net.get_tensor(given["index"])


def convert_saved_model(folder: Path) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Convert a SavedModel as TensorFlow 1 loads it: newer Keras cannot restore it."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = meta.signature_def["serving_default"]
        (taken,), (given,) = signature.inputs.values(), signature.outputs.values()
        shape = tuple(max(axis.size, 1) for axis in taken.tensor_shape.dim)
        sample = _noise(shape)
        output = session.run(given.name, {taken.name: sample})
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, session.graph_def, [given.name.partition(":")[0]]
        )
    model, _ = tf2onnx.convert.from_graph_def(
        frozen, input_names=[taken.name], output_names=[given.name], opset=OPSET
    )
    return model, sample, output


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(SEED).uniform(0, 1, shape).astype(np.float32)


def rename(model: onnx.ModelProto) -> None:
    """Call the input `input` and the output `output`, and fix the batch at one."""
    graph = model.graph
    names = {graph.input[0].name: "input", graph.output[0].name: "output"}
    for value in (graph.input[0], graph.output[0]):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    convert = convert_saved_model if chosen.source.is_dir() else convert_tflite
    model, sample, output = convert(chosen.source)
    rename(model)
    onnx.save(model, chosen.out)
    np.savez(chosen.out.with_suffix(".npz"), input=sample, output=output)


if __name__ == "__main__":
    main()
