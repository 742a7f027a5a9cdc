"""Serving: what it costs, what a swap costs, and what it stands.

    python -m benchmarks.serving [--quick] [--work DIR] [--only STAGE,…] --json OUT.json

Each stage runs in a process of its own, and what it found is kept in the work folder:
with `--only` the others are told as they were found before. A stage that fails, or a
peer that is not installed (`skerry toolchain install litserve`, `… mosec`), is a row
that says so. CPU time is that of the whole tree of processes, without the clients.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._harness import Outcome, command_line, publish
from benchmarks._serving_found import Found
from benchmarks._serving_stage import STAGES, look, nothing, run_stage
from skerry.core.names import did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "serving"
WORK = Path("build/bench")
QUICK_STAGES = ("pss", "null", "kill")
"""What a quick run without `--only` does in under a minute."""


def measure(work: Path, asked: Sequence[str], *, quick: bool) -> Outcome:
    """Run some stages, and tell what is known of all."""
    found: dict[str, Found] = {}
    for name in STAGES:
        folder = work / name
        if name in asked:
            found[name] = run_stage(name, folder, quick=quick)
        else:
            found[name] = look(name, folder) or nothing(name, "not measured yet")
    return Outcome(
        rows=[row for one in found.values() for row in one.rows],
        measured=[figure for one in found.values() for figure in one.measured],
        draw=partial(draw, found),
    )


def draw(found: Mapping[str, Found], figure: Figure) -> None:
    """CPU a request of each server, and latency with and without swaps."""
    left, right = figure.subplots(1, 2)
    _draw_cpu(left, {**found["cpu"].series, **found["null"].series})
    _draw_latency(right, found["swap"].series)


def _draw_cpu(axes: Axes, series: Mapping[str, Sequence[float]]) -> None:
    kind = "cpu " if any(name.startswith("cpu ") for name in series) else "null "
    own = {
        name.removeprefix(kind): values
        for name, values in series.items()
        if name.startswith(kind)
    }
    what = "detector, 8 clients" if kind == "cpu " else "null model, 307 KB"
    axes.set_title(f"CPU a request: {what}", fontsize=10)
    axes.set_ylabel("ms, all processes of the server")
    if not own:
        _say_nothing(axes)
        return
    axes.boxplot(list(own.values()), showfliers=False)
    labels = [name.replace(" ", "\n", 1) for name in own]
    axes.set_xticks(range(1, len(own) + 1), labels, fontsize=7)
    axes.set_ylim(bottom=0)


def _draw_latency(axes: Axes, series: Mapping[str, Sequence[float]]) -> None:
    axes.set_title("Latency at 30 requests a second", fontsize=10)
    axes.set_xlabel("ms")
    axes.set_ylabel("requests that took longer")
    if not any(name.startswith("latency") and series[name] for name in series):
        _say_nothing(axes)
        return
    for name, colour in (("without swaps", "tab:gray"), ("with swaps", "tab:blue")):
        ordered = np.sort(series[f"latency {name}"])
        beyond = 1 - np.arange(len(ordered)) / max(1, len(ordered))
        axes.step(ordered, beyond, color=colour, label=name, where="post")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(fontsize=8)


def _say_nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def find_stages(only: str, *, quick: bool) -> list[str]:
    """The stages that the command line asks for.

    Raises:
        SystemExit: It asks for one that there is not.
    """
    asked = [name for name in only.split(",") if name]
    for name in asked:
        if name not in STAGES:
            sys.exit(f"there is no stage {name!r}. {did_you_mean(name, STAGES)}")
    return asked or list(QUICK_STAGES if quick else STAGES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for, and write all that is known."""
    parser = command_line(NAME)
    parser.add_argument("--work", type=Path, default=WORK, help="what is kept")
    parser.add_argument("--only", default="", metavar="STAGE,…", help="of the stages")
    chosen = parser.parse_args(arguments)
    work = chosen.work / NAME
    asked = find_stages(chosen.only, quick=chosen.quick)
    folder = work / "quick" if chosen.quick else work
    publish(NAME, measure(folder, asked, quick=chosen.quick), chosen.json)


if __name__ == "__main__":
    main()
