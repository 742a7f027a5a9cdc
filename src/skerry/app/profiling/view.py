"""What `skerry profile` found: its figures, and how a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.adapt.profiles.conclude import Compared, noise_floor, type_shares
from skerry.adapt.profiles.roofline import Peaks, RoofPoint
from skerry.app import figures
from skerry.app.tables import indent, plain_table
from skerry.core.errors import StateError
from skerry.core.profile import HardwareState, Profile

if TYPE_CHECKING:
    from rich.console import RenderableType

MOST_OPERATORS = 12
"""Operators that a terminal shows, those that take longest; --json has all."""

LONGEST_NAME, LONGEST_TYPE = 40, 24
"""Letters on a terminal; names in some TFLite files have hundreds."""

UNSTABLE_HINT = (
    "Stop what else runs there, give more --repeats, fix the clock, and measure again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileView:
    """Profiles side by side.

    Attributes:
        profiles: One a model and runtime measured, then those of files.
        peaks: The roofs that operators are held to; None where nothing was measured.
        roofs: The operators of each profile under the roof; empty without peaks.
        compared: Each further profile against the first.
        refusal: Why nothing is concluded; empty if something is.
        trace: The trace that was written, if one was.
        page: The page that was written, if one was.
    """

    profiles: tuple[Profile, ...]
    peaks: Peaks | None = None
    roofs: tuple[tuple[RoofPoint, ...], ...] = ()
    compared: tuple[Compared, ...] = ()
    refusal: str = ""
    trace: Path | None = None
    page: Path | None = None

    def roof(self, index: int) -> tuple[RoofPoint, ...]:
        """The operators of one of the profiles under the roof; empty without peaks."""
        return self.roofs[index] if self.roofs else ()

    @property
    def exit_code(self) -> int:
        """That of `StateError` where the machine is too restless, else 0."""
        return StateError.exit_code if self.refusal else 0


def render_view(view: ProfileView) -> RenderableType:
    """Render each profile, then what they allow to say."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for index, profile in enumerate(view.profiles):
        parts += [_profile(profile, view.roof(index)), ""]
    if view.peaks is not None:
        parts.append(Text(f"roof: {show_peaks(view.peaks)}", "dim"))
    parts += [Text(tell_compared(one)) for one in view.compared]
    if view.refusal:
        parts.append(Text(f"no conclusion: {view.refusal}", "yellow"))
        parts.append(Text(f"hint: {UNSTABLE_HINT}"))
    for what, path in (("trace", view.trace), ("page", view.page)):
        if path is not None:
            parts.append(Text(f"{what}: {path}", no_wrap=True))
    return Group(*parts)


def show_peaks(peaks: Peaks) -> str:
    """The roofs and where they are from: `61.2 GOP/s, 9.81 GB/s (…)`."""
    return (
        f"{peaks.gops:.3g} GOP/s in {peaks.dtype}, {peaks.bandwidth_gb_s:.3g} GB/s "
        f"({peaks.source})"
    )


def tell_compared(one: Compared) -> str:
    """Say in a sentence how one profile compares."""
    speed = figures.show_ratio(1, one.ratio, less="faster", more="slower")
    if one.is_real is None:
        why = "how far that is noise is not known"
        if one.noise is not None:
            why = "the measurement is too restless to say more"
        return f"{one.title} against {one.against}: {speed}, but {why}"
    if not one.is_real:
        return (
            f"{one.title} against {one.against}: no difference beyond the noise of "
            f"± {figures.show_percent(one.noise)}"
        )
    noise = figures.show_percent(one.noise)
    return f"{one.title} against {one.against}: {speed} (noise ± {noise})"


def headline(profile: Profile) -> list[str]:
    """The figures of a whole profile, in words."""
    words = []
    if one := profile.inference:
        words.append(f"{figures.show_ms(one.cpu_ms)} of CPU time an inference")
        words.append(f"{figures.show_ms(one.wall_ms)} elapsed")
    if profile.operators:
        words.append(f"{figures.show_ms(profile.total_ms)} in operators")
    if (noise := noise_floor(profile)) is not None:
        words.append(f"noise floor {figures.show_percent(noise)}")
    if profile.memory_bytes is not None:
        words.append(f"{figures.show_bytes(profile.memory_bytes)} of memory")
    if profile.before and profile.after:
        words += _states(profile.before, profile.after)
    return words


def longest(profile: Profile) -> list[int]:
    """The places of the operators, the longest first."""
    times = [operator.latency_ms for operator in profile.operators]
    return sorted(range(len(times)), key=lambda at: -times[at])


def _states(before: HardwareState, after: HardwareState) -> list[str]:
    words = []
    for unit, first, last in (
        ("°C", before.temperature_c, after.temperature_c),
        ("MHz", before.clock_mhz, after.clock_mhz),
    ):
        if first is not None and last is not None:
            shown = f"{first:.0f} {unit}"
            if round(first) != round(last):
                shown = f"{first:.0f} to {last:.0f} {unit}"
            words.append(shown)
    return words


def _profile(profile: Profile, roof: Sequence[RoofPoint]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    threads = figures.show_number(profile.threads, "thread") if profile.threads else ""
    repeats = figures.show_number(profile.repeats, "repeat") if profile.repeats else ""
    settings = ", ".join(word for word in (threads, repeats) if word)
    title = f"{profile.title}: {settings}" if settings else profile.title
    parts: list[RenderableType] = [Text(title, "bold")]
    if words := headline(profile):
        parts.append(indent(", ".join(words)))
    parts += [indent(Text(note, "yellow")) for note in profile.notes]
    if profile.operators:
        shares = [
            f"{one.op_type} {figures.show_percent(one.share)} ({one.operators})"
            for one in type_shares(profile)[:5]
        ]
        parts += [indent(", ".join(shares)), indent(_operators(profile, roof))]
        if (rest := len(profile.operators) - MOST_OPERATORS) > 0:
            parts.append(indent(f"and {figures.show_number(rest, 'shorter operator')}"))
    return Group(*parts)


def _operators(profile: Profile, roof: Sequence[RoofPoint]) -> RenderableType:
    columns = ["operator", "type", "#time", "#share", "#±"]
    if roof:
        columns += ["#GOP/s", "#GB/s", "#of roof", ""]
    table = plain_table(*columns)
    rows = operator_rows(profile, roof)
    for at in longest(profile)[:MOST_OPERATORS]:
        name, op_type, *cells = rows[at]
        table.add_row(
            figures.show_end_of(name, LONGEST_NAME),
            figures.show_end_of(op_type, LONGEST_TYPE),
            *cells,
        )
    return table


def operator_rows(profile: Profile, roof: Sequence[RoofPoint]) -> list[tuple[str, ...]]:
    """Each operator's cells of a table, in order of execution.

    Args:
        profile: The profile.
        roof: Its operators under the roof; empty without one.

    Returns:
        Name, type, time, share and noise; with a roof, GOP/s, GB/s, the share of the
        roof, and what it is bound by.
    """
    total_ms = profile.total_ms or 1.0
    rows = [
        (
            operator.name,
            operator.op_type,
            figures.show_ms(operator.latency_ms),
            figures.show_percent(operator.latency_ms / total_ms),
            figures.show_percent(operator.noise),
        )
        for operator in profile.operators
    ]
    if not roof:
        return list(rows)
    return [(*row, *_roof_cells(at)) for row, at in zip(rows, roof, strict=True)]


def _roof_cells(point: RoofPoint) -> tuple[str, str, str, str]:
    """What an operator achieved."""
    return (
        _show_rate(point.gops),
        _show_rate(point.gb_s),
        figures.show_percent(point.of_roof),
        show_bound(point),
    )


def _show_rate(rate: float | None) -> str:
    return figures.NOT_MEASURED if rate is None else f"{rate:.3g}"


def show_bound(point: RoofPoint) -> str:
    """What an operator is bound by; nothing where that is not known."""
    if point.bound == "unknown":
        return ""
    if point.of_roof is None or point.of_roof <= 1:
        return f"{point.bound}-bound"
    return "in cache" if point.bound == "memory" else "over the roof"
