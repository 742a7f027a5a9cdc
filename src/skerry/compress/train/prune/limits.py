"""What pruning is to bring about: latency, size and memory of the exported module."""

from __future__ import annotations

import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path

from skerry.compress.train.export import export_graph
from skerry.compress.train.training import TrainContext
from skerry.core.budget import Breach, Budget
from skerry.core.errors import UsageError
from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.graph import peak_activation_bytes, write_graph
from skerry.runtimes.torch import nn
from skerry.tasks.measure import measure_latency

REPEATS = 31
"""Rounds in which a module is timed, on one thread."""


def broken_limits(module: nn.Module, context: TrainContext) -> list[Breach]:
    """The limits that a module breaks, whatever it scores.

    Args:
        module: It is exported and run on one sample of the example.
        context: Its budget, and what runs the exported module.

    Raises:
        UsageError: The budget has no such limit, or nothing runs the module.
        ModelError: The module cannot be exported, or the runtime refuses it.
    """
    asked, training = context.budget, context.training
    budget = Budget(
        latency_ms=asked.latency_ms,
        size_bytes=asked.size_bytes,
        memory_bytes=asked.memory_bytes,
    )
    if not budget.limits or context.runtime is None:
        raise UsageError(
            "prune: goal is 'budget', and no latency, size or memory is demanded"
            if context.runtime is not None
            else "prune: goal is 'budget', and no runtime measures latencies",
            hint="Give a budget with latency_ms, or goal = 'ratio'.",
        )
    graph = export_graph(
        module.eval(),
        training.example,
        inputs=training.inputs,
        outputs=training.outputs,
    )
    sample = {
        name: tensor[:1].numpy(force=True)
        for name, tensor in zip(training.inputs, training.example, strict=True)
    }
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        model = write_graph(graph, Path(folder) / "pruned.onnx")
        timed = context.latency_ms or partial(_time, context.runtime)
        latency_ms = timed(model, sample)
    measured = {
        "latency_ms": latency_ms,
        "size_bytes": float(model.size_bytes),
    }
    shapes = {name: array.shape for name, array in sample.items()}
    if (peak := peak_activation_bytes(graph, shapes)) is not None:
        measured["memory_bytes"] = peak
    return budget.breaches(measured)


def _time(runtime: Runtime, model: Model, sample: Tensors) -> float:
    with closing(runtime.load(model, LoadOptions(threads=1))) as session:
        found = measure_latency(
            {"pruned": lambda: session.run(sample)}, repeats=REPEATS
        )
    return found["pruned"].median_ms
