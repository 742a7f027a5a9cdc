"""Optimize: how much faster a model runs here, without training it.

    python -m benchmarks.optimize --json optimize.json [--quick] [--work FOLDER]

Three nets begin on onnxruntime in float32 with its own default, all cores. The loop of
`skerry optimize` chooses on the selection samples; latency is timed in turns, and the
answers are compared on report samples that nothing was chosen by. The ablation times
each remedy that helped alone. The nets are cases of `python -m benchmarks.nets`, read
from the folder of `--work` and made where they are missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._harness import Measured, Outcome, Row, command_line, publish
from benchmarks.nets.case import Case, read_marker
from skerry.adapt.optimize import Deployment, Optimized
from skerry.adapt.optimize.validate import Verdict
from skerry.app.pipelines.optimize import Wanted, optimize_here
from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime
from skerry.tasks.measure import Ratio
from skerry.tasks.samples import SampleSource, take

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "optimize"
WORK = Path("build/bench")
NETS = {"ocr": "PP-OCRv4 rec", "resnet8": "ResNet-8", "ds": "depthwise net"}
QUICK_NETS = ("ocr",)
ALLOWED_LOSS = 0.01
ROUNDS, QUICK_ROUNDS = 61, 7
QUICK_SAMPLES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found for one net.

    Attributes:
        net: Its name in the tables.
        done: What the loop did.
        verdict: The chosen deployment's answers on the report samples.
    """

    net: str
    done: Optimized
    verdict: Verdict


def measure(work: Path, *, quick: bool) -> Outcome:
    """Optimize each net."""
    found, rows = [], []
    for name in QUICK_NETS if quick else NETS:
        case = _case(work / "cases" / f"{name}-seed0", name)
        if isinstance(case, str):
            rows.append({"net": NETS[name], "what": "missing", "note": case})
            continue
        found.append(_optimize(NETS[name], case, quick=quick))
        rows += _rows(found[-1])
    return Outcome(rows=rows, measured=_bars(found), draw=partial(draw, found))


def _case(folder: Path, name: str) -> Case | str:
    """A net's case, or why there is none."""
    if read_marker(folder) is None:
        print(f"{name}: the net and its samples", file=sys.stderr)
        command = [sys.executable, "-m", "benchmarks.nets", name, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return " ".join(done.stderr.strip().splitlines()[-2:])
    return Case.read(folder)


def _optimize(net: str, case: Case, *, quick: bool) -> Found:
    def few(source: SampleSource) -> SampleSource:
        return take(source, QUICK_SAMPLES) if quick else source

    threads = len(os.sched_getaffinity(0))
    start = Deployment(
        model=case.model,
        runtime=get_runtime("onnxruntime"),
        options=LoadOptions(threads=threads),
    )
    print(f"{net}: optimizing", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        wanted = Wanted(
            start=start,
            selection=few(case.selection),
            reported=few(case.report),
            task=case.task,
            limit=ALLOWED_LOSS,
            folder=Path(folder),
        )
        rounds = QUICK_ROUNDS if quick else ROUNDS
        found = optimize_here(wanted, most_threads=threads, rounds=rounds)
        return Found(net=net, done=found.done, verdict=found.verdict)


def _rows(found: Found) -> list[Row]:
    done = found.done
    rows = [_row(found, "chosen", done.chosen.title, done.gain, found.verdict.said)]
    for one in done.alone:
        said = "answers hold" if one.holds else "answers do not hold"
        rows.append(_row(found, "alone", one.remedy, one.measured, said))
    for trial in done.trials:
        said = f"on {trial.on}: {trial.said}"
        rows.append(_row(found, "tried", trial.remedy, trial.measured, said))
    return rows


def _row(found: Found, what: str, who: str, ratio: Ratio | None, note: str) -> Row:
    return {
        "net": found.net,
        "what": what,
        "who": who,
        "latency ÷": None if ratio is None else ratio.median,
        "low": None if ratio is None else ratio.low,
        "high": None if ratio is None else ratio.high,
        "note": note,
    }


def _bars(found: Sequence[Found]) -> list[Measured]:
    bars = []
    for one in found:
        if one.net != NETS["ocr"]:
            continue
        delta, gain = one.verdict.delta, one.done.gain
        is_noise = delta is not None and delta.is_inside_noise
        bars.append(
            Measured(
                id="optimize.ocr",
                figure=gain.median,
                n=len(one.done.alone),
                interval=(gain.low, gain.high),
                peer=one.done.start.title,
                unmet="" if is_noise else one.verdict.said,
            )
        )
    singles = [
        (one.done.against_best_single, one.net)
        for one in found
        if one.done.against_best_single is not None
    ]
    worst, net = max(singles, key=lambda pair: pair[0].median, default=(None, ""))
    # The bar is of all nets: the worst of some says nothing of it.
    is_whole = worst is not None and len(found) == len(NETS)
    bars.append(
        Measured(
            id="optimize.best_single",
            figure=worst.median if worst is not None and is_whole else None,
            n=len(singles),
            interval=(worst.low, worst.high) if worst is not None else None,
            peer=f"best single remedy, {net}" if net else None,
        )
    )
    return bars


def draw(found: Sequence[Found], figure: Figure) -> None:
    """What each remedy is worth alone, and all together."""
    axes: Axes = figure.subplots()
    labels: list[str] = []
    for one in found:
        shown = [(alone.remedy, alone.measured) for alone in one.done.alone]
        for name, ratio in [*shown, ("chosen", one.done.gain)]:
            colour = "tab:blue" if name == "chosen" else "tab:gray"
            place = len(labels)
            axes.barh(place, ratio.median, color=colour)
            axes.plot([ratio.low, ratio.high], [place, place], color="black")
            labels.append(f"{one.net}: {name}")
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("latency ÷ onnxruntime in float32, all cores")
    figure.tight_layout()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    parser = command_line(NAME)
    parser.add_argument("--work", type=Path, default=WORK, help="where cases are kept")
    chosen = parser.parse_args(arguments)
    publish(NAME, measure(chosen.work, quick=chosen.quick), chosen.json)


if __name__ == "__main__":
    main()
