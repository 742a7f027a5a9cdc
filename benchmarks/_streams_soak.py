"""Ten minutes of bad cameras: memory, and what the good ones notice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks._found import Found, Plan, percentile, row, tell
from benchmarks._harness import Measured
from benchmarks._streams_footage import CAMERAS, FRAMES_PER_S, footage
from benchmarks._streams_load import QUICK_CAMERAS, QUICK_SECONDS, SECONDS
from benchmarks._streams_stage import Noted, Ran, run_cameras, settings_of
from skerry.core.allowance import ShortWork
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import LinkError
from skerry.device._video import Packet, Video
from skerry.device.cameras import CameraSettings, VideoCamera
from skerry.edge.streams.runner import Streams
from skerry.edge.streams.settings import CamerasSettings

BARS = ("streams.soak.memory", "streams.soak.p99_ratio")
DROPPING = 10
DROPS_AFTER = 60
"""Packets after which a dropping camera breaks: some ten seconds."""

SOAK_S, QUICK_SOAK_S = 600.0, 20.0
CALM_S, QUICK_CALM_S = 120.0, 15.0


class Dropping:
    """A video that breaks after a while; what `VideoCamera` opens."""

    def __init__(self, url: str, **options: object) -> None:
        self._video = Video(url, **options)  # type: ignore[arg-type]
        self._left = DROPS_AFTER
        self.frames_per_s = self._video.frames_per_s
        self.decode = self._video.decode
        self.close = self._video.close

    def read(self) -> Packet | None:
        """The next packet, or a broken link."""
        self._left -= 1
        if self._left < 0:
            raise LinkError("the cable was pulled", hint="")
        return self._video.read()


def measure_soak(plan: Plan) -> Found:
    """Fifty cameras in peace, then the same with eleven that are not."""
    count = plan.count(CAMERAS, QUICK_CAMERAS)
    paths = footage(plan, "quiet", count, plan.of(SECONDS, QUICK_SECONDS))
    settings = _repeated(settings_of(paths))
    good = {f"c{number:02d}" for number in range(DROPPING + 1, count)}
    tell("in peace")
    calm = asyncio.run(
        run_cameras(
            settings,
            cameras=_cameras(settings, SystemClock(), bad={}),
            seconds=plan.of(CALM_S, QUICK_CALM_S),
        )
    )
    tell("with bad cameras")
    corrupt = plan.work / "corrupt.mkv"
    content = bytearray(paths[0].read_bytes())
    for place in range(2000, len(content), 3000):
        content[place : place + 40] = b"\xff" * 40
    corrupt.write_bytes(bytes(content))
    bad = {f"c{number:02d}": "drops" for number in range(1, DROPPING + 1)}
    memory: list[int] = []

    def note(streams: Streams) -> None:
        del streams
        memory.append(_resident_bytes())

    soaked = asyncio.run(
        run_cameras(
            settings,
            cameras=_cameras(settings, SystemClock(), bad={**bad, "c00": str(corrupt)}),
            seconds=plan.of(SOAK_S, QUICK_SOAK_S),
            each_s=note,
            keeps_events=False,
        )
    )
    fifth = max(1, len(memory) // 5)
    early = percentile([float(one) for one in memory[fifth : 2 * fifth]], 50)
    late = percentile([float(one) for one in memory[-fifth:]], 50)
    growth = 100 * (late / early - 1) if early and late else None
    before, after = _p99(calm, good), _p99(soaked, good)
    ratio = after / before if before and after else None
    reconnects = sum(camera.reconnects for camera in soaked.figures.cameras)
    return Found(
        rows=[
            row(
                "soak: growth of memory, second fifth to last",
                "skerry",
                figure=growth,
                unit="%",
                n=len(memory),
                note=f"{(late or 0) / 1e6:.0f} MB at the end, {reconnects} reconnects",
            ),
            row("others in peace", "skerry", p99_ms=before, n=len(good)),
            row("others beside bad cameras", "skerry", p99_ms=after, n=len(good)),
        ],
        measured=[
            Measured(id=BARS[0], figure=growth, n=len(memory)),
            Measured(id=BARS[1], figure=ratio, n=len(good)),
        ],
        series={"memory": [one / 1e6 for one in memory]},
    )


def _repeated(settings: CamerasSettings) -> CamerasSettings:
    entries = tuple(replace(one, is_repeated=True) for one in settings.cameras)
    return replace(settings, cameras=entries)


def _cameras(
    settings: CamerasSettings, clock: Clock, *, bad: Mapping[str, str]
) -> dict[str, Noted]:
    found, short_work = {}, ShortWork()
    for place, entry in enumerate(settings.cameras):
        how = bad.get(entry.name, "")
        one = CameraSettings(
            name=entry.name,
            url=how if Path(how).is_file() else entry.url,
            frames_per_s=FRAMES_PER_S,
            start_s=place * 0.02,
        )
        is_dropping = how == "drops"
        camera = VideoCamera(
            one,
            clock=clock,
            short_work=short_work,
            open_video=Dropping if is_dropping else Video,  # type: ignore[arg-type]
        )
        found[entry.name] = Noted(camera, clock)
    return found


def _p99(ran: Ran, names: set[str]) -> float | None:
    values = [
        camera.latency_ms["p99"]
        for camera in ran.figures.cameras
        if camera.name in names
    ]
    return percentile([value for value in values if value is not None], 50)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
