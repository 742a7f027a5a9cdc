"""Quiet, busy and half: fifty cameras on this machine; and what the gate costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from math import inf

from benchmarks._found import Found, Plan, percentile, row, tell
from benchmarks._harness import Measured, Row
from benchmarks._streams_footage import CAMERAS, footage
from benchmarks._streams_rivals import Rival, run_rival
from benchmarks._streams_stage import Ran, latencies_ms, run_cameras, settings_of
from benchmarks._streams_teacher import missed_events, teach
from skerry.device._video import Video
from skerry.edge.streams.gate import Gate

SECONDS, QUICK_SECONDS = 40.0, 12.0
QUICK_CAMERAS = 16


def measure_quiet(plan: Plan) -> Found:
    """A fifth of the cameras' time something happens."""
    count, seconds = _size(plan)
    paths = footage(plan, "quiet", count, seconds)
    truth = teach(paths)
    ran = asyncio.run(run_cameras(settings_of(paths)))
    every = missed_events(truth.all, ran, seconds=seconds)
    sure = missed_events(truth.sure, ran, seconds=seconds)
    latencies = latencies_ms(ran)
    p99 = percentile(latencies, 99)
    return Found(
        rows=[
            *_rows("quiet: a fifth of the time active", ran, latencies),
            row(
                "quiet: events of the teacher missed",
                "skerry",
                figure=100 * every.missed / max(1, every.known),
                unit="%",
                n=every.known,
                note=f"the same detector and tracker on every picture; {every.spare} "
                "of ours are not among its",
            ),
            row(
                "quiet: the same, of those it was sure of",
                "skerry",
                figure=100 * sure.missed / max(1, sure.known),
                unit="%",
                n=sure.known,
            ),
            row("quiet: gate's own estimate", "skerry", figure=_checks(ran), unit="%"),
        ],
        measured=[
            Measured(id="streams.quiet.p99_ms", figure=p99, n=len(latencies)),
            Measured(id="streams.quiet.cores", figure=ran.cpu_s / ran.seconds, n=count),
            Measured(
                id="streams.missed_events",
                figure=100 * every.missed / every.known if every.known else None,
                n=every.known,
            ),
        ],
        series={"latency quiet": latencies},
    )


def measure_busy(plan: Plan) -> Found:
    """Something happens on every camera, all the time."""
    count, seconds = _size(plan)
    paths = footage(plan, "busy", count, seconds)
    ran = asyncio.run(run_cameras(settings_of(paths)))
    latencies = latencies_ms(ran)
    rates = {
        name: [
            looks[name] / ran.active_s[camera] for camera, looks in ran.looks.items()
        ]
        for name in ("people", "faces")
    }
    least = min(map(min, rates.values()))
    fairness = max(max(one) / min(one) if min(one) else inf for one in rates.values())
    return Found(
        rows=[
            *_rows("busy: always active", ran, latencies),
            *(
                row(
                    f"busy: looks for {name} a second in which something moves",
                    "skerry",
                    figure=sorted(one)[len(one) // 2],
                    low=min(one),
                    high=max(one),
                    unit="1/s",
                    n=count,
                    note="median, worst and best served camera",
                )
                for name, one in rates.items()
            ),
        ],
        measured=[
            Measured(
                id="streams.busy.p99_ms",
                figure=percentile(latencies, 99),
                n=len(latencies),
            ),
            Measured(id="streams.busy.min_rate", figure=least, n=count),
            Measured(
                id="streams.busy.fairness",
                figure=fairness,
                n=count,
            ),
        ],
        series={
            "latency busy": latencies,
            "looks busy": [min(pair) for pair in zip(*rates.values(), strict=True)],
        },
    )


def measure_fifo(plan: Plan) -> Found:
    """Half of the cameras active: ours, a queue of all pictures, one of moving ones."""
    count, seconds = _size(plan)
    busy = footage(plan, "busy", count, seconds)
    idle = footage(plan, "idle", count, seconds)
    paths = [busy[n] if n % 2 else idle[n] for n in range(count)]
    ours = asyncio.run(run_cameras(settings_of(paths)))
    own = percentile(_answers(ours), 99)
    rows: list[Row] = [*_rows("half active", ours, latencies_ms(ours))]
    found: dict[str, float | None] = {}
    series = {"ours half": latencies_ms(ours)}
    for rival in (Rival.FIFO, Rival.MOTION):
        tell(f"rival: {rival}")
        latencies = asyncio.run(run_rival(settings_of(paths), rival))
        found[rival] = percentile(latencies, 99)
        series[rival.value] = latencies
        rows.append(
            row(
                "half active: capture to answer",
                rival.value,
                n=len(latencies),
                p50_ms=percentile(latencies, 50),
                p99_ms=found[rival],
                note="answers that came while the cameras ran",
            )
        )
    ratios = {name: own / p99 if own and p99 else None for name, p99 in found.items()}
    rows.append(
        row("half active: p99 ÷ motion queue's", "skerry", figure=ratios[Rival.MOTION])
    )
    return Found(
        rows=rows,
        measured=[
            Measured(
                id="streams.vs_fifo",
                figure=ratios[Rival.FIFO],
                n=count,
                peer="a FIFO queue",
            )
        ],
        series=series,
    )


def measure_gate(plan: Plan) -> Found:
    """CPU time of the gate alone, on real pictures."""
    (path,) = footage(plan, "busy", 1, _size(plan)[1])
    lumas = []
    with closing(Video(str(path))) as video:
        while (packet := video.read()) is not None and len(lumas) < 50:
            decoded = video.decode(packet)
            if decoded is not None:
                lumas.append(decoded.luma)
    gate, costs = Gate(), []
    for _ in range(plan.count(60, 20)):
        begun_s = time.process_time()
        for luma in lumas:
            gate.look(luma)
        costs.append((time.process_time() - begun_s) * 1000 / len(lumas))
    costs.sort()
    middle = costs[len(costs) // 2]
    return Found(
        rows=[row("gate, 640 × 360", "skerry", figure=middle, unit="ms", n=len(costs))],
        measured=[
            Measured(
                id="streams.gate.cpu_ms",
                figure=middle,
                n=len(costs),
                interval=(costs[0], costs[int(0.975 * len(costs))]),
            )
        ],
    )


def _size(plan: Plan) -> tuple[int, float]:
    return plan.count(CAMERAS, QUICK_CAMERAS), plan.of(SECONDS, QUICK_SECONDS)


def _rows(what: str, ran: Ran, latencies: Sequence[float]) -> list[Row]:
    looks = sum(sum(models.values()) for models in ran.looks.values())
    answers = _answers(ran)
    return [
        row(
            f"{what}: capture to event",
            "skerry",
            n=len(latencies),
            p50_ms=percentile(latencies, 50),
            p99_ms=percentile(latencies, 99),
            note=f"{looks / ran.seconds:.0f} looks/s, given up: {ran.figures.level}",
        ),
        row(
            f"{what}: capture to answer, worst camera",
            "skerry",
            p99_ms=percentile(answers, 99),
            note=_skipped(ran),
        ),
        row(
            f"{what}: CPUs used",
            "skerry",
            figure=ran.cpu_s / ran.seconds,
            unit="CPUs",
            n=len(ran.looks),
        ),
    ]


def _answers(ran: Ran) -> list[float]:
    found = [camera.latency_ms["p99"] for camera in ran.figures.cameras]
    return [value for value in found if value is not None]


def _skipped(ran: Ran) -> str:
    total: dict[str, int] = {}
    for camera in ran.figures.cameras:
        for why, count in camera.skipped.items():
            total[why] = total.get(why, 0) + count
    return ", ".join(f"{why} {count}" for why, count in total.items())


def _checks(ran: Ran) -> float | None:
    shares: Mapping[str, float | None] = {
        camera.name: camera.missed_share for camera in ran.figures.cameras
    }
    known = [share for share in shares.values() if share is not None]
    return 100 * sum(known) / len(known) if known else None
