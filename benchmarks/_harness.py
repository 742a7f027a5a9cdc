"""What all benchmarks share: the command line, the result file, the table, the plot."""

from __future__ import annotations

import argparse
import os
import platform
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table

from skerry.core.durable import make_folder, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS = Path(__file__).with_name("bars.toml")
LIBRARIES = ("numpy", "onnx", "onnxruntime", "openvino")

Row = dict[str, str | int | float | None]
"""One line of the result: plain values by column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figure that was reached for one bar.

    Attributes:
        id: The bar's name in `bars.toml`.
        figure: In the bar's unit; None where it could not be measured.
        n: Number of samples or of repeats behind it.
        interval: Its 95 % interval, where there is one.
        peer: Who it was compared with, `"nncf 2.13"` or `"nncf (missing)"`.
        unmet: What else the bar asks for and does not hold, whatever the figure.
    """

    id: str
    figure: float | None
    n: int
    interval: tuple[float, float] | None = None
    peer: str | None = None
    unmet: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one benchmark found.

    Attributes:
        rows: Everything that was measured, also of peers; a missing peer has a row
            that says so.
        measured: One figure a bar.
        draw: Draws the plot.
    """

    rows: Sequence[Row]
    measured: Sequence[Measured]
    draw: Callable[[Figure], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One line of a result's `bars`; `holds` is None where nothing was measured."""

    id: str
    what: str
    unit: str
    figure: float | None
    limit: float
    n: int
    interval: tuple[float, float] | None
    peer: str | None
    holds: bool | None
    unmet: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The content of a result file."""

    name: str
    machine: dict[str, str | int]
    rows: Sequence[Row]
    bars: Sequence[Bar]


def run_benchmark(
    name: str,
    measure: Callable[[bool], Outcome],
    arguments: Sequence[str] | None = None,
) -> None:
    """Run one benchmark from its command line: measure, print, write.

    Args:
        name: The module's name, which is that of its table in `bars.toml`.
        measure: Does the work; True asks for fewer repeats of the same code, done in
            under a minute.
        arguments: The command line; that of this process by default.
    """
    chosen = command_line(name).parse_args(arguments)
    publish(name, measure(chosen.quick), chosen.json)


def command_line(name: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, required=True, help="the result file")
    return parser


def publish(name: str, outcome: Outcome, path: Path) -> None:
    """Write a benchmark's result file and its plot, and print them."""
    result = Result(
        name=name,
        machine=describe_machine(),
        rows=outcome.rows,
        bars=compare_with_bars(name, outcome.measured, tomllib.loads(BARS.read_text())),
    )
    _write(result, path)
    draw_plot(outcome, path.with_suffix(".png"))
    print_result(result, Console())


def replace_bars(name: str, measured: Sequence[Measured], path: Path) -> None:
    """Put bars that were measured again, alone, into a result file; print them.

    Raises:
        OSError: There is no such file.
        ValueError: A figure has no bar.
    """
    kept = msgspec.json.decode(path.read_bytes(), type=Result)
    wanted = tomllib.loads(BARS.read_text()).get(name, {})
    chosen = {name: {one.id: wanted[one.id] for one in measured if one.id in wanted}}
    again = {bar.id: bar for bar in compare_with_bars(name, measured, chosen)}
    bars = [again.get(bar.id, bar) for bar in kept.bars]
    _write(replace(kept, bars=bars), path)
    print_result(replace(kept, rows=(), bars=list(again.values())), Console())


def _write(result: Result, path: Path) -> None:
    make_folder(path.parent)
    text = msgspec.json.format(msgspec.json.encode(result), indent=1)
    write_file(path, text + b"\n")


def compare_with_bars(
    name: str, measured: Sequence[Measured], bars: dict[str, Any]
) -> list[Bar]:
    """Set each figure beside its bar.

    Args:
        name: The benchmark.
        measured: One figure a bar, in any order.
        bars: The content of `bars.toml`.

    Raises:
        ValueError: A bar has no figure, or a figure no bar.
    """
    wanted = bars.get(name, {})
    figures = {one.id: one for one in measured}
    if figures.keys() != wanted.keys():
        raise ValueError(
            f"{name}: got figures for {sorted(figures)}, bars are {sorted(wanted)}"
        )
    return [_compare(wanted[key], figures[key]) for key in wanted]


def _compare(bar: dict[str, Any], one: Measured) -> Bar:
    limit = bar["at_most"] if "at_most" in bar else bar["at_least"]
    holds = None
    if one.figure is not None:
        is_within = one.figure <= limit if "at_most" in bar else one.figure >= limit
        holds = is_within and not one.unmet
    return Bar(
        id=one.id,
        what=bar["what"],
        unit=bar["unit"],
        figure=one.figure,
        limit=limit,
        n=one.n,
        interval=one.interval,
        peer=one.peer,
        holds=holds,
        unmet=one.unmet,
    )


def describe_machine() -> dict[str, str | int]:
    """Say what the figures were measured on, without naming the machine."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "missing"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or "unknown"


def draw_plot(outcome: Outcome, path: Path) -> None:
    """Draw the outcome's plot into a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    outcome.draw(figure)
    figure.savefig(path, dpi=120)


def print_result(result: Result, console: Console) -> None:
    """Print the rows, then the bars."""
    columns = list(dict.fromkeys(key for row in result.rows for key in row))
    rows = Table(*columns, title=result.name)
    for row in result.rows:
        rows.add_row(*(show(row.get(column)) for column in columns))
    console.print(rows)
    bars = Table("bar", "figure", "limit", "n", "95 % interval", "peer", "holds")
    for bar in result.bars:
        bars.add_row(*bar_cells(bar))
    console.print(bars)


def bar_cells(bar: Bar) -> list[str]:
    """Say each part of a bar in words, for a table."""
    verdict = {None: "not measured", True: "yes", False: "NO"}[bar.holds]
    if bar.unmet:
        verdict = f"{verdict}: {bar.unmet}"
    interval = " … ".join(show(end) for end in bar.interval) if bar.interval else "–"
    return [
        bar.what,
        f"{show(bar.figure)} {bar.unit}",
        f"{show(bar.limit)} {bar.unit}",
        str(bar.n),
        interval,
        bar.peer or "–",
        verdict,
    ]


def show(value: float | str | None) -> str:
    """Write a cell: four digits are enough, and nothing is a dash."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
