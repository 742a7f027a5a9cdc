"""What the service counts, and how Prometheus reads it.

Counting costs a request a few additions; everything else is put together when
`/metrics` is asked for.
"""

from __future__ import annotations

import resource
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

from skerry.core.errors import LateError, SkerryError
from skerry.core.release import ReleaseId
from skerry.edge.exposition import Family, Labels, Sample, histogram

BOUNDS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of the buckets of the latency histogram, in seconds."""

MOST_VERSIONS = 64
"""As many versions are counted; the one that was counted first is forgotten."""


class Counted:
    """The counts of one version of a model, on the event loop's thread.

    Attributes:
        requests: Taken in, whatever became of them.
        answered: Answered with what the model gave.
        late: Without an answer at their deadline.
        failures: The others that were not answered, by the kind of error.
        seconds: The time of all answers together, from the whole request on.
        failed_seconds: The same of those that were not answered.
        buckets: How many answers took at most as long as each bound, and longer.
        json_requests: Requests whose tensors were JSON.
        json_bytes: What came as JSON.
        binary_bytes: What came as tensors' bytes.
        last_ms: When the last answer was given, milliseconds since 1970; 0: never.
    """

    __slots__ = (
        "answered",
        "binary_bytes",
        "buckets",
        "failed_seconds",
        "failures",
        "json_bytes",
        "json_requests",
        "last_ms",
        "late",
        "requests",
        "seconds",
    )

    def __init__(self) -> None:
        self.requests = self.answered = self.late = 0
        self.json_requests = self.json_bytes = self.binary_bytes = 0
        self.failures: Counter[str] = Counter()
        self.seconds = self.failed_seconds = 0.0
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.last_ms = 0

    def count_bytes(self, *, size_bytes: int, tail_bytes: int) -> None:
        """Count a request's bytes, of which the tail was tensors."""
        self.json_bytes += size_bytes - tail_bytes
        self.binary_bytes += tail_bytes
        self.json_requests += not tail_bytes

    def count_answer(self, seconds: float) -> None:
        """Count an answer and how long it took."""
        self.answered += 1
        self.seconds += seconds
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.last_ms = int(time.time() * 1000)

    def count_failure(self, error: SkerryError, seconds: float) -> None:
        """Count a request that was not answered."""
        self.failed_seconds += seconds
        self.failures[error.code] += 1
        self.late += isinstance(error, LateError)


class Metrics:
    """All that the service counts.

    Attributes:
        unknown: What asked for no release that is loaded.
    """

    def __init__(self) -> None:
        self.unknown = Counted()
        self._counted: dict[ReleaseId, Counted] = {}

    def of(self, release: ReleaseId) -> Counted:
        """The counts of a release."""
        counted = self._counted.get(release)
        if counted is None:
            if len(self._counted) >= MOST_VERSIONS:
                del self._counted[next(iter(self._counted))]
            counted = self._counted[release] = Counted()
        return counted

    def counts(self) -> tuple[tuple[ReleaseId, Counted], ...]:
        """The counts of each release that was asked for."""
        return tuple(self._counted.items())


def families_of(metrics: Metrics) -> Iterator[Family]:
    """What the service counted, as metrics."""
    counts = [
        (labels(release.name, release.version), counted)
        for release, counted in metrics.counts()
    ]
    counts.append(((("model", ""), ("version", "")), metrics.unknown))
    for name, told in (
        ("requests", "Requests taken in, whatever became of them."),
        ("late", "Requests without an answer at their deadline."),
        ("json_requests", "Requests whose tensors were JSON: binary ones are cheap."),
    ):
        samples = [("", of, getattr(counted, name)) for of, counted in counts]
        metric = "deadline_misses" if name == "late" else name
        yield Family(
            name=f"skerry_{metric}_total", kind="counter", told=told, samples=samples
        )
    yield Family(
        name="skerry_failures_total",
        kind="counter",
        told="Requests that were not answered, by the kind of error.",
        samples=[
            ("", (*of, ("reason", reason)), n)
            for of, counted in counts
            for reason, n in counted.failures.items()
        ],
    )
    yield Family(
        name="skerry_input_bytes_total",
        kind="counter",
        told="Bytes of requests, by how they were written.",
        samples=[
            ("", (*of, ("encoding", encoding)), n)
            for of, counted in counts
            for encoding, n in (
                ("json", counted.json_bytes),
                ("binary", counted.binary_bytes),
            )
        ],
    )
    yield Family(
        name="skerry_request_seconds",
        kind="histogram",
        told="Time from a whole request to its answer.",
        samples=[
            sample
            for of, counted in counts
            for sample in histogram(
                of, BOUNDS_S, counted.buckets, total=counted.seconds
            )
        ],
    )


def figures_families(
    figures: Iterable[tuple[Labels, object]], *, prefix: str
) -> Iterator[Family]:
    """Turn what parts tell of themselves into gauges, one a number.

    Args:
        figures: Dataclasses, and the labels of each; fields that hold no number are
            left out.
        prefix: What the metrics' names begin with.
    """
    found: dict[str, list[Sample]] = {}
    for of, each in figures:
        if not is_dataclass(each):
            continue
        for field in fields(each):
            value = getattr(each, field.name)
            if isinstance(value, int | float):
                found.setdefault(field.name, []).append(("", of, float(value)))
    for name, samples in sorted(found.items()):
        told = f"What the part tells as {name}."
        yield Family(name=f"{prefix}_{name}", kind="gauge", told=told, samples=samples)


def own_families() -> Iterator[Family]:
    """What the process uses, under the names that Prometheus's own clients give."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    for name, kind, told, value in (
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time, user and system.",
            used.ru_utime + used.ru_stime,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            _resident_bytes(),
        ),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            sum(1 for _ in Path("/proc/self/fd").iterdir()),
        ),
    ):
        yield Family(name=name, kind=kind, told=told, samples=[("", (), value)])


def labels(name: str, version: int) -> Labels:
    """The labels of a version of a model."""
    return ("model", name), ("version", str(version))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
