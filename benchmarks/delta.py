"""Deltas: what a new version costs on the line, ours and generic tools'.

    python -m benchmarks.delta [--quick] [--work DIR] [--only STAGE,…] --json OUT.json

MobileNetV2 on Fashion-MNIST, trained on in several ways and quantized by `Quantize()`;
what is trained is kept in the work folder. Peers: `pip install bsdiff4 hdiffpatch
detools`, `apt-get install xdelta3`; one that is not there is a row that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks._found import Found
from benchmarks._stages import Part, Stages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = {
    "head.vs_bsdiff": "head only",
    "head_norms.vs_bsdiff": "head, norms moved",
    "finetune.vs_bsdiff": "all trained on",
    "finetune.like": "all trained on, --like",
    "drift.vs_bsdiff": "new domain",
    "drift.like": "new domain, --like",
    "scratch.vs_bsdiff": "trained anew",
}


def draw(found: Mapping[str, Found], figure: Figure) -> None:
    """Our delta ÷ bsdiff4's, by how the version was made."""
    axes = figure.subplots()
    series = found["pairs"].series
    known = {name: median(series[name]) for name in SHOWN if series.get(name)}
    axes.barh([SHOWN[name] for name in known], list(known.values()), color="tab:blue")
    axes.axvline(1.0, color="tab:gray", linestyle="--")
    axes.invert_yaxis()
    axes.set_xlabel("our delta ÷ that of bsdiff4")
    axes.set_title("INT8 MobileNetV2, 2.7 MB", fontsize=10)


STAGES = Stages(
    name="delta",
    parts={
        "pairs": Part(
            place="_delta_pairs:measure_pairs",
            bars=(
                "delta.finetune.vs_bsdiff",
                "delta.finetune.like",
                "delta.drift.vs_bsdiff",
                "delta.drift.like",
                "delta.head.vs_best",
            ),
            limit_s=14_400,
        ),
        "retrained": Part(
            place="_delta_pairs:measure_retrained",
            bars=("delta.retrained.vs_full",),
            limit_s=7200,
        ),
        "cost": Part(
            place="_delta_pairs:measure_cost",
            bars=(
                "delta.build_s",
                "delta.apply_cpu_s",
                "delta.apply_mb",
                "delta.apply_large_mb",
            ),
            limit_s=3600,
        ),
    },
    draw=lambda found: partial(draw, found),
)

if __name__ == "__main__":
    STAGES.main()
