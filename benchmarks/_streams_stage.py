"""Cameras, models and an engine for the stages of `benchmarks.streams`."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._stages import WORK
from benchmarks._streams_footage import FRAMES_PER_S
from benchmarks.nets.places import data_folder, keep
from skerry.app.streams.running import load_models
from skerry.core.allowance import ShortWork
from skerry.core.clock import Clock, SystemClock
from skerry.core.documents import Json
from skerry.core.seams import Camera
from skerry.core.video import Attention, CameraHealth, Shot
from skerry.device._video import write_clip
from skerry.device.cameras import CameraSettings, VideoCamera
from skerry.edge.engine import Engine
from skerry.edge.faces import open_engine
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.eyes import Eyes
from skerry.edge.streams.figures import StreamFigures
from skerry.edge.streams.runner import Outlets, Streams
from skerry.edge.streams.settings import CameraEntry, CamerasSettings, ModelSettings
from skerry.edge.turns import usable_cpus
from skerry.graph import read_graph, write_graph
from skerry.graph.resolution import change_resolution

EXAMPLES = Path(__file__).parents[1] / "examples" / "tasks"
FACE_ROWS, FACE_COLUMNS = 192, 320
RUNTIME = "openvino"
"""What `skerry compare` finds to be the fastest for both."""

STAGGER_S = 0.02
WARM_S = 3.0
"""What happens before is not counted: all cameras begin, and none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run of cameras gave.

    Attributes:
        seconds: How long it was counted.
        cpu_s: CPU time of this process in it; models run here.
        events: What was told, after the first seconds, and all before it too.
        begun_ms: By camera, when its first picture was taken.
        figures: How all did.
        looks: By camera and model, looks in the counted time.
        active_s: By camera, how much of it something moved there, or just had.
    """

    seconds: float
    cpu_s: float
    events: Sequence[Mapping[str, Json]]
    begun_ms: Mapping[str, int]
    figures: StreamFigures
    looks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    active_s: Mapping[str, float] = field(default_factory=dict)


class Noted:
    """A camera that notes when it began, and how long it was watched fully.

    Args:
        camera: What gives its pictures.
        clock: What measures time.
    """

    def __init__(self, camera: Camera, clock: Clock) -> None:
        self.begun_ms: int | None = None
        self._camera = camera
        self._clock = clock
        self._active_s = 0.0
        self._since_s: float | None = clock.wall_s()

    @property
    def name(self) -> str:
        """What it is called."""
        return self._camera.name

    @property
    def health(self) -> CameraHealth:
        """How it does."""
        return self._camera.health

    @property
    def active_s(self) -> float:
        """How long something moved on it, so far."""
        since_s = self._since_s
        return self._active_s + (self._clock.wall_s() - since_s if since_s else 0.0)

    def attend(self, attention: Attention) -> None:
        """Note it, and pass it on."""
        is_active, was_active = attention is Attention.FULL, self._since_s is not None
        if is_active and not was_active:
            self._since_s = self._clock.wall_s()
        elif was_active and not is_active:
            self._active_s, self._since_s = self.active_s, None
        self._camera.attend(attention)

    async def shots(self) -> AsyncIterator[Shot]:
        """Give what the camera gives."""
        async with contextlib.aclosing(self._camera.shots()) as shots:
            async for shot in shots:
                if self.begun_ms is None:
                    self.begun_ms = shot.captured_at_ms
                yield shot


def wide_faces() -> tuple[Path, Path]:
    """YuNet for pictures of 16 : 9, which fill 320 × 180 of its 320 × 320; its task."""
    known = data_folder("models_yunet") / "yunet_n_320_320.onnx"
    folder = WORK / "streams" / "models"
    path = keep(
        folder / "yunet_n_192_320.onnx",
        lambda part: write_graph(
            change_resolution(read_graph(known), FACE_ROWS, FACE_COLUMNS), part
        ),
    )
    text = (EXAMPLES / "yunet.toml").read_text()
    rows = text.replace("height = 320", f"height = {FACE_ROWS}")
    task = keep(folder / "yunet_n_192_320.toml", lambda part: part.write_text(rows))
    return path.absolute(), task.absolute()


def models() -> dict[str, ModelSettings]:
    """FastestDet for people and YuNet for faces."""
    people = data_folder("models_detection") / "fastestdet" / "FastestDet.onnx"
    faces, task = wide_faces()
    return {
        "people": ModelSettings(
            path=str(people),
            task=str(EXAMPLES / "fastestdet.toml"),
            labels=("person",),
            runtime=RUNTIME,
        ),
        "faces": ModelSettings(
            path=str(faces), task=str(task), finds="faces", runtime=RUNTIME
        ),
    }


def settings_of(paths: Sequence[Path], *, clip_s: float = 0.0) -> CamerasSettings:
    """One camera a file, each played once."""
    entries = tuple(
        CameraEntry(name=f"c{number:02d}", url=str(path), is_repeated=False)
        for number, path in enumerate(paths)
    )
    return CamerasSettings(models=models(), cameras=entries, clip_s=clip_s)


def cameras_of(settings: CamerasSettings, clock: Clock) -> dict[str, Noted]:
    """Cameras that play the files of the settings, begun one after the other."""
    short_work = ShortWork()
    return {
        entry.name: Noted(
            VideoCamera(
                CameraSettings(
                    name=entry.name,
                    url=entry.url,
                    frames_per_s=FRAMES_PER_S,
                    is_repeated=entry.is_repeated,
                    start_s=place * STAGGER_S,
                ),
                clock=clock,
                short_work=short_work,
            ),
            clock,
        )
        for place, entry in enumerate(settings.cameras)
    }


@contextlib.asynccontextmanager
async def opened_engine(
    settings: CamerasSettings, clock: Clock
) -> AsyncIterator[tuple[Engine, Eyes]]:
    """Load the models into an engine of this process."""
    with (
        tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder,
        open_engine(clock=clock, threads=usable_cpus(), isolation="thread") as engine,
    ):
        yield engine, await load_models(settings, engine, Path(folder))


async def run_cameras(
    settings: CamerasSettings,
    *,
    cameras: Mapping[str, Noted] | None = None,
    seconds: float | None = None,
    clips: Path | None = None,
    each_s: Callable[[Streams], None] | None = None,
    keeps_events: bool = True,
) -> Ran:
    """Watch cameras until they have ended, or for a while.

    Args:
        settings: What they are.
        cameras: Their sources; those of the settings by default.
        seconds: For how long; None: until all have ended.
        clips: Where clips are kept; None: none are made.
        each_s: Called once a second.
        keeps_events: Whether to give them: in memory they are the benchmark's own
            growth, which a gateway's outbox has on its disk.
    """
    clock = SystemClock()
    sources = cameras or cameras_of(settings, clock)
    events: list[Mapping[str, Json]] = []

    async def put(kind: str, body: Mapping[str, Json], trace: str = "") -> int:
        del kind, trace
        if keeps_events:
            events.append({key: body[key] for key in body if key != "thumbnail"})
        return len(events)

    outlets = Outlets(
        put=put,
        clips=ClipFolder(clips) if clips else None,
        make_clip=(lambda some, rate: write_clip(some, frames_per_s=rate))
        if clips
        else None,
    )
    async with opened_engine(settings, clock) as (engine, eyes):
        streams = Streams(
            settings,
            sources,
            engine,
            eyes,
            clock=clock,
            cpus=usable_cpus(),
            outlets=outlets,
        )
        running = asyncio.create_task(streams.run())
        await asyncio.sleep(WARM_S)
        before = _looks(streams.figures())
        active_s = {name: one.active_s for name, one in sources.items()}
        begun_s, begun_cpu_s = clock.wall_s(), clock.cpu_s()
        while not running.done():
            await asyncio.wait({running}, timeout=1.0)
            if each_s is not None:
                each_s(streams)
            if seconds is not None and clock.wall_s() - begun_s >= seconds:
                break
        took_s, cpu_s = clock.wall_s() - begun_s, clock.cpu_s() - begun_cpu_s
        figures = streams.figures()
        active_s = {
            name: one.active_s - active_s[name] for name, one in sources.items()
        }
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    after = _looks(figures)
    return Ran(
        seconds=took_s,
        cpu_s=cpu_s,
        events=events,
        begun_ms={name: one.begun_ms or 0 for name, one in sources.items()},
        figures=figures,
        looks={
            name: {
                model: count - before[name].get(model, 0)
                for model, count in models.items()
            }
            for name, models in after.items()
        },
        active_s=active_s,
    )


def latencies_ms(ran: Ran) -> list[float]:
    """Capture to event, of what was told after the first seconds."""
    start_ms = min(ran.begun_ms.values()) + WARM_S * 1000
    return [
        float(str(body["latency_ms"]))
        for body in ran.events
        if "latency_ms" in body and float(str(body["at_ms"])) >= start_ms
    ]


def _looks(figures: StreamFigures) -> dict[str, dict[str, int]]:
    return {camera.name: dict(camera.looks) for camera in figures.cameras}
