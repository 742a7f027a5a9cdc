"""`skerry export`: a model in another runtime's format, or compiled for a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skerry.core.compiled import Compiled
from skerry.core.errors import UsageError
from skerry.core.model import Model, ModelFormat

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.graph import Graph

_SUFFIXES = {"tflite": ".tflite"}

MOST_SHOWN = 8
"""Operators left in float, or on the CPU, that people are shown; --json has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        source: The model's file.
        model: What was written.
        integer_operators: How many of the TFLite file's operators compute or carry
            codes; of what is compiled, before.
        float_operators: What the others make, by name.
        compiled: What the target's compiler made of it, where there is a target.
    """

    source: Path
    model: Model
    integer_operators: int
    float_operators: tuple[str, ...]
    compiled: Compiled | None = None


def export(
    model: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    to: Literal["tflite"] = "tflite",
    target: str = "",
    shape: tuple[str, ...] = (),
    calibration: Path | None = None,
    task: Path | None = None,
    keep_layout: bool = False,
) -> Exported:
    """Write a model for another runtime, or compile it for a target.

    A model that skerry compress made becomes one of INT8: its inputs and outputs are
    codes, and pictures go in and out with channels last where that saves transposes.

    Args:
        model: An ONNX file; a TFLite file too where there is a target.
        out: The file to write.
        to: The format.
        target: A target whose compiler makes the file that runs there, and says where
            each operator runs and what it costs.
        shape: An input's shape, as NAME=1x3x224x224; a batch of any size becomes 1
            where nothing is said.
        calibration: Real inputs, an .npz or a folder: they give scales to the results
            that the model leaves in float, for hardware that has none.
        task: The task's TOML file, which says how pictures of a folder are prepared.
        keep_layout: Keep the model's own order of dimensions outside.
    """
    from skerry.adapt.tflite import count_floats
    from skerry.core.durable import make_folder, write_file
    from skerry.runtimes import model_content, open_any

    if out.suffix != _SUFFIXES[to]:
        raise UsageError(
            f"{out} does not end in {_SUFFIXES[to]}, as files of {to} do",
            hint=f"Write -o {out.with_suffix(_SUFFIXES[to])}",
        )
    found = open_any(model)
    if found.format is not ModelFormat.TFLITE:
        content = _as_tflite(model, shape, calibration, task, keep_layout=keep_layout)
    elif target:
        content = model_content(found)
    else:
        raise UsageError(
            f"{model} is a TFLite file already",
            hint="Name a --target to compile it for.",
        )
    make_folder(out.parent)
    compiled = None
    if target:
        from skerry.adapt.target_files import load_target
        from skerry.app.pipelines.export import compile_tflite

        compiled = compile_tflite(content, load_target(target), out)
    else:
        write_file(out, content)
    integers, floats = count_floats(content)
    return Exported(
        source=model,
        model=open_any(out),
        integer_operators=integers,
        float_operators=floats,
        compiled=compiled,
    )


def _as_tflite(
    model: Path,
    shape: tuple[str, ...],
    calibration: Path | None,
    task: Path | None,
    *,
    keep_layout: bool,
) -> bytes:
    from skerry.adapt.tflite import fuse_pairs, write_tflite

    graph = fuse_pairs(_shaped(model, shape))
    if calibration is not None:
        graph = _calibrated(graph, calibration, task)
    return write_tflite(graph, keep_layout=keep_layout)


def _shaped(model: Path, texts: tuple[str, ...]) -> Graph:
    from skerry.app.arguments import parse_shapes
    from skerry.graph import infer_shapes, read_graph, with_static_inputs

    graph = read_graph(model)
    shapes = parse_shapes(texts, [spec.name for spec in graph.inputs])
    for spec in graph.inputs:
        open_axes = [
            a for a, size in enumerate(spec.shape) if not isinstance(size, int)
        ]
        if spec.name not in shapes and open_axes == [0]:
            sizes = (size for size in spec.shape[1:] if isinstance(size, int))
            shapes[spec.name] = (1, *sizes)
    return infer_shapes(with_static_inputs(graph, shapes))


def _calibrated(graph: Graph, samples: Path, task: Path | None) -> Graph:
    from skerry.app.pipelines.export import complete_scales
    from skerry.runtimes import get_runtime
    from skerry.tasks.samples import open_samples
    from skerry.tasks.task import load_task

    known = None if task is None else load_task(task)
    source = open_samples(samples, graph.inputs, known)
    rows = (sample.inputs for sample in source)
    return complete_scales(graph, rows, get_runtime("onnxruntime"))


def render_export(found: Exported) -> RenderableType:
    """Render the signature, what is left in float, and what the compiler says."""
    from rich.console import Group
    from rich.text import Text

    floats = found.float_operators
    counted = f"{found.integer_operators} operators on codes, {len(floats)} on floats"
    return Group(
        Text(f"{found.source.name} → {found.model.path}", "bold"),
        *(f"  input   {spec}" for spec in found.model.inputs),
        *(f"  output  {spec}" for spec in found.model.outputs),
        f"  {counted}",
        *([Text(f"  in float: {_some(floats)}", "yellow")] if floats else []),
        *([] if found.compiled is None else _compiled_lines(found.compiled)),
    )


def _compiled_lines(compiled: Compiled) -> list[RenderableType]:
    from rich.text import Text

    from skerry.app.figures import show_bytes, show_ms

    left = [one.source for one in compiled.fallbacks]
    placed = len(compiled.operators) - len(left)
    memory, storage = map(show_bytes, (compiled.memory_bytes, compiled.storage_bytes))
    share = f"{placed} of {len(compiled.operators)} operators on the accelerator"
    cost = f"{compiled.cycles:,} cycles, {show_ms(compiled.time_ms)}"
    return [
        f"  {compiled.toolchain}: {share}",
        f"  {cost}, {memory} of SRAM, {storage} of weights",
        *([Text(f"  on the CPU: {_some(left)}", "yellow")] if left else []),
    ]


def _some(names: Sequence[str]) -> str:
    rest = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
