"""`skerry stream`: watch many cameras on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skerry.app.logs import LogFormat, set_up
from skerry.app.output import Output
from skerry.app.streams.bench import StreamBench
from skerry.core.clock import SystemClock
from skerry.core.documents import Json
from skerry.core.errors import UsageError
from skerry.edge.streams.figures import StreamFigures

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.edge.streams.runner import Streams


def run(
    cameras: Path,
    /,
    *,
    folder: Path = Path("skerry-streams"),
    host: str = "127.0.0.1",
    port: int = 0,
    wall_token: str | None = None,
    isolation: Literal["process", "thread"] = "process",
    duration_s: float | None = None,
    log: LogFormat = LogFormat.TEXT,
    output: Annotated[Output, Parameter(parse=False)],
) -> StreamFigures:
    """Watch cameras until they end, or it is stopped (Ctrl-C, SIGTERM).

    No picture leaves before faces in it are covered. Without a model that finds faces
    and one that finds people, none leaves at all.

    Args:
        cameras: A file of cameras and models (schema skerry.cameras/1).
        folder: Where events (an outbox) and clips are kept.
        host: The address of the live wall; this machine alone by default.
        port: Its port; 0 takes a free one.
        wall_token: What those who look at the wall must show; needed beyond this
            machine.
        isolation: Where models run: each in a process of its own, which may crash or
            hang, or as threads of this one, which takes less memory.
        duration_s: Stop after so long.
        log: How its events are logged on standard error.
        output: Where to say that it is up, and what happens.
    """
    from skerry.app.streams.running import RunSettings, run_streams
    from skerry.edge.streams.settings import load_cameras

    set_up(log)
    settings = load_cameras(cameras)
    _check_duration(duration_s)

    def tell(address: str, streams: Streams) -> None:
        count = len(streams.names())
        output.talk(f"{count} cameras at {address} (Ctrl-C stops it)")

    return asyncio.run(
        run_streams(
            settings,
            RunSettings(
                folder=folder,
                host=host,
                port=port,
                token=wall_token,
                isolation=isolation,
                duration_s=duration_s,
                on_event=lambda body: output.talk(event_line(body)),
            ),
            clock=SystemClock(),
            ready=tell,
        )
    )


def bench(
    cameras: Path,
    /,
    *,
    count: int | None = None,
    duration_s: float = 30.0,
    output: Annotated[Output, Parameter(parse=False)],
) -> StreamBench:
    """Find out how many cameras this machine can watch.

    The cameras of the file are opened as often as it takes. Models run in this process.

    Args:
        cameras: A file of cameras and models (schema skerry.cameras/1).
        count: How many cameras; as many as are in the file by default.
        duration_s: For how long.
        output: Where to say that it is under way.
    """
    from skerry.app.streams.bench import multiply, run_bench
    from skerry.edge.streams.settings import MOST_CAMERAS, load_cameras

    settings = load_cameras(cameras)
    _check_duration(duration_s)
    if count is not None:
        if not 1 <= count <= MOST_CAMERAS:
            raise UsageError(
                f"got {count} cameras, expected 1 to {MOST_CAMERAS}",
                hint="Give --count 50.",
            )
        settings = multiply(settings, count)
    output.talk(f"{len(settings.cameras)} cameras for {duration_s:g} s …")
    return asyncio.run(run_bench(settings, seconds=duration_s, clock=SystemClock()))


def event_line(body: Mapping[str, Json]) -> str:
    """Say what happened on one line."""
    words = [str(body["camera"]), str(body["name"]).removeprefix("stream.")]
    words += [str(body[key]) for key in ("where", "way") if key in body]
    words.append(f"{body['label']} {body['track']}")
    if "stayed_s" in body:
        words.append(f"after {body['stayed_s']} s")
    return f"{' '.join(words)} ({body['latency_ms']} ms)"


def render_run(figures: StreamFigures) -> RenderableType:
    """Show how each camera did."""
    from skerry.app.streams.table import show_cameras

    return show_cameras(figures)


def render_bench(found: StreamBench) -> RenderableType:
    """Show what the machine did, and how each camera did."""
    from rich.console import Group

    from skerry.app.streams.table import show_cameras

    latency = ", ".join(
        f"{name} {value:.0f} ms"
        for name, value in found.latency_ms.items()
        if value is not None
    )
    head = (
        f"{found.cameras} cameras for {found.seconds:.0f} s: {found.cores:.2f} CPUs, "
        f"capture to answer {latency or 'unknown'}, "
        f"{found.looks_per_s['least']:.1f} to {found.looks_per_s['most']:.1f} looks/s"
    )
    return Group(head, show_cameras(found.figures))


def _check_duration(duration_s: float | None) -> None:
    if duration_s is not None and not 0 < duration_s < float("inf"):
        raise UsageError(
            f"got a duration of {duration_s:g} s, expected more than 0",
            hint="Give --duration-s 30.",
        )
