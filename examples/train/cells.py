"""A detector of blood cells: trained on made-up ones, fine-tuned on real ones.

    pip install 'skerry[train,compress]'
    python examples/train/cells.py [--epochs N] [--first N]

The 364 pictures of BCCD (github.com/Shenggan/BCCD_Dataset, MIT) where `SKERRY_DATA`
has them; without, the made-up ones are all there is. One grid of cells as in Z. Ge et
al., "YOLOX: Exceeding YOLO Series in 2021". What a search needs of it is `setup`.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from skerry.compress.train.distil.step import Distil
from skerry.compress.train.fit import fit
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.compress.train.weights import fit_once
from skerry.core.budget import Budget
from skerry.tasks.boxes import TrueBoxes, areas_of
from skerry.tasks.evaluate import evaluate
from skerry.tasks.heads import Nms, Yolox
from skerry.tasks.sample import MemorySource, Sample
from skerry.tasks.steps import Layout, Normalize, Resize
from skerry.tasks.task import Task, TaskKind

WEIGHTS = Path("build/train/cells.pt")
"""Where the trained weights are kept, so that they are trained once."""

HEIGHT, WIDTH, STRIDE = 96, 128, 8
KINDS = ("RBC", "WBC", "Platelets")
CHANNELS, FEW_CHANNELS = 24, 8
EPOCHS = 40
BATCH = 16
MADE_UP = (240, 80, 80)
"""Pictures that are drawn to learn from, to select by and to report by."""

# Of a made-up cell: its radius in pixels from … to, red, green and blue.
LOOKS = (
    (7, 10, (0.80, 0.55, 0.60)),
    (13, 18, (0.45, 0.25, 0.65)),
    (2, 4, (0.5, 0.3, 0.6)),
)

TASK = Task(
    kind=TaskKind.DETECTION,
    metric="map50",
    labels=KINDS,
    pre=(Resize(height=HEIGHT, width=WIDTH), Normalize(scale=1 / 255), Layout()),
    post=(Yolox(height=HEIGHT, width=WIDTH, strides=(STRIDE,)), Nms(min_score=0.05)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture, uint8 [H, W, 3], and its objects in its own pixels."""

    pixels: NDArray[np.uint8]
    corners: NDArray[np.float64]
    labels: NDArray[np.int64]
    name: str

    def sample(self) -> Sample:
        """The same in the net's input."""
        truth = TrueBoxes(
            corners=self.corners,
            labels=self.labels,
            is_crowd=np.zeros(len(self.labels), bool),
            areas=areas_of(self.corners),
        )
        return Sample(
            inputs={"picture": TASK.prepare(self.pixels)},
            label=truth.moved(TASK.place(*self.pixels.shape[:2])),
            name=self.name,
        )


class Net(nn.Module):
    """Six convolutions down to one grid of 12 × 16 cells, and a head."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        sizes = [3, *(channels * part for part in (1, 2, 2, 4, 4, 4))]
        layers: list[nn.Module] = []
        for index, (inner, outer) in enumerate(pairwise(sizes)):
            stride = 2 if index in {0, 1, 3} else 1
            layers += [
                nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Conv2d(sizes[-1], 5 + len(KINDS), 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Return boxes, objectness and classes `[n, 192, 8]` as YOLOX exports them."""
        rows = self.head(self.features(picture)).flatten(2).transpose(1, 2)
        return torch.cat([rows[..., :4], torch.sigmoid(rows[..., 4:])], dim=2)


def loss(rows: Tensor, truth: Tensor) -> Tensor:
    """Objectness everywhere; boxes and classes where there is an object."""
    there = truth[..., 4]
    sure = functional.binary_cross_entropy(rows[..., 4], there, reduction="sum")
    boxes = functional.smooth_l1_loss(rows[..., :4], truth[..., :4], reduction="none")
    classes = functional.binary_cross_entropy(
        rows[..., 5:], truth[..., 5:], reduction="none"
    )
    at = (there * (2 * boxes.sum(2) + classes.sum(2))).sum()
    return (sure + at) / there.sum().clamp_min(1)


def target(truth: TrueBoxes) -> Tensor:
    """What the net should answer for a picture, float32 `[192, 8]`."""
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    wanted = torch.zeros(rows * columns, 5 + len(KINDS))
    for (left, top, right, bottom), label in zip(
        truth.corners / STRIDE, truth.labels, strict=True
    ):
        x, y = (left + right) / 2, (top + bottom) / 2
        column, row = min(int(x), columns - 1), min(int(y), rows - 1)
        sides = np.log(max(right - left, 0.1)), np.log(max(bottom - top, 0.1))
        cell = wanted[row * columns + column]
        cell[:] = 0
        cell[:5] = torch.tensor([x - column, y - row, *sides, 1.0])
        cell[5 + label] = 1
    return wanted


def make_up(count: int, seed: int = 0) -> list[Picture]:
    """Draw discs of three kinds on a light ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pictures = []
    for number in range(count):
        ground = np.full((HEIGHT, WIDTH, 3), rng.uniform(0.75, 0.95))
        corners, labels = [], []
        for label in rng.choice(3, rng.integers(4, 14), p=(0.8, 0.1, 0.1)):
            least, most, colour = LOOKS[label]
            radius = rng.uniform(least, most)
            left, top = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
            is_in = (x - left) ** 2 + (y - top) ** 2 < radius**2
            ground[is_in] = np.array(colour) + rng.normal(scale=0.04, size=3)
            box = (left - radius, top - radius, left + radius, top + radius)
            corners.append(np.clip(box, 0, (WIDTH, HEIGHT) * 2))
            labels.append(label)
        ground += rng.normal(scale=0.03, size=ground.shape)
        pictures.append(
            Picture(
                pixels=(ground.clip(0, 1) * 255).astype(np.uint8),
                corners=np.array(corners),
                labels=np.array(labels, np.int64),
                name=f"made up {number}",
            )
        )
    return pictures


def read_cells(folder: Path, part: str) -> list[Picture]:
    """Read one part of BCCD: `train`, `val` or `test`."""
    names = (folder / "ImageSets" / "Main" / f"{part}.txt").read_text().split()
    pictures = []
    for name in names:
        text = (folder / "Annotations" / f"{name}.xml").read_text()
        found = re.findall(
            r"<name>(\w+)</name>.*?<xmin>(\d+)</xmin>\s*<ymin>(\d+)</ymin>\s*"
            r"<xmax>(\d+)</xmax>\s*<ymax>(\d+)</ymax>",
            text,
            re.DOTALL,
        )
        image = Image.open(folder / "JPEGImages" / f"{name}.jpg").convert("RGB")
        pictures.append(
            Picture(
                pixels=np.asarray(image),
                corners=np.array([one[1:] for one in found], np.float64).reshape(-1, 4),
                labels=np.array([KINDS.index(one[0]) for one in found], np.int64),
                name=name,
            )
        )
    return pictures


def make_training(parts: list[list[Picture]], net: nn.Module) -> Training:
    """What trains a net on the parts of `read_parts`."""
    learnt, selection, report = (
        MemorySource(samples=tuple(one.sample() for one in part)) for part in parts
    )
    inputs = torch.cat([torch.from_numpy(one.inputs["picture"]) for one in learnt])
    wanted = torch.stack(
        [target(one.label) for one in learnt if isinstance(one.label, TrueBoxes)]
    )

    def batches(epoch: int) -> list[Batch]:
        order = torch.from_numpy(np.random.default_rng(epoch).permutation(len(inputs)))
        return [((inputs[some],), wanted[some]) for some in order.split(BATCH)]

    return Training(
        module=net,
        example=(inputs[:2],),
        inputs=("picture",),
        outputs=("rows",),
        batches=batches,
        loss=loss,
        calibration=MemorySource(samples=learnt.samples[:32]),
        selection=selection,
        report=report,
        task=TASK,
        learning_rate=4e-3,
    )


def make(channels: int, seed: int) -> Net:
    """Make a net by a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(channels)


def read_parts(first: int | None = None) -> list[list[Picture]]:
    """What is learnt from, what is selected by and what is reported by."""
    if folder := os.environ.get("SKERRY_DATA"):
        cells = Path(folder) / "bccd" / "BCCD"
        return [read_cells(cells, part)[:first] for part in ("train", "val", "test")]
    return [make_up(first or count, seed) for seed, count in enumerate(MADE_UP)]


def begin(net: nn.Module, *, epochs: int, first: int | None = None) -> None:
    """Train a net on made-up cells, which cost nothing."""
    drawn = [make_up(first or count, seed) for seed, count in enumerate(MADE_UP)]
    fit(net, make_training(drawn, net), epochs=epochs)


def setup() -> Training:
    """The fine-tuned net: `--train examples/train/cells.py:setup`."""
    training = make_training(read_parts(), make(CHANNELS, seed=0))
    if not WEIGHTS.exists():
        begin(training.module, epochs=EPOCHS)
    return fit_once(training, WEIGHTS, epochs=EPOCHS)


def show(what: str, net: nn.Module, training: Training) -> None:
    """Print how large a net is and how it does on the report samples."""
    samples = training.report or training.selection
    score = evaluate(training.session(net), samples, training.task).value
    count = sum(one.numel() for one in net.parameters())
    print(f"{what:24} {count:8} parameters   mAP50 {score:.3f}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Train, fine-tune, distil, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--first", type=int, help="use the first N pictures only")
    chosen = parser.parse_args(arguments)
    training = make_training(read_parts(chosen.first), make(CHANNELS, seed=0))
    begin(training.module, epochs=chosen.epochs, first=chosen.first)
    show("on made-up cells", training.module, training)
    fit(training.module, training, epochs=chosen.epochs)
    show("fine-tuned", training.module, training)
    alone = make(FEW_CHANNELS, seed=1)
    fit(alone, training, epochs=chosen.epochs)
    show("a small one on labels", alone, training)
    step = Distil(response="boxes", weight=0.5, epochs=chosen.epochs)
    context = TrainContext(training=training, budget=Budget())
    teacher = training.session(training.module)
    taught = step.learn(make(FEW_CHANNELS, seed=1), context, [teacher])
    show("the same, distilled", taught, training)


if __name__ == "__main__":
    main()
