"""A report as a page, and its parts for pages that hold more than one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skerry.app import charts, figures
from skerry.app.html import (
    Card,
    Child,
    Column,
    Html,
    cards,
    el,
    figure,
    folded,
    join,
    page,
    section,
    table,
)
from skerry.app.reports import kept_operators
from skerry.core.report import Attempt, LayerRow, Report

MOST_BARS = 20
"""Operators in a chart; the table has all of them."""

NEAR = 0.2
"""Fraction of accuracy, and of size, within which a candidate is near the chosen."""

HIDING = 0.25
"""Fraction of a chart's height on which candidates are too close to be told apart."""

FEWEST_NEAR = 3
"""Candidates that are worth a chart of their own."""

MOST_NAMES = 4
"""Names that are shown at once; more are folded away, or only counted."""


def report_page(report: Report) -> str:
    """Make the whole page of a report."""
    return page(
        report.model,
        headline_cards(report),
        report_sections(report),
        kicker="Skerry report",
        lead=sum_up(report),
    )


def report_sections(report: Report) -> Html:
    """Make the sections of a report, without its headline."""
    return join(
        compare_section(report),
        tried_section(report),
        operators_section(report),
        notes_section(report),
    )


def sum_up(report: Report) -> str:
    """Say in one sentence what became of the model."""
    size = report.size_bytes
    gains = [figures.show_ratio(size.before, size.after, less="smaller", more="larger")]
    if report.latency_ms:
        speed = figures.show_ratio(
            1, report.latency_ms.ratio, less="faster", more="slower"
        )
        gains.append(f"{speed} on {report.latency_ms.runtime}")
    if gains[0] == figures.SAME:
        gains[0] = "of the same size"
    said = " and ".join(gains)
    if report.accuracy:
        delta = figures.show_change(
            report.accuracy.metric, report.accuracy.paired_delta
        )
        said += f", at {delta} of {figures.show_metric(report.accuracy.metric)}"
        said += f" on {report.accuracy.n:,} samples that no step had seen"
    verdict = "" if not report.breaches else " It misses the budget."
    return said[0].upper() + said[1:] + "." + verdict


def headline_cards(report: Report) -> Html:
    """Make the cards: accuracy, size, latency, memory; what misses is pointed out."""
    missed = {breach.limit for breach in report.breaches}
    items = []
    if report.accuracy:
        metric = report.accuracy.metric
        low, high = (figures.show_end(metric, end) for end in report.accuracy.ci95)
        before = figures.show_score(metric, report.accuracy.before)
        after = figures.show_score(metric, report.accuracy.after)
        change = figures.show_change(metric, report.accuracy.paired_delta)
        items.append(
            Card(
                label=f"Accuracy ({figures.show_metric(metric)})",
                value=after,
                detail=f"{before} before; {change}, 95 % interval {low} to {high}",
                is_bad="accuracy_drop" in missed,
            )
        )
    size = report.size_bytes
    items.append(
        Card(
            label="Size",
            value=figures.show_ratio(
                size.before, size.after, less="smaller", more="larger"
            ),
            detail=_arrow(figures.show_bytes, size.before, size.after),
            is_bad="size_bytes" in missed,
        )
    )
    if latency := report.latency_ms:
        threads = figures.show_number(latency.threads, "thread")
        items.append(
            Card(
                label=f"Latency ({latency.runtime}, {threads})",
                value=figures.show_ratio(
                    1, latency.ratio, less="faster", more="slower"
                ),
                detail=_arrow(figures.show_ms, latency.before, latency.after)
                + f", median of {latency.repeats} pairs ± {latency.noise * 100:.1f} %",
                is_bad="latency_ms" in missed,
            )
        )
    if memory := report.memory_bytes:
        items.append(
            Card(
                label="Peak activation memory",
                value=figures.show_ratio(
                    memory.before, memory.after, less="smaller", more="larger"
                ),
                detail=_arrow(figures.show_bytes, memory.before, memory.after),
                is_bad="memory_bytes" in missed,
            )
        )
    return cards(items)


def compare_section(report: Report) -> Html:
    """Make the chart before and after, and the budget."""
    pairs = []
    if accuracy := report.accuracy:
        pairs.append(
            charts.Pair(
                label=figures.show_metric(accuracy.metric).capitalize(),
                before=accuracy.before,
                after=accuracy.after,
                before_text=figures.show_score(accuracy.metric, accuracy.before),
                after_text=figures.show_score(accuracy.metric, accuracy.after),
            )
        )
    for label, change, show in (
        ("Model file", report.size_bytes, figures.show_bytes),
        ("Latency, median", report.latency_ms, figures.show_ms),
        ("Peak activation memory", report.memory_bytes, figures.show_bytes),
    ):
        if change is not None:
            pairs.append(
                charts.Pair(
                    label=label,
                    before=change.before,
                    after=change.after,
                    before_text=show(change.before),
                    after_text=show(change.after),
                )
            )
    key = charts.legend([("before", "before"), ("after", "after")])
    caption = [key, "Each figure has its own scale."]
    chart = charts.before_after(pairs, title=f"{report.model}, before and after")
    return section("Before and after", figure(chart, caption), _budget(report))


def tried_section(report: Report) -> Html | None:
    """Make the Pareto charts and the table of everything that was tried."""
    if not report.tried:
        return None
    sizes, speeds = [], []
    for attempt in report.tried:
        is_source = _is_source(attempt, report)
        sizes += _point(attempt, _size_of(attempt, report), is_source=is_source)
        speeds += _point(attempt, attempt.latency_ratio, is_source=is_source)
    near = _near_the_chosen(sizes)
    shown = [
        _pareto(report, sizes, _size_axis(sizes, begin=0.0), _CAPTION),
        _pareto(report, near, _size_axis(near, begin=None), _NEAR),
        _pareto(report, speeds, _SPEED, _TIMED),
    ]
    lead = "Scored on the half of the evaluation data that the search may look at."
    return section("Everything that was tried", shown, _tried_table(report), lead=lead)


def operators_section(report: Report) -> Html | None:
    """Make the charts and the table of the model's operators."""
    if not report.layers:
        return None
    number = sum(_is_int8(layer) for layer in report.layers)
    counted = (
        f"{figures.show_number(len(report.layers), 'operator')}, {number} in INT8."
    )
    return section(
        "Operator by operator",
        el("p", counted, class_="lead"),
        _kept(report),
        _operator_chart(report.layers),
        folded("All operators", _operator_table(report.layers)),
    )


def _kept(report: Report) -> Html | None:
    """Say what stays in higher precision, and why; many names are folded away."""
    entries = []
    for kept in kept_operators(report):
        names: list[Child] = [[el("code", name), " "] for name in kept.names]
        shown = [": ", names] if len(names) <= MOST_NAMES else folded("which", names)
        entries.append(el("li", f"{kept.operators}: {kept.why}", shown))
    if not entries:
        return None
    return join(el("h3", "What stays in higher precision"), el("ul", entries))


def notes_section(report: Report) -> Html:
    """Make the notes, the recipe and the hashes, so that it can be done again."""
    notes = [el("li", note) for note in report.notes]
    steps = [
        el(
            "li",
            el("code", step.name),
            *(
                [" ", el("code", f"{key} = {_show_param(value)}")]
                for key, value in step.params.items()
            ),
        )
        for step in report.recipe.steps
    ]
    before, after = report.sha256
    hashes = table(
        [Column(title="model file"), Column(title="SHA-256")],
        [("before", el("code", before)), ("after", el("code", after))],
    )
    return section(
        "How to do it again",
        el("ul", notes) if notes else None,
        el("h3", "Recipe") if steps else None,
        el("ol", steps) if steps else None,
        el("h3", "Files"),
        hashes,
    )


_CAPTION = "Up and to the left is better. The dashed line joins what nothing beats."
_NEAR = "The same, closer: the candidates near the chosen one."
_TIMED = f"{_CAPTION} Only candidates that hold the budget are timed."


_SPEED = charts.Axis(label="latency ÷ source’s", unit=" ×", begin=0.0)


def _size_axis(points: Sequence[charts.Point], *, begin: float | None) -> charts.Axis:
    most = max((point.x for point in points), default=0.0)
    scale, unit = figures.byte_unit(most)
    return charts.Axis(
        label="size of the model file", unit=f" {unit}", scale=scale, begin=begin
    )


def _pareto(
    report: Report, points: Sequence[charts.Point], x: charts.Axis, caption: str
) -> Html | None:
    if len(points) <= 1:
        return None
    accuracy = report.accuracy
    metric = figures.show_metric(accuracy.metric) if accuracy else "accuracy"
    chart = charts.pareto(
        points,
        title=f"{metric} against {x.label}, of everything tried",
        x=x,
        y=charts.Axis(label=metric, unit=" %", scale=0.01, end=1.0, shortest=0.02),
    )
    return figure(chart, caption)


def _near_the_chosen(points: Sequence[charts.Point]) -> list[charts.Point]:
    """Keep those of about the chosen one's size and accuracy, if others hide them."""
    chosen = next((point for point in points if point.role == "chosen"), None)
    if chosen is None:
        return []
    near = [
        point
        for point in points
        if abs(point.y - chosen.y) < NEAR and abs(point.x / chosen.x - 1) < NEAR
    ]
    spread, whole = (_spread([point.y for point in some]) for some in (near, points))
    is_hidden = 0 < spread <= whole * HIDING
    return near if is_hidden and len(near) >= FEWEST_NEAR else []


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _budget(report: Report) -> Html | None:
    if not report.breaches:
        return None
    rows = [
        (
            figures.show_metric(breach.limit),
            f"{breach.allowed:g}",
            "not measured" if breach.measured is None else f"{breach.measured:g}",
        )
        for breach in report.breaches
    ]
    columns = [
        Column(title="limit that does not hold"),
        Column(title="allowed", is_number=True),
        Column(title="measured", is_number=True),
    ]
    return table(columns, rows)


def _is_source(attempt: Attempt, report: Report) -> bool:
    """The float model stands among the candidates, at a latency of exactly 1."""
    is_same_size = attempt.size_bytes in {None, report.size_bytes.before}
    return attempt.latency_ratio == 1.0 and is_same_size


def _size_of(attempt: Attempt, report: Report) -> float | None:
    is_source = _is_source(attempt, report)
    return report.size_bytes.before if is_source else attempt.size_bytes


def _point(
    attempt: Attempt, cost: float | None, *, is_source: bool
) -> list[charts.Point]:
    """A point, or none where a figure was not measured."""
    if cost is None or attempt.accuracy is None:
        return []
    role: charts.Role = (
        "chosen" if attempt.chosen else "source" if is_source else "tried"
    )
    return [charts.Point(label=attempt.name, x=cost, y=attempt.accuracy, role=role)]


def _tried_table(report: Report) -> Html:
    metric = report.accuracy.metric if report.accuracy else ""
    columns = [
        Column(title="candidate"),
        Column(title="accuracy", is_number=True),
        Column(title="size", is_number=True),
        Column(title="latency ÷ source’s", is_number=True),
        Column(title="kept float", is_number=True),
        Column(title=""),
    ]
    rows = [
        (
            attempt.name,
            figures.show_score(metric, attempt.accuracy),
            figures.show_bytes(_size_of(attempt, report)),
            figures.NOT_MEASURED
            if attempt.latency_ratio is None
            else _show_times(attempt.latency_ratio),
            str(attempt.kept_float or figures.NOT_MEASURED),
            "chosen" if attempt.chosen else attempt.note,
        )
        for attempt in report.tried
    ]
    chosen = next((i for i, attempt in enumerate(report.tried) if attempt.chosen), None)
    return table(columns, rows, chosen=chosen)


def _operator_chart(layers: Sequence[LayerRow]) -> Child:
    """Draw time where it was measured, else work: the largest first."""
    timed = [layer for layer in layers if layer.latency_ms is not None]
    worked = [layer for layer in layers if layer.macs]
    if timed:
        largest = sorted(timed, key=lambda layer: -(layer.latency_ms or 0.0))
        values = [layer.latency_ms or 0.0 for layer in largest]
        texts = [figures.show_ms(value) for value in values]
        what = "Measured time of the chosen model"
    elif worked:
        largest = sorted(worked, key=lambda layer: -layer.macs)
        values = [float(layer.macs) for layer in largest]
        texts = [figures.show_count(value) for value in values]
        what = "Multiply-accumulates of one inference"
    else:
        return None
    rows = [
        charts.Bar(
            label=layer.name,
            value=value,
            text=text,
            kind="int8" if _is_int8(layer) else "float",
        )
        for layer, value, text in zip(largest, values, texts, strict=True)
    ][:MOST_BARS]
    key = charts.legend([("int8", "INT8"), ("float", "float")])
    rest = len(largest) - len(rows)
    words = f"{what}." + (f" The largest; {rest} more in the table." if rest else "")
    return figure(charts.bars(rows, title=what), [key, words])


def _operator_table(layers: Sequence[LayerRow]) -> Html:
    columns = [
        Column(title="operator"),
        Column(title="type"),
        Column(title="computes in"),
        Column(title="time", is_number=True),
        Column(title="MACs", is_number=True),
        Column(title="weights", is_number=True),
        Column(title="error alone", is_number=True),
    ]
    rows = [
        (
            layer.name,
            layer.op_type,
            layer.dtype,
            figures.show_ms(layer.latency_ms),
            figures.show_count(layer.macs or None),
            figures.show_bytes(layer.weight_bytes or None),
            figures.NOT_MEASURED if layer.error is None else f"{layer.error:.2g}",
        )
        for layer in layers
    ]
    return table(columns, rows)


def _is_int8(layer: LayerRow) -> bool:
    return "int8" in layer.dtype


def _show_times(ratio: float) -> str:
    return f"{ratio:.2f} ×"


def _show_param(value: object) -> str:
    if isinstance(value, list) and len(value) > MOST_NAMES:
        return f"{len(value)} names"
    return str(value)


def _arrow(show: Callable[[float | None], str], before: float, after: float) -> str:
    return f"{show(before)} → {show(after)}"
