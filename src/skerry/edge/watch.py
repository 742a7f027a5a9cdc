"""The field watch: sees the input drift, and sends the few samples worth a label.

It looks at each answer to a frame of the gateway's own source, through the two charts
of `skerry.evolve.drift`. An alarm goes into the device's log and into its shadow, and
from then on the sampler chooses, up to its budget, what goes to the hub.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import numpy as np

from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import SkerryError, UsageError
from skerry.core.messages import Up
from skerry.core.release import ReleaseId
from skerry.core.seams import Frame, Source, Tensors
from skerry.edge.installed import Installed
from skerry.evolve.drift import (
    DriftVerdict,
    DriftWatch,
    Observation,
    read_reference,
)
from skerry.evolve.sampling import Chosen, Sampler, SamplingSettings, read_settings
from skerry.tasks.prediction import Prediction
from skerry.tasks.task import Task, parse_task

log = logging.getLogger(__name__)

LARGEST_SAMPLE_BYTES = 48 * 1024
"""Most bytes of a sample's message body; a frame that needs more is not sent."""

LARGEST_INPUT_BYTES = 1 << 20
"""Larger frames are not even tried: they are held until their window ends."""

REPORT_PERIOD_S = 30.0
"""How often the shadow hears of a watch at most, unless its verdict changes."""

ENGINE_PAUSE_S = 0.2
"""How long to wait after the engine failed or had nothing to run."""

Put = Callable[[str, Mapping[str, Json]], Awaitable[object]]
"""Takes a message's kind and body and does not lose it: `Uplink.put`."""


class Answered(Protocol):
    """What the watch reads of an engine's answer."""

    @property
    def release(self) -> ReleaseId:
        """Which release answered."""
        ...

    @property
    def outputs(self) -> Tensors:
        """One array an output, by name."""
        ...


class Infers(Protocol):
    """What the watch needs of the engine."""

    async def infer(
        self, name: str, inputs: Tensors, *, is_own: bool = False
    ) -> Answered:
        """Run one inference, on inputs of the release's own schema if so."""
        ...

    def active(self, name: str) -> Installed | None:
        """The release that serves under a name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """A frame that may be worth a label."""

    frame: Frame
    prediction: Prediction


class _Watched:
    """One release under watch: its charts, its sampler, and what was reported."""

    def __init__(self, installed: Installed) -> None:
        model = installed.model
        self.release = installed.id
        self.task: Task = parse_task(
            installed.read("task"), name=str(installed.files["task"])
        )
        self.charts = DriftWatch(read_reference(installed.read("drift")))
        self.embedding = model.embedding
        self.sampler: Sampler[_Seen] | None = None
        self.is_drift = False
        self.since_ms = 0
        self.sent = 0
        self.too_large = 0
        self.reported_at_s = float("-inf")


class FieldWatch:
    """Watches the answers to a gateway's own frames.

    Args:
        put: Takes events, samples and reports: `Uplink.put`.
        clock: Says when it is.
        rng: Chance, for the random half of the samples.
        settings: How many samples; `configure` changes it.
    """

    def __init__(
        self,
        put: Put,
        *,
        clock: Clock,
        rng: np.random.Generator,
        settings: SamplingSettings | None = None,
    ) -> None:
        self._put = put
        self._clock = clock
        self._rng = rng
        self._settings = settings or SamplingSettings()
        self._watched: dict[str, _Watched | None] = {}
        self._ids: dict[str, tuple[ReleaseId, str]] = {}

    def configure(self, collect: Mapping[str, Json]) -> None:
        """Take the settings `collect` of the shadow.

        They hold for each release that has not raised an alarm yet. Settings that make
        no sense are logged, and those before stay.
        """
        try:
            self._settings = read_settings(dict(collect))
        except UsageError as error:
            log.warning("watch.settings_refused", extra={"why": error.what})

    async def observe(
        self, frame: Frame, installed: Installed, outputs: Tensors
    ) -> DriftVerdict | None:
        """Look at one answer.

        Args:
            frame: What was seen.
            installed: The release that answered.
            outputs: Its outputs, the embedding among them.

        Returns:
            What the charts say; None where the release cannot be watched.
        """
        watched = await self._find(installed)
        if watched is None:
            return None
        try:
            prediction = watched.task.decode(outputs, frame.inputs)
            verdict = watched.charts.update(
                Observation(
                    embedding=outputs[watched.embedding],
                    confidence=prediction.confidence,
                    label=prediction.label if isinstance(prediction.label, int) else -1,
                )
            )
        except (SkerryError, KeyError) as error:
            self._give_up(installed, error)
            return None
        has_changed = await self._note(watched, verdict, frame)
        sampler = watched.sampler
        if watched.is_drift and sampler is not None and not sampler.is_done:
            seen = _Seen(frame=frame, prediction=prediction)
            await self._collect(watched, sampler, seen)
            has_changed = has_changed or sampler.is_done
        await self._report(watched, verdict, is_due=has_changed)
        return verdict

    async def run(self, source: Source, engine: Infers, name: str) -> None:
        """Have each frame of a source answered and look at the answer, for ever.

        While a frame is answered only the newest of those that come is kept. Nothing
        that the engine raises ends this.

        Args:
            source: The gateway's own camera.
            engine: What answers.
            name: Which release, by its name.
        """
        latest: asyncio.Queue[Frame] = asyncio.Queue(1)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read(source, latest))
            while not (reading.done() and latest.empty()):
                frame = await _next(latest, reading)
                if frame is not None:
                    await self._step(frame, engine, name)

    async def _step(self, frame: Frame, engine: Infers, name: str) -> None:
        active = engine.active(name)
        if active is None:
            await self._clock.sleep(ENGINE_PAUSE_S)
            return
        try:
            # The charts and the task are the release's own, and so must the frame be.
            if active.adapter is not None:
                inputs = active.adapter.make_inputs(frame.inputs)
                frame = replace(frame, inputs=inputs)
            answer = await engine.infer(name, frame.inputs, is_own=True)
            installed = engine.active(name)
            # After a swap in between, the answer is not of the release that is active.
            if installed is not None and installed.id == answer.release:
                await self.observe(frame, installed, answer.outputs)
        except SkerryError as error:
            log.warning(
                "watch.frame_failed", extra={"release": name, "why": error.what}
            )
            await self._clock.sleep(ENGINE_PAUSE_S)

    async def _find(self, installed: Installed) -> _Watched | None:
        name, key = installed.id.name, (installed.id, installed.model.blob.sha256)
        if self._ids.get(name) == key:
            return self._watched[name]
        self._ids[name] = key
        self._watched[name] = None
        if "drift" not in installed.files or not installed.model.embedding:
            log.info("watch.none", extra={"release": str(installed.id)})
            return None
        try:
            watched = await asyncio.to_thread(_Watched, installed)
        except (SkerryError, OSError, KeyError) as error:
            self._give_up(installed, error)
            return None
        self._watched[name] = watched
        return watched

    def _give_up(self, installed: Installed, error: Exception) -> None:
        """Stop watching a release: serving it goes on."""
        self._watched[installed.id.name] = None
        log.warning(
            "watch.unfit", extra={"release": str(installed.id), "why": str(error)}
        )

    async def _note(
        self, watched: _Watched, verdict: DriftVerdict, frame: Frame
    ) -> bool:
        """Raise or end the alarm; returns whether either happened."""
        if watched.is_drift and verdict.is_calm:
            name = "drift.cleared"
        elif verdict.is_drift and not watched.is_drift:
            name = "drift.alarm"
        else:
            return False
        now_ms = self._clock.unix_ms()
        await self._put(
            Up.EVENT,
            {
                "name": name,
                "at_ms": now_ms,
                "release": str(watched.release),
                "frame": frame.number,
                "source": frame.source,
                "seen": verdict.seen,
                "notes": dict(frame.notes),
                "statistics": _statistics(verdict),
            },
        )
        watched.is_drift, watched.since_ms = verdict.is_drift, now_ms
        if watched.sampler is None:
            watched.sampler = Sampler(self._settings, rng=self._rng)
        return True

    async def _collect(
        self, watched: _Watched, sampler: Sampler[_Seen], seen: _Seen
    ) -> None:
        arrays = seen.frame.inputs.values()
        if sum(array.nbytes for array in arrays) > LARGEST_INPUT_BYTES:
            watched.too_large += 1
            return
        chosen = sampler.offer(
            seen, key=_fingerprint(seen.frame.inputs), margin=_margin(seen.prediction)
        )
        for sample in chosen:
            body = await asyncio.to_thread(_sample_body, watched.release, sample)
            if len(msgspec.json.encode(body)) > LARGEST_SAMPLE_BYTES:
                watched.too_large += 1
                continue
            await self._put(Up.SAMPLE, body)
            watched.sent += 1

    async def _report(
        self, watched: _Watched, verdict: DriftVerdict, *, is_due: bool
    ) -> None:
        now_s = self._clock.wall_s()
        if not is_due and now_s - watched.reported_at_s < REPORT_PERIOD_S:
            return
        watched.reported_at_s = now_s
        figures: dict[str, Json] = {
            "release": str(watched.release),
            "is_drift": watched.is_drift,
            "since_ms": watched.since_ms,
            **_statistics(verdict),
            "seen": verdict.seen,
            "samples_sent": watched.sent,
            "samples_too_large": watched.too_large,
        }
        patch: dict[str, Json] = {"drift": {watched.release.name: figures}}
        await self._put(Up.REPORTED, {"patch": patch})


async def _read(source: Source, latest: asyncio.Queue[Frame]) -> None:
    frames = source.frames()
    try:
        async for frame in frames:
            if latest.full():
                latest.get_nowait()
            latest.put_nowait(frame)
    finally:
        if isinstance(frames, AsyncGenerator):
            await frames.aclose()


async def _next(
    latest: asyncio.Queue[Frame], reading: asyncio.Task[None]
) -> Frame | None:
    """The newest frame; None where the source has ended meanwhile."""
    getting = asyncio.ensure_future(latest.get())
    try:
        await asyncio.wait({getting, reading}, return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() else None
    finally:
        getting.cancel()


def _statistics(verdict: DriftVerdict) -> dict[str, Json]:
    """Both charts, in units of their limits."""
    return {
        "input": round(verdict.input.statistic / verdict.input.limit, 3),
        "confidence": round(verdict.confidence.statistic / verdict.confidence.limit, 3),
    }


def _margin(prediction: Prediction) -> float:
    if len(prediction.ranked) < 2:
        return prediction.confidence
    return prediction.ranked[0][1] - prediction.ranked[1][1]


def _fingerprint(inputs: Tensors) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(inputs[name]).tobytes())
    return digest.digest()


def _sample_body(release: ReleaseId, chosen: Chosen[_Seen]) -> dict[str, Json]:
    frame, prediction = chosen.item.frame, chosen.item.prediction
    inputs: dict[str, Json] = {
        name: {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "zlib": base64.b64encode(
                zlib.compress(np.ascontiguousarray(array).tobytes(), 6)
            ).decode(),
        }
        for name, array in frame.inputs.items()
    }
    return {
        "release": str(release),
        "kind": chosen.kind.value,
        "confidence": round(prediction.confidence, 6),
        "prediction": prediction.name,
        "source": frame.source,
        "frame": frame.number,
        "captured_at_ms": frame.captured_at_ms,
        "inputs": inputs,
        "notes": dict(frame.notes),
    }
