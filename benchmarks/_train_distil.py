"""Distillation: a net of 421,642 parameters on Fashion-MNIST, and one 1/46 as large.

Few labelled pictures and many without, as in the field. The student learns from the
labels alone, as plain distillation has it from the labelled pictures (T = 4 and 0.7 of
the weight, as in the study that closed 75 % of the gap), in the same way from all of
them, and by our recipe from all of them. The share of the gap is that between the
student on labels and the teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks.nets.depthwise import fashion_task
from benchmarks.nets.places import FASHION, fashion
from benchmarks.nets.torch_depthwise import read_pictures
from skerry.compress.train.distil.step import Distil
from skerry.compress.train.fit import fit
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.compress.train.weights import fit_once
from skerry.core.budget import Budget
from skerry.runtimes.torch import Tensor, functional, nn, torch
from skerry.tasks.evaluate import evaluate
from skerry.tasks.sample import MemorySource, Sample

BAR = "train.distil.gap_closed"
SEEDS = (0, 1, 2)
LABELLED, UNLABELLED, SELECTION, REPORT = 2000, 8000, 500, 10_000
QUICK_LABELLED, QUICK_UNLABELLED, QUICK_SELECTION, QUICK_REPORT = 300, 600, 100, 500
BATCH = 128
TEACHER_RATE, STUDENT_RATE = 2e-3, 5e-3
TEACHER_EPOCHS, QUICK_TEACHER_EPOCHS = 40, 6
EPOCHS, QUICK_EPOCHS = 20, 3
"""How often a student goes through all pictures; through the labelled ones alone it
goes as much more often, so that each sees as many."""

PLAIN = Distil(temperature=4, weight=0.7, learning_rate=STUDENT_RATE)
OURS = Distil(temperature=1, weight=1.0, learning_rate=STUDENT_RATE)
"""A student so much smaller cannot follow what a high temperature shows it."""

BLOCKS = ((12, 22, 1), (22, 36, 2), (36, 56, 1), (56, 64, 2))
"""Channels in and out, and the stride, of each block of the student."""

DRAWS = 1000
"""Of the bootstrap over pictures."""

Right = NDArray[np.float64]
"""Whether each test picture is told right, 0 or 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One draw of pictures."""

    training: Training
    unlabelled: MemorySource
    seed: int
    times: int
    """How often the labelled pictures go into all of them."""


def make_teacher(seed: int) -> nn.Module:
    """Two convolutions and a hidden layer, 421,642 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inner, outer in ((1, 32), (32, 64)):
            layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        layers += [nn.Flatten(), nn.Dropout(), nn.Linear(64 * 49, 128), nn.ReLU()]
        return nn.Sequential(*layers, nn.Dropout(), nn.Linear(128, 10))


def make_student(seed: int) -> nn.Module:
    """A stem and four depthwise-separable blocks, 9,180 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(100 + seed)
        layers = _convolution(1, BLOCKS[0][0], stride=2)
        for inner, outer, stride in BLOCKS:
            layers += _convolution(inner, inner, stride=stride, groups=inner)
            layers += _convolution(inner, outer, kernel=1)
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(BLOCKS[-1][1], 10))


def _convolution(
    inner: int, outer: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    around = kernel // 2
    return [
        nn.Conv2d(inner, outer, kernel, stride, around, groups=groups, bias=False),
        nn.BatchNorm2d(outer),
        nn.ReLU(),
    ]


def measure(work: Path, *, quick: bool) -> tuple[list[Row], list[Measured]]:
    """Train teachers and students, and compare them on the test pictures.

    Args:
        work: Where trained teachers are kept.
        quick: One seed, fewer pictures.
    """
    if (why := fashion()) is not None:
        return [], [Measured(id=BAR, figure=None, n=0, unmet=why)]
    seeds = SEEDS[:1] if quick else SEEDS
    found: dict[str, list[Right]] = {}
    for seed in seeds:
        case = make_case(seed, quick=quick)
        for what, net in taught(case, work, quick=quick):
            tell(f"seed {seed}: {what}")
            found.setdefault(what, []).append(_right(net, case.training))
    rights = {what: np.stack(all_seeds) for what, all_seeds in found.items()}
    rows = [_row(what, rights) for what in rights]
    closed = gap_closed(rights["ours, all pictures"], rights)
    plain = gap_closed(rights["plain, all pictures"], rights)
    if closed is None or plain is None:
        why = "the teacher is no better than the student on labels"
        return rows, [Measured(id=BAR, figure=None, n=0, unmet=why)]
    figure = Measured(
        id=BAR,
        figure=closed[0],
        n=rights["teacher"].size,
        interval=closed[1:],
        peer=f"plain distillation of all pictures {plain[0]:.0f} %",
    )
    return rows, [figure]


def make_case(seed: int, *, quick: bool) -> Case:
    """Draw labelled, unlabelled and selection pictures; the test pictures report."""
    labelled = QUICK_LABELLED if quick else LABELLED
    unlabelled = QUICK_UNLABELLED if quick else UNLABELLED
    selection = QUICK_SELECTION if quick else SELECTION
    report = QUICK_REPORT if quick else REPORT
    pictures, labels = _read("train")
    order = np.random.default_rng([seed, 46]).permutation(len(labels))
    ends = np.cumsum([labelled, unlabelled, selection])
    first, second, third = (
        torch.from_numpy(part) for part in np.split(order, ends)[: len(ends)]
    )
    chosen, known = pictures[first], labels[first]

    def batches(epoch: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        places = torch.randperm(len(known), generator=generator)
        return [
            ((_mirrored(chosen[some], generator),), known[some])
            for some in torch.split(places, BATCH)
        ]

    test = _read("t10k")
    training = Training(
        module=make_teacher(seed),
        example=(chosen[:2],),
        inputs=("picture",),
        outputs=("logits",),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=_source(chosen[:32], known[:32]),
        selection=_source(pictures[third], labels[third]),
        report=_source(test[0][:report], test[1][:report]),
        task=fashion_task(),
    )
    return Case(
        training=training,
        # Both ways round, as the labelled ones are shown.
        unlabelled=_source(
            torch.cat([pictures[second], pictures[second].flip(3)]), None
        ),
        seed=seed,
        times=1 + 2 * unlabelled // labelled,
    )


def taught(case: Case, work: Path, *, quick: bool) -> Iterator[tuple[str, nn.Module]]:
    """Train the teacher, then a student in each way."""
    training, seed = case.training, case.seed
    path = work / "made" / f"distil-teacher{seed}{'-quick' * quick}.pt"
    rated = replace(training, learning_rate=TEACHER_RATE)
    fit_once(
        rated, path, epochs=QUICK_TEACHER_EPOCHS if quick else TEACHER_EPOCHS, seed=seed
    )
    yield "teacher", training.module
    epochs = QUICK_EPOCHS if quick else EPOCHS
    longer = epochs * case.times
    hard = make_student(seed)
    fit(hard, training, epochs=longer, learning_rate=STUDENT_RATE, seed=seed)
    yield "student, labels", hard
    context = TrainContext(training=training, budget=Budget(), seed=seed)
    teacher = [training.session(training.module)]
    ways: Mapping[str, tuple[Distil, MemorySource | None]] = {
        "plain, labelled pictures": (replace(PLAIN, epochs=longer), None),
        "ours, labelled pictures": (replace(OURS, epochs=longer), None),
        "plain, all pictures": (replace(PLAIN, epochs=epochs), case.unlabelled),
        "ours, all pictures": (replace(OURS, epochs=epochs), case.unlabelled),
    }
    for what, (step, more) in ways.items():
        yield what, step.learn(make_student(seed), context, teacher, more)


def gap_closed(
    one: NDArray[np.float64], rights: Mapping[str, NDArray[np.float64]]
) -> tuple[float, float, float] | None:
    """The share of the gap that is closed, %, over all seeds, with a 95 % interval.

    Args:
        one: Of a way to teach, [seeds, pictures]. The interval is over pictures.
        rights: Of the teacher and of the student on labels too.

    Returns:
        None where the teacher is no better than the student.
    """
    teacher, hard = rights["teacher"], rights["student, labels"]
    gained, gap = (one - hard).mean(0), (teacher - hard).mean(0)
    if gap.mean() <= 0:
        return None
    rng = np.random.default_rng(0)
    draws = rng.integers(0, gap.size, (DRAWS, gap.size))
    gaps = gap[draws].mean(1)
    # A draw without a gap is left out: it has no share.
    shares = (gained[draws].mean(1)[gaps > 0] / gaps[gaps > 0]) * 100
    low, high = np.quantile(shares, (0.025, 0.975))
    return 100 * float(gained.mean() / gap.mean()), float(low), float(high)


def _row(what: str, rights: Mapping[str, NDArray[np.float64]]) -> Row:
    accuracies = 100 * rights[what].mean(1)
    closed = gap_closed(rights[what], rights)
    net = make_teacher(0) if what == "teacher" else make_student(0)
    return {
        "what": what,
        "net": f"{sum(one.numel() for one in net.parameters())} parameters",
        "figure": float(accuracies.mean()),
        "unit": "% top-1",
        "n": rights[what].size,
        "note": f"{closed[0]:.0f} % of the gap"
        if closed is not None and what not in {"teacher", "student, labels"}
        else f"{accuracies.min():.2f} to {accuracies.max():.2f} by seed",
    }


def _right(net: nn.Module, training: Training) -> Right:
    source = training.report or training.selection
    return evaluate(training.session(net), source, training.task).per_sample


def _read(which: str) -> tuple[Tensor, Tensor]:
    names = (f"{which}-{one}-ubyte.gz" for one in ("images-idx3", "labels-idx1"))
    return read_pictures(*(FASHION / name for name in names))


def _mirrored(pictures: Tensor, generator: torch.Generator) -> Tensor:
    is_mirrored = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5
    return torch.where(is_mirrored, pictures.flip(3), pictures)


def _source(pictures: Tensor, labels: Tensor | None) -> MemorySource:
    return MemorySource(
        samples=tuple(
            Sample(
                inputs={"picture": picture[None].numpy()},
                label=None if labels is None else int(labels[index]),
                name=f"picture {index}",
            )
            for index, picture in enumerate(pictures)
        )
    )
