"""`skerry export`: an ONNX model in the format of another runtime or compiler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skerry.core.errors import UsageError
from skerry.core.model import Model

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.graph import Graph

_SUFFIXES = {"tflite": ".tflite"}

MOST_FLOATS = 8
"""Operators left in float that are shown for people; --json has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        source: The ONNX file.
        model: What was written.
        integer_operators: How many of its operators compute or carry codes.
        float_operators: What the others make, by name.
    """

    source: Path
    model: Model
    integer_operators: int
    float_operators: tuple[str, ...]


def export(
    model: Path,
    /,
    *,
    to: Literal["tflite"],
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    shape: tuple[str, ...] = (),
    calibration: Path | None = None,
    task: Path | None = None,
    keep_layout: bool = False,
) -> Exported:
    """Write a model for another runtime or a compiler.

    A model that skerry compress made becomes one of INT8: its inputs and outputs are
    codes, and pictures go in and out with channels last where that saves transposes.

    Args:
        model: An ONNX file.
        to: The format.
        out: The file to write.
        shape: An input's shape, as NAME=1x3x224x224; a batch of any size becomes 1
            where nothing is said.
        calibration: Real inputs, an .npz or a folder: they give scales to the results
            that the model leaves in float, for hardware that has none.
        task: The task's TOML file, which says how pictures of a folder are prepared.
        keep_layout: Keep the model's own order of dimensions outside.
    """
    from skerry.adapt.tflite import count_floats, fuse_pairs, write_tflite
    from skerry.core.durable import make_folder, write_file
    from skerry.runtimes import open_any

    if out.suffix != _SUFFIXES[to]:
        raise UsageError(
            f"{out} does not end in {_SUFFIXES[to]}, as files of {to} do",
            hint=f"Write -o {out.with_suffix(_SUFFIXES[to])}",
        )
    graph = fuse_pairs(_shaped(model, shape))
    if calibration is not None:
        graph = _calibrated(graph, calibration, task)
    content = write_tflite(graph, keep_layout=keep_layout)
    make_folder(out.parent)
    write_file(out, content)
    integers, floats = count_floats(content)
    return Exported(
        source=model,
        model=open_any(out),
        integer_operators=integers,
        float_operators=floats,
    )


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
    """Render the signature, and what is left in float."""
    from rich.console import Group
    from rich.text import Text

    floats = found.float_operators
    counted = f"{found.integer_operators} operators on codes, {len(floats)} on floats"
    told = ", ".join(floats[:MOST_FLOATS])
    rest = f" and {len(floats) - MOST_FLOATS} more" if len(floats) > MOST_FLOATS else ""
    return Group(
        Text(f"{found.source.name} → {found.model.path}", "bold"),
        *(f"  input   {spec}" for spec in found.model.inputs),
        *(f"  output  {spec}" for spec in found.model.outputs),
        f"  {counted}",
        *([Text(f"  in float: {told}{rest}", "yellow")] if floats else []),
    )
