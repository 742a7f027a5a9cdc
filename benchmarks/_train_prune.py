"""Pruning: channels of the depthwise net, layers of ResNet-8, pixels of YOLOX-nano."""

from __future__ import annotations

from pathlib import Path

from benchmarks import _train_prune_channels as channels
from benchmarks import _train_prune_layers as layers
from benchmarks import _train_prune_pixels as pixels
from benchmarks._harness import Measured, Row


def measure(work: Path, *, quick: bool) -> tuple[list[Row], list[Measured]]:
    """Measure all three; each says itself what it lacks.

    Args:
        work: Where trained nets and written models are kept.
        quick: One seed, fewer pictures and epochs.
    """
    rows: list[Row] = []
    figures: list[Measured] = []
    for part in (channels, layers, pixels):
        more, figure = part.measure(work, quick=quick)
        rows += more
        figures.append(figure)
    return rows, figures
