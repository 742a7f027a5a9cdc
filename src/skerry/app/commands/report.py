"""`skerry report show` and `skerry report diff`: read the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app import figures
from skerry.app.report_page import report_page
from skerry.app.reports import kept_operators, read_report
from skerry.app.tables import indent, plain_table
from skerry.core.durable import write_file
from skerry.core.report import Change, Report

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A report that was read.

    Attributes:
        report: All of it.
        html: The page that was written; None if none was asked for.
    """

    report: Report
    html: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureDiff:
    """One figure of two compressed models; None where a report has it not."""

    name: str
    unit: str
    first: float | None
    second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorDiff:
    """An operator that computes in another dtype; None where it is not there."""

    name: str
    first: str | None
    second: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDiff:
    """What differs between the compressed models of two reports."""

    first: str
    second: str
    same_source: bool
    figures: tuple[FigureDiff, ...]
    operators: tuple[OperatorDiff, ...]


def show(report: Path, /, *, html: Path | None = None) -> Shown:
    """Show a report: what was done to a model, what it cost and what it brought.

    Args:
        report: The report.json that skerry compress wrote.
        html: Write it as a page too, to this file.
    """
    read = read_report(report)
    if html:
        write_file(html, report_page(read).encode())
    return Shown(report=read, html=html)


def diff(first: Path, second: Path, /) -> ReportDiff:
    """Say how the compressed models of two reports differ.

    Args:
        first: A report.json.
        second: Another one.
    """
    one, other = read_report(first), read_report(second)
    return ReportDiff(
        first=str(first),
        second=str(second),
        same_source=one.sha256[0] == other.sha256[0],
        figures=_diff_figures(one, other),
        operators=_diff_operators(one, other),
    )


def _diff_figures(one: Report, other: Report) -> tuple[FigureDiff, ...]:
    metrics = [report.accuracy.metric for report in (one, other) if report.accuracy]
    unit = "fraction" if all(map(figures.is_share, metrics)) else "value"
    figures_of_one, figures_of_other = _figures(one, unit), _figures(other, unit)
    return tuple(
        FigureDiff(name=name, unit=unit, first=figures_of_one[name, unit], second=value)
        for (name, unit), value in figures_of_other.items()
    )


def _figures(report: Report, unit: str) -> dict[tuple[str, str], float | None]:
    accuracy, latency, memory = report.accuracy, report.latency_ms, report.memory_bytes
    return {
        ("accuracy", unit): accuracy.after if accuracy else None,
        ("size", "bytes"): report.size_bytes.after,
        ("latency", "ms"): latency.after if latency else None,
        ("memory", "bytes"): memory.after if memory else None,
    }


def _diff_operators(one: Report, other: Report) -> tuple[OperatorDiff, ...]:
    first = {layer.name: layer.dtype for layer in one.layers}
    second = {layer.name: layer.dtype for layer in other.layers}
    return tuple(
        OperatorDiff(name=name, first=first.get(name), second=second.get(name))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    )


def render_show(shown: Shown) -> RenderableType:
    """Render the figures before and after, what was tried, and the notes."""
    from rich.console import Group
    from rich.text import Text

    report = shown.report
    parts: list[RenderableType] = [Text(report.model, "bold"), _before_after(report)]
    if report.tried:
        parts += ["", _tried(report)]
    if kept := kept_operators(report):
        parts += ["", "in higher precision:"]
        parts += [indent(f"{group.operators}: {group.why}") for group in kept]
    parts += [Text(f"budget missed: {breach}", "red") for breach in report.breaches]
    parts += [f"note: {note}" for note in report.notes]
    if shown.html:
        parts.append(f"Written: {shown.html}")
    return Group(*parts)


def _before_after(report: Report) -> Table:
    table = plain_table("", "#before", "#after", "")
    accuracy, latency = report.accuracy, report.latency_ms
    if accuracy:
        metric = accuracy.metric
        low, high = (figures.show_end(metric, end) for end in accuracy.ci95)
        table.add_row(
            figures.show_metric(metric),
            figures.show_score(metric, accuracy.before),
            figures.show_score(metric, accuracy.after),
            f"{figures.show_change(metric, accuracy.paired_delta)} "
            f"(95 %: {low} to {high}, {accuracy.n} samples)",
        )
    _add_bytes(table, "size", report.size_bytes)
    if latency:
        ratio = figures.show_ratio(1, latency.ratio, less="faster", more="slower")
        table.add_row(
            "latency",
            figures.show_ms(latency.before),
            figures.show_ms(latency.after),
            f"{ratio} ({latency.runtime}, "
            f"{figures.show_number(latency.threads, 'thread')})",
        )
    if report.memory_bytes:
        _add_bytes(table, "memory", report.memory_bytes)
    return table


def _add_bytes(table: Table, name: str, change: Change) -> None:
    before, after = change.before, change.after
    ratio = figures.show_ratio(before, after, less="smaller", more="larger")
    table.add_row(name, figures.show_bytes(before), figures.show_bytes(after), ratio)


def _tried(report: Report) -> Table:
    table = plain_table("tried", "#accuracy", "#size", "#latency", "")
    metric = report.accuracy.metric if report.accuracy else ""
    for attempt in report.tried:
        ratio = attempt.latency_ratio
        table.add_row(
            f"{'→ ' if attempt.chosen else '  '}{attempt.name}",
            figures.show_score(metric, attempt.accuracy),
            figures.show_bytes(attempt.size_bytes),
            figures.NOT_MEASURED if ratio is None else f"{ratio:.2f} ×",
            attempt.note,
        )
    return table


def render_diff(found: ReportDiff) -> RenderableType:
    """Render the figures side by side, then the operators that differ."""
    from rich.console import Group

    shows = {
        "fraction": figures.show_percent,
        "value": figures.show_value,
        "bytes": figures.show_bytes,
        "ms": figures.show_ms,
    }
    table = plain_table("", f"#{found.first}", f"#{found.second}")
    for row in found.figures:
        show_it = shows[row.unit]
        table.add_row(row.name, show_it(row.first), show_it(row.second))
    parts: list[RenderableType] = [table]
    if not found.same_source:
        parts.append("The two reports are of different source models.")
    if found.operators:
        parts.append("")
        operators = plain_table("operator", found.first, found.second)
        for operator in found.operators:
            operators.add_row(
                operator.name, operator.first or "absent", operator.second or "absent"
            )
        parts.append(operators)
    return Group(*parts)
