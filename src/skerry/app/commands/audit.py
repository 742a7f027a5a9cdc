"""`skerry audit`: what a target would make of a model, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.adapt.audit import Audit, Fallback
from skerry.app import figures
from skerry.app.arguments import parse_shapes
from skerry.app.project import require_model
from skerry.app.tables import indent, plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.adapt.fits import Fit

MOST_FALLBACKS = 8
"""Reasons that are shown for people; --json has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audits:
    """A model against some targets."""

    model: Path
    audits: tuple[Audit, ...]


def audit(
    model: Path | None = None,
    /,
    *,
    target: tuple[str, ...] = (),
    shape: tuple[str, ...] = (),
) -> Audits:
    """Say what a target would make of a model, without running it.

    Args:
        model: An ONNX file; that of skerry.toml by default.
        target: The name of a target or the path of a target file; repeat it for
            several. All that Skerry knows by default.
        shape: An input's shape, as NAME=1x3x48x320; once for each input whose shape
            the model leaves open.
    """
    from skerry.adapt.audit import audit as run
    from skerry.adapt.target_files import load_target, target_names
    from skerry.graph import read_graph, with_static_inputs

    path = require_model(model, folder=Path())
    targets = [load_target(name) for name in target or target_names()]
    graph = read_graph(path)
    shapes = parse_shapes(shape, [spec.name for spec in graph.inputs])
    static = with_static_inputs(graph, shapes)
    return Audits(model=path, audits=tuple(run(static, one) for one in targets))


def render_audit(found: Audits) -> RenderableType:
    """Render one paragraph a target."""
    from rich.console import Group

    return Group(*(_render_one(found.model.name, one) for one in found.audits))


def _render_one(model: str, found: Audit) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    verdict = Text("runs", "green") if found.would_run else Text("does not run", "red")
    head = Text.assemble((f"{model} on {found.target}: ", "bold"), verdict)
    parts: list[RenderableType] = [head, indent(found.title)]
    for share in found.shares:
        work = f"{figures.show_percent(share.macs_share)} of the work"
        parts.append(indent(f"{share.processor}: {share.operators} operators, {work}"))
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
