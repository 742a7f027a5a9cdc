"""The section of a report on what a delta from the version before costs."""

from __future__ import annotations

from skerry.app import charts, figures
from skerry.app.html import Column, Html, figure, section, table
from skerry.core.report import AlikeRow, Report

_LEAD = """What a delta from the version before costs, by how like it the weights were
made; the loss is against the model as it was, on the samples that choose."""


def alike_section(report: Report) -> Html | None:
    """Make the chart of bytes against loss, and the table; None without any."""
    if not report.alike:
        return None
    scale, unit = figures.byte_unit(max(row.patch_bytes for row in report.alike))
    chart = charts.pareto(
        [_point(row) for row in report.alike],
        title="loss against bytes of the delta",
        x=charts.Axis(label="the delta", unit=f" {unit}", scale=scale, begin=0.0),
        y=charts.Axis(label="change", unit=" points", scale=0.01, shortest=0.01),
    )
    columns = [
        Column(title="weights"),
        Column(title="delta", is_number=True),
        Column(title="loss", is_number=True),
        Column(title=""),
    ]
    rows = [
        (
            row.name,
            figures.show_bytes(row.patch_bytes),
            figures.show_points(row.drop),
            "" if row.holds else "may lose more than is allowed",
        )
        for row in report.alike
    ]
    chosen = next((i for i, row in enumerate(report.alike) if row.chosen), None)
    caption = "Up and to the left is better."
    return section(
        "Like the version before",
        figure(chart, caption),
        table(columns, rows, chosen=chosen),
        lead=" ".join(_LEAD.split()),
    )


def _point(row: AlikeRow) -> charts.Point:
    role: charts.Role = "chosen" if row.chosen else "tried"
    return charts.Point(label=row.name, x=row.patch_bytes, y=-row.drop, role=role)
