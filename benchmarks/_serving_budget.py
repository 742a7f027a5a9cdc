"""Releases beyond their budget: refused where there is too little CPU, only there."""

from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from benchmarks._found import Found, Plan, percentile, row, tell
from benchmarks._harness import Measured, Row
from benchmarks._serving_models import Served, light_model, write_release
from benchmarks._serving_program import Settings
from benchmarks._serving_service import Service
from skerry.app.simulate.throttle import CpuLimit
from skerry.core.budget import Budget

SHARE = 0.3
ROOM = 1.7
"""The budget, times what an inference takes on the healthy machine; throttled to 30 %
it takes 3.3 times as long."""

OFFER_LIMIT_S = 60.0


def measure_budget(plan: Plan) -> Found:
    """Offer the same releases to a healthy gateway and to a throttled one."""
    served = light_model(2)
    count = plan.count(100, 3)
    usual_ms = _usual_ms(plan.work / "trial", served)
    budget = Budget(latency_ms=usual_ms * ROOM)
    folders = [
        write_release(plan.work, served, version=2 + number, budget=budget)
        for number in range(count)
    ]
    what = f"{served.title}, budget {usual_ms * ROOM:.2f} ms"
    with Service(Settings(releases=())) as service:
        healthy = _offer_all(service, folders)
        tell(f"healthy: {sum(map(_is_refused, healthy))} of {count} refused")
        with CpuLimit(service.pid, SHARE):
            throttled = _offer_all(service, folders)
    tell(f"throttled: {sum(map(_is_refused, throttled))} of {count} refused")
    missed = [told for told in throttled if told.get("refused") != "latency"]
    false = [told for told in healthy if _is_refused(told)]
    rows: list[Row] = [
        row(
            f"refused of {count} releases, {what}",
            who,
            figure=sum(map(_is_refused, told)),
            unit="refused",
            n=count,
            p50_ms=percentile([one["s"] * 1000 for one in told], 50),
            note=f"usually {usual_ms:.2f} ms",
        )
        for who, told in (
            ("skerry, healthy", healthy),
            (f"skerry, throttled to {SHARE:.0%}", throttled),
        )
    ]
    return Found(
        rows=rows,
        measured=[
            Measured(
                id="serving.budget.missed",
                figure=float(len(missed)),
                n=count,
                unmet=_first(missed),
            ),
            Measured(
                id="serving.budget.false",
                figure=float(len(false)),
                n=count,
                unmet=_first(false),
            ),
        ],
    )


def _usual_ms(work: Path, served: Served) -> float:
    """What the check itself finds, with a budget that everything keeps."""
    budget = Budget(latency_ms=60_000.0)
    folder = write_release(work, served, budget=budget)
    with Service(Settings(releases=())) as service:
        found = [
            service.offer(folder, serves=False).result(OFFER_LIMIT_S) for _ in range(5)
        ]
    latencies_ms: list[float] = [told["latency_ms"] for told in found]
    return sorted(latencies_ms)[len(latencies_ms) // 2]


def _offer_all(service: Service, folders: list[Path]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for folder in folders:
        asked: Future[dict[str, Any]] = service.offer(folder, serves=False)
        told.append(asked.result(OFFER_LIMIT_S))
        time.sleep(0.01)
    return told


def _is_refused(told: dict[str, Any]) -> bool:
    return "latency_ms" not in told


def _first(told: list[dict[str, Any]]) -> str:
    return f"the first: {told[0].get('what') or told[0]}"[:160] if told else ""
