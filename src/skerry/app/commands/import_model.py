"""`skerry import`: a model of another framework as an ONNX file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.core.model import Model

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was read and written.

    Attributes:
        source: The file that was read.
        importer: What read it.
        model: The ONNX file.
        operators: How often the graph has each operator, the most frequent first.
    """

    source: Path
    importer: str
    model: Model
    operators: dict[str, int]


def import_model(
    model: Path, /, *, out: Annotated[Path, Parameter(name=("--out", "-o"))]
) -> Imported:
    """Read a model of another framework, and write it as an ONNX file.

    Inputs and outputs keep their names, layout and dtypes; what a file keeps as codes
    of 8 bits stays codes of the same scale.

    Args:
        model: A TFLite file: float, or full INT8.
        out: The ONNX file to write.
    """
    from skerry.adapt.importers import import_graph
    from skerry.core.durable import make_folder
    from skerry.graph import write_graph

    importer, graph = import_graph(model)
    make_folder(out.parent)
    counts = Counter(node.op_type for node in graph.nodes)
    return Imported(
        source=model,
        importer=importer,
        model=write_graph(graph, out),
        operators=dict(counts.most_common()),
    )


def render_import(found: Imported) -> RenderableType:
    """Render the signature and the operators."""
    from rich.console import Group
    from rich.text import Text

    counts = ", ".join(f"{count} {name}" for name, count in found.operators.items())
    return Group(
        Text(f"{found.source.name} ({found.importer}) → {found.model.path}", "bold"),
        *(f"  input   {spec}" for spec in found.model.inputs),
        *(f"  output  {spec}" for spec in found.model.outputs),
        f"  {counts}",
    )
