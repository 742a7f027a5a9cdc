"""`skerry adapt`: rewrite what a target cannot run, and audit again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.adapt.rewrite.engine import DEFAULT_MAX_ERROR, Applied, Left
from skerry.adapt.rewrite.residence import Residence, residence
from skerry.app.arguments import fix_shapes
from skerry.app.pipelines.adapt import Answers
from skerry.app.project import require_model
from skerry.app.tables import indent, plain_table
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from skerry.core.seams import Tensors
    from skerry.graph import Graph

MADE_UP = 8
"""Samples of random numbers that are compared on where none are given."""

MOST_COMPARED = 32

MOST_ROWS = 12
"""Lines a table that are shown for people; --json has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptResult:
    """What was replaced, and what is left.

    Attributes:
        model: The model that was read.
        out: The file that was written.
        target: The target's name.
        before: Where the model's operators ran.
        after: Where those of the rewritten one run.
        applied: What was replaced.
        left: What no rule could replace.
        answers: How far outputs moved; None where nothing was replaced.
        are_made_up: Whether that was on random numbers.
    """

    model: Path
    out: Path
    target: str
    before: Residence
    after: Residence
    applied: tuple[Applied, ...]
    left: tuple[Left, ...]
    answers: Answers | None
    are_made_up: bool


def adapt(
    model: Path | None = None,
    samples: Path | None = None,
    /,
    *,
    target: str,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    shape: tuple[str, ...] = (),
    max_error: float = DEFAULT_MAX_ERROR,
    task: Path | None = None,
) -> AdaptResult:
    """Rewrite what a target cannot run into what it can, and audit again.

    Each replacement is equal to what it replaces, or has a stated bound of its error.
    Then outputs are compared with those of the model as it was; for hardware without
    floats, those of both as INT8 too.

    Args:
        model: An ONNX file; that of skerry.toml by default.
        samples: Real inputs to compare outputs on, an .npz or a folder; random numbers
            by default.
        target: The name of a target, or the path of a target file.
        out: The ONNX file to write.
        shape: An input's shape, as NAME=1x3x48x320; once for each input whose shape
            the model leaves open.
        max_error: The largest absolute error of an activation function that may be
            replaced by another one; 0 allows equal functions alone.
        task: The task's TOML file, which says how samples of a folder are prepared.
    """
    from skerry.adapt.rewrite.engine import adapt as run
    from skerry.adapt.target_files import load_target
    from skerry.app.pipelines.adapt import compare_answers, wants_int8
    from skerry.graph import read_graph, write_graph

    path = require_model(model, folder=Path())
    if out.resolve() == path.resolve():
        raise UsageError(
            f"the rewritten model would replace {path}",
            hint="Choose another file with --out.",
        )
    if max_error < 0:
        raise UsageError(
            f"--max-error is {max_error:g}, expected 0 or more",
            hint="0 allows equal functions alone.",
        )
    hardware = load_target(target)
    graph = read_graph(path)
    static = fix_shapes(graph, shape)
    done = run(static, hardware, max_error=max_error)
    inputs = _inputs(static, samples, task)
    answers = None
    if done.applied:
        as_int8 = wants_int8(static, hardware)
        answers = compare_answers(static, done.graph, inputs, as_int8=as_int8)
    write_graph(done.graph, out)
    return AdaptResult(
        model=path,
        out=out,
        target=hardware.name,
        before=residence(static, hardware),
        after=residence(done.graph, hardware),
        applied=done.applied,
        left=done.left,
        answers=answers,
        are_made_up=samples is None,
    )


def _inputs(graph: Graph, samples: Path | None, task: Path | None) -> list[Tensors]:
    """The first of the samples, or random numbers."""
    from skerry.tasks.made_up import made_up_inputs
    from skerry.tasks.samples import open_samples, take
    from skerry.tasks.task import load_task

    if samples is None:
        return [made_up_inputs(graph.inputs, seed=seed) for seed in range(MADE_UP)]
    known = None if task is None else load_task(task)
    source = take(open_samples(samples, graph.inputs, known), MOST_COMPARED)
    return [one.inputs for one in source]


def render_adapt(result: AdaptResult) -> RenderableType:
    """Say what was replaced and why, what is left, and where the model is."""
    from rich.console import Group
    from rich.text import Text

    head = Text(f"{result.model.name} on {result.target}", "bold")
    parts: list[RenderableType] = [head]
    for when, one in (("before", result.before), ("after", result.after)):
        parts.append(
            indent(
                f"{when}: {one.operators} of {one.of} operators on {one.processor}, "
                f"{one.subgraphs} subgraphs"
            )
        )
    if result.applied:
        parts += ["", indent(_applied(result.applied[:MOST_ROWS]))]
        if (rest := len(result.applied) - MOST_ROWS) > 0:
            parts.append(indent(f"and {rest} more"))
    if result.left:
        parts += ["", indent(_left(result.left[:MOST_ROWS]))]
        if (rest := len(result.left) - MOST_ROWS) > 0:
            parts.append(indent(f"and {rest} more"))
    if result.answers is not None:
        parts += ["", indent(_moved(result.answers, are_made_up=result.are_made_up))]
    return Group(*parts, "", f"Written: {result.out}")


def _moved(answers: Answers, *, are_made_up: bool) -> str:
    """Say how far outputs are from those of the model as it was."""
    if answers.rewritten is None:
        return f"outputs were not compared: {answers.missing}"
    kind = "made-up samples" if are_made_up else "samples"
    said = (
        f"on {answers.samples} {kind} outputs moved by {answers.rewritten:.2g} of "
        "their energy"
    )
    if answers.quantized is not None:
        said += f", as INT8 by {answers.quantized:.2g}"
    if answers.quantized_before is not None:
        said += f" (the model as it was, as INT8: {answers.quantized_before:.2g})"
    return f"{said}; not as INT8: {answers.missing}" if answers.missing else said


def _applied(applied: Sequence[Applied]) -> RenderableType:
    table = plain_table("replaced", "by", "because", "bound")
    for one in applied:
        table.add_row(
            f"{one.op_type} {one.node}",
            ", ".join(one.by) or "nothing",
            one.reason,
            "; ".join(dict.fromkeys(one.bounds)),
        )
    return table


def _left(left: Sequence[Left]) -> RenderableType:
    table = plain_table("left", "shape", "because", "what to try")
    for one in left:
        table.add_row(f"{one.op_type} {one.node}", one.shape, one.reason, one.advice)
    return table
