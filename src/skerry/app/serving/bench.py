"""Run one load against one server, from the first look at it to the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skerry.app.serving.clients import Face, Target, closing_all
from skerry.app.serving.cpu import tree_cpu_s
from skerry.app.serving.latencies import Bucket
from skerry.app.serving.load import LoadPlan, Tally, run_load

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}
"""What is told of the latencies, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """What is asked of which server.

    Attributes:
        url: The server's.
        model: Its name; the only one where empty.
        face: How it is reached.
        load: How it is asked.
        input_file: What is sent; numbers made up from the metadata where None.
        shapes: Shapes of inputs that the metadata leaves open.
        token: What to show the server.
    """

    url: str
    model: str = ""
    face: Face = "http"
    load: LoadPlan = field(default_factory=LoadPlan)
    input_file: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """How long answers took.

    Attributes:
        target: The server's URL, or the model's file.
        model: The model's name.
        face: How it was reached.
        load: How it was asked.
        elapsed_s: How long that took, the last answers included.
        count: How many requests were answered.
        failures: How many were not, by kind of error.
        delayed: Of an open loop, how many were sent late because every client was
            waiting; their wait counts.
        requests_per_s: Answered requests a second.
        latency_ms: `p50`, `p90`, `p99`, `p99_9`, `mean` and `max`; empty where nothing
            was answered. Of an open loop they count from when a request was due.
        histogram: The latencies in buckets of equal width on a logarithmic scale.
        cpu_ms_per_request: CPU time of the server and its workers by request, answered
            or not; None where the server is not on this machine or does not say which
            process it is.
        files: What was written.
    """

    target: str
    model: str
    face: Face
    load: LoadPlan
    elapsed_s: float
    count: int
    failures: Mapping[str, int]
    delayed: int
    requests_per_s: float
    latency_ms: Mapping[str, float]
    histogram: tuple[Bucket, ...]
    cpu_ms_per_request: float | None
    files: tuple[Path, ...] = ()


async def run_bench(
    plan: BenchPlan,
    *,
    target: str,
    on_tick: Callable[[Tally], None] | None = None,
) -> BenchResult:
    """Put load on a server, and tell how long its answers took.

    Args:
        plan: What is asked of whom.
        target: What the result is said to be of.
        on_tick: Called a few times a second, with what was counted so far.

    Raises:
        UsageError: There is no such model or face, or its inputs cannot be made up.
        SkerryError: What the server refuses the first request with.
        LinkError: Nobody answers.
    """
    load, tally = plan.load, Tally()
    asked = Target(plan.url, token=plan.token, timeout_ms=load.timeout_ms)
    try:
        name = await asked.prepare(plan.model, plan.input_file, dict(plan.shapes))
        clients = await asked.clients(plan.face, load.clients)
        async with closing_all(clients):
            await run_load(clients, _warm_up(load), Tally())
            pids = await asked.pids()
            before_s = tree_cpu_s(pids)
            await run_load(clients, load, tally, on_tick=on_tick)
            after_s = tree_cpu_s(pids)
    finally:
        asked.close()
    sent = tally.latencies.count + sum(tally.failures.values())
    cpu_ms = None
    if before_s is not None and after_s is not None and sent:
        cpu_ms = (after_s - before_s) * 1000 / sent
    return BenchResult(
        target=target,
        model=name,
        face=plan.face,
        load=load,
        elapsed_s=tally.elapsed_s,
        count=tally.latencies.count,
        failures=dict(tally.failures.most_common()),
        delayed=tally.delayed if load.rate_per_s is not None else 0,
        requests_per_s=tally.latencies.count / tally.elapsed_s,
        latency_ms=summarize(tally),
        histogram=tally.latencies.buckets(),
        cpu_ms_per_request=cpu_ms,
    )


def summarize(tally: Tally) -> dict[str, float]:
    """The percentiles, the mean and the most; nothing where nothing was answered."""
    latencies = tally.latencies
    if not latencies.count:
        return {}
    told = {
        name: latencies.percentile(share) or 0.0 for name, share in PERCENTILES.items()
    }
    mean_ms = latencies.sum_ms / latencies.count
    return {**told, "mean": mean_ms, "max": latencies.most_ms}


def _warm_up(load: LoadPlan) -> LoadPlan:
    """A short closed loop: connections are opened, and caches warmed."""
    return LoadPlan(
        clients=load.clients, duration_s=0.3, timeout_ms=load.timeout_ms, seed=load.seed
    )
