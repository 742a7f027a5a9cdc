"""Streams: cameras through the gate, the scheduler and the engine, into events.

Everything but decoding, converting and inference happens on the event loop's thread.
What goes wrong with one camera is that camera's reason, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from skerry.core.clock import Alarm, Clock
from skerry.core.documents import Json
from skerry.core.errors import SkerryError
from skerry.core.messages import Up
from skerry.core.seams import Camera
from skerry.core.video import CameraHealth, CameraState, Shot
from skerry.edge.engine import Engine
from skerry.edge.streams import figures, heap
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.eyes import Eyes
from skerry.edge.streams.figures import CameraFigures, Latencies, StreamFigures
from skerry.edge.streams.gate import Region
from skerry.edge.streams.leaving import (
    MakeClip,
    thumbnail_size,
    to_clip,
    to_thumbnail,
)
from skerry.edge.streams.looking import Looked, Looker
from skerry.edge.streams.privacy import Coverable, Veiled
from skerry.edge.streams.scheduler import Look, Scheduler
from skerry.edge.streams.settings import CameraEntry, CamerasSettings
from skerry.edge.streams.together import Offered, Together
from skerry.edge.streams.watched import Watched
from skerry.edge.streams.zones import Happening, Kind

log = logging.getLogger(__name__)

FIRST_COST_S = 0.02
"""What a look is taken to cost before any was seen."""

LOOKS_PER_CPU = 2
"""So many looks are under way for each CPU: each waits about as long, for the event
loop and the other model, as it computes."""

RETRY_S = 1.0
"""A camera whose code failed is asked again after so long."""

CLIPPED = frozenset({Kind.APPEARED, Kind.ENTERED, Kind.STAYED, Kind.CROSSED})
"""What a clip is made of."""

NEAR_MS = 700
"""A thumbnail is of this moment or of one so near to it."""


class Put(Protocol):
    """Takes a message for the outbox: `Uplink.put`."""

    async def __call__(
        self, kind: str, body: Mapping[str, Json], trace: str = ""
    ) -> int:
        """Keep it; its number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlets:
    """Where what is seen goes.

    Attributes:
        put: Takes events.
        clips: Keeps clips; None: there are none.
        make_clip: Encodes them; None: there are none.
        on_event: Told of each event, for who watches here.
    """

    put: Put
    clips: ClipFolder | None = None
    make_clip: MakeClip | None = None
    on_event: Callable[[Mapping[str, Json]], None] | None = None


class Streams:
    """All cameras of a gateway.

    Args:
        settings: What they are.
        cameras: One an entry of the settings, by name.
        engine: Runs the models, by the names that the settings give them.
        eyes: How each is fed and read.
        clock: What measures time.
        cpus: How many CPUs there are.
        outlets: Where what is seen goes.
    """

    def __init__(
        self,
        settings: CamerasSettings,
        cameras: Mapping[str, Camera],
        engine: Engine,
        eyes: Eyes,
        *,
        clock: Clock,
        cpus: int,
        outlets: Outlets,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._outlets = outlets
        self._eyes = eyes
        self._finds = {name: eyes.settings(name).finds for name in eyes.names}
        deadline_s = settings.deadline_ms / 1000
        self._looker = Looker(engine, eyes, clock=clock, deadline_s=5 * deadline_s)
        self._scheduler = Scheduler(
            dict.fromkeys(eyes.names, FIRST_COST_S),
            capacity=LOOKS_PER_CPU * cpus * settings.share,
            at_once=LOOKS_PER_CPU * cpus,
            deadline_s=deadline_s,
        )
        self._watched = {
            entry.name: self._watch(entry, cameras[entry.name])
            for entry in settings.cameras
        }
        self._together = Together(self._looker, engine, eyes, clock=clock)
        self._offered: dict[str, Offered] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._clips: dict[str, asyncio.Task[None]] = {}
        self._alarm: Alarm | None = None
        self._is_stopping = False

    def _watch(self, entry: CameraEntry, camera: Camera) -> Watched:
        sure = min(
            (
                self._eyes.settings(name).sure
                for name, finds in self._finds.items()
                if finds != "faces"
            ),
            default=0.5,
        )
        has_clips = self._outlets.make_clip is not None
        return Watched(
            entry,
            camera,
            sure=sure,
            clip_s=self._settings.clip_s if has_clips else 0.0,
            bytes_per_day=self._settings.upload_mb_per_day * 1e6,
        )

    async def run(self) -> None:
        """Watch all cameras until cancelled, or until each of them has ended."""
        self._is_stopping = False
        tasks = [
            asyncio.create_task(self._follow(watched), name=watched.name)
            for watched in self._watched.values()
        ]
        tidying = asyncio.create_task(self._tidy())
        try:
            await asyncio.gather(*tasks)
            await self._settle()
        finally:
            self._is_stopping = True
            if self._alarm is not None:
                self._alarm.cancel()
            left = [*tasks, tidying, *self._looks, *self._clips.values()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _settle(self) -> None:
        """Let what was begun end: looks, then the clips of their events."""
        while self._looks or self._clips:
            await asyncio.wait({*self._looks, *self._clips.values()})

    async def _follow(self, watched: Watched) -> None:
        """Take a camera's pictures; what is wrong with it is its own reason."""
        name = watched.name
        self._scheduler.join(name, weight=watched.entry.weight)
        while True:
            try:
                async with contextlib.aclosing(watched.camera.shots()) as shots:  # type: ignore[type-var]
                    async for shot in shots:
                        watched.failing.pop("", None)
                        self._take(watched, shot)
                break
            except SkerryError as error:
                watched.failing[""] = error.what
                log.warning("camera.failed", extra={"camera": name, "why": error.what})
            except Exception as error:  # A fault of ours must end no other camera.
                watched.failing[""] = f"it failed: {type(error).__name__}"
                log.exception("camera.failed", extra={"camera": name})
            await self._clock.sleep(RETRY_S)
        self._scheduler.forget(name)

    def _take(self, watched: Watched, shot: Shot) -> None:
        watched.take(shot)
        offered = self._offered[watched.name] = self._together.offer(watched, shot)
        now_s = self._clock.wall_s()
        scheduler, name = self._scheduler, watched.name
        scheduler.want(name, watched.wants(self._finds, now_s))
        scheduler.offer(
            name, shot.number, shot.captured_s, now_s=now_s, parts=offered.parts
        )
        self._begin_looks()

    def _begin_looks(self) -> None:
        """Begin all looks whose turn has come, and see to it that the next do."""
        if self._is_stopping:
            return
        now_s = self._clock.wall_s()
        while (look := self._scheduler.next(now_s)) is not None:
            offered = [self._offered[one.camera] for one in look.all]
            task = asyncio.create_task(self._look(look, offered))
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        wake_s = self._scheduler.wake_s(now_s)
        if wake_s is not None and wake_s > now_s:
            self._alarm = self._clock.call_later(wake_s - now_s, self._begin_looks)

    async def _look(self, look: Look, offered: Sequence[Offered]) -> None:
        costs_s: Counter[str] = Counter()
        begun_s = self._clock.wall_s()
        try:
            if look.beside:
                looked = await self._together.look(offered, look.models[0])
            else:
                one = offered[0]
                looked = [await self._looker.look(one.watched, one.shot, look.models)]
            for one, its in zip(offered, looked, strict=True):
                costs_s.update(its.costs_s)
                self._apply(one.watched, its)
        finally:
            # What it waited for is in it: it held its place among the looks meanwhile.
            took_s = self._clock.wall_s() - begun_s
            scale = took_s / (costs_s.total() or 1.0)
            self._scheduler.ended(
                look, {model: scale * cost_s for model, cost_s in costs_s.items()}
            )
            self._begin_looks()

    def _apply(self, watched: Watched, looked: Looked) -> None:
        now_s = self._clock.wall_s()
        counts, shot = watched.counts, looked.found.shot
        for model in looked.costs_s:
            watched.failing.pop(model, None)
            counts.looks[model] += 1
            counts.looks_rates[model].add(now_s)
        for model, error in looked.errors.items():
            counts.failures[error.code] += 1
            watched.failing[model] = f"{model}: {error.what}"
        if looked.coverable is not None:
            watched.shown = looked.coverable
        happenings = watched.apply(looked.found)
        counts.latency.add(now_s - shot.captured_s)
        for happening in happenings:
            self._tell(watched, happening, shot)
        self._scheduler.want(watched.name, watched.wants(self._finds, shot.captured_s))

    def _tell(self, watched: Watched, happening: Happening, shot: Shot) -> None:
        """Make an event, and let it go its way in the background."""
        latency_s = self._clock.wall_s() - shot.captured_s
        watched.counts.event_latency.add(latency_s)
        track = happening.track
        body: dict[str, Json] = {
            "name": f"stream.{happening.kind.value}",
            "at_ms": shot.captured_at_ms,
            "camera": watched.name,
            "track": track.id,
            "label": track.label,
            "score": round(track.score, 3),
            "box": [round(side, 4) for side in track.region],
            "latency_ms": round(latency_s * 1000, 1),
        }
        if happening.where:
            body["where"] = happening.where
        if happening.way:
            body["way"] = happening.way
        if happening.stayed_s:
            body["stayed_s"] = round(happening.stayed_s, 2)
        if self._outlets.on_event is not None:
            self._outlets.on_event(body)
        task = asyncio.create_task(self._send(watched, body, happening))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)
        if happening.kind in CLIPPED:
            self._begin_clip(watched, shot, track.id)

    async def _send(
        self,
        watched: Watched,
        body: dict[str, Json],
        happening: Happening,
    ) -> None:
        shown = watched.shown  # faces are not looked for in each picture
        if shown and _is_near(shown, body) and happening.kind in CLIPPED:
            region = happening.track.region
            try:
                content = await asyncio.to_thread(_thumbnail, shown, region)
            except SkerryError as error:
                content, watched.reason = b"", error.what
            written = base64.b64encode(content).decode()
            if written and self._may_leave(watched, len(written)):
                body["thumbnail"] = written
        await self._put(watched, body)

    async def _put(self, watched: Watched, body: Mapping[str, Json]) -> None:
        try:
            await self._outlets.put(Up.EVENT, body)
        except SkerryError as error:
            watched.counts.failures[error.code] += 1
            watched.reason = error.what
            log.warning("event.lost", extra={"camera": watched.name, "why": error.what})

    def _may_leave(self, watched: Watched, size_bytes: int) -> bool:
        if not watched.upload.take(size_bytes, now_s=self._clock.wall_s()):
            return False
        watched.counts.uploaded_bytes += size_bytes
        return True

    def _begin_clip(self, watched: Watched, shot: Shot, track: int) -> None:
        """Make a clip, unless one that will show this is being made."""
        name = watched.name
        if self._outlets.clips is None or self._settings.clip_s <= 0:
            return
        if name not in self._clips:
            task = asyncio.create_task(self._clip(watched, shot, track))
            self._clips[name] = task
            task.add_done_callback(lambda _: self._clips.pop(name, None))

    async def _clip(self, watched: Watched, shot: Shot, track: int) -> None:
        clips, make = self._outlets.clips, self._outlets.make_clip
        await self._clock.sleep(self._settings.clip_s)
        kept = watched.recent.since(shot.captured_s - self._settings.clip_s)
        if clips is None or make is None or not kept:
            return
        try:
            clip = await asyncio.to_thread(to_clip, kept, make)
            if not self._may_leave(watched, len(clip.content)):
                return
            await asyncio.to_thread(clips.put, clip)
        except SkerryError as error:
            watched.reason = error.what
            return
        body: dict[str, Json] = {
            "name": "stream.clip",
            "at_ms": shot.captured_at_ms,
            "camera": watched.name,
            "track": track,
            "sha256": clip.sha256,
            "size_bytes": len(clip.content),
            "pictures": clip.pictures,
            "seconds": round(clip.seconds, 2),
        }
        await self._put(watched, body)

    async def _tidy(self) -> None:
        while True:
            await self._clock.sleep(heap.EACH_S)
            await asyncio.to_thread(heap.give_back)

    def shown(self, name: str) -> Veiled | None:
        """The newest veiled picture of a camera, or None: there is none, or no such.

        Raises:
            DataError: It cannot be converted.
        """
        watched = self._watched.get(name)
        return watched.shown.cover() if watched and watched.shown else None

    def clip(self, sha256: str) -> bytes | None:
        """A clip that was made, or None: there is none; this blocks."""
        clips = self._outlets.clips
        return clips.find(sha256) if clips else None

    def names(self) -> tuple[str, ...]:
        """The cameras."""
        return tuple(self._watched)

    def latencies(self) -> dict[str, Latencies]:
        """From capture to answer, of each camera."""
        return {name: one.counts.latency for name, one in self._watched.items()}

    def figures(self) -> StreamFigures:
        """How all do."""
        return StreamFigures(
            level=self._scheduler.level.value,
            capacity=self._scheduler.capacity,
            costs_ms={
                name: cost_s * 1000 for name, cost_s in self._scheduler.costs_s.items()
            },
            mosaics=self._together.figures(),
            cameras=tuple(map(self._figures_of, self._watched.values())),
        )

    def _figures_of(self, watched: Watched) -> CameraFigures:
        counts, health = watched.counts, watched.camera.health
        now_s, name = self._clock.wall_s(), watched.name
        return CameraFigures(
            name=name,
            state=health.state,
            reason=_reason(watched, health),
            frames_per_s=counts.pictures_rate.per_s(now_s),
            looks_per_s={
                model: rate.per_s(now_s) for model, rate in counts.looks_rates.items()
            },
            is_moving=watched.is_moving(now_s),
            tracks=sum(track.is_confirmed for track in watched.tracker.tracks),
            present=watched.rules.present(),
            counts=dict(watched.rules.counts),
            failures=dict(counts.failures),
            skipped=figures.skipped_of(
                counts,
                health,
                superseded=self._scheduler.superseded[name],
                late=self._scheduler.late[name],
            ),
            looks=dict(counts.looks),
            missed_share=counts.missed / counts.checks if counts.checks else None,
            latency_ms=figures.percentiles(counts.latency),
            event_latency_ms=figures.percentiles(counts.event_latency),
            withheld=watched.veil.withheld,
            uploaded_bytes=counts.uploaded_bytes,
            reconnects=health.reconnects,
        )


def _thumbnail(shown: Coverable, region: Region) -> bytes:
    return to_thumbnail(shown.cover(thumbnail_size(*shown.size)), [region])


def _is_near(shown: Coverable, body: Mapping[str, Json]) -> bool:
    """Whether a picture was taken about when an event happened."""
    return abs(shown.captured_at_ms - int(str(body["at_ms"]))) <= NEAR_MS


def _reason(watched: Watched, health: CameraHealth) -> str:
    if health.state is CameraState.ENDED:
        return "it has ended"
    failing = next(iter(watched.failing.values()), "")
    return failing or health.reason or watched.reason
