"""A torch module as a graph."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from skerry.compress.train.training import BATCH
from skerry.core.errors import ModelError, UsageError
from skerry.core.seams import Array, LoadOptions
from skerry.graph import Graph, fold_constants, name_all_nodes, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.runtimes._reasons import plain_reason
from skerry.runtimes.torch import (
    ExportedProgram,
    Tensor,
    nn,
    output_tensors,
    torch,
)

OPSET = 17
"""What modules are written in; an exported program is written in 18 at least."""
_PROGRAM_OPSET = 18

TOLERANCE = 1e-4
"""Largest error of an exported output, relative to its largest magnitude."""


@runtime_checkable
class GraphWriter(Protocol):
    """A module that writes its graph itself, as one made of a graph does."""

    def to_graph(self) -> Graph:
        """The graph with the weights that the module has now."""
        ...


def export_graph(
    module: nn.Module | ExportedProgram,
    example: tuple[Tensor, ...],
    *,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    name: str = "module",
) -> Graph:
    """Turn a module, or a program of `torch.export`, into a graph.

    The graph's initializers are called as the module's parameters are. It is run by
    onnxruntime on the example, and on its first row, and must give what the module
    gives to within 1e-4 of the largest magnitude of each output. A module that writes
    its graph itself is asked for it; no more is checked then.

    Args:
        module: What to export, on the CPU; it is in eval mode afterwards.
        example: One batch of inputs; axis 0 is the batch.
        inputs: What the inputs are to be called, in order.
        outputs: What the outputs are to be called, in order.
        name: What messages call the graph.

    Raises:
        ModelError: It cannot be exported, or gives something else then.
        UsageError: There are more or fewer names than inputs or outputs.
    """
    if isinstance(module, GraphWriter):
        return module.to_graph()
    running = module
    if isinstance(running, ExportedProgram):
        running = running.module()
    else:
        running.eval()
    with torch.no_grad():
        expected = output_tensors(running(*example))
    for what, names, tensors in (
        ("inputs", inputs, example),
        ("outputs", outputs, expected),
    ):
        if len(names) != len(tensors):
            raise UsageError(
                f"there are {len(names)} names for the {len(tensors)} {what}",
                hint="Give one name for each, in order.",
            )
    content = _export(module, example, inputs, outputs, expected)
    graph = name_all_nodes(fold_constants(parse_graph(content, name=name)))
    _check(graph, running, example)
    return graph


def _export(
    module: nn.Module | ExportedProgram,
    example: tuple[Tensor, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    expected: tuple[Tensor, ...],
) -> bytes:
    """Let torch write ONNX.

    A module is traced: that takes a tenth of the time that the exporter of programs
    takes, which a search pays for each model it makes.
    """
    named = zip((*inputs, *outputs), (*example, *expected), strict=True)
    is_program = isinstance(module, ExportedProgram)
    sizes = {name: {0: BATCH} for name, one in named if one.dim()}
    try:
        with _quiet(), tempfile.TemporaryDirectory(prefix="skerry-") as folder:
            path = Path(folder) / "module.onnx"
            torch.onnx.export(
                module,
                () if is_program else example,
                str(path),
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=None if is_program else sizes,
                opset_version=_PROGRAM_OPSET if is_program else OPSET,
                # Batch norms stay layers of their own, under their own names.
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                dynamo=is_program,
                external_data=False,
                verbose=False,
            )
            return path.read_bytes()
    except Exception as error:
        reason = plain_reason(str(error)) or type(error).__name__
        raise ModelError(
            f"the {type(module).__name__} cannot be exported: {reason}",
            hint="Write forward with operations of torch on tensors, or give a program "
            "of torch.export.",
        ) from error


def _check(graph: Graph, module: nn.Module, example: tuple[Tensor, ...]) -> None:
    """Run the graph, and compare what it gives with what the module gives.

    Raises:
        ModelError: They differ.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        model = write_graph(graph, Path(folder) / "module.onnx")
        runtime = get_runtime("onnxruntime")
        with closing(runtime.load(model, LoadOptions())) as session:
            for given in (example, tuple(one[:1] for one in example)):
                arrays = {
                    spec.name: one.numpy(force=True)
                    for spec, one in zip(graph.inputs, given, strict=True)
                }
                with torch.no_grad():
                    expected = output_tensors(module(*given))
                found = session.run(arrays)
                for spec, tensor in zip(graph.outputs, expected, strict=True):
                    _compare(spec.name, found[spec.name], tensor.numpy(force=True))


def _compare(name: str, found: Array, expected: Array) -> None:
    hint = "Branches and sizes that depend on values of the example are frozen: write "
    hint += "them with operations of torch, or give a program of torch.export."
    if found.shape != expected.shape:
        raise ModelError(
            f"the exported output {name!r} has shape {found.shape}, the module's has "
            f"{expected.shape}",
            hint=hint,
        )
    if not expected.size:
        return
    difference = np.abs(found.astype(np.float64) - expected)
    largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    error = float(difference.max()) / largest
    if not error <= TOLERANCE:
        raise ModelError(
            f"the exported output {name!r} is off by {error:.1g} of its largest "
            f"magnitude, allowed {TOLERANCE:g}",
            hint=hint,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from talking of what its users cannot change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
