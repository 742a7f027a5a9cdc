"""Distillation: a net of 421,642 parameters on Fashion-MNIST, and one 1/43 as large.

6,000 labelled pictures, and 48,000 without labels as from the field. The student learns
from the labels alone, as plain distillation has it from the labelled pictures (T = 4
and 0.7 of the weight, as in the study that closed 75 % of the gap), in the same way
from all of them, and by our recipe. Each way shows it as many pictures. The share of
the gap is that between the student on labels and the teacher. Our recipe was chosen
with seed 7, among temperatures of 1, 2 and 4, on 5,000 training pictures that no net
had learnt from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks._train_net import AT_ONCE, SEEDS
from benchmarks.nets.depthwise import fashion_task
from benchmarks.nets.places import FASHION, fashion, keep
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
LABELLED, SELECTION, REPORT = 6000, 1000, 10_000
QUICK_LABELLED, QUICK_SELECTION, QUICK_REPORT = 300, 100, 500
TIMES = 9
"""All pictures are so many times those that have labels."""
BATCH = 128
TEACHER_RATE, STUDENT_RATE = 2e-3, 5e-3
TEACHER_EPOCHS, QUICK_TEACHER_EPOCHS = 24, 20
EPOCHS, QUICK_EPOCHS = 216, 9
"""An epoch is as many pictures as there are labelled ones, whoever teaches; of all
pictures it is a ninth."""

PLAIN = Distil(temperature=4, weight=0.7, learning_rate=STUDENT_RATE)
OURS = Distil(temperature=2, weight=1.0, learning_rate=STUDENT_RATE)
"""A student so much smaller cannot follow all that a high temperature shows it."""

WIDTHS = (8, 18, 26)
"""Channels of the student's convolutions, each of which halves the sides."""

HARD = "student, labels"
RIVALS = ("plain, labelled pictures", "plain, all pictures")

DRAWS = 1000
"""Of the bootstrap over pictures."""

Right = NDArray[np.float64]
"""Whether each test picture is told right, 0 or 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One draw of pictures.

    Attributes:
        training: From the labelled pictures; its module is the teacher.
        field: The same from all pictures, most of them without labels.
        seed: What was drawn with.
    """

    training: Training
    field: Training
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a student is taught: by labels alone, or by a step.

    Attributes:
        step: None for labels alone.
        is_field: Whether from all pictures.
    """

    step: Distil | None = None
    is_field: bool = False


WAYS: Mapping[str, Way] = {
    HARD: Way(),
    "plain, labelled pictures": Way(step=PLAIN),
    "plain, all pictures": Way(step=PLAIN, is_field=True),
    "ours, all pictures": Way(step=OURS, is_field=True),
}


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
    """Three strided convolutions and one layer on them, 9,854 parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(100 + seed)
        layers: list[nn.Module] = []
        for inner, outer in pairwise((1, *WIDTHS)):
            layers.append(nn.Conv2d(inner, outer, 3, 2, 1, bias=False))
            layers += [nn.BatchNorm2d(outer), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * WIDTHS[-1], 10))


def measure(
    work: Path, *, quick: bool, seeds: int = SEEDS
) -> tuple[list[Row], list[Measured]]:
    """Train teachers and students, and compare them on the test pictures.

    Args:
        work: Where teachers, and which pictures each student tells right, are kept.
        quick: One seed, fewer pictures.
        seeds: How many.
    """
    if (why := fashion()) is not None:
        return [], [Measured(id=BAR, figure=None, n=0, unmet=why)]
    found: dict[str, list[Right]] = {}
    for seed in range(1 if quick else seeds):
        for what, right in rights_of(seed, work, quick=quick):
            tell(f"seed {seed}: {what} {100 * right.mean():.2f} %")
            found.setdefault(what, []).append(right)
    rights = {what: np.stack(all_seeds) for what, all_seeds in found.items()}
    rows = [_row(what, rights) for what in rights]
    closed = gap_closed(rights["ours, all pictures"], rights)
    if closed is None:
        why = "the teacher is no better than the student on labels"
        return rows, [Measured(id=BAR, figure=None, n=0, unmet=why)]
    figure = Measured(
        id=BAR,
        figure=closed[0],
        n=rights["teacher"].size,
        interval=closed[1:],
        peer="; ".join(
            f"{what} {share[0]:.0f} %"
            for what in RIVALS
            if (share := gap_closed(rights[what], rights)) is not None
        ),
    )
    return rows, [figure]


def make_case(seed: int, *, quick: bool) -> Case:
    """Draw labelled, unlabelled and selection pictures; the test pictures report."""
    labelled = QUICK_LABELLED if quick else LABELLED
    selection = QUICK_SELECTION if quick else SELECTION
    report = QUICK_REPORT if quick else REPORT
    pictures, labels = _read("train")
    order = np.random.default_rng([seed, 46]).permutation(len(labels))
    drawn = torch.from_numpy(order[: TIMES * labelled + selection])
    pictures, labels = pictures[drawn], labels[drawn]
    chosen, known = pictures[:labelled], labels[:labelled]
    field, held = pictures[labelled:-selection], slice(-selection, None)

    def batches(epoch: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        return _batches(chosen, known, generator)

    def all_batches(epoch: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        part = slice(epoch % TIMES, None, TIMES)
        found = _batches(chosen[part], known[part], generator)
        found += _batches(field[part], None, generator)
        order = torch.randperm(len(found), generator=generator)
        return [found[place] for place in order.tolist()]

    test = _read("t10k")
    training = Training(
        module=make_teacher(seed),
        example=(chosen[:AT_ONCE],),
        inputs=("picture",),
        outputs=("logits",),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=_source(chosen[:32], known[:32]),
        selection=_source(pictures[held], labels[held]),
        report=_source(test[0][:report], test[1][:report]),
        task=fashion_task(),
    )
    field_training = replace(training, batches=all_batches)
    return Case(training=training, field=field_training, seed=seed)


def rights_of(seed: int, work: Path, *, quick: bool) -> Iterator[tuple[str, Right]]:
    """Which test pictures the teacher tells right, then a student taught each way.

    What is kept is taken from the work folder: remove it where this file has changed.
    """
    case = make_case(seed, quick=quick)
    training, made, end = case.training, work / "made", "-quick" * quick
    rated = replace(training, learning_rate=TEACHER_RATE)
    epochs = QUICK_TEACHER_EPOCHS if quick else TEACHER_EPOCHS
    fit_once(rated, made / f"distil-teacher{seed}{end}.pt", epochs=epochs, seed=seed)
    yield "teacher", _right(training.module, training)
    for what, way in WAYS.items():
        name = f"distil-{what.replace(', ', '-').replace(' ', '-')}{seed}{end}.npy"

        def make(part: Path, way: Way = way) -> None:
            net = taught(way, case, epochs=QUICK_EPOCHS if quick else EPOCHS)
            with part.open("wb") as file:
                np.save(file, _right(net, training))

        yield what, np.load(keep(made / name, make))


def taught(way: Way, case: Case, *, epochs: int) -> nn.Module:
    """Train a student."""
    student, seed = make_student(case.seed), case.seed
    training = case.field if way.is_field else case.training
    if way.step is None:
        fit(student, training, epochs=epochs, learning_rate=STUDENT_RATE, seed=seed)
        return student
    context = TrainContext(training=training, budget=Budget(), seed=seed)
    step = replace(way.step, epochs=epochs)
    return step.learn(student, context, [training.session(training.module)])


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
    teacher, hard = rights["teacher"], rights[HARD]
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
        if closed is not None and what not in {"teacher", HARD}
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


def _batches(
    pictures: Tensor, labels: Tensor | None, generator: torch.Generator
) -> list[Batch]:
    """All pictures once, shuffled, each mirrored or not."""
    return [
        (
            (_mirrored(pictures[some], generator),),
            None if labels is None else labels[some],
        )
        for some in torch.split(
            torch.randperm(len(pictures), generator=generator), BATCH
        )
    ]


def _source(pictures: Tensor, labels: Tensor) -> MemorySource:
    return MemorySource(
        samples=tuple(
            Sample(
                inputs={"picture": picture[None].numpy()},
                label=int(labels[index]),
                name=f"picture {index}",
            )
            for index, picture in enumerate(pictures)
        )
    )
