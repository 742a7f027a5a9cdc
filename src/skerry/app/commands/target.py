"""`skerry target ls|show|probe`: known hardware, what it can do, who says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.output import Output
from skerry.app.tables import indent, plain_table
from skerry.core.target import Figure, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.table import Table

    from skerry.core.target import Bus, Processor


class OperatorTable(StrEnum):
    """What is known of the operators that a processor runs."""

    EVERYTHING = "everything"
    WHOLE = "whole"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRow:
    """A known target.

    Attributes:
        name: Its name.
        title: One line for people.
        processors: Its processors, the most wanted first.
        peak_gops: Peak of the first of them at INT8, 10⁹ operations a second; None if
            unknown.
        memory_bytes: Memory of the first of them for activations; None if unknown.
        power_mw: What the whole draws at work; None if unknown.
        operators: What is known of the operators that the first of them runs.
    """

    name: str
    title: str
    processors: tuple[str, ...]
    peak_gops: float | None
    memory_bytes: float | None
    power_mw: float | None
    operators: OperatorTable


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetList:
    """The known targets, by name."""

    targets: tuple[TargetRow, ...]


def ls() -> TargetList:
    """List the targets that come with Skerry."""
    from skerry.adapt.target_files import load_target, target_names

    targets = [load_target(name) for name in target_names()]
    return TargetList(targets=tuple(_row(target) for target in targets))


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
    from skerry.adapt.probe.sweeps import all_sweeps
    from skerry.adapt.probe.tables import target_toml, with_rules
    from skerry.adapt.target_files import load_target, parse_target, target_document
    from skerry.app.pipelines.probe import open_asker
    from skerry.core.durable import write_file

    target = load_target(name)
    date = datetime.now(tz=UTC).date().isoformat()
    asker = open_asker(toolchain, target, date=date)
    found = learn(all_sweeps(), asker.dtypes, asker.ask, told=output.talk)
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
    table = plain_table("target", "processors", "#INT8 peak", "#memory", "operators")
    for row in found.targets:
        table.add_row(
            row.name,
            ", ".join(row.processors),
            figures.NOT_MEASURED if row.peak_gops is None else _ops(row.peak_gops),
            figures.show_bytes(row.memory_bytes),
            row.operators,
        )
    return table


def render_show(target: Target) -> RenderableType:
    """Render as a title and one table a processor; addresses and words by --json."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        Text.assemble((target.name, "bold"), f"  {target.title}")
    ]
    if target.power_mw is not None:
        parts += ["", indent(_figures({"power_mw": target.power_mw}))]
    for processor in target.processors:
        head = Text.assemble((processor.name, "bold"), f"  {processor.kind}")
        parts += ["", head, indent(_processor(processor))]
    for bus in target.buses:
        found = _figures_of(bus)
        parts += ["", Text(" to ".join(bus.between), "bold"), indent(_figures(found))]
    return Group(*parts)


def table_of(processor: Processor) -> OperatorTable:
    """Say what is known of the operators that a processor runs."""
    if processor.runs_everything:
        return OperatorTable.EVERYTHING
    if processor.rules_complete:
        return OperatorTable.WHOLE
    return OperatorTable.PARTIAL if processor.rules else OperatorTable.UNKNOWN


def figure_rows(within: Target | Processor | Bus) -> Iterator[tuple[str, str, Figure]]:
    """Give the figures of a thing: what it is, the value for people, the figure."""
    for field, figure in _figures_of(within).items():
        words, show_figure = FIGURES[field]
        value = "unknown" if figure.value is None else show_figure(figure.value)
        yield words, value, figure


def operator_words(processor: Processor) -> Iterator[tuple[str, str]]:
    """Say which operators a processor runs, refuses, and leaves open: what, which."""
    if processor.runs_everything:
        yield "runs", "every operator of ONNX"
        return
    for dtypes, names in _by_dtypes(processor):
        yield f"runs in {dtypes}", names
    refused = sorted({one for each in processor.refusals for one in each.operators})
    if refused:
        yield "refuses", ", ".join(refused)
    if not processor.rules_complete:
        rest = "every other operator" if processor.rules or refused else "all operators"
        yield "unknown", rest
    if processor.first_subgraph_only:
        yield "takes only", "what comes before the first operator that it refuses"


def _row(target: Target) -> TargetRow:
    first = target.processors[0]
    return TargetRow(
        name=target.name,
        title=target.title,
        processors=tuple(one.name for one in target.processors),
        peak_gops=first.peak_gops.value if first.peak_gops else None,
        memory_bytes=first.memory_bytes.value if first.memory_bytes else None,
        power_mw=target.power_mw.value if target.power_mw else None,
        operators=table_of(first),
    )


def _processor(processor: Processor) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    table = _figures(_figures_of(processor))
    if processor.sparsity is not None:
        source = Text(processor.sparsity.source, "dim")
        table.add_row("sparsity", processor.sparsity.kind, source)
    if processor.toolchain:
        table.add_row("toolchain", processor.toolchain)
    if processor.operators_source is not None:
        source = Text(processor.operators_source.source, "dim")
        table.add_row("operators", table_of(processor), source)
    words = [
        Text.assemble((f"{what}: ", "bold"), names)
        for what, names in operator_words(processor)
    ]
    return Group(table, *words)


def _figures(found: Mapping[str, Figure]) -> Table:
    from rich.text import Text

    table = plain_table("", "", "")
    table.show_header = False
    for field, figure in found.items():
        words, show_figure = FIGURES[field]
        source = Text(figure.source, "dim")
        if figure.value is None:
            table.add_row(words, Text("unknown", "yellow"), source)
        else:
            table.add_row(words, show_figure(figure.value), source)
    return table


def _figures_of(within: Target | Processor | Bus) -> dict[str, Figure]:
    found = {field: getattr(within, field, None) for field in FIGURES}
    return {key: one for key, one in found.items() if isinstance(one, Figure)}


def _by_dtypes(processor: Processor) -> Iterator[tuple[str, str]]:
    """Group the operators that a processor runs by the dtypes it runs them in."""
    dtypes: dict[str, set[str]] = {}
    for rule in processor.rules:
        for name in rule.operators:
            dtypes.setdefault(name, set()).update(rule.dtypes)
    sets = Counter(frozenset(found) for found in dtypes.values())
    for taken, _ in sets.most_common():
        names = sorted(name for name, found in dtypes.items() if found == taken)
        yield ", ".join(sorted(taken, key=_dtype_order)), ", ".join(names)


def _dtype_order(dtype: str) -> tuple[bool, int, str]:
    return "float" not in dtype, len(dtype), dtype


def _ops(peak_gops: float) -> str:
    if peak_gops >= TERA:
        return f"{peak_gops / TERA:.3g} TOPS"
    return f"{peak_gops:.3g} GOPS"


def _bandwidth(bandwidth_gb_s: float) -> str:
    return f"{bandwidth_gb_s:.3g} GB/s"


def _power(power_mw: float) -> str:
    return f"{power_mw / 1000:.3g} W" if power_mw >= 1000 else f"{power_mw:.3g} mW"


TERA = 1000
"""10⁹ operations in 10¹²."""

FIGURES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "peak_gops": ("peak at INT8", _ops),
    "peak_fp16_gops": ("peak at FP16", _ops),
    "peak_fp32_gops": ("peak at FP32", _ops),
    "int8_speedup": ("INT8 ÷ FP32", "{:.3g} times".format),
    "bandwidth_gb_s": ("bandwidth", _bandwidth),
    "storage_bandwidth_gb_s": ("bandwidth of the storage", _bandwidth),
    "memory_bytes": ("memory", figures.show_bytes),
    "storage_bytes": ("storage", figures.show_bytes),
    "cache_bytes": ("memory of its own", figures.show_bytes),
    "power_mw": ("power", _power),
    "wake_energy_uj": ("energy to wake", "{:.3g} µJ".format),
    "energy_pj_byte": ("energy of a byte", "{:.3g} pJ".format),
}
"""The figures of targets, processors and buses: their names and units for people."""
