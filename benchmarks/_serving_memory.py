"""Memory of a service that is idle, and what is left of it after hundreds of swaps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured, Row
from benchmarks._serving_cost import open_files, pss_mb, tree
from benchmarks._serving_load import Connection
from benchmarks._serving_models import (
    checking,
    detector,
    infer_request,
    light_model,
    write_release,
)
from benchmarks._serving_program import Settings
from benchmarks._serving_service import Service

IDLE_S = 3.0
EDGE = 10
"""Looks at each end of the swaps whose medians are compared."""


def measure_pss(plan: Plan) -> Found:
    """Proportional memory of all processes, idle, one detector loaded and warm."""
    served = detector(2)
    folder = write_release(plan.work, served)
    requests = [infer_request("det", sample) for sample in served.samples]
    check = checking(served)
    rows: list[Row] = []
    measured = []
    for isolation, bar, who in (
        ("thread", "serving.pss_mb", "skerry, in-process"),
        ("process", "serving.pss_isolated_mb", "skerry, isolated, with spare"),
    ):
        settings = Settings(releases=(str(folder),), isolation=isolation)
        with Service(settings) as service:
            with Connection(service.address) as connection:
                faults = [
                    fault
                    for index in range(20)
                    if (fault := check(index % 2, connection.ask(requests[index % 2])))
                ]
            time.sleep(plan.of(IDLE_S, 0.5))
            figure, n = pss_mb(service.pid), len(tree(service.pid))
        rows.append(
            row(
                f"idle memory (PSS), {served.title}",
                who,
                figure=figure,
                unit="MB",
                n=1,
                note=f"{n} processes",
            )
        )
        unmet = f"it did not answer: {faults[0]}" if faults else ""
        measured.append(Measured(id=bar, figure=figure, n=1, unmet=unmet))
    return Found(rows=rows, measured=measured)


def measure_leak(plan: Plan) -> Found:
    """Swap hundreds of times, and look at memory and descriptors after each."""
    served = light_model(2)
    warm, swaps = plan.count(20, 3), plan.count(300, 6)
    edge = min(EDGE, swaps // 3)
    folders = [
        write_release(plan.work, served, version=version) for version in (1, 2, 3)
    ]
    requests = [infer_request("det", sample) for sample in served.samples]
    check = checking(served)
    memory_mb: list[float] = []
    files: list[int] = []
    faults: list[str] = []
    with (
        Service(Settings(releases=(str(folders[0]),))) as service,
        Connection(service.address) as connection,
    ):
        for number in range(warm + swaps):
            told = service.offer(folders[(number + 1) % 3]).result(60)
            if "refused" in told or "failed" in told:
                faults.append(str(told))
            replies = [connection.ask(request) for request in requests]
            faults += filter(None, map(check, (0, 1), replies))
            if number >= warm:
                _await_calm(service.pid)
                memory_mb.append(pss_mb(service.pid))
                files.append(open_files(service.pid))
            if number % 50 == 0:
                tell(f"swap {number}: {memory_mb[-1:]} MB, {files[-1:]} descriptors")
    growth = {
        "memory": _growth(memory_mb, edge),
        "descriptors": _growth(files, edge),
    }
    ends = {"memory": memory_mb, "descriptors": files}
    rows = [
        row(
            f"growth of {kind} over {swaps} swaps, {served.title}",
            "skerry",
            figure=growth[kind] * 100,
            unit="%",
            n=swaps,
            note=f"from {ends[kind][0]:.4g} to {ends[kind][-1]:.4g}",
        )
        for kind in growth
    ]
    measured = Measured(
        id="serving.leak",
        figure=max(growth.values()) * 100,
        n=swaps,
        unmet=f"{len(faults)} failed: {faults[0][:120]}" if faults else "",
    )
    return Found(rows=rows, measured=[measured], series={"swaps MB": memory_mb})


def _growth(looks: Sequence[float], edge: int) -> float:
    """Relative growth from the first looks to the last ones."""
    return statistics.median(looks[-edge:]) / statistics.median(looks[:edge]) - 1


def _await_calm(pid: int, most: int = 3) -> None:
    """Wait until the worker before is gone: gateway, spare and one worker are left."""
    until_s = time.monotonic() + 2
    while len(tree(pid)) > most and time.monotonic() < until_s:
        time.sleep(0.01)
