"""Cameras, models and an engine, put together and run until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from skerry.app.serving.repository import SourceRepository
from skerry.app.serving.sources import ModelSource
from skerry.app.streams.cameras import make_cameras, make_clip
from skerry.app.streams.outlet import LocalOutbox
from skerry.comms.asgi import serve
from skerry.comms.outbox import Outbox
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.durable import hold, make_folder
from skerry.edge.engine import Engine
from skerry.edge.faces import Isolation, check_reach, open_engine, stop_signals
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.eyes import Eyes, eyes_of
from skerry.edge.streams.figures import StreamFigures
from skerry.edge.streams.runner import Outlets, Streams
from skerry.edge.streams.settings import CamerasSettings, check_models
from skerry.edge.streams.wall import make_wall
from skerry.edge.turns import usable_cpus

OUTBOX = "outbox.db"
CLIPS = "clips"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How cameras are run on this machine.

    Attributes:
        folder: Where events and clips are kept.
        host: Where the wall is served; this machine alone unless told otherwise.
        port: Its port; 0 takes a free one.
        token: What those who ask must show; needed beyond this machine.
        isolation: Where models run.
        duration_s: For how long; None: until it is stopped.
        on_event: Told of each event.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    isolation: Isolation = "process"
    duration_s: float | None = None
    on_event: Callable[[Mapping[str, Json]], None] | None = None


async def run_streams(
    cameras: CamerasSettings,
    settings: RunSettings,
    *,
    clock: Clock,
    ready: Callable[[str, Streams], None],
) -> StreamFigures:
    """Watch cameras until they have ended, the time is up, or SIGTERM or SIGINT.

    Args:
        cameras: What they are.
        settings: How.
        clock: What measures time.
        ready: Told the wall's address once all runs.

    Returns:
        How all did.

    Raises:
        UsageError: A model or a task is none.
        RefusedError: A model does not run here.
        ConflictError: The folder is in use.
        StateError: The port is in use.
        MissingExtraError: PyAV is not installed.
    """
    check_reach(settings.host, settings.token)
    make_folder(settings.folder)
    stop = asyncio.Event()
    with contextlib.ExitStack() as opened:
        opened.enter_context(
            hold(settings.folder / "streams.lock", who="run of cameras")
        )
        outbox = opened.enter_context(
            contextlib.closing(Outbox(settings.folder / OUTBOX))
        )
        opened.enter_context(stop_signals(stop))
        outlets = Outlets(
            put=LocalOutbox(outbox, clock=clock).put,
            clips=ClipFolder(settings.folder / CLIPS),
            make_clip=make_clip,
            on_event=settings.on_event,
        )
        async with open_streams(
            cameras, outlets, clock=clock, isolation=settings.isolation
        ) as streams:
            wall = make_wall(streams, token=settings.token)
            async with serve(wall, host=settings.host, port=settings.port) as server:
                ready(server.address, streams)
                await _run(streams, stop, settings.duration_s)
                return streams.figures()


@contextlib.asynccontextmanager
async def open_streams(
    cameras: CamerasSettings,
    outlets: Outlets,
    *,
    clock: Clock,
    isolation: Isolation,
) -> AsyncIterator[Streams]:
    """Load the models and make the cameras; `Streams.run` is the caller's."""
    cpus = usable_cpus()
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(
            tempfile.TemporaryDirectory(prefix="skerry-streams-")
        )
        engine = opened.enter_context(
            open_engine(clock=clock, threads=cpus, isolation=isolation)
        )
        eyes = await load_models(cameras, engine, Path(folder))
        yield Streams(
            cameras,
            make_cameras(cameras.cameras, clock=clock),
            engine,
            eyes,
            clock=clock,
            cpus=cpus,
            outlets=outlets,
        )


async def load_models(cameras: CamerasSettings, engine: Engine, folder: Path) -> Eyes:
    """Load the models of a cameras' file into an engine.

    Raises:
        UsageError: A model or a task is none, or finds nothing that is asked for.
        RefusedError: A model does not run here.
    """
    check_models(cameras.models, are_released=False)
    repository = SourceRepository(
        [
            ModelSource(
                name=name,
                path=Path(one.path),
                task=Path(one.task),
                runtime=one.runtime,
            )
            for name, one in cameras.models.items()
        ],
        folder,
        loaded=engine.versions,
    )
    eyes = eyes_of(cameras.models)
    for name in repository.names:
        installed = await asyncio.to_thread(repository.find, name)
        eyes.of(installed)  # what cannot look is known before a camera is opened
        engine.switch(await asyncio.to_thread(engine.prepare, installed))
    return eyes


async def _run(streams: Streams, stop: asyncio.Event, duration_s: float | None) -> None:
    running = asyncio.create_task(streams.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait(
            {running, stopping},
            timeout=duration_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if running.done():
            running.result()
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
