"""What is counted of each camera, and what Prometheus and a page are told of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from skerry.core.video import CameraHealth, CameraState
from skerry.edge.exposition import Family, Labels, histogram
from skerry.edge.streams.mosaics import MosaicFigures

BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the buckets of the latency histogram, in seconds."""

RECENT = 512
"""Latencies that are kept for the percentiles."""


RATE_S = 10.0
"""Over so many seconds rates are told."""


class Latencies:
    """Seconds from when a picture was taken to when something was known of it.

    Attributes:
        buckets: How many took at most as long as each bound, and longer.
        total_s: Their sum.
    """

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds
        self._recent.append(seconds)

    def percentile_ms(self, percent: float) -> float | None:
        """Of the last ones, in milliseconds; None where there was none."""
        if not self._recent:
            return None
        return float(np.percentile(self._recent, percent)) * 1000


class RecentRate:
    """How often something happened of late, a second."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._begun_s: float | None = None

    def add(self, now_s: float) -> None:
        """Count one."""
        if self._begun_s is None:
            self._begun_s = now_s
        self._times.append(now_s)
        self._forget(now_s)

    def per_s(self, now_s: float) -> float:
        """As many a second, over the last seconds."""
        self._forget(now_s)
        if self._begun_s is None:
            return 0.0
        return len(self._times) / min(RATE_S, max(1.0, now_s - self._begun_s))

    def _forget(self, now_s: float) -> None:
        while self._times and self._times[0] < now_s - RATE_S:
            self._times.popleft()


class CameraCounts:
    """The counts of one camera.

    Attributes:
        pictures: How many were gated.
        pictures_rate: The same of late.
        moving: On how many of them something moved.
        looks: By model, how many it looked at.
        looks_rates: The same of late.
        checks: Looks at a camera on which nothing moved.
        missed: Checks that found something new: the gate had not seen it move.
        failures: Looks that failed, by the kind of error.
        events: By kind.
        latency: From when a picture was taken to what a look made of it.
        event_latency: The same to what was told of it.
        uploaded_bytes: Of pictures that left.
    """

    def __init__(self) -> None:
        self.pictures = self.moving = self.checks = self.missed = 0
        self.uploaded_bytes = 0
        self.pictures_rate = RecentRate()
        self.looks: Counter[str] = Counter()
        self.looks_rates: defaultdict[str, RecentRate] = defaultdict(RecentRate)
        self.failures: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.latency = Latencies()
        self.event_latency = Latencies()


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFigures:
    """How one camera does and is served.

    Attributes:
        name: Its name.
        state: Where it stands.
        reason: What is wrong with it, or was last; empty where nothing.
        frames_per_s: Pictures that come, a second, of late.
        looks_per_s: Looks of late, by model.
        is_moving: Whether something moves.
        tracks: How many objects are there.
        present: How many are in each zone.
        counts: How often what happened.
        failures: Looks that failed and events that were lost, by the kind of error.
        skipped: Pictures that were not looked at, and why.
        looks: Looks by model since the start.
        missed_share: Of the checks, those that found what the gate had missed; None
            before the first.
        latency_ms: Percentiles of capture to answer, of late.
        event_latency_ms: The same to what was told.
        withheld: Pictures that could not be shown to be without faces.
        uploaded_bytes: Of pictures that left.
        reconnects: How often it was opened again.
    """

    name: str
    state: CameraState
    reason: str
    frames_per_s: float
    looks_per_s: Mapping[str, float]
    is_moving: bool
    tracks: int
    present: Mapping[str, int]
    counts: Mapping[str, int]
    failures: Mapping[str, int]
    skipped: Mapping[str, int]
    looks: Mapping[str, int]
    missed_share: float | None
    latency_ms: Mapping[str, float | None]
    event_latency_ms: Mapping[str, float | None]
    withheld: int
    uploaded_bytes: int
    reconnects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFigures:
    """How all cameras do.

    Attributes:
        level: How much had to be given up, of `skerry.edge.streams.rates`.
        capacity: Seconds of looks in a second that are planned: how many at once.
        costs_ms: What a look of each model takes.
        mosaics: By model, what looking at parts of several pictures at once loses; of
            those that may.
        cameras: One each.
    """

    level: str
    capacity: float
    costs_ms: Mapping[str, float]
    mosaics: Mapping[str, MosaicFigures] = field(default_factory=dict)
    cameras: tuple[CameraFigures, ...] = field(default=())


def percentiles(latencies: Latencies) -> dict[str, float | None]:
    """The median and the 99th percentile, by name."""
    return {
        "p50": latencies.percentile_ms(50),
        "p99": latencies.percentile_ms(99),
    }


def skipped_of(
    counts: CameraCounts, health: CameraHealth, *, superseded: int, late: int
) -> dict[str, int]:
    """Pictures that were not looked at, by why."""
    return {
        "idle": max(0, counts.pictures - counts.moving),
        "superseded": superseded,
        "late": late,
        "shed": health.shed,
        "damaged": health.bad,
    }


def families_of(
    figures: StreamFigures, latencies: Mapping[str, Latencies]
) -> Iterator[Family]:
    """All of it as metrics.

    Args:
        figures: What is known.
        latencies: Of each camera, from capture to answer.
    """
    cameras = figures.cameras
    yield Family(
        name="skerry_stream_level",
        kind="gauge",
        told="1 for how much is given up now.",
        samples=[("", (("level", figures.level),), 1)],
    )
    yield Family(
        name="skerry_stream_mosaic_lost_ratio",
        kind="gauge",
        told="Objects that mosaics missed, of those that whole pictures showed.",
        samples=[
            ("", (("model", model),), one.lost_share)
            for model, one in figures.mosaics.items()
            if one.lost_share is not None
        ],
    )
    for name, told, label, counts in (
        ("looks", "Pictures that a model looked at.", "model", "looks"),
        ("skipped", "Pictures that were not looked at, and why.", "why", "skipped"),
        ("events", "What happened on the camera.", "what", "counts"),
        ("failures", "Looks that failed, events that were lost.", "kind", "failures"),
    ):
        yield Family(
            name=f"skerry_stream_{name}_total",
            kind="counter",
            told=told,
            samples=[
                ("", (*_of(c.name), (label, which)), count)
                for c in cameras
                for which, count in getattr(c, counts).items()
            ],
        )
    for name, told, values in _gauges(cameras):
        samples = [
            ("", _of(c.name), value) for c, value in zip(cameras, values, strict=True)
        ]
        yield Family(name=name, kind="gauge", told=told, samples=samples)
    yield Family(
        name="skerry_stream_latency_seconds",
        kind="histogram",
        told="From when a picture was taken to what a look made of it.",
        samples=[
            sample
            for camera, one in latencies.items()
            for sample in histogram(
                _of(camera), BOUNDS_S, one.buckets, total=round(one.total_s, 6)
            )
        ],
    )


def _gauges(
    cameras: Sequence[CameraFigures],
) -> Iterator[tuple[str, str, list[float]]]:
    """Numbers of which each camera has one: the name, what it is, and the values."""
    yield (
        "skerry_stream_live",
        "Whether the camera gives pictures.",
        [c.state is CameraState.LIVE for c in cameras],
    )
    yield (
        "skerry_stream_frames_per_second",
        "Pictures that come, of late.",
        [round(c.frames_per_s, 3) for c in cameras],
    )
    yield (
        "skerry_stream_tracks",
        "Objects that are there.",
        [c.tracks for c in cameras],
    )
    yield (
        "skerry_stream_gate_missed_ratio",
        "Checks that found what the gate had missed.",
        [c.missed_share or 0.0 for c in cameras],
    )
    yield (
        "skerry_stream_withheld",
        "Pictures that were not let out.",
        [c.withheld for c in cameras],
    )
    yield (
        "skerry_stream_uploaded_bytes",
        "Bytes of pictures that left.",
        [c.uploaded_bytes for c in cameras],
    )
    yield (
        "skerry_stream_reconnects",
        "How often the camera was opened again.",
        [c.reconnects for c in cameras],
    )


def _of(camera: str) -> Labels:
    return (("camera", camera),)
