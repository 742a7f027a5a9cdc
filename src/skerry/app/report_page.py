"""A report as a page, and its parts for pages that hold more than one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skerry.app import charts, figures
from skerry.app.alike_section import alike_section
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
from skerry.app.operator_table import operator_table
from skerry.app.reports import kept_operators
from skerry.core.budget import condition_limit
from skerry.core.report import Accuracy, Attempt, ConditionRow, LayerRow, Report

MOST_BARS = 20
"""Operators in a chart; the table has all of them."""

NEAR = 0.2
"""Fraction of accuracy, and of size, within which a candidate is near the chosen."""

HIDING = 0.25
"""Fraction of a chart's height on which candidates are too close to be told apart."""

FEWEST_NEAR = 3
"""Candidates that are worth a chart of their own."""

LONGEST_LABEL = 40
"""Letters of a candidate's name in a chart; the table has all of it."""

MOST_NAMES = 4
"""Names that are shown at once; more are folded away, or only counted."""


def report_page(report: Report) -> str:
    """Make the whole page of a report."""
    return page(
        report.model,
        headline_cards(report),
        report_sections(report),
        kicker="Skerry report",
        lead=tell(report),
    )


def report_sections(report: Report) -> Html:
    """Make the sections of a report, without its headline."""
    return join(
        compare_section(report),
        conditions_section(report),
        tried_section(report),
        alike_section(report),
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


def tell(report: Report) -> str:
    """Say in a few sentences what became of the model, and why."""
    return " ".join([sum_up(report), *_reasons(report)])


def _reasons(report: Report) -> list[str]:
    said = []
    chosen = next((one for one in report.tried if one.chosen), None)
    if chosen is not None and len(report.tried) > 1:
        said.append(f"Of {len(report.tried)} candidates this is “{chosen.name}”.")
    if report.layers:
        number = sum(_is_int8(layer) for layer in report.layers)
        total = figures.show_number(len(report.layers), "operator")
        said.append(f"{number} of {total} compute in integers.")
    # What stays float adds nothing; where all does, errors are those of the best tried.
    integer = [layer for layer in report.layers if _is_int8(layer)] or report.layers
    errors = [layer.error or 0.0 for layer in integer]
    if any(errors):
        worst = max(integer, key=lambda layer: layer.error or 0.0)
        share = (worst.error or 0.0) / sum(errors)
        said.append(
            f"Most of the error comes from {worst.name} ({worst.op_type}), "
            f"{share:.0%} of what operators add one by one"
            + (f": {_lower(worst.fix)}" if worst.fix else ".")
        )
    back = sum(layer.fell_back for layer in report.layers)
    if back:
        said.append(f"{figures.show_number(back, 'operator')} fell back to float.")
    return said


def _lower(words: str) -> str:
    return words[0].lower() + words[1:]


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


def conditions_section(report: Report) -> Html | None:
    """Make the table of both models where pictures are spoilt."""
    if not report.conditions or report.accuracy is None:
        return None
    metric = report.accuracy.metric
    columns = [
        Column(title="condition"),
        Column(title="before", is_number=True),
        Column(title="after", is_number=True),
        Column(title="change", is_number=True),
        Column(title="95 %", is_number=True),
        Column(title="allowed loss", is_number=True),
        Column(title=""),
    ]
    missed = {breach.limit for breach in report.breaches}
    rows = []
    for row in (_as_taken(report.accuracy), *report.conditions):
        limit = report.budget.conditions.get(row.condition)
        low, high = (figures.show_end(metric, end) for end in row.ci95)
        is_missed = condition_limit(row.condition) in missed
        verdict = "inside the noise" if row.ci95[0] <= 0 <= row.ci95[1] else "real"
        rows.append(
            (
                row.condition,
                figures.show_score(metric, row.before),
                figures.show_score(metric, row.after),
                figures.show_end(metric, row.paired_delta),
                f"{low} to {high}",
                figures.NOT_MEASURED if limit is None else f"{limit * 100:.3g} %",
                el("strong", "misses the budget", class_="miss")
                if is_missed
                else verdict,
            )
        )
    lead = (
        "The same pictures as the field spoils them; both models see each of "
        f"{report.conditions[0].n:,} alike."
    )
    return section("Under conditions", table(columns, rows), lead=lead)


def _as_taken(accuracy: Accuracy) -> ConditionRow:
    return ConditionRow(
        condition="as taken",
        before=accuracy.before,
        after=accuracy.after,
        n=accuracy.n,
        paired_delta=accuracy.paired_delta,
        ci95=accuracy.ci95,
    )


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
        _pareto(report, speeds, _SPEED, _CAPTION),
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
        operator_table(report.layers, mark=report.sha256[1][:12]),
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
            _show_limit(breach.limit),
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


def _show_limit(limit: str) -> str:
    _, dot, condition = limit.partition(".")
    return f"loss under {condition}" if dot else figures.show_metric(limit)


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
    return [
        charts.Point(label=_label(attempt.name), x=cost, y=attempt.accuracy, role=role)
    ]


def _label(name: str) -> str:
    """A name for a chart: of a long one the end, where candidates differ."""
    if len(name) <= LONGEST_LABEL:
        return name
    return "…" + name[1 - LONGEST_LABEL :]


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
            _attempt_name(attempt, report),
            figures.show_score(metric, attempt.accuracy),
            figures.show_bytes(_size_of(attempt, report)),
            figures.NOT_MEASURED
            if attempt.latency_ratio is None
            else _show_times(attempt.latency_ratio),
            str(attempt.kept_float or figures.NOT_MEASURED),
            _remark(attempt),
        )
        for attempt in report.tried
    ]
    chosen = next((i for i, attempt in enumerate(report.tried) if attempt.chosen), None)
    return table(columns, rows, chosen=chosen)


def _attempt_name(attempt: Attempt, report: Report) -> str:
    """Its name, with its precision and another runtime, unless the name says them."""
    here = report.latency_ms.runtime if report.latency_ms else ""
    runtime = attempt.runtime if attempt.runtime != here else ""
    more = [
        word
        for word in (runtime, attempt.precision)
        if word and word not in attempt.name
    ]
    return f"{attempt.name} ({', '.join(more)})" if more else attempt.name


def _remark(attempt: Attempt) -> str:
    if attempt.chosen:
        return "chosen"
    front = "nothing beats it" if attempt.pareto and not attempt.note else ""
    return attempt.note or front


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


def _is_int8(layer: LayerRow) -> bool:
    return layer.dtype.startswith(("int", "uint"))


def _show_times(ratio: float) -> str:
    return f"{ratio:.2f} ×"


def _show_param(value: object) -> str:
    if isinstance(value, list) and len(value) > MOST_NAMES:
        return f"{len(value)} names"
    return str(value)


def _arrow(show: Callable[[float | None], str], before: float, after: float) -> str:
    return f"{show(before)} → {show(after)}"
