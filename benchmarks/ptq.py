"""Our static INT8 quantization and onnxruntime's, on the demo's two nets.

Every quantizer gets the same calibration samples and runs in a process of its own;
every model is scored on the same samples, which no quantizer has seen, and timed in
turns with all models of its net.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._harness import Measured, Outcome, Row, run_benchmark
from benchmarks._ptq_quantizers import (
    ORT_PERCENTILE,
    PEER,
    QUANTIZERS,
    RUNTIME,
    SKERRY,
)
from benchmarks.nets.case import Case
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import Scores, evaluate
from skerry.tasks.measure import (
    ChildCost,
    Latency,
    Ratio,
    measure_latency,
    ratio,
    run_measured,
)
from skerry.tasks.metrics import PairedDelta, paired_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOAT = "float32"
CASES = ("ocr", "meter")
LEFT_OUT: Mapping[tuple[str, str], str] = {
    ("ocr", ORT_PERCENTILE): "left out: its calibration keeps every activation of "
    "every line in memory",
}
"""What is not run, and why; the table says so."""

GAVE_UP = "nothing held the budget: the source model"

REPEATS = 101
QUICK_REPEATS = 11
ONE_THREAD = LoadOptions(threads=1)
MARKERS = {FLOAT: "s", PEER: "o", "skerry": "D"}
FILLS = ("filled", "hollow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of a net, measured.

    Attributes:
        net: The case's name.
        by: Who made it.
        model: Its file.
        cost: What making it used; None for float32.
        scores: On the report samples.
        change: Of the share right against float32, on the same samples.
        latency: Its time ÷ that of float32, in turns.
    """

    net: str
    by: str
    model: Model
    cost: ChildCost | None
    scores: Scores
    change: PairedDelta
    latency: Ratio

    @property
    def lost(self) -> int:
        """Samples that float32 gets right, less those that this model does."""
        return -round(self.change.delta * self.change.n)


def measure(quick: bool) -> Outcome:  # noqa: FBT001 — as the harness calls it
    """Write both cases, quantize them in every way, and measure what came out."""
    with tempfile.TemporaryDirectory(prefix="skerry-") as scratch:
        made = {net: _prepare(net, Path(scratch) / net, quick=quick) for net in CASES}
        repeats = QUICK_REPEATS if quick else REPEATS
        nets = {
            net: measure_net(net, Path(scratch) / net, costs, repeats)
            for net, costs in made.items()
        }
    return Outcome(
        rows=[row for net, entries in nets.items() for row in rows(net, entries)],
        measured=figures(nets["ocr"], nets["meter"]),
        draw=partial(draw, [entry for entries in nets.values() for entry in entries]),
    )


def _prepare(net: str, folder: Path, *, quick: bool) -> dict[str, ChildCost]:
    _run("benchmarks.nets", net, str(folder), *(["--quick"] if quick else []))
    names = [name for name in QUANTIZERS if (net, name) not in LEFT_OUT]
    return make_models(folder, names)


def make_models(folder: Path, names: Sequence[str]) -> dict[str, ChildCost]:
    """Quantize a case, each time in a process of its own.

    Args:
        folder: The case's files; each model is put beside them.
        names: Of the quantizers.

    Returns:
        What each quantizer used, by its name.
    """
    return {
        name: _run(
            "benchmarks._ptq_quantizers", name, str(folder), str(_path(folder, name))
        )
        for name in names
    }


def _run(module: str, *arguments: str) -> ChildCost:
    return run_measured(
        [sys.executable, "-m", module, *arguments], environment=os.environ
    )


def _path(folder: Path, name: str) -> Path:
    return folder / f"{list(QUANTIZERS).index(name)}.onnx"


def measure_net(
    net: str, folder: Path, costs: Mapping[str, ChildCost], repeats: int
) -> list[Entry]:
    """Score and time every model of a net, float32 first.

    Args:
        net: The case's name.
        folder: Its files and models.
        costs: What making each model used, by the quantizer's name.
        repeats: Rounds of timing.
    """
    case = Case.read(folder)
    models = {FLOAT: case.model}
    models |= {name: open_model(_path(folder, name)) for name in costs}
    scores = {name: _score(model, case) for name, model in models.items()}
    latencies = _time(models, case, repeats)
    before = scores[FLOAT]
    return [
        Entry(
            net=net,
            by=name,
            model=model,
            cost=costs.get(name),
            scores=scores[name],
            change=paired_interval(before.per_sample, scores[name].per_sample),
            latency=ratio(latencies[name], latencies[FLOAT]),
        )
        for name, model in models.items()
    ]


def _score(model: Model, case: Case) -> Scores:
    session = get_runtime(RUNTIME).load(model, ONE_THREAD)
    try:
        return evaluate(session, case.report, case.task)
    finally:
        session.close()


def _time(models: Mapping[str, Model], case: Case, repeats: int) -> dict[str, Latency]:
    inputs = next(iter(case.report)).inputs
    runtime = get_runtime(RUNTIME)
    sessions = {name: runtime.load(model, ONE_THREAD) for name, model in models.items()}
    try:
        calls: dict[str, Callable[[], object]] = {
            name: partial(session.run, inputs) for name, session in sessions.items()
        }
        return measure_latency(calls, repeats=repeats)
    finally:
        for session in sessions.values():
            session.close()


def rows(net: str, entries: Sequence[Entry]) -> list[Row]:
    """Write a net's part of the table, what was left out last."""
    found = [_row(entry, entries[0]) for entry in entries]
    found += [
        {"net": of, "by": name, "note": why}
        for (of, name), why in LEFT_OUT.items()
        if of == net
    ]
    return found


def _row(entry: Entry, source: Entry) -> Row:
    change, latency, cost = entry.change, entry.latency, entry.cost
    row: Row = {
        "net": entry.net,
        "by": entry.by,
        "right, %": 100 * entry.scores.value,
        "n": change.n,
        "KB": entry.model.size_bytes / 1000,
    }
    if cost is None:
        return row
    gave_up = entry.model.sha256 == source.model.sha256
    low, high = _points_lost(change.high), _points_lost(change.low)
    return row | {
        "points lost": _points_lost(change.delta),
        "lost, 95 %": f"{low:.2f} … {high:.2f}",
        "time ÷ float32": latency.median,
        "time, 95 %": f"{latency.low:.2f} … {latency.high:.2f}",
        "CPU s": cost.cpu_s,
        "peak MB": cost.peak_rss_bytes / 1e6,
        "note": GAVE_UP if gave_up else None,
    }


def _points_lost(change: float) -> float:
    return 0.0 - 100 * change


def figures(ocr: Sequence[Entry], meter: Sequence[Entry]) -> list[Measured]:
    """Compute the figure of each bar."""
    text, digits = _ours(ocr), _ours(meter)
    best = min(
        (entry for entry in ocr if entry.by.startswith(PEER)),
        key=lambda entry: entry.lost,
    )
    against = paired_interval(best.scores.per_sample, text.scores.per_sample)
    n = against.n
    return [
        Measured(
            id="ocr_lines_lost_over_best_peer",
            figure=float(text.lost - best.lost),
            n=n,
            interval=(-against.high * n, -against.low * n),
            peer=f"{PEER} {version(PEER)}{best.by.removeprefix(PEER)}",
        ),
        _lost("ocr_lost", text),
        _times_smaller("ocr_times_smaller", ocr),
        _lost("meter_lost", digits),
        _times_smaller("meter_times_smaller", meter),
    ]


def _ours(entries: Sequence[Entry]) -> Entry:
    return next(entry for entry in entries if entry.by == SKERRY)


def _lost(name: str, entry: Entry) -> Measured:
    change = entry.change
    return Measured(
        id=name,
        figure=_points_lost(change.delta),
        n=change.n,
        interval=(_points_lost(change.high), _points_lost(change.low)),
    )


def _times_smaller(name: str, entries: Sequence[Entry]) -> Measured:
    before, after = entries[0].model.size_bytes, _ours(entries).model.size_bytes
    return Measured(id=name, figure=before / after, n=1)


def draw(entries: Sequence[Entry], axes: Axes) -> None:
    """Draw what each model changes of float32's right answers against its time."""
    nets = list(dict.fromkeys(entry.net for entry in entries))
    names = list(dict.fromkeys(entry.by for entry in entries))
    for entry in entries:
        color = f"C{names.index(entry.by)}"
        is_first = entry.net == nets[0]
        axes.scatter(
            entry.latency.median,
            100 * entry.change.delta,
            s=70,
            marker=next(MARKERS[who] for who in MARKERS if entry.by.startswith(who)),
            edgecolors=color,
            facecolors=color if is_first else "none",
            label=entry.by if is_first else None,
        )
    # Losses range from a tenth of a point to most of what float32 gets right.
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.axhline(0, color="0.8", linewidth=1, zorder=0)
    axes.set_xlabel("time ÷ float32 (onnxruntime, 1 thread)")
    axes.set_ylabel("change of the share right, points")
    axes.set_title(
        "  ".join(f"{fill}: {net}" for fill, net in zip(FILLS, nets, strict=False))
    )
    axes.legend(fontsize="small")


if __name__ == "__main__":
    run_benchmark("ptq", measure)
