"""CPU time a request: ours, the runtime alone and the peers, in interleaved blocks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks._found import Found, Plan, median_of, percentile, row, tell
from benchmarks._harness import Measured, Row
from benchmarks._serving_cost import usage
from benchmarks._serving_load import Connection, ask_for, get
from benchmarks._serving_models import (
    Served,
    checking,
    detector,
    infer_request,
    null_model,
    other_detectors,
    write_release,
)
from benchmarks._serving_peers import PEERS, Running, running_peer, title_of
from benchmarks._serving_program import Settings
from benchmarks._serving_service import ROOT, Service
from skerry.core.errors import SkerryError
from skerry.edge.protocol.client import LocalClient

CLIENTS = 8
OURS, RAW = "skerry", "raw onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one block of requests took.

    Attributes:
        n: How many were answered.
        cpu_ms: CPU time a request.
        took_ms: How long each took; empty where nobody waits for an answer.
        faults: What went wrong.
    """

    n: int
    cpu_ms: float
    took_ms: Sequence[float] = field(default=(), repr=False)
    faults: Sequence[str] = ()


Contender = Callable[[float], Block]
"""Answers requests for some seconds."""


def measure_overhead(plan: Plan) -> Found:
    """CPU time a request of each server ÷ that of the runtime alone.

    The bar's figure is that of the first detector; others have rows beside it.
    """
    first = _overhead(detector(), plan, plan.count(14, 2))
    others = [] if plan.quick else other_detectors()
    more = [_overhead(served, plan, 8).rows for served in others]
    return Found(
        rows=[*first.rows, *chain.from_iterable(more)],
        measured=first.measured,
        series=first.series,
    )


def _overhead(served: Served, plan: Plan, rounds: int) -> Found:
    block_s = plan.of(2.5, 0.7)
    with ExitStack() as running:
        contenders, missing = _contenders(running, served, plan.work)
        contenders[RAW] = running.enter_context(_raw(served, plan.work))
        blocks = interleave(contenders, rounds=rounds, block_s=block_s)
    rows: list[Row] = [
        row(f"CPU a request ÷ raw, {served.title}", name, note=why)
        for name, why in missing.items()
    ]
    series: dict[str, list[float]] = {}
    ratios: dict[str, tuple[float, tuple[float, float]]] = {}
    raw_ms = [block.cpu_ms for block in blocks[RAW]]
    for name, own in blocks.items():
        cpu_ms = [block.cpu_ms for block in own]
        series[f"cpu {name}"] = cpu_ms
        rows.append(_cpu_row(f"CPU a request, {served.title}", name, own))
        if name != RAW:
            ratios[name] = median_of(np.divide(cpu_ms, raw_ms).tolist())
            figure, (low, high) = ratios[name]
            rows.append(
                row(
                    f"CPU a request ÷ raw, {CLIENTS} clients, {served.title}",
                    name,
                    figure=figure,
                    unit="×",
                    n=rounds,
                    low=low,
                    high=high,
                )
            )
    faults = [fault for block in blocks[OURS] for fault in block.faults]
    figure, interval = ratios[OURS]
    measured = Measured(
        id="serving.cpu_overhead",
        figure=figure,
        n=rounds,
        interval=interval,
        peer=_told(ratios, missing),
        unmet=f"{len(faults)} failed: {faults[0]}" if faults else "",
    )
    return Found(rows=rows, measured=[measured], series=series)


def measure_null(plan: Plan) -> Found:
    """CPU time a request where the model takes none, over HTTP and shared memory."""
    served = null_model()
    rounds, block_s = plan.count(12, 2), plan.of(1.5, 0.4)
    with ExitStack() as running:
        contenders, missing = _contenders(running, served, plan.work, with_local=True)
        blocks = interleave(contenders, rounds=rounds, block_s=block_s)
    what = f"CPU a request, {served.title}"
    rows: list[Row] = [row(what, name, note=why) for name, why in missing.items()]
    rows += [_cpu_row(what, name, own) for name, own in blocks.items()]
    series = {
        f"null {name}": [block.cpu_ms for block in own] for name, own in blocks.items()
    }
    medians = {name: median_of(series[f"null {name}"]) for name in blocks}
    measured = []
    for bar, name in (("null_cpu_ms", OURS), ("shm_cpu_ms", f"{OURS}, shared memory")):
        figure, interval = medians[name]
        faults = [fault for block in blocks[name] for fault in block.faults]
        measured.append(
            Measured(
                id=f"serving.{bar}",
                figure=figure,
                n=rounds,
                interval=interval,
                peer=_told(medians, missing),
                unmet=f"{len(faults)} failed: {faults[0]}" if faults else "",
            )
        )
    return Found(rows=rows, measured=measured, series=series)


def interleave(
    contenders: Mapping[str, Contender], *, rounds: int, block_s: float
) -> dict[str, list[Block]]:
    """Let all run in turns, each second round in the reversed order.

    The first block of each is a warm-up and does not count.
    """
    names = list(contenders)
    blocks: dict[str, list[Block]] = {name: [] for name in names}
    for name in names:
        contenders[name](block_s / 2)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            blocks[name].append(contenders[name](block_s))
        told = (f"{name} {own[-1].cpu_ms:.3f}" for name, own in blocks.items())
        tell(f"round {number + 1} of {rounds}: CPU-ms {', '.join(told)}")
    return blocks


def _contenders(
    running: ExitStack, served: Served, work: Path, *, with_local: bool = False
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Start ours and the peers; also say of those that are missing why."""
    release = write_release(work, served)
    socket = str(work / "s") if with_local else ""
    settings = Settings(releases=(str(release),), local=socket)
    service = running.enter_context(Service(settings))
    ours = Running(
        pid=service.pid,
        address=service.address,
        requests=tuple(infer_request("det", sample) for sample in served.samples),
        check=checking(served),
    )
    contenders: dict[str, Contender] = {OURS: _asking(ours, with_metrics=True)}
    if with_local:
        contenders[f"{OURS}, 1 client"] = _asking(ours, clients=1)
        client = running.enter_context(LocalClient(Path(socket)))
        contenders[f"{OURS}, shared memory"] = _asking_locally(ours, client, served)
    missing = {}
    for peer in PEERS:
        try:
            found = running.enter_context(running_peer(peer, served, work))
        except SkerryError as error:
            missing[title_of(peer)] = f"{error} {error.hint}"[:300]
        else:
            contenders[title_of(peer)] = _asking(found)
    return contenders, missing


def _asking(
    peer: Running, *, clients: int = CLIENTS, with_metrics: bool = False
) -> Contender:
    def run(seconds: float) -> Block:
        before = usage(peer.pid)
        tally = ask_for(
            peer.address, peer.requests, peer.check, clients=clients, seconds=seconds
        )
        faults = list(tally.faults)
        if with_metrics:  # as Prometheus does, more often than it does
            with Connection(peer.address) as connection:
                if connection.ask(get("/metrics")).status != 200:
                    faults.append("no metrics")
        after = usage(peer.pid)
        if not after.is_same_tree(before):
            faults.append("a process came or went")
        return Block(
            n=tally.n,
            cpu_ms=after.since(before) / max(1, tally.n) * 1000,
            took_ms=tally.took_ms,
            faults=faults,
        )

    return run


def _asking_locally(ours: Running, client: LocalClient, served: Served) -> Contender:
    def run(seconds: float) -> Block:
        faults: list[str] = []
        took_ms: list[float] = []
        before = usage(ours.pid)
        until_s = time.perf_counter() + seconds
        while (began_s := time.perf_counter()) < until_s:
            index = len(took_ms) % len(served.samples)
            answer = client.infer("det", served.samples[index], timeout_s=20)
            took_ms.append((time.perf_counter() - began_s) * 1000)
            if fault := served.check(index, answer.outputs):
                faults.append(fault)
        used_s = usage(ours.pid).since(before)
        n = len(took_ms)
        return Block(n=n, cpu_ms=used_s / n * 1000, took_ms=took_ms, faults=faults)

    return run


@contextmanager
def _raw(served: Served, work: Path) -> Iterator[Contender]:
    samples = work / "samples.npz"
    arrays = [next(iter(sample.values())) for sample in served.samples]
    np.savez(samples, *arrays)
    command = [sys.executable, "-m", "benchmarks._serving_raw", str(served.onnx)]
    with subprocess.Popen(
        [*command, str(samples)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    ) as child:
        to, back = child.stdin, child.stdout
        if to is None or back is None:
            raise RuntimeError("the raw process has no pipes")

        def run(seconds: float) -> Block:
            to.write(f"{seconds}\n")
            to.flush()
            count, used_s = back.readline().split()
            n = int(count)
            return Block(n=n, cpu_ms=float(used_s) / n * 1000)

        try:
            yield run
        finally:
            to.close()


def _cpu_row(what: str, who: str, blocks: Sequence[Block]) -> Row:
    figure, (low, high) = median_of([block.cpu_ms for block in blocks])
    took_ms = [took for block in blocks for took in block.took_ms]
    faults = [fault for block in blocks for fault in block.faults]
    return row(
        what,
        who,
        figure=figure,
        unit="ms",
        n=sum(block.n for block in blocks),
        low=low,
        high=high,
        p50_ms=percentile(took_ms, 50),
        p99_ms=percentile(took_ms, 99),
        note=f"{len(faults)} failed: {faults[0]}" if faults else None,
    )


def _told(
    figures: Mapping[str, tuple[float, tuple[float, float]]],
    missing: Mapping[str, str],
) -> str:
    """Name all peers, with their figures."""
    found = [
        f"{name} {figures[name][0]:.3g}"
        for name in figures
        if not name.startswith(OURS)
    ]
    return ", ".join([*found, *missing])
