"""How much faster a pruned module is, timed in turns on one thread."""

from __future__ import annotations

from pathlib import Path

from skerry.adapt.tflite import write_tflite
from skerry.compress.train.export import export_graph
from skerry.compress.train.prune.gains import Gain, measure_gains
from skerry.compress.train.training import Training
from skerry.core.durable import write_file
from skerry.core.model import Model
from skerry.core.seams import Array
from skerry.graph import (
    fold_batch_norm,
    infer_shapes,
    read_graph,
    with_static_inputs,
    write_graph,
)
from skerry.runtimes import open_any
from skerry.runtimes.torch import nn

ROUNDS, QUICK_ROUNDS = 401, 41
ONNX_RUNTIMES = ("onnxruntime", "openvino")
LITERT = "litert"


def write_module(module: nn.Module, training: Training, path: Path) -> Model:
    """Write a module for one sample at a time."""
    graph = export_graph(
        module, training.example, inputs=training.inputs, outputs=training.outputs
    )
    shapes = {
        name: (1, *tensor.shape[1:])
        for name, tensor in zip(training.inputs, training.example, strict=True)
    }
    return write_graph(with_static_inputs(graph, shapes), path)


def gain(before: Model, after: Model, training: Training, *, quick: bool) -> Gain:
    """Time two models on one sample, on onnxruntime."""
    (found,) = measure_gains(
        before, after, _inputs(training), ONNX_RUNTIMES[:1], rounds=_rounds(quick)
    )
    return found


def every_gain(
    before: Model, after: Model, training: Training, *, quick: bool
) -> tuple[Gain, ...]:
    """Do so on each runtime that runs ONNX files, and on LiteRT."""
    inputs, rounds = _inputs(training), _rounds(quick)
    return (
        *measure_gains(before, after, inputs, ONNX_RUNTIMES, rounds=rounds),
        *measure_gains(
            _as_tflite(before), _as_tflite(after), inputs, (LITERT,), rounds=rounds
        ),
    )


def _as_tflite(model: Model) -> Model:
    graph = infer_shapes(fold_batch_norm(read_graph(model.path)))
    path = model.path.with_suffix(".tflite")
    write_file(path, write_tflite(graph))
    return open_any(path)


def _inputs(training: Training) -> dict[str, Array]:
    return {
        name: tensor[:1].numpy()
        for name, tensor in zip(training.inputs, training.example, strict=True)
    }


def _rounds(quick: bool) -> int:  # noqa: FBT001 (as the command line says it)
    return QUICK_ROUNDS if quick else ROUNDS
