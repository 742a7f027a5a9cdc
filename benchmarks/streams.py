"""Many cameras: what fifty of them cost here, how late they are, what leaves.

    python -m benchmarks.streams [--quick] [--work DIR] [--only STAGE,…] --json OUT.json

The cameras are made of the videos of `SKERRY_DATA`, FastestDet looks for people and
YuNet for faces, in this process. Each stage runs in a process of its own, and what it
found is kept in the work folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._found import Found
from benchmarks._stages import Part, Stages

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(found: Mapping[str, Found], figure: Figure) -> None:
    """Latency of ours and of the queues, and the looks of each busy camera."""
    left, right = figure.subplots(1, 2)
    left.set_title("Half of the cameras active", fontsize=10)
    left.set_xlabel("ms from capture")
    left.set_ylabel("share that took longer")
    for name, values in found["fifo"].series.items():
        ordered = np.sort(values)
        beyond = 1 - np.arange(len(ordered)) / max(1, len(ordered))
        left.step(ordered, beyond, label=name, where="post")
    if found["fifo"].series:
        left.set_xscale("log")
        left.set_yscale("log")
        left.legend(fontsize=7)
    right.set_title("All active: looks a second", fontsize=10)
    right.set_xlabel("camera")
    rates = found["busy"].series.get("looks busy", [])
    right.bar(range(len(rates)), rates)


STAGES = Stages(
    name="streams",
    parts={
        "gate": Part(
            place="_streams_load:measure_gate",
            bars=("streams.gate.cpu_ms",),
            limit_s=600,
        ),
        "quiet": Part(
            place="_streams_load:measure_quiet",
            bars=(
                "streams.quiet.p99_ms",
                "streams.quiet.cores",
                "streams.missed_events",
            ),
            limit_s=2400,
        ),
        "busy": Part(
            place="_streams_load:measure_busy",
            bars=(
                "streams.busy.p99_ms",
                "streams.busy.min_rate",
                "streams.busy.fairness",
            ),
            limit_s=1800,
        ),
        "fifo": Part(
            place="_streams_load:measure_fifo",
            bars=("streams.vs_fifo",),
            limit_s=1800,
            is_quick=False,
        ),
        "mosaics": Part(
            place="_streams_mosaics:measure_mosaics",
            bars=("streams.mosaic.loss",),
            limit_s=2400,
            is_quick=False,
        ),
        "privacy": Part(
            place="_streams_privacy:measure_unblurred",
            bars=("streams.unblurred",),
            limit_s=2400,
            is_quick=False,
        ),
        "soak": Part(
            place="_streams_soak:measure_soak",
            bars=("streams.soak.memory", "streams.soak.p99_ratio"),
            limit_s=1800,
            is_quick=False,
        ),
    },
    draw=lambda found: partial(draw, found),
)


if __name__ == "__main__":
    STAGES.main()
