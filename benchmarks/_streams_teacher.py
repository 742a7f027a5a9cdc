"""The teacher: the same detector and tracker on every picture of every camera."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks._found import tell
from benchmarks._streams_footage import FRAMES_PER_S
from benchmarks._streams_stage import Ran, opened_engine, settings_of
from skerry.core.clock import SystemClock
from skerry.device._video import Video
from skerry.edge.streams.tracks import Tracker

LEAST_HITS = 5
"""Who was seen in fewer pictures, a second's, is no event: the teacher is not sure."""

SLACK_S = (1.0, 3.0)
"""How much earlier and later an event may be told of and still be the teacher's."""

Events = Mapping[str, Sequence[float]]
"""By file, seconds from its beginning when somebody appeared."""


def teach(paths: Sequence[Path]) -> Events:
    """When somebody appeared in each file; kept beside the footage."""
    missing = [path for path in paths if not _kept(path).exists()]
    if missing:
        tell(f"the teacher looks at {len(missing)} files")
        asyncio.run(_teach(missing))
    return {path.name: json.loads(_kept(path).read_text()) for path in paths}


def missed_events(truth: Events, ran: Ran) -> tuple[int, int]:
    """How many of the teacher's events were not told of, and how many there are."""
    missed = known = 0
    for number, appeared in enumerate(truth.values()):
        name = f"c{number:02d}"
        told = [
            (float(str(body["at_ms"])) - ran.begun_ms[name]) / 1000
            for body in ran.events
            if body["camera"] == name and body["name"] == "stream.appeared"
        ]
        for at_s in appeared:
            known += 1
            near = [
                one for one in told if at_s - SLACK_S[0] <= one <= at_s + SLACK_S[1]
            ]
            if near:
                told.remove(min(near, key=lambda one: abs(one - at_s)))
            else:
                missed += 1
    return missed, known


def _kept(path: Path) -> Path:
    return path.with_suffix(".events.json")


async def _teach(paths: Sequence[Path]) -> None:
    async with opened_engine(settings_of(paths), SystemClock()) as (engine, eyes):
        eye = eyes.of(engine.find("people"))
        for path in paths:
            tracker, appeared = Tracker(), {}
            lasting = []
            number = 0
            with Video(str(path)) as video:
                while (packet := video.read()) is not None:
                    decoded = video.decode(packet)
                    if decoded is None:
                        continue
                    at_s = number / FRAMES_PER_S
                    number += 1
                    answer = await engine.infer("people", eye.prepare(decoded.to_rgb()))
                    seen = eye.read(answer.outputs, *decoded.luma.shape)
                    for track in tracker.update(seen, at_s).tracks:
                        if track.is_confirmed:
                            appeared.setdefault(track.id, at_s)
                            if track.hits >= LEAST_HITS:
                                lasting.append(track.id)
            times = sorted(appeared[one] for one in set(lasting))
            _kept(path).write_text(json.dumps(times))
