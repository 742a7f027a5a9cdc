"""The page's sections on the fleet: what it did, what it refused, how it healed."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.app import figures
from skerry.app.demo.day import Day
from skerry.app.demo.field import FieldFigures
from skerry.app.demo.load import Reply
from skerry.app.demo.ship import ShipFigures
from skerry.app.demo.stage import Refused
from skerry.app.demo.timeline import (
    Mark,
    accuracy_chart,
    key,
    mark_list,
    release_classes,
    timeline,
)
from skerry.app.html import (
    Card,
    Column,
    Html,
    cards,
    el,
    figure,
    join,
    section,
    table,
)

_TIMELINE_WORDS = (
    "Answers a second by release; latency, median and 99th percentile; which release "
    "answered on each gateway. A gap is a gateway without power. The bursts that "
    "measured the field's accuracy are left out of the rate."
)
BEFORE_FOG_S = 6.0
"""How much of the clear time the accuracy's chart shows."""


def day_sections(day: Day) -> Html:
    """Make the sections."""
    return join(
        section(
            "One fleet, one bad day", _headline(day), _timeline(day), lead=_lead(day)
        ),
        section(
            "Ship: a swap under load",
            _swap_table(day.shipped),
            lead=(
                f"Releases {day.shipped.first} and {day.shipped.second} disagree on "
                f"{day.shipped.disagreement:.1%} of the pictures shown; each answer "
                "names its release and the hash of its model, and was compared with "
                "what that very file gives on this machine."
            ),
        ),
        section(
            "Refuse: five bad releases and a power cut",
            _refused_table(day.refused.refused),
            el("p", _killed(day)),
            lead="Reasons as they stand in the shadow of the gateway that refused.",
        ),
        section(
            "Run continuously: the fog, and the cure",
            _field_cards(day.field),
            _accuracy(day),
            lead=_field_lead(day.field),
        ),
    )


def headline(day: Day) -> list[Card]:
    """The cards for the top of the page."""
    lost = lost_requests(day.replies)
    accuracy = day.field.accuracy
    return [
        Card(
            label="Three gateways, a bad day",
            value=f"{lost} of {len(day.replies):,}",
            detail=f"requests failed or wrong; the naive swap failed "
            f"{day.shipped.naive_failed} of {day.shipped.naive_requests}",
            is_bad=lost > 0,
        ),
        Card(
            label="Fogged, then healed",
            value=figures.show_percent(accuracy.after),
            detail=f"{figures.show_percent(accuracy.before)} clear, "
            f"{figures.show_percent(accuracy.drifted)} in the fog",
        ),
    ]


def lost_requests(replies: Sequence[Reply]) -> int:
    """Requests that failed or were answered wrongly."""
    return sum(reply.outcome != "ok" for reply in replies)


def _lead(day: Day) -> str:
    span_s = max(reply.at_s for reply in day.replies)
    return (
        f"A hub and three gateways ran as processes on this machine for {span_s:.0f} s "
        f"under steady load and answered {len(day.replies):,} requests."
    )


def _headline(day: Day) -> Html:
    refused = day.refused
    delta = day.field.delta_bytes
    items = [
        Card(
            label=f"{day.shipped.second} swapped in",
            value=f"{day.shipped.swap_failed} of {day.shipped.swap_requests:,}",
            detail=f"requests lost in {day.shipped.swap_s:.1f} s on three gateways",
            is_bad=day.shipped.swap_failed > 0,
        ),
        Card(
            label="Refused",
            value=f"{len(refused.refused)} of {len(refused.refused)}",
            detail="bad releases, each with its reason in the shadow",
        ),
        Card(
            label="After a power cut",
            value=f"{refused.converged_s:.1f} s",
            detail=f"until {refused.killed} ran what it should",
        ),
        Card(
            label="Shipped to each gateway",
            value=figures.show_bytes(delta or day.field.full_bytes),
            detail=f"as a delta, instead of {figures.show_bytes(day.field.full_bytes)}"
            if delta
            else "whole",
        ),
    ]
    return cards(items)


def _timeline(day: Day) -> Html:
    chart = timeline(
        day.replies, day.marks, title="Requests, latency and releases over time"
    )
    return join(
        figure(
            chart,
            [
                key(release_classes(day.replies)),
                _TIMELINE_WORDS,
            ],
        ),
        mark_list(day.marks),
    )


def _swap_table(shipped: ShipFigures) -> Html:
    return table(
        [
            Column(title="The swap"),
            Column(title="Requests", is_number=True),
            Column(title="Failed or wrong", is_number=True),
        ],
        [
            (
                "Skerry: loaded beside, checked, switched",
                f"{shipped.swap_requests:,}",
                str(shipped.swap_failed),
            ),
            (
                "naive: stop, load, start",
                f"{shipped.naive_requests:,}",
                str(shipped.naive_failed),
            ),
        ],
        caption="The same model files, the same runtime, the same load",
        chosen=0,
    )


def _refused_table(refused: Sequence[Refused]) -> Html:
    return table(
        [
            Column(title="What was wrong"),
            Column(title="Release"),
            Column(title="Who refused"),
            Column(title="Reason"),
            Column(title="Measured", is_number=True),
            Column(title="Allowed", is_number=True),
            Column(title="In the gateway's words"),
        ],
        [
            (
                one.fault,
                one.release,
                one.gateway,
                one.reason,
                _show(one.measured),
                _show(one.allowed),
                one.what,
            )
            for one in refused
        ],
        caption="Refusals",
    )


def _killed(day: Day) -> str:
    refused = day.refused
    return (
        f"{refused.killed} was killed with SIGKILL while {refused.killed_phase} an "
        f"update, and started again: {refused.converged_s:.1f} s later it ran the new "
        "release. Its load was held in between, for nobody answers without power."
    )


def _field_lead(field: FieldFigures) -> str:
    return (
        f"The alarm came {field.found_after} frames after the fog, and not once in "
        f"{field.clear_frames} clear ones. {field.samples} pictures went to the hub, "
        f"{field.uncertain} because the model was unsure and the rest at random. They "
        "were labelled by the recording's truth, where an operator would. The hub "
        f"refitted the head: {field.evidence}. {field.release} ran on all gateways "
        f"{field.healed_s:.0f} s after the fog."
    )


def _field_cards(field: FieldFigures) -> Html:
    accuracy = field.accuracy
    of = f"of {field.pictures} digits, by the fleet"
    return cards(
        [
            Card(label="Clear", value=figures.show_percent(accuracy.before), detail=of),
            Card(
                label="Fogged",
                value=figures.show_percent(accuracy.drifted),
                detail=of,
                is_bad=True,
            ),
            Card(
                label="Healed",
                value=figures.show_percent(accuracy.after),
                detail=f"{of}; {figures.show_percent(accuracy.clear_after)} of the "
                "clear ones",
            ),
        ]
    )


def _accuracy(day: Day) -> Html:
    fog_s = next(mark.at_s for mark in day.marks if mark.kind == "field")
    shown = [
        reply
        for reply in day.replies
        if reply.at_s >= fog_s - BEFORE_FOG_S and reply.scene in {"clear", "fogged"}
    ]
    marks: list[Mark] = [mark for mark in day.marks if mark.at_s >= fog_s]
    chart = accuracy_chart(shown, marks, title="Digits read right, through the fog")
    return join(
        figure(chart, "Share of digits read right by all gateways."), mark_list(marks)
    )


def _show(value: float | None) -> str:
    return figures.NOT_MEASURED if value is None else f"{value:.3g}"
