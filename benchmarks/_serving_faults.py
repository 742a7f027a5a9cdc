"""Bad models, hung inferences and killed workers under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._found import Found, Plan, percentile, row, tell
from benchmarks._harness import Measured, Row
from benchmarks._serving_load import Connection, Stream, Tally
from benchmarks._serving_models import (
    Served,
    checking,
    infer_request,
    light_model,
    write_release,
)
from benchmarks._serving_program import Settings
from benchmarks._serving_runtime import TRIGGERS
from benchmarks._serving_service import Service
from skerry.core.budget import Budget

RATE_HZ = 20.0
OFFER_LIMIT_S = 60.0
MEMORY_BYTES = 400_000_000
DEADLINE_MS = 500.0
LATE_MS = 50.0
BACK_S = 1.0
KILL_PAUSE_S = 0.25
BACK_LIMIT_S = 20.0


def measure_bad_models(plan: Plan) -> Found:
    """Offer one bad model after the other while a good one is asked."""
    served = light_model()
    offers = _bad_releases(plan.work / "bad", served)
    if plan.quick:
        offers = {name: offers[name] for name in ("corrupt", "NaN", "crashing")}
    good = write_release(plan.work, served)
    settings = Settings(releases=(str(good),), memory_bytes=MEMORY_BYTES)
    requests = [infer_request("det", sample) for sample in served.samples]
    rows: list[Row] = []
    accepted = []
    with Service(settings) as service:
        stream = Stream(
            service.address,
            requests,
            checking(served, {"det/1": 1.0}),
            rate_hz=RATE_HZ,
        )
        with stream:
            time.sleep(0.5)
            for name, folder in offers.items():
                asked, faults = stream.tally.n, len(stream.tally.faults)
                told = service.offer(folder).result(OFFER_LIMIT_S)
                time.sleep(plan.of(1.0, 0.2))
                tell(f"{name}: {told}")
                if "refused" not in told:
                    accepted.append(name)
                rows.append(
                    row(
                        f"{name} model offered, {served.title} asked",
                        "skerry",
                        figure=len(stream.tally.faults) - faults,
                        unit="failed",
                        n=stream.tally.n - asked,
                        note=_verdict(told),
                    )
                )
    unmet = f"accepted: {', '.join(accepted)}" if accepted else ""
    measured = Measured(
        id="serving.bad_model.failed",
        figure=float(len(stream.tally.faults)),
        n=stream.tally.n,
        unmet=unmet or _first(stream.tally),
    )
    return Found(rows=rows, measured=[measured])


def measure_hangs(plan: Plan) -> Found:
    """Have inferences hang, each in its turn, beside another model's requests."""
    served = light_model()
    count = plan.count(20, 2)
    folders = [
        write_release(plan.work, served, name=name, load_s=0.0)
        for name in ("det", "other")
    ]
    settings = Settings(releases=tuple(map(str, folders)))
    others = [infer_request("other", sample) for sample in served.samples]
    late: list[float] = []
    back_s: list[float] = []
    with (
        Service(settings) as service,
        Stream(service.address, others, checking(served), rate_hz=RATE_HZ) as stream,
        Connection(service.address) as connection,
    ):
        for number in range(count):
            trigger = list(TRIGGERS)[number % len(TRIGGERS)]
            told_ms, gone_s = _hang(connection, served, trigger)
            late.append(told_ms - DEADLINE_MS)
            back_s.append(gone_s)
            tell(f"{TRIGGERS[trigger]}: told after {told_ms:.0f} ms, {gone_s=:.2f}")
            time.sleep(0.3)
    n_late = sum(one > LATE_MS for one in late)
    n_away = sum(one > BACK_S for one in back_s)
    lost = len(stream.tally.faults)
    rows = [
        row(
            f"{count} inferences that hang, deadline {DEADLINE_MS:g} ms",
            "skerry",
            figure=max(late),
            unit="ms past it, at most",
            n=count,
            note=f"{n_late} told later than {LATE_MS:g} ms past it",
        ),
        row(
            "a worker is back after the deadline",
            "skerry",
            figure=max(back_s),
            unit="s, at most",
            n=count,
            note=f"{n_away} later than {BACK_S:g} s",
        ),
        _row("another model meanwhile", stream.tally),
    ]
    measured = Measured(
        id="serving.hang.late",
        figure=float(n_late + n_away + lost),
        n=count,
        unmet=_first(stream.tally),
    )
    return Found(rows=rows, measured=[measured], series={"late ms": late})


def _hang(
    connection: Connection, served: Served, trigger: float
) -> tuple[float, float]:
    """Have one inference hang: when it was told, and when the model was back."""
    name = served.inputs[0].name
    spoilt = {name: served.samples[0][name].copy()}
    spoilt[name].flat[0] = np.float32(trigger)
    headers = [f"Skerry-Timeout-Ms: {DEADLINE_MS:g}"]
    began_s = time.perf_counter()
    reply = connection.ask(infer_request("det", spoilt, headers))
    told_s = time.perf_counter() - began_s
    told_ms = told_s * 1000 if reply.status == 504 else float("inf")
    request = infer_request("det", served.samples[0])
    check = checking(served)
    while time.perf_counter() - began_s < BACK_LIMIT_S:
        if not check(0, connection.ask(request)):
            break
    return told_ms, time.perf_counter() - began_s - DEADLINE_MS / 1000


def measure_kills(plan: Plan) -> Found:
    """Kill the worker again and again while it is asked."""
    served = light_model()
    kills = plan.count(100, 5)
    folder = write_release(plan.work, served)
    requests = [infer_request("det", sample) for sample in served.samples]
    back_ms: list[float] = []
    with (
        Service(Settings(releases=(str(folder),))) as service,
        Stream(
            service.address, requests, checking(served), rate_hz=RATE_HZ, clients=8
        ) as stream,
    ):
        for _ in range(kills):
            time.sleep(KILL_PAUSE_S)
            back_ms.append(_kill(service, stream.tally))
    rows = [
        _row(f"{kills} SIGKILLs of its worker", stream.tally),
        row(
            "SIGKILL to another worker",
            "skerry",
            figure=percentile(back_ms, 50),
            unit="ms",
            n=kills,
            high=max(back_ms),
        ),
    ]
    measured = Measured(
        id="serving.kill.lost",
        figure=float(len(stream.tally.faults)),
        n=kills,
        unmet=_first(stream.tally),
    )
    return Found(rows=rows, measured=[measured], series={"back ms": back_ms})


def _kill(service: Service, tally: Tally) -> float:
    """Kill the worker, and wait until another one has answered: for how long."""
    pid = service.ask("worker", name="det").result(BACK_LIMIT_S)["pid"]
    began_s = time.perf_counter()
    if pid is None:
        return 0.0
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until_s = began_s + BACK_LIMIT_S
    while time.perf_counter() < until_s:
        told = service.ask("worker", name="det").result(BACK_LIMIT_S)
        if told["pid"] not in {pid, None}:
            break
        time.sleep(0.005)
    back_ms = (time.perf_counter() - began_s) * 1000
    answered = len(tally.ended_s)
    _wait(lambda: len(tally.ended_s) > answered, until_s)
    return back_ms


def _wait(condition: Callable[[], bool], until_s: float) -> None:
    never = threading.Event()
    while not condition() and time.perf_counter() < until_s:
        never.wait(0.005)


def _bad_releases(work: Path, served: Served) -> Mapping[str, Path]:
    """By what is wrong with it, a release that is to be refused."""
    slow = Budget(latency_ms=50.0)
    scripts: Mapping[str, Mapping[str, Any]] = {
        "corrupt": {"content": b"\x08\x01 no model", "runtime": "onnxruntime"},
        "cut off": {"content": _cut(served), "runtime": "onnxruntime"},
        "wrong-shape": {"on_run": "misshape"},
        "slow": {"on_run": "slow", "budget": slow},
        "NaN": {"on_run": "nan"},
        "crashing": {"on_load": "crash"},
        "crashing when run": {"on_run": "crash"},
        "memory-hungry": {"on_load": "hog"},
        "memory-hungry when run": {"on_run": "hog"},
        "other answers": {"gain": 1.5},
    }
    found = {}
    for place, (name, script) in enumerate(scripts.items()):
        made = dict(script)
        release = write_release(work, served, version=place + 2, **made)
        if name == "other answers":  # the golden samples of another model
            honest = write_release(work / "honest", served, version=place + 2)
            (release / "golden").write_bytes((honest / "golden").read_bytes())
        found[name] = release
    return found


def _cut(served: Served) -> bytes:
    content = served.onnx.read_bytes() if served.onnx else b"null"
    return content[: len(content) // 2]


def _verdict(told: Mapping[str, Any]) -> str:
    if "refused" in told:
        return f"refused in {told['s']:.2f} s: {told['refused']}"
    return f"accepted: {told}"


def _row(what: str, tally: Tally) -> Row:
    return row(
        what,
        "skerry",
        figure=len(tally.faults),
        unit="lost",
        n=tally.n,
        p50_ms=percentile(tally.took_ms, 50),
        p99_ms=percentile(tally.took_ms, 99),
        note=tally.faults[0] if tally.faults else None,
    )


def _first(tally: Tally) -> str:
    faults: Sequence[str] = tally.faults
    return f"the first: {faults[0][:120]}" if faults else ""
