"""`skerry inspect`: what a model is, and what one inference costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app import figures
from skerry.app.arguments import fix_shapes, open_shaped
from skerry.app.tables import plain_table
from skerry.core.errors import ModelError
from skerry.core.model import Model, ModelFormat, TensorSpec

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.graph import Graph, GraphCost


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCount:
    """How often a model has an operator, and what all of them cost.

    Attributes:
        op_type: The operator.
        count: Number of nodes.
        macs: Multiply-accumulates of one inference; None where shapes are open.
        weight_bytes: Bytes of the weights they read; None where shapes are open.
    """

    op_type: str
    count: int
    macs: int | None
    weight_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a model is.

    Attributes:
        model: The file and its signature.
        opset: Version of the ONNX operators; None in other formats.
        operators: The most work first; none in other formats than ONNX.
        macs: Multiply-accumulates of one inference; None where shapes are open.
        weight_bytes: Bytes of all weights; None where shapes are open.
        peak_activation_bytes: Most memory for activations at one time; None where
            shapes are open.
        note: What is missing for the figures that are None, or empty.
    """

    model: Model
    opset: int | None
    operators: tuple[OperatorCount, ...]
    macs: int | None
    weight_bytes: int | None
    peak_activation_bytes: int | None
    note: str


def inspect(model: Path, /, *, shape: tuple[str, ...] = ()) -> Inspection:
    """Say what a model is, and what one inference costs.

    Args:
        model: An ONNX or TFLite file, or ncnn's .param with its .bin beside it.
        shape: An input's shape, as NAME=1x3x48x320; once for each input whose shape
            the model leaves open.
    """
    opened = open_shaped(model, shape)
    if opened.format is not ModelFormat.ONNX:
        return Inspection(
            model=opened,
            opset=None,
            operators=(),
            macs=None,
            weight_bytes=None,
            peak_activation_bytes=None,
            note=f"Operators and costs are not read from {opened.format.label} files: "
            "inspect the ONNX model that it was made from.",
        )
    from skerry.graph import infer_shapes, read_graph

    graph = read_graph(model)
    cost, note = _count(infer_shapes(fix_shapes(graph, shape)))
    return Inspection(
        model=opened,
        opset=graph.opset,
        operators=_count_operators([node.op_type for node in graph.nodes], cost),
        macs=cost.macs if cost else None,
        weight_bytes=cost.weight_bytes if cost else None,
        peak_activation_bytes=cost.peak_activation_bytes if cost else None,
        note=note,
    )


def _count(graph: Graph) -> tuple[GraphCost | None, str]:
    from skerry.graph import count

    try:
        return count(graph), ""
    except ModelError as error:
        # Open shapes are no fault of the model: the rest can still be told.
        opens = [_example(spec) for spec in graph.inputs if not spec.is_static]
        wish = f"For what it costs, give sizes for each ?: {' '.join(opens)}"
        return None, wish if opens else f"No costs: {error}"


def _example(spec: TensorSpec) -> str:
    sizes = (str(size) if isinstance(size, int) else "?" for size in spec.shape)
    return f"--shape {spec.name}={'x'.join(sizes)}"


def _count_operators(
    op_types: Sequence[str], cost: GraphCost | None
) -> tuple[OperatorCount, ...]:
    macs, weights = Counter[str](), Counter[str]()
    for node in cost.nodes if cost else ():
        macs[node.op_type] += node.macs
        weights[node.op_type] += node.weight_bytes
    rows = [
        OperatorCount(
            op_type=op_type,
            count=number,
            macs=macs[op_type] if cost else None,
            weight_bytes=weights[op_type] if cost else None,
        )
        for op_type, number in Counter(op_types).items()
    ]
    return tuple(sorted(rows, key=lambda row: (-(row.macs or 0), -row.count)))


def render_inspect(found: Inspection) -> RenderableType:
    """Render the signature, then the operators, then the totals."""
    from rich.console import Group
    from rich.text import Text

    model = found.model
    written = f"opset {found.opset}" if found.opset else model.format.label
    head = f"{model.path.name}, {figures.show_bytes(model.size_bytes)}, {written}"
    parts: list[RenderableType] = [Text(head, "bold")]
    parts += [f"  input   {spec}" for spec in model.inputs]
    parts += [f"  output  {spec}" for spec in model.outputs]
    table = plain_table("operator", "#nodes", "#MACs", "#weights")
    for row in found.operators:
        table.add_row(
            row.op_type,
            str(row.count),
            figures.show_count(row.macs or None),
            figures.show_bytes(row.weight_bytes or None),
        )
    parts += ["", table, ""] if found.operators else [""]
    if found.macs is not None:
        parts.append(
            f"one inference: {figures.show_count(found.macs)} MACs, "
            f"{figures.show_bytes(found.weight_bytes)} of weights, at most "
            f"{figures.show_bytes(found.peak_activation_bytes)} of activations at once"
        )
    if found.note:
        parts.append(Text(found.note, "yellow"))
    return Group(*parts)
