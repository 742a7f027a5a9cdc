"""Updates on bad days: whether anything is bricked, and what it costs.

    python -m benchmarks.update_faults [--quick] [--only STAGE,…] --json OUT.json

Each stage runs in a process of its own, and what it found is kept in the work folder:
with `--only` the others are told as they were found before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from benchmarks._found import Found
from benchmarks._stages import Part, Stages

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(found: Mapping[str, Found], figure: Figure) -> None:
    """Cases by step and fault, and the hub's speed by the size of the fleet."""
    left, right = figure.subplots(1, 2)
    explored = found["explored"]
    named = [str(row["what"]) for row in explored.rows]
    steps = [one.removeprefix("faults at ") for one in named if "faults at " in one]
    below = [0.0] * len(steps)
    for fault, values in explored.series.items():
        left.barh(steps, values, left=below, label=fault)
        below = [sum(pair) for pair in zip(below, values, strict=True)]
    left.set_title("Faults that were tried, by step", fontsize=10)
    left.tick_params(labelsize=7)
    if steps:
        left.legend(fontsize=6)
    speed = found["speed"].series
    if speed:
        right.plot(speed["devices"], speed["per min"], marker="o")
    right.axhline(1000, color="tab:gray", linestyle="--", label="the bar")
    right.set_title("One hub, one rollout", fontsize=10)
    right.set_xlabel("devices")
    right.set_ylabel("devices a minute")
    right.set_ylim(bottom=0)
    right.legend(fontsize=8)


STAGES = Stages(
    name="update_faults",
    parts={
        "explored": Part(
            place="_faults_explored:measure_broken",
            bars=("update.simulated.broken",),
            limit_s=1800,
        ),
        "fleet": Part(
            place="_faults_fleet:measure_fleet",
            bars=("update.simulated.bricked", "update.bytes_ratio"),
            limit_s=1800,
        ),
        "processes": Part(
            place="_faults_processes:measure_processes",
            bars=("update.real.bricked",),
            limit_s=1800,
        ),
        "mutants": Part(
            place="_faults_mutants:measure_mutants",
            bars=("update.mutants_survived",),
            limit_s=3600,
            is_quick=False,
        ),
        "attacks": Part(
            place="_faults_attacks:measure_attacks",
            bars=("update.attacks_accepted",),
            limit_s=600,
            is_quick=False,
        ),
        "speed": Part(
            place="_faults_speed:measure_speed",
            bars=("update.devices_per_min",),
            limit_s=1800,
        ),
    },
    draw=lambda found: partial(draw, found),
)


if __name__ == "__main__":
    STAGES.main()
