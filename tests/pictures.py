"""A folder of small labelled pictures, and the task of a net that tells them apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skerry.tasks._image import encode_png
from skerry.tasks.steps import Layout, Normalize, Resize, TopK
from skerry.tasks.task import Task, TaskKind

LABELS = ("a", "b", "c", "d")
TASK = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=LABELS,
    pre=(
        Resize(height=32, width=32),
        Normalize(scale=1 / 255),
        Layout(order="CHW", channels="RGB"),
    ),
    post=(TopK(k=1),),
)
"""For `tests.models.conv_net(size=32)`."""


def make_folder(folder: Path, *, count: int) -> None:
    """Write so many pictures of 40 × 40, one sub-folder a class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        where = folder / LABELS[number % len(LABELS)]
        where.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
        (where / f"{number:03}.png").write_bytes(encode_png(picture))
