"""Profiles as a page that stands alone."""

from __future__ import annotations

from collections.abc import Sequence

from skerry.adapt.profiles.conclude import noise_floor, type_shares
from skerry.adapt.profiles.roofline import Peaks, RoofPoint
from skerry.app import charts, figures
from skerry.app.html import Card, Column, Html, cards, el, figure, join, page, section
from skerry.app.html import table as html_table
from skerry.app.profiling.chart import roofline_chart
from skerry.app.profiling.view import (
    UNSTABLE_HINT,
    ProfileView,
    headline,
    operator_rows,
    show_peaks,
    tell_compared,
)
from skerry.core.profile import UNSTABLE, Profile

MOST_BARS = 8


def profile_page(view: ProfileView) -> str:
    """Make the whole page: the figures, the pictures, all operators."""
    first = view.profiles[0]
    sections = [
        _profile_section(profile, view.roof(index), view.peaks)
        for index, profile in enumerate(view.profiles)
    ]
    return page(
        first.model or first.source or first.runtime,
        _cards(view.profiles),
        _said(view),
        *sections,
        kicker="Skerry profile",
        lead=_lead(view),
    )


def _lead(view: ProfileView) -> str:
    if view.refusal:
        return f"No conclusion: {view.refusal}. {UNSTABLE_HINT}"
    shares = type_shares(view.profiles[0])
    if not shares:
        return "The runtime tells no times of operators."
    most = shares[0]
    return (
        f"{figures.show_percent(most.share)} of the operators' time is {most.op_type} "
        f"({figures.show_number(most.operators, 'operator')})."
    )


def _cards(profiles: Sequence[Profile]) -> Html:
    items = []
    for profile in profiles:
        whole = profile.inference
        noise = noise_floor(profile)
        items.append(
            Card(
                label=profile.title,
                value=figures.show_ms(whole.cpu_ms if whole else profile.total_ms),
                detail=", ".join(headline(profile)[1:]),
                is_bad=noise is not None and noise > UNSTABLE,
            )
        )
    return cards(items)


def _said(view: ProfileView) -> Html | None:
    if not view.compared:
        return None
    rows = [el("li", tell_compared(one)) for one in view.compared]
    return section("Side by side", el("ul", rows))


def _profile_section(
    profile: Profile, roof: Sequence[RoofPoint], peaks: Peaks | None
) -> Html:
    parts: list[Html | None] = [el("p", note, class_="lead") for note in profile.notes]
    if peaks is not None and any(point.gops for point in roof):
        chart = roofline_chart(roof, peaks, title=f"Roofline of {profile.title}")
        parts.append(figure(chart, _caption(peaks)))
    parts += [_by_type(profile), _operators(profile, roof)]
    return section(profile.title, *parts)


def _caption(peaks: Peaks) -> Html:
    key = charts.legend(
        [("after", "bound by computing"), ("before", "bound by memory, or unknown")]
    )
    words = (
        f"The roof: {show_peaks(peaks)}. A circle is an operator, its area its share "
        "of the time. Bytes are those of its own tensors: one whose tensors stay in a "
        "cache may pass over the slope."
    )
    return join(key, words)


def _by_type(profile: Profile) -> Html | None:
    shares = type_shares(profile)
    if not shares:
        return None
    rows = [
        charts.Bar(
            label=f"{one.op_type} ({one.operators}), {one.share * 100:.0f} %",
            value=one.latency_ms,
            text=figures.show_ms(one.latency_ms),
        )
        for one in shares[:MOST_BARS]
    ]
    chart = charts.bars(rows, title=f"Time by type of operator, {profile.title}")
    return figure(chart, "The time of all operators of a type.")


def _operators(profile: Profile, roof: Sequence[RoofPoint]) -> Html | None:
    if not profile.operators:
        return None
    titles = ["time", "share", "±"]
    if roof:
        titles += ["GOP/s", "GB/s", "of roof"]
    columns = [Column(title="operator"), Column(title="type")]
    columns += [Column(title=title, is_number=True) for title in titles]
    if roof:
        columns.append(Column(title="bound"))
    rows = operator_rows(profile, roof)
    return html_table(columns, rows, caption="All operators, in order of execution")
