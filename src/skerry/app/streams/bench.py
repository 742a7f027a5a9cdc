"""As many cameras as asked for, made of a few: how does this machine do?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.core.clock import Clock
from skerry.edge.streams.figures import StreamFigures

if TYPE_CHECKING:
    # What a command returns must be known without what runs it.
    from skerry.edge.streams.runner import Streams
    from skerry.edge.streams.settings import CamerasSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBench:
    """How a machine did.

    Attributes:
        cameras: How many there were.
        seconds: For how long they were watched.
        cores: CPU seconds used in a second, models and decoding included.
        latency_ms: Percentiles of capture to answer: of the median camera, and of the
            worst.
        looks_per_s: Of the least and of the most looked at camera.
        figures: All that is known of each camera.
    """

    cameras: int
    seconds: float
    cores: float
    latency_ms: Mapping[str, float | None]
    looks_per_s: Mapping[str, float]
    figures: StreamFigures


def multiply(settings: CamerasSettings, count: int) -> CamerasSettings:
    """Make so many cameras of those in a file, one after the other."""
    entries = [
        replace(
            settings.cameras[place % len(settings.cameras)],
            name=f"c{place + 1:03d}",
        )
        for place in range(count)
    ]
    return replace(settings, cameras=tuple(entries))


async def run_bench(
    settings: CamerasSettings, *, seconds: float, clock: Clock
) -> StreamBench:
    """Watch cameras for a while, with the models in this process, and measure.

    Raises:
        The errors of `run_streams`.
    """
    from skerry.app.streams.running import RunSettings, run_streams

    begun: dict[str, float] = {}

    def ready(address: str, streams: Streams) -> None:
        del address, streams
        begun.update(wall=clock.wall_s(), cpu=clock.cpu_s())

    with tempfile.TemporaryDirectory(prefix="skerry-streams-") as folder:
        figures = await run_streams(
            settings,
            RunSettings(folder=Path(folder), isolation="thread", duration_s=seconds),
            clock=clock,
            ready=ready,
        )
    took_s = clock.wall_s() - begun["wall"]
    return StreamBench(
        cameras=len(figures.cameras),
        seconds=took_s,
        cores=(clock.cpu_s() - begun["cpu"]) / took_s,
        latency_ms=_latencies(figures),
        looks_per_s=_looks(figures, took_s),
        figures=figures,
    )


def _latencies(figures: StreamFigures) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in ("p50", "p99"):
        values = [camera.latency_ms[name] for camera in figures.cameras]
        known = sorted(value for value in values if value is not None)
        found[f"{name} median"] = known[len(known) // 2] if known else None
        found[f"{name} worst"] = known[-1] if known else None
    return found


def _looks(figures: StreamFigures, seconds: float) -> dict[str, float]:
    rates = [
        min(camera.looks.values(), default=0) / seconds for camera in figures.cameras
    ]
    return {"least": min(rates), "most": max(rates)}
