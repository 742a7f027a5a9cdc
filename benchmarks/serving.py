"""Serving: what it costs, what a swap costs, and what it stands.

    python -m benchmarks.serving [--quick] [--work DIR] [--only STAGE,…] --json OUT.json

Each stage runs in a process of its own, and what it found is kept in the work folder:
with `--only` the others are told as they were found before. A stage that fails, or a
peer that is not installed (`skerry toolchain install litserve`, `… mosec`), is a row
that says so. CPU time is that of the whole tree of processes, without the clients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._found import Found
from benchmarks._stages import Part, Stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


STAGES = Stages(
    name="serving",
    parts={
        "cpu": Part(
            place="_serving_cpu:measure_overhead",
            bars=("serving.cpu_overhead",),
            limit_s=600,
            is_quick=False,
        ),
        "null": Part(
            place="_serving_cpu:measure_null",
            bars=("serving.null_cpu_ms", "serving.shm_cpu_ms"),
            limit_s=480,
        ),
        "swap": Part(
            place="_serving_swap:measure_swaps",
            bars=("serving.swap.failed", "serving.swap.gap_ratio"),
            limit_s=480,
            is_quick=False,
        ),
        "bad": Part(
            place="_serving_faults:measure_bad_models",
            bars=("serving.bad_model.failed",),
            limit_s=240,
            is_quick=False,
        ),
        "budget": Part(
            place="_serving_budget:measure_budget",
            bars=("serving.budget.missed", "serving.budget.false"),
            limit_s=480,
            is_quick=False,
        ),
        "hang": Part(
            place="_serving_faults:measure_hangs",
            bars=("serving.hang.late",),
            limit_s=240,
            is_quick=False,
        ),
        "kill": Part(
            place="_serving_faults:measure_kills",
            bars=("serving.kill.lost",),
            limit_s=300,
        ),
        "pss": Part(
            place="_serving_memory:measure_pss",
            bars=("serving.pss_mb", "serving.pss_isolated_mb"),
            limit_s=120,
        ),
        "leak": Part(
            place="_serving_memory:measure_leak",
            bars=("serving.leak",),
            limit_s=480,
            is_quick=False,
        ),
        "nms": Part(
            place="_serving_nms:measure_nms",
            bars=("serving.nms_in_graph",),
            limit_s=240,
            is_quick=False,
        ),
    },
    draw=lambda found: partial(draw, found),
)


if __name__ == "__main__":
    STAGES.main()
