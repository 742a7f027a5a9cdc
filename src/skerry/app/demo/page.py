"""The demo's page: everything it showed, to be kept and sent to a colleague."""

from __future__ import annotations

import numpy as np

from skerry.adapt.audit import Audit
from skerry.adapt.compare import Comparison
from skerry.app import figures
from skerry.app.demo.acts import MeterAct, TextAct, TextNet
from skerry.app.demo.day import Day
from skerry.app.demo.day_page import day_sections, headline
from skerry.app.html import (
    Card,
    Column,
    Html,
    Reading,
    cards,
    el,
    gallery,
    join,
    page,
    reading_card,
    section,
    table,
)
from skerry.app.report_page import headline_cards, report_sections, sum_up
from skerry.tasks._image import encode_png
from skerry.tasks.evaluate import Scores

MOST_MISREAD = 12
MOST_FALLBACKS = 8
SHOWN_HEIGHT = 48


def demo_page(  # noqa: PLR0917 — one argument an act
    net: TextNet,
    audits: tuple[Audit, ...],
    comparison: Comparison,
    text: TextAct,
    meter: MeterAct,
    day: Day,
) -> str:
    """Make the page."""
    report = text.compressed.report
    return page(
        "Two nets and one fleet, on one bad day",
        _headline(comparison, text, meter, day),
        day_sections(day),
        section(
            "Run: would it run there?",
            [_audit(audit) for audit in audits],
            lead="The text recognition net as it is, against two targets.",
        ),
        section(
            "Run: where is it fastest?",
            _comparison(comparison),
            lead="The same file on each runtime, measured in turns on one thread.",
        ),
        section(
            "Run fast: what plain INT8 does to it",
            gallery(_misread(net, text)),
            lead=(
                f"MinMax INT8 of every operator: {_right(text.per_tensor)} of the "
                f"lines right with one scale a tensor, {_right(text.plain)} with one a "
                f"channel; the float net: {_right(text.compressed.before)}. Lines that "
                "only the better of the two misreads:"
            ),
        ),
        section(
            "Run fast: Skerry's choice", headline_cards(report), lead=sum_up(report)
        ),
        report_sections(report),
        section(
            "Run fast: our own meter reader",
            headline_cards(meter.compressed.report),
            lead=(
                f"{sum_up(meter.compressed.report)} Readings of five digits without a "
                f"mistake: {meter.readings_right_before} before, "
                f"{meter.readings_right_after} after, of {meter.readings}."
            ),
        ),
        report_sections(meter.compressed.report),
        section(
            "Try it on yours",
            el(
                "p",
                "Your own model and data: ",
                el("code", "skerry init MODEL DATA"),
                ". A fleet of your own: ",
                el("code", "skerry hub up"),
                ", ",
                el("code", "skerry device create NAME"),
                " and ",
                el("code", "skerry gateway run"),
                ".",
            ),
        ),
        kicker="Skerry demo",
        lead="Every figure on this page was measured on this machine, in this run.",
    )


def _right(scores: Scores) -> str:
    return figures.show_percent(scores.value)


def _headline(comparison: Comparison, text: TextAct, meter: MeterAct, day: Day) -> Html:
    fastest = max(
        (row for row in comparison.rows if row.ratio is not None),
        key=lambda row: 1 / row.ratio.median if row.ratio else 0.0,
        default=None,
    )
    size = meter.compressed.report.size_bytes
    items = [
        Card(
            label="Plain INT8",
            value=_right(text.per_tensor),
            detail=f"of lines right per tensor, {_right(text.plain)} per channel; "
            f"{_right(text.compressed.before)} before",
            is_bad=True,
        ),
        Card(
            label="Skerry's INT8",
            value=figures.show_percent(text.compressed.after.value),
            detail="of the same lines right",
        ),
        Card(
            label="Meter reader",
            value=figures.show_ratio(
                size.before, size.after, less="smaller", more="larger"
            ),
            detail=f"{figures.show_percent(meter.compressed.before.value)} → "
            f"{figures.show_percent(meter.compressed.after.value)} of digits right",
        ),
    ]
    if fastest is not None and fastest.ratio is not None:
        items.insert(
            0,
            Card(
                label=f"On {fastest.runtime}",
                value=f"{1 / fastest.ratio.median:.1f} × faster",
                detail=f"than on {comparison.rows[0].runtime}, same file",
            ),
        )
    return cards([*items, *headline(day)])


def _audit(audit: Audit) -> Html:
    sizes = [
        (
            fit.what,
            fit.processor,
            figures.show_bytes(fit.needed_bytes),
            figures.show_bytes(fit.as_int8_bytes),
            figures.show_bytes(fit.limit_bytes) if fit.limit_bytes else "unknown",
        )
        for fit in audit.fits
    ]
    return join(
        el("h3", f"{audit.title} ({audit.target})"),
        el("p", f"As it is: {audit.said}."),
        el("ul", [el("li", problem) for problem in audit.problems])
        if audit.problems
        else None,
        _fallbacks(audit),
        table(
            [
                Column(title="Memory"),
                Column(title="Of"),
                Column(title="Needed", is_number=True),
                Column(title="As INT8", is_number=True),
                Column(title="There is", is_number=True),
            ],
            sizes,
            caption=f"What fits {audit.target}",
        )
        if sizes
        else None,
        el("p", "What would help, most gain first:") if audit.remedies else None,
        el("ol", [el("li", remedy.advice) for remedy in audit.remedies])
        if audit.remedies
        else None,
    )


def _fallbacks(audit: Audit) -> Html | None:
    if not audit.fallbacks:
        return None
    return table(
        [
            Column(title="Operator"),
            Column(title="Why it falls back"),
            Column(title="How many", is_number=True),
            Column(title="Share of work", is_number=True),
        ],
        [
            (
                ", ".join(found.op_types),
                found.reason,
                str(found.operators),
                figures.show_percent(found.macs_share),
            )
            for found in audit.fallbacks[:MOST_FALLBACKS]
        ],
        caption=f"What leaves the best processor of {audit.target}",
    )


def _comparison(comparison: Comparison) -> Html:
    rows = []
    for row in comparison.rows:
        agreement = row.agreement
        same = "reference"
        if agreement is not None and agreement.same_predictions is not None:
            same = f"{agreement.same_predictions} of {agreement.samples} lines"
        speed = "reference"
        if row.ratio is not None:
            low, high = 1 / row.ratio.high, 1 / row.ratio.low
            speed = f"{1 / row.ratio.median:.2f} × ({low:.2f} to {high:.2f})"
        latency = figures.show_ms(row.latency.median_ms if row.latency else None)
        rows.append(
            (f"{row.runtime} {row.version}", latency, speed, row.refusal or same)
        )
    return table(
        [
            Column(title="Runtime"),
            Column(title="Median, one line", is_number=True),
            Column(title="Speed-up (95 % interval)", is_number=True),
            Column(title="Same text"),
        ],
        rows,
        caption=f"{comparison.model} on {len(rows)} runtimes",
    )


def _misread(net: TextNet, text: TextAct) -> list[Html]:
    return [
        reading_card(
            encode_png(_enlarged(net.lines.pictures[wrong.line])),
            wrong.truth,
            [
                Reading(model="float", text=wrong.source),
                Reading(model="plain INT8", text=wrong.plain),
                Reading(model="Skerry", text=wrong.chosen),
            ],
        )
        for wrong in text.misread[:MOST_MISREAD]
    ]


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Whole-number enlargement, so that a person sees the pixels the net saw."""
    times = max(1, round(2 * SHOWN_HEIGHT / picture.shape[0]))
    return picture.repeat(times, axis=0).repeat(times, axis=1)
