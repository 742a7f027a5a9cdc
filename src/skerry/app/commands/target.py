"""`skerry target ls|show`: what pieces of hardware are known, and what they can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app.tables import plain_table
from skerry.core.target import Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.core.target import Figure, OperatorRule


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """A known target.

    Attributes:
        name: Its name.
        title: One line for people.
        processors: Its processors, the most wanted first.
    """

    name: str
    title: str
    processors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetList:
    """The known targets, by name."""

    targets: tuple[TargetRow, ...]


def ls() -> TargetList:
    """List the targets that come with Skerry."""
    from skerry.adapt.target_files import load_target, target_names

    targets = [load_target(name) for name in target_names()]
    return TargetList(
        targets=tuple(
            TargetRow(
                name=target.name,
                title=target.title,
                processors=tuple(one.name for one in target.processors),
            )
            for target in targets
        )
    )


def show(name: str, /) -> Target:
    """Show what a target can do, with the source of each figure.

    Args:
        name: A known target, or a TOML file (schema skerry.target/2).
    """
    from skerry.adapt.target_files import load_target

    return load_target(Path(name) if name.endswith(".toml") else name)


def render_ls(found: TargetList) -> RenderableType:
    """Render as a table with one row a target."""
    table = plain_table("target", "processors", "title")
    for row in found.targets:
        table.add_row(row.name, ", ".join(row.processors), row.title)
    return table


FIGURES = {
    "peak_gops": "peak, 10⁹ operations a second",
    "bandwidth_gb_s": "memory, 10⁹ bytes a second",
    "storage_bandwidth_gb_s": "storage, 10⁹ bytes a second",
    "memory_bytes": "memory, bytes",
    "storage_bytes": "storage, bytes",
}


def render_show(target: Target) -> RenderableType:
    """Render as a title and one table a processor."""
    from rich.console import Group

    parts: list[RenderableType] = [f"{target.name}: {target.title}"]
    for processor in target.processors:
        runs = (
            "everything" if processor.runs_everything else _operators(processor.rules)
        )
        table = plain_table("", "", "")
        source = processor.operators_source
        table.add_row("runs", runs, "" if source is None else source.source)
        for field, words in FIGURES.items():
            figure: Figure | None = getattr(processor, field)
            if figure is not None:
                value = "unknown" if figure.value is None else f"{figure.value:g}"
                table.add_row(words, value, figure.source)
        parts += ["", f"{processor.name} ({processor.kind})", table]
    return Group(*parts)


def _operators(rules: tuple[OperatorRule, ...]) -> str:
    names = sorted({name for rule in rules for name in rule.operators})
    return f"{len(names)} operators: {', '.join(names)}"
