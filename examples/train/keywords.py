"""A keyword spotter that two teachers and unlabelled recordings make better.

    pip install 'skerry[train]'
    python examples/train/keywords.py [--epochs N] [--first N]

Spoken digits (the Free Spoken Digit Dataset, WAV of 8 kHz) where `SKERRY_DATA` has
them, else four made-up words: tones that rise, fall, stay or tremble. One recording in
eight has a label, as in the field. Depthwise-separable convolutions over cepstral
coefficients after Y. Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers"
(2017), section 3. What a search needs of it is `setup`.
"""

from __future__ import annotations

import argparse
import os
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skerry.compress.train.distil.step import Distil
from skerry.compress.train.fit import fit
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.compress.train.weights import fit_once
from skerry.core.budget import Budget
from skerry.tasks.evaluate import evaluate
from skerry.tasks.sample import MemorySource, Sample
from skerry.tasks.series import Reshape, Scale, Window
from skerry.tasks.spectra import Mfcc
from skerry.tasks.steps import Softmax, TopK
from skerry.tasks.task import Task, TaskKind

WEIGHTS = Path("build/train/keywords.pt")
"""Where the trained weights are kept, so that they are trained once."""

RATE_HZ = 8000
FRAMES, COEFFICIENTS = 49, 10
WIDTH, SMALL_WIDTH = 48, 12
EPOCHS = 30
BATCH = 32
EVERY = 8
"""One recording of so many is labelled."""

MADE_UP = ("rising", "falling", "steady", "trembling")
DIGITS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)

Recording = tuple[NDArray[np.float32], int]
"""A series `[T, 1]` in -1–1, and its word."""


def make_task(words: tuple[str, ...]) -> Task:
    """How recordings become the net's input, `[1, 1, 49, 10]`, and what it answers."""
    return Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        labels=words,
        pre=(
            Scale(by="magnitude"),
            Window(length=RATE_HZ, keep="first", pad=True),
            Mfcc(
                rate_hz=RATE_HZ,
                frame=240,
                hop=160,
                coefficients=COEFFICIENTS,
                high_hz=RATE_HZ / 2,
            ),
            Reshape(sizes=(1, FRAMES, COEFFICIENTS)),
        ),
        post=(Softmax(), TopK(k=1)),
    )


class Net(nn.Module):
    """A stem, three depthwise-separable blocks, a classifier."""

    def __init__(self, words: int, width: int = WIDTH) -> None:
        super().__init__()
        layers = convolution(1, width, (10, 4), stride=2)
        for _ in range(3):
            layers += convolution(width, width, (3, 3), groups=width)
            layers += convolution(width, width, (1, 1))
        self.norm = nn.BatchNorm2d(1)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, words)

    def forward(self, cepstra: Tensor) -> Tensor:
        """Return logits `[n, words]` of `[n, 1, 49, 10]`."""
        return self.classifier(self.features(self.norm(cepstra)).mean((2, 3)))


def convolution(
    inner: int, outer: int, kernel: tuple[int, int], *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution, its batch norm and a ReLU."""
    around = (kernel[0] // 2, kernel[1] // 2)
    return [
        nn.Conv2d(inner, outer, kernel, stride, around, groups=groups, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
    ]


def read_spoken(folder: Path) -> Iterator[Recording]:
    """Read the recordings of a folder, `DIGIT_SPEAKER_NUMBER.wav`."""
    for path in sorted(folder.glob("*.wav")):
        with wave.open(str(path)) as file:
            content = file.readframes(file.getnframes())
        series = np.frombuffer(content, np.int16).astype(np.float32) / 32768
        yield series[:, None], int(path.name.partition("_")[0])


def make_up(count: int) -> Iterator[Recording]:
    """Make up recordings of tones, with noise."""
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, RATE_HZ, dtype=np.float32)
    for index in range(count):
        word = index % len(MADE_UP)
        low_hz, span_hz = rng.uniform(300, 900), rng.uniform(300, 900)
        pitch_hz = {
            "rising": low_hz + span_hz * t,
            "falling": low_hz + span_hz * (1 - t),
            "steady": low_hz + 0 * t,
            "trembling": low_hz + span_hz * np.sin(12 * np.pi * t) ** 2,
        }[MADE_UP[word]]
        tone = np.sin(2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ)
        noise = rng.normal(scale=rng.uniform(0.05, 0.3), size=RATE_HZ)
        yield (0.4 * (tone + noise))[:, None].astype(np.float32), word


def read_samples(first: int | None) -> tuple[Task, list[Sample]]:
    """Read recordings in a random order, each taken through the task's steps."""
    folder = os.environ.get("SKERRY_DATA")
    task = make_task(DIGITS if folder else MADE_UP)
    found = [*(read_spoken(Path(folder) / "fsdd") if folder else make_up(1200))]
    order = np.random.default_rng(0).permutation(len(found))[:first]
    return task, [
        Sample(
            inputs={"cepstra": task.prepare(found[index][0])},
            label=found[index][1],
            name=f"recording {index}",
        )
        for index in order
    ]


def make_training(first: int | None = None) -> tuple[Training, MemorySource]:
    """An untrained net with what trains it, and recordings whose labels are unknown.

    A fifth of the recordings is for a search to look at, another one for reports.
    """
    task, found = read_samples(first)
    fifth = len(found) // 5
    selection, report, rest = (
        found[:fifth],
        found[fifth : 2 * fifth],
        found[2 * fifth :],
    )
    known, unknown = rest[::EVERY], [one for i, one in enumerate(rest) if i % EVERY]
    cepstra = torch.cat([torch.from_numpy(one.inputs["cepstra"]) for one in known])
    labels = torch.tensor([one.label for one in known])

    def batches(epoch: int) -> list[Batch]:
        rng = np.random.default_rng(epoch)
        order = torch.from_numpy(rng.permutation(len(labels)))
        return [((cepstra[some],), labels[some]) for some in order.split(BATCH)]

    training = Training(
        module=make(len(task.labels), WIDTH, seed=0),
        example=(cepstra[:2],),
        inputs=("cepstra",),
        outputs=("logits",),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=MemorySource(samples=tuple(known[:64])),
        selection=MemorySource(samples=tuple(selection)),
        report=MemorySource(samples=tuple(report)),
        task=task,
        learning_rate=4e-3,
    )
    return training, MemorySource(samples=tuple(unknown))


def setup() -> Training:
    """The trained net: `--train examples/train/keywords.py:setup`."""
    return fit_once(make_training()[0], WEIGHTS, epochs=EPOCHS)


def show(what: str, net: nn.Module, training: Training) -> None:
    """Print how large a net is and how it does on the report samples."""
    samples = training.report or training.selection
    score = evaluate(training.session(net), samples, training.task).value
    count = sum(one.numel() for one in net.parameters())
    print(f"{what:32} {count:8} parameters   accuracy {score:.3f}", flush=True)


def make(words: int, width: int, seed: int) -> Net:
    """Make a net by a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net(words, width)


def main(arguments: list[str] | None = None) -> None:
    """Train two teachers, distil them into a small net, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--first", type=int, help="use the first N recordings only")
    chosen = parser.parse_args(arguments)
    training, unknown = make_training(chosen.first)
    words = len(training.task.labels)
    teachers = [make(words, WIDTH, seed=seed) for seed in (0, 1)]
    for number, teacher in enumerate(teachers, start=1):
        fit(teacher, training, epochs=chosen.epochs)
        show(f"teacher {number}", teacher, training)
    alone = make(words, SMALL_WIDTH, seed=2)
    fit(alone, training, epochs=chosen.epochs)
    show("a small one on labels", alone, training)
    context = TrainContext(training=training, budget=Budget())
    step = Distil(several="agreement", epochs=chosen.epochs)
    sessions = [training.session(teacher) for teacher in teachers]
    taught = step.learn(make(words, SMALL_WIDTH, seed=2), context, sessions)
    show("distilled", taught, training)
    taught = step.learn(make(words, SMALL_WIDTH, seed=2), context, sessions, unknown)
    show("distilled, unlabelled ones too", taught, training)


if __name__ == "__main__":
    main()
