"""Swaps under load: what is lost, what is wrong, and how long nobody is answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks._found import Found, Plan, percentile, row, tell
from benchmarks._harness import Measured
from benchmarks._serving_load import Stream, Tally
from benchmarks._serving_models import (
    Served,
    checking,
    infer_request,
    light_model,
    write_release,
)
from benchmarks._serving_program import Settings
from benchmarks._serving_service import Service

RATE_HZ = 30.0
LOAD_S = 3.0
PROBATION_S = 2.0
STEP = 1e-4
"""By how much the answers of one version differ from those of the next."""


def measure_swaps(plan: Plan) -> Found:
    """Windows with a swap in each and windows without, in turns."""
    served = light_model()
    windows, window_s = plan.count(10, 1), plan.of(10.5, 5.0)
    load_s = plan.of(LOAD_S, 1.0)
    probation_s = plan.of(PROBATION_S, 0.5)
    gains = {f"det/{version}": 1 + STEP * version for version in range(2 * windows + 2)}
    folders = _releases(plan.work, served, gains, load_s)
    requests = [infer_request("det", sample) for sample in served.samples]
    still, swapped = Tally(), Tally()
    gaps_ms: dict[bool, list[float]] = {False: [], True: []}
    ends: list[str] = []
    settings = Settings(releases=(str(folders[0]),))
    with Service(settings) as service:
        stream = Stream(
            service.address, requests, checking(served, gains), rate_hz=RATE_HZ
        )
        with stream:
            time.sleep(1)
            for number in range(2 * windows):
                has_swap = number % 4 in {1, 2}
                before = len(stream.tally.ended_s)
                faults = len(stream.tally.faults)
                until_s = time.perf_counter() + window_s
                if has_swap:
                    told = service.offer(
                        folders[1 + number], probation_s=probation_s
                    ).result(window_s + 60)
                    ends.append(told.get("end") or str(told))
                time.sleep(max(0.0, until_s - time.perf_counter()))
                own = swapped if has_swap else still
                own.ended_s += stream.tally.ended_s[before:]
                own.took_ms += stream.tally.took_ms[before:]
                own.faults += stream.tally.faults[faults:]
                gap_ms = longest_gap_ms(stream.tally.ended_s[max(0, before - 1) :])
                gaps_ms[has_swap].append(gap_ms)
                tell(f"window {number + 1}: {has_swap=}, longest gap {gap_ms:.0f} ms")
    return _found(served, still, swapped, gaps_ms, ends)


def longest_gap_ms(ended_s: Sequence[float]) -> float:
    """The longest time between one answer and the next."""
    ordered = sorted(ended_s)
    return max((b - a for a, b in pairwise(ordered)), default=0.0) * 1000


def _releases(
    work: Path, served: Served, gains: dict[str, float], load_s: float
) -> list[Path]:
    return [
        write_release(work, served, version=version, gain=gain, load_s=load_s)
        for version, gain in enumerate(gains.values())
        if version
    ]


def _found(
    served: Served,
    still: Tally,
    swapped: Tally,
    gaps_ms: dict[bool, list[float]],
    ends: Sequence[str],
) -> Found:
    rows = [
        row(
            f"{RATE_HZ:g} requests a second, {served.title}",
            who,
            figure=max(gaps_ms[has_swap]),
            unit="ms, longest gap",
            n=tally.n,
            p50_ms=percentile(tally.took_ms, 50),
            p99_ms=percentile(tally.took_ms, 99),
            note=tally.faults[0] if tally.faults else None,
        )
        for who, tally, has_swap in (
            ("skerry, no swaps", still, False),
            (f"skerry, {len(ends)} swaps", swapped, True),
        )
    ]
    odd = [end for end in ends if end != "settled"]
    unmet = f"{len(odd)} of {len(ends)} swaps did not settle: {odd[0]}" if odd else ""
    ratio = max(gaps_ms[True]) / max(gaps_ms[False]) if all(gaps_ms.values()) else None
    measured = [
        Measured(
            id="serving.swap.failed",
            figure=float(len(swapped.faults) + len(still.faults)),
            n=swapped.n + still.n,
            unmet=unmet,
        ),
        Measured(
            id="serving.swap.gap_ratio",
            figure=ratio,
            n=len(gaps_ms[True]),
            unmet=unmet,
        ),
    ]
    series = {
        "latency without swaps": still.took_ms,
        "latency with swaps": swapped.took_ms,
        "gaps without swaps": gaps_ms[False],
        "gaps with swaps": gaps_ms[True],
    }
    return Found(rows=rows, measured=measured, series=series)
