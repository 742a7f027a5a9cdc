"""How much faster a pruned module is on onnxruntime, timed in turns on one thread."""

from __future__ import annotations

from pathlib import Path

from skerry.compress.train.export import export_graph
from skerry.compress.train.prune.gains import Gain, measure_gains, packed_bytes
from skerry.compress.train.training import Training
from skerry.core.model import Model
from skerry.core.seams import Array
from skerry.graph import with_static_inputs, write_graph
from skerry.runtimes.torch import nn

ROUNDS, QUICK_ROUNDS = 401, 41
RUNTIMES = ("onnxruntime", "openvino", "litert", "ncnn")


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


def gains(
    before: Model,
    after: Model,
    training: Training,
    *,
    runtimes: tuple[str, ...] = RUNTIMES[:1],
    quick: bool,
) -> tuple[Gain, ...]:
    """Time two models on one sample, runtime by runtime."""
    inputs: dict[str, Array] = {
        name: tensor[:1].numpy()
        for name, tensor in zip(training.inputs, training.example, strict=True)
    }
    rounds = QUICK_ROUNDS if quick else ROUNDS
    return measure_gains(before, after, inputs, runtimes, rounds=rounds)


__all__ = ["RUNTIMES", "gains", "packed_bytes", "write_module"]
