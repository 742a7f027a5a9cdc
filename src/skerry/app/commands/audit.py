"""`skerry audit`: what a target would make of a model, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.adapt.audit import Audit, Fallback, Verdict
from skerry.adapt.placement import UNKNOWN
from skerry.app import figures
from skerry.app.arguments import fix_shapes
from skerry.app.project import require_model
from skerry.app.tables import indent, plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.adapt.fits import Fit
    from skerry.graph import Graph

MOST_FALLBACKS = 8
"""Reasons that are shown for people; --json has all."""

MOST_BREAKS = 4
"""Breaks, tensors and dtypes that are shown for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audits:
    """A model against some targets.

    Attributes:
        model: Its file.
        verdicts: Whether it runs there, as far as anybody knows, by target.
        audits: One entry a target.
        is_overview: Whether no target was named, so that people see one line each.
    """

    model: Path
    verdicts: dict[str, Verdict]
    audits: tuple[Audit, ...]
    is_overview: bool


def audit(
    model: Path | None = None,
    /,
    *,
    target: tuple[str, ...] = (),
    shape: tuple[str, ...] = (),
) -> Audits:
    """Say what a target would make of a model, without running it.

    Args:
        model: An ONNX or TFLite file; that of skerry.toml by default.
        target: The name of a target or the path of a target file; repeat it for
            several. All that Skerry knows by default, one line each.
        shape: An input's shape, as NAME=1x3x48x320; once for each input whose shape
            the model leaves open.
    """
    from skerry.adapt.audit import audit as run
    from skerry.adapt.target_files import load_target, target_names

    path = require_model(model, folder=Path())
    targets = [load_target(name) for name in target or target_names()]
    static = fix_shapes(_read(path), shape)
    audits = tuple(run(static, one) for one in targets)
    return Audits(
        model=path,
        verdicts={one.target: one.verdict for one in audits},
        audits=audits,
        is_overview=not target,
    )


def _read(path: Path) -> Graph:
    """Read a model's graph, whichever of the two formats it is in."""
    from skerry.core.files import read_file
    from skerry.core.model import ModelFormat
    from skerry.graph import read_graph
    from skerry.runtimes import model_format

    if model_format(path) is not ModelFormat.TFLITE:
        return read_graph(path)
    from skerry.adapt.tflite import read_tflite_graph

    return read_tflite_graph(read_file(path), name=path.name)


def render_audit(found: Audits) -> RenderableType:
    """Render one paragraph a target; of all targets, one line each."""
    from rich.console import Group

    if found.is_overview:
        words = f"skerry audit {found.model.name} --target NAME says more of one."
        return Group(_overview(found.audits), "", words)
    return Group(*(_render_one(found.model.name, one) for one in found.audits))


_COLOURS = {Verdict.RUNS: "green", Verdict.FAILS: "red", Verdict.UNKNOWN: "yellow"}


def _overview(audits: Sequence[Audit]) -> RenderableType:
    from rich.text import Text

    table = plain_table("target", "verdict", "#elsewhere", "#about", "first obstacle")
    for column in table.columns[:-1]:
        column.no_wrap = True  # what is too long for a line is cut at its end
    for one in audits:
        elsewhere = sum(
            bool(each.reason) and each.processor != UNKNOWN for each in one.operators
        )
        table.add_row(
            one.target,
            Text(one.said, _COLOURS[one.verdict]),
            f"{elsewhere} of {len(one.operators)}",
            "" if one.time_us is None else figures.show_ms(one.time_us / 1000),
            Text(_obstacle(one), no_wrap=True, overflow="ellipsis"),
        )
    return table


def _obstacle(found: Audit) -> str:
    """What keeps a model from running well, the worst first, in one line."""
    if found.problems:
        return found.problems[0]
    return found.fallbacks[0].reason if found.fallbacks else ""


def _render_one(model: str, found: Audit) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    verdict = Text(found.said, _COLOURS[found.verdict])
    head = Text.assemble((f"{model} on {found.target}: ", "bold"), verdict)
    parts: list[RenderableType] = [head, indent(found.title)]
    for share in found.shares:
        work = f"{figures.show_percent(share.macs_share)} of the work"
        parts.append(indent(f"{share.processor}: {share.operators} operators, {work}"))
    parts += [indent(line) for line in _costs(found)]
    parts += [indent(Text(problem, "red")) for problem in found.problems]
    if found.fallbacks:
        parts += ["", indent(_fallbacks(found.fallbacks[:MOST_FALLBACKS]))]
        if (rest := len(found.fallbacks) - MOST_FALLBACKS) > 0:
            parts.append(indent(f"and {rest} more reasons"))
    if known := [fit for fit in found.fits if fit.limit_bytes is not None]:
        parts += ["", indent(_fits(known))]
    if found.remedies:
        parts += ["", indent("what would help:")]
        parts += [indent(f"- {remedy.advice}") for remedy in found.remedies]
    return Group(*parts, "")


def _costs(found: Audit) -> list[str]:
    """Time, changes of processor, layout and dtype, and tensors that fit nowhere."""
    lines = []
    if found.time_us is not None:
        share = figures.show_percent(found.memory_bound_share or 0.0)
        line = f"about {found.time_us / 1000:.3g} ms an inference"
        lines.append(f"{line}, {share} of it bound by memory")
    lines += _breaks(found)
    if found.transposes:
        undone = sum(bool(one.undone_by) for one in found.transposes)
        lines.append(
            f"{len(found.transposes)} Transposes, {undone} undone by a later one"
        )
    lines += [
        f"tensor {one.name} alone needs {figures.show_bytes(one.size_bytes)}; "
        f"{one.processor} has {figures.show_bytes(one.limit_bytes)}"
        for one in found.large_tensors[:MOST_BREAKS]
    ]
    lines += [
        f"{one.op_type} {one.operator} {one.why}"
        for one in found.dtype_troubles[:MOST_BREAKS]
    ]
    if (rest := len(found.dtype_troubles) - MOST_BREAKS) > 0:
        lines.append(f"and {rest} more operators in a dtype of their own")
    return lines


def _breaks(found: Audit) -> list[str]:
    """How often the work changes processor, and what makes it."""
    if len(found.subgraphs) < 2:
        return []
    sizes = [one.read_bytes for one in found.subgraphs]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    broken = [one for one in found.subgraphs if one.cause]
    return [
        f"{len(found.subgraphs)} subgraphs, {figures.show_bytes(total)} handed over",
        *(f"break at {one.operators[0]}: {one.cause}" for one in broken[:MOST_BREAKS]),
    ]


def _fallbacks(fallbacks: Sequence[Fallback]) -> RenderableType:
    table = plain_table("falls back", "#nodes", "#work", "because")
    for fallback in fallbacks:
        table.add_row(
            ", ".join(fallback.op_types),
            str(fallback.operators),
            figures.show_percent(fallback.macs_share),
            fallback.reason,
        )
    return table


def _fits(fits: Sequence[Fit]) -> RenderableType:
    from rich.text import Text

    table = plain_table("memory", "#needs", "#as INT8", "#has", "")
    for fit in fits:
        verdict = {
            True: Text("fits", "green"),
            False: Text("does not fit", "red"),
            None: Text("unknown", "yellow"),
        }[fit.fits]
        table.add_row(
            f"{fit.what} of {fit.processor}",
            figures.show_bytes(fit.needed_bytes),
            figures.show_bytes(fit.as_int8_bytes),
            figures.show_bytes(fit.limit_bytes),
            verdict,
        )
    return table
