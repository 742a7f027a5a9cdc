"""The teacher: the same detector and tracker on every picture of every camera."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks._found import tell
from benchmarks._streams_footage import FRAMES_PER_S
from benchmarks._streams_stage import (
    RUNTIME,
    WARM_S,
    Ran,
    opened_engine,
    settings_of,
)
from skerry.core.clock import SystemClock
from skerry.device._video import Video
from skerry.edge.streams.tracks import Seen, Tracker

LEAST_HITS = 5
"""Who was seen in fewer pictures, a second's, is no event."""

SURE_SCORE = 0.6
"""The teacher is sure of whom it saw so surely in so many; a track begins at 0.5."""

SLACK_S = (1.0, 3.0)
"""How much earlier and later an event may be told of and still be the teacher's."""

Appeared = Mapping[str, Sequence[float]]
"""By file, seconds from its beginning when somebody appeared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the teacher saw.

    Attributes:
        sure: Those whom it saw surely.
        all: All whom it saw long enough.
    """

    sure: Appeared
    all: Appeared


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """How our events compare with the teacher's.

    Attributes:
        missed: Those of the teacher that were not told of.
        known: All of the teacher's.
        spare: Those told of that stand for none of the teacher's.
    """

    missed: int
    known: int
    spare: int


def teach(paths: Sequence[Path]) -> Truth:
    """When somebody appeared in each file; kept beside the footage."""
    missing = [path for path in paths if not _kept(path).exists()]
    if missing:
        tell(f"the teacher looks at {len(missing)} files")
        asyncio.run(_teach(missing))
    kept = {path.name: json.loads(_kept(path).read_text()) for path in paths}
    return Truth(
        sure={name: one["sure"] for name, one in kept.items()},
        all={name: one["all"] for name, one in kept.items()},
    )


def missed_events(
    truth: Appeared, ran: Ran, *, seconds: float, since_s: float = WARM_S
) -> Missed:
    """Compare with the teacher's events, as far as there was time to tell of them.

    Args:
        truth: The teacher's.
        ran: Ours.
        seconds: How long the files are.
        since_s: What happens before is not counted: all cameras begin at once.
    """
    missed = known = spare = 0
    for number, appeared in enumerate(truth.values()):
        name = f"c{number:02d}"
        told = [
            (float(str(body["at_ms"])) - ran.begun_ms[name]) / 1000
            for body in ran.events
            if body["camera"] == name and body["name"] == "stream.appeared"
        ]
        for at_s in appeared:
            if not since_s <= at_s <= seconds - SLACK_S[1]:
                continue
            known += 1
            near = [
                one for one in told if at_s - SLACK_S[0] <= one <= at_s + SLACK_S[1]
            ]
            if near:
                told.remove(min(near, key=lambda one: abs(one - at_s)))
            else:
                missed += 1
        spare += sum(one >= since_s for one in told)
    return Missed(missed=missed, known=known, spare=spare)


def _kept(path: Path) -> Path:
    return path.with_suffix(f".{RUNTIME}.events.json")


async def _teach(paths: Sequence[Path]) -> None:
    async with opened_engine(settings_of(paths), SystemClock()) as (engine, eyes):
        eye = eyes.of(engine.find("people"))
        for path in paths:
            looks = []
            with closing(Video(str(path))) as video:
                while (packet := video.read()) is not None:
                    decoded = video.decode(packet)
                    if decoded is None:
                        continue
                    # Scaled as ours are: a score at the threshold is soon another.
                    size = decoded.luma.shape
                    picture = decoded.to_size(*eye.size_of(*size))
                    answer = await engine.infer("people", eye.prepare(picture))
                    looks.append(eye.read(answer.outputs, *size))
            found = {"sure": follow(looks, SURE_SCORE), "all": follow(looks, 0.0)}
            _kept(path).write_text(json.dumps(found))


def follow(looks: Sequence[Sequence[Seen]], score: float) -> list[float]:
    """When those appeared who were seen with this score often enough, seconds."""
    tracker = Tracker()
    appeared: dict[int, float] = {}
    hits: Counter[int] = Counter()
    for number, seen in enumerate(looks):
        at_s = number / FRAMES_PER_S
        for track in tracker.update(seen, at_s).tracks:
            if track.is_confirmed:
                appeared.setdefault(track.id, at_s)
            hits[track.id] += track.last_s == at_s and track.score >= score
    return sorted(at_s for one, at_s in appeared.items() if hits[one] >= LEAST_HITS)
