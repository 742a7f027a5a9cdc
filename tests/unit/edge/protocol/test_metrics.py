from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import BusyError, LateError
from skerry.core.release import ReleaseId
from skerry.edge.engine import Engine
from skerry.edge.exposition import Family, write_metrics
from skerry.edge.protocol.http import make_app
from skerry.edge.protocol.metrics import (
    BOUNDS_S,
    MOST_VERSIONS,
    Metrics,
    families_of,
)
from tests.serving import ScriptedRuntime, ask, binary_body, install, json_body

METER = ReleaseId(name="meter", version=1)


def _lines(metrics: Metrics) -> list[str]:
    return write_metrics(families_of(metrics)).decode().splitlines()


def test_what_is_counted_is_told() -> None:
    """Requests, failures by kind, misses, bytes by form, and how long it took."""
    metrics = Metrics()
    counted = metrics.of(METER)
    counted.requests = 4
    counted.count_bytes(size_bytes=120, tail_bytes=100)
    counted.count_bytes(size_bytes=50, tail_bytes=0)
    counted.count_answer(0.002)
    counted.count_answer(99)
    counted.count_failure(LateError("late", hint="Wait."), 0.1)
    counted.count_failure(BusyError("busy", hint="Wait."), 0)
    lines = _lines(metrics)
    of = '{model="meter",version="1"'
    for line in (
        f"skerry_requests_total{of}}} 4",
        f'skerry_failures_total{of},reason="LateError"}} 1',
        f'skerry_failures_total{of},reason="BusyError"}} 1',
        f"skerry_deadline_misses_total{of}}} 1",
        f'skerry_input_bytes_total{of},encoding="json"}} 70',
        f'skerry_input_bytes_total{of},encoding="binary"}} 100',
        f"skerry_json_requests_total{of}}} 1",
        f'skerry_request_seconds_bucket{of},le="0.001"}} 0',
        f'skerry_request_seconds_bucket{of},le="0.0025"}} 1',
        f'skerry_request_seconds_bucket{of},le="10"}} 1',
        f'skerry_request_seconds_bucket{of},le="+Inf"}} 2',
        f"skerry_request_seconds_count{of}}} 2",
        f"skerry_request_seconds_sum{of}}} 99.002",
        "# TYPE skerry_request_seconds histogram",
    ):
        assert line in lines


def test_a_bound_belongs_to_its_bucket() -> None:
    """`le` means less or equal."""
    counted = Metrics().of(METER)
    for bound in BOUNDS_S:
        counted.count_answer(bound)
    assert counted.buckets == [1] * len(BOUNDS_S) + [0]


def test_versions_that_come_and_go_do_not_pile_up() -> None:
    """The first is forgotten: memory stays flat over years of updates."""
    metrics = Metrics()
    for version in range(1, 300):
        metrics.of(ReleaseId(name="meter", version=version))
    kept = [release.version for release, _ in metrics.counts()]
    assert kept == list(range(300 - MOST_VERSIONS, 300))


def test_labels_are_escaped() -> None:
    """A name cannot pretend to be another line."""
    family = Family(
        name="m", kind="gauge", told="A thing.", samples=[("", (("a", 'x"\n\\'),), 1.5)]
    )
    assert write_metrics([family]).decode().splitlines()[2] == r'm{a="x\"\n\\"} 1.5'


@pytest.mark.parametrize("token", [None, "sesame"])
def test_prometheus_reads_it(token: str | None, tmp_path: Path) -> None:
    """The service's own counts, the engine's and the process's; with its token."""
    engine = Engine(clock=SystemClock(), runtimes=lambda _: ScriptedRuntime())
    engine.switch(engine.prepare(install(tmp_path)))
    app = make_app(engine, token=token)
    shown = {"authorization": f"Bearer {token}"}

    async def story() -> str:
        infer = "/v2/models/meter/infer"
        body, headers = binary_body()
        await ask(app, "POST", infer, body, headers | shown)
        await ask(app, "POST", infer, json_body(), shown)
        await ask(app, "POST", infer, b"x", shown)
        await ask(app, "POST", "/v2/models/other/infer", b"x", shown)
        assert (await ask(app, "GET", "/metrics")).status == (401 if token else 200)
        got = await ask(app, "GET", "/metrics", b"", shown)
        assert got.headers["content-type"].startswith("text/plain; version=0.0.4")
        engine.close()
        return got.body.decode()

    lines = asyncio.run(story()).splitlines()
    of = '{model="meter",version="1"'
    assert f"skerry_requests_total{of}}} 3" in lines
    assert f'skerry_failures_total{of},reason="DataError"}} 1' in lines
    assert f"skerry_release_waiting{of}}} 0" in lines
    assert 'skerry_model_swaps{model="meter"} 1' in lines
    assert 'skerry_model_roll_backs{model="meter"} 0' in lines
    assert any(line.startswith("process_open_fds ") for line in lines)
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
