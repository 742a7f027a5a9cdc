"""`skerry target ls|show`: what pieces of hardware are known, and what they can do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.output import Output
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """An operator table that a toolchain's answers made.

    Attributes:
        target: The target's name.
        toolchain: Who was asked, and its version.
        cases: Models of one operator each that were asked about.
        accepted: Those that run.
        rules: Rules of the table.
        file: Where the target with its new table was put.
    """

    target: str
    toolchain: str
    cases: int
    accepted: int
    rules: int
    file: Path


def probe(
    name: str,
    /,
    *,
    toolchain: str,
    out: Path | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> Probed:
    """Ask a toolchain which operators a target runs, and write the target's table.

    Models of one operator each, over dtypes, shapes and attributes, are compiled (or
    run, by a runtime of this machine); where the answers change, the place is found
    exactly. What is not in the table does not run.

    Args:
        name: A known target, or a TOML file.
        toolchain: vela, onnxruntime, openvino or litert.
        out: The file to write; the target's name and .toml by default.
        output: Where to say what is under way.
    """
    from skerry.adapt.probe.learn import learn
    from skerry.adapt.probe.sweeps import DTYPES, all_sweeps
    from skerry.adapt.probe.tables import target_toml, with_rules
    from skerry.adapt.target_files import load_target, parse_target, target_document
    from skerry.app.pipelines.probe import open_asker
    from skerry.core.durable import write_file

    target = load_target(name)
    date = datetime.now(tz=UTC).date().isoformat()
    asker = open_asker(toolchain, target, date=date)
    found = learn(all_sweeps(), DTYPES, asker.ask, told=output.talk)
    processor = next(
        (one for one in target.processors if one.toolchain == toolchain),
        target.processors[0],
    )
    document = with_rules(
        target_document(name), processor.name, found.rules, asker.source
    )
    command = f"skerry target probe {target.name} --toolchain {toolchain}"
    remarks = (
        f"The operator table of {processor.name} was written by",
        f"    {command}",
        f"which asked {asker.version} on {date}; do not change it by hand.",
        "",
    )
    file = out or Path(f"{target.name}.toml")
    text = target_toml(document, remarks=remarks)
    parse_target(text.encode(), name=str(file))
    write_file(file, text.encode())
    return Probed(
        target=target.name,
        toolchain=asker.version,
        cases=len(found.asked),
        accepted=sum(one.answer.runs for one in found.asked),
        rules=len(found.rules),
        file=file,
    )


def render_probe(found: Probed) -> RenderableType:
    """Say what was asked, and where the table is."""
    return (
        f"{found.toolchain} runs {found.accepted} of {found.cases} operators asked "
        f"about; {found.rules} rules for {found.target}: {found.file}"
    )


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
