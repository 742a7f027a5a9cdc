"""Small nets and their training data for tests: they train in less than a second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skerry.compress.train.training import Batch, Training
from skerry.runtimes.torch import Tensor, functional, nn, torch
from skerry.tasks.sample import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind

SIDE = 8
CLASSES = 2
BATCH = 32
TASK = Task(
    kind=TaskKind.CLASSIFICATION, metric="top1", labels=("tall", "wide"), post=(TopK(),)
)


class ToyNet(nn.Module):
    """A stem, a depthwise-separable block, a block around which a path leads, a head.

    Input float32 [n, 1, 8, 8]; output logits float32 [n, 2].
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.depth = nn.Conv2d(width, width, 3, 2, 1, groups=width, bias=False)
        self.depth_norm = nn.BatchNorm2d(width)
        self.point = nn.Conv2d(width, width, 1, bias=False)
        self.point_norm = nn.BatchNorm2d(width)
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits of pictures."""
        x = functional.relu(self.stem_norm(self.stem(picture)))
        x = functional.relu(self.depth_norm(self.depth(x)))
        x = functional.relu(self.point_norm(self.point(x)))
        x = x + self.block(x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def pictures(n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Noisy pictures [n, 1, 8, 8] of a tall or a wide bar, and which of the two."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=n)
    found = rng.normal(scale=0.3, size=(n, 1, SIDE, SIDE)).astype(np.float32)
    for picture, label, place in zip(
        found, labels, rng.integers(1, SIDE - 1, size=n), strict=True
    ):
        if label:
            picture[0, place] += 1
        else:
            picture[0, :, place] += 1
    return found, labels


def samples(n: int, seed: int) -> MemorySource:
    """The same as labelled samples of an input called `picture`."""
    return MemorySource(
        samples=tuple(
            Sample(inputs={"picture": picture[None]}, label=int(label), name=f"s{i}")
            for i, (picture, label) in enumerate(zip(*pictures(n, seed), strict=True))
        )
    )


def toy_training(
    module: nn.Module | None = None, *, n: int = 512, **changes: Any
) -> Training:
    """A net that is yet to be trained, and what trains it to about 95 % in 3 epochs."""
    if module is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = ToyNet()
    inputs, labels = map(torch.from_numpy, pictures(n, seed=1))

    def batches(epoch: int) -> Iterable[Batch]:
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(n))
        return [((inputs[some],), labels[some]) for some in order.split(BATCH)]

    training = Training(
        module=module,
        example=(inputs[:4],),
        inputs=("picture",),
        outputs=("logits",),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=samples(16, seed=2),
        selection=samples(64, seed=3),
        report=samples(64, seed=4),
        task=TASK,
        learning_rate=1e-2,
    )
    return replace(training, **changes)
