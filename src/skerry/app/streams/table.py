"""Cameras as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.app.tables import plain_table
from skerry.edge.streams.figures import CameraFigures, StreamFigures

if TYPE_CHECKING:
    from rich.console import RenderableType

_LEVELS = {
    "full": "Nothing was given up.",
    "slower": "Moving cameras were looked at less often than their scenes ask for.",
    "checks": "Cameras on which nothing moves were checked less often, too.",
    "overload": "Even the least rates were too much.",
}


def show_cameras(figures: StreamFigures) -> RenderableType:
    """Show how each camera did, and what was given up."""
    from rich.console import Group

    table = plain_table(
        "camera", "state", "#fps", "#looks", "#p50", "#p99", "#events", "#missed", "why"
    )
    for camera in figures.cameras:
        table.add_row(*_cells(camera))
    return Group(table, _LEVELS[figures.level])


def _cells(camera: CameraFigures) -> list[str]:
    missed = camera.missed_share
    return [
        camera.name,
        camera.state.value,
        f"{camera.frames_per_s:.1f}",
        str(max(camera.looks.values(), default=0)),
        *(_ms(camera.latency_ms[name]) for name in ("p50", "p99")),
        str(sum(camera.counts.values())),
        "–" if missed is None else f"{missed:.0%}",
        camera.reason,
    ]


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"
