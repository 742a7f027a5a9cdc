"""Layers of ResNet-8, MLPerf Tiny's net for CIFAR-10, on the pictures at hand.

These are compressed as JPEG, which the net has not seen: it is trained on them first,
and what is left of it is compared with that. The rival loses the layers that ours does,
all at once and with no heir, and is trained on the same batches for as many epochs.

Ours takes its two layers whatever they cost on the selection pictures: those are of
CIFAR-10's training half, which the published net knows, and 1,000 tell no point from
none. The report pictures decide.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks._train_net import AT_ONCE, SEEDS
from benchmarks._train_prune_channels import Found, lost_by_picture, table_row
from benchmarks._train_prune_timing import gain, write_module
from benchmarks.nets.case import Case
from benchmarks.nets.catalogue import NETS
from benchmarks.nets.places import data_folder, keep
from benchmarks.nets.splits import deal_out
from benchmarks.nets.tiny import (
    CIFAR,
    CIFAR_COUNTS,
    QUICK_CIFAR_COUNTS,
    cifar_picture,
    write_resnet8,
)
from benchmarks.nets.torch_resnet8 import ResNet8, read_resnet8
from skerry.compress.train.fit import fit
from skerry.compress.train.prune.blocks import Block, leave_out
from skerry.compress.train.prune.layers import PruneLayers
from skerry.compress.train.prune.recover import Recovery
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.durable import make_folder
from skerry.runtimes.torch import Tensor, functional, nn, torch
from skerry.tasks.sample import Sample

BAR = "train.prune.layers_speedup"
ALLOWED = 1.0
"""Points."""
CASE_SEED = 0
"""Deals out the pictures, alike for all seeds."""

BATCH, BORDER, SIDE = 128, 4, 32
EPOCHS, RATE = 8, 5e-4
"""Of the original; at a higher rate it forgets what it knows."""
STATISTICS, QUICK_PICTURES = 1024, 512

OURS = PruneLayers(most=2, epochs=10, learning_rate=3e-3)
RIVAL = "the same at once"

Way = Callable[["Seeded"], nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seeded:
    """What one seed trains with, and the step that it takes."""

    seed: int
    training: Training
    step: PruneLayers
    epochs: int

    @property
    def context(self) -> TrainContext:
        """For any budget: see above."""
        return TrainContext(training=self.training, budget=Budget(), seed=self.seed)


def measure(
    work: Path, *, quick: bool, seeds: int = SEEDS
) -> tuple[list[Row], Measured]:
    """Leave layers out, for each seed."""
    if (why := NETS["resnet8"].missing()) is not None:
        return [], Measured(id=BAR, figure=None, n=0, unmet=why)
    case = _case(work, quick=quick)
    pictures, labels = _stacked(iter(case.report))
    found: dict[str, list[Found]] = {}
    gone: list[str] = []
    for seed in range(1 if quick else seeds):
        modules, training = _modules(work, case, seed, quick=quick)
        before = write_module(modules["original"], training, work / "before.onnx")
        gone.append(", ".join(left_out(modules["ours"])))
        for what, module in modules.items():
            with torch.inference_mode():
                answers = [module(some).argmax(1) for some in pictures.split(500)]
            latency = None
            if what != "original":
                after = write_module(module, training, work / "after.onnx")
                latency = gain(before, after, training, quick=quick).latency
            right = (torch.cat(answers) == labels).numpy()
            found.setdefault(what, []).append(Found(right=right, latency=latency))
    rows = [table_row(what, found, net="ResNet-8") for what in found]
    rows[1]["note"] = f"{rows[1]['note']}; without {'; '.join(gone)}"
    return rows, bar(found)


def bar(found: Mapping[str, Sequence[Found]]) -> Measured:
    """How much faster ours is, if it loses no more than a point."""
    lost = 100 * lost_by_picture(found["ours"], found["original"])
    rival = 100 * lost_by_picture(found[RIVAL], found["original"])
    speeds = [1 / one.latency.median for one in found["ours"] if one.latency]
    return Measured(
        id=BAR,
        figure=float(np.median(speeds)),
        n=lost.size,
        interval=(min(speeds), max(speeds)),
        peer=f"{RIVAL} loses {rival.mean():.2f} points",
        unmet=""
        if lost.mean() <= ALLOWED
        else f"it loses {lost.mean():.2f} ± {margin(lost):.2f} points",
    )


def margin(lost: NDArray[np.float64]) -> float:
    """Half of the 95 % interval of a mean over seeds, [seeds, pictures].

    The seeds share their pictures: those are what was drawn.
    """
    return float(1.96 * lost.mean(0).std() / np.sqrt(lost.shape[1]))


def left_out(module: nn.Module) -> tuple[str, ...]:
    """The layers that pruning took out of a ResNet-8."""
    return tuple(
        name
        for name, one in module.named_modules()
        if isinstance(one, nn.Identity) and not name.endswith("around")
    )


def _modules(
    work: Path, case: Case, seed: int, *, quick: bool
) -> tuple[dict[str, nn.Module], Training]:
    """Train in each way, once: what is made is kept in the work folder."""
    training = _training(case, seed, quick=quick)
    step = replace(OURS, most=1, epochs=1, probe=2) if quick else OURS
    seeded = Seeded(
        seed=seed, training=training, step=step, epochs=1 if quick else EPOCHS
    )
    found: dict[str, nn.Module] = {}

    def pruned_at_once(one: Seeded) -> nn.Module:
        return _at_once(one, left_out(found["ours"]))

    ways: dict[str, Way] = {
        "original": _original,
        "ours": lambda one: one.step.apply(one.training.module, one.context),
        RIVAL: pruned_at_once,
    }
    for what, make in ways.items():
        name = f"resnet8-{what.replace(' ', '-')}-seed{seed}{'-quick' * quick}.pt"
        kept = keep(work / "made" / name, partial(_write, make, seeded))
        found[what] = _read(kept)
        if what == "original":
            training.module.load_state_dict(found[what].state_dict())
    return found, training


def _original(seeded: Seeded) -> nn.Module:
    module = copy.deepcopy(seeded.training.module)
    fit(
        module,
        seeded.training,
        epochs=seeded.epochs,
        learning_rate=RATE,
        seed=seeded.seed,
        keep_best=False,
    )
    return module


def _at_once(seeded: Seeded, layers: tuple[str, ...]) -> nn.Module:
    module, step = copy.deepcopy(seeded.training.module), seeded.step
    leave_out(module, Block(layers=layers, cost=0))
    recovery = Recovery(
        original=seeded.training.module,
        context=seeded.context,
        learning_rate=step.learning_rate,
        weight=step.teach,
    )
    recovery.train(module, step.most * step.epochs)
    return module


def _write(make: Way, seeded: Seeded, path: Path) -> None:
    """Train, in half the time where the processor multiplies bfloat16."""
    tell(f"ResNet-8, seed {seeded.seed}: {path.stem}")
    # Weights change under the cast: a cached one would be that of the first step.
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        module = make(seeded)
    torch.save({"gone": left_out(module), "weights": module.state_dict()}, path)


def _read(path: Path) -> nn.Module:
    kept = torch.load(path, weights_only=True)
    module = ResNet8()
    leave_out(module, Block(layers=tuple(kept["gone"]), cost=0))
    module.load_state_dict(kept["weights"])
    return module.eval()


def _case(work: Path, *, quick: bool) -> Case:
    folder = work / f"resnet8{'-quick' * quick}"
    make_folder(folder)
    if not (folder / "model.onnx").exists():
        write_resnet8(folder, seed=CASE_SEED, quick=quick)
    return Case.read(folder)


def _training(case: Case, seed: int, *, quick: bool) -> Training:
    """The published net, and the pictures that the case leaves to training."""
    pictures, labels = _pictures(quick=quick)

    def batches(epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        for some in torch.randperm(len(labels), generator=generator).split(BATCH):
            yield (_shifted(pictures[some], generator),), labels[some]

    return Training(
        module=read_resnet8(case.model.path, pictures[:STATISTICS].float()),
        example=(pictures[:AT_ONCE].float(),),
        inputs=tuple(spec.name for spec in case.model.inputs),
        outputs=tuple(spec.name for spec in case.model.outputs),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=case.calibration,
        selection=case.selection,
        task=case.task,
    )


def _shifted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures moved by up to four pixels, half of them as in a mirror.

    Args:
        pictures: uint8 [n, 32, 32, 3].
        generator: Chooses how.

    Returns:
        float32 [n, 32, 32, 3], in 0–255; what is beyond the border is black.
    """
    count = len(pictures)
    wide = functional.pad(pictures, (0, 0, BORDER, BORDER, BORDER, BORDER))
    corner = torch.randint(0, 2 * BORDER + 1, (2, count, 1), generator=generator)
    rows, columns = corner + torch.arange(SIDE)
    is_mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(is_mirrored, columns.flip(1), columns)
    each = torch.arange(count)[:, None, None]
    return wide[each, rows[:, :, None], columns[:, None]].float()


def _pictures(*, quick: bool) -> tuple[Tensor, Tensor]:
    """The training pictures, uint8 [n, 32, 32, 3], and labels.

    Those that the case calibrates and chooses by are left out.
    """
    with np.load(data_folder(CIFAR) / "cifar10_dev.npz") as packed:
        arrays = dict(packed)
    counts = QUICK_CIFAR_COUNTS if quick else CIFAR_COUNTS
    every = np.flatnonzero(arrays["split"] == 0).tolist()
    dealt = deal_out(every, {**counts, "report": len(every)}, CASE_SEED)
    # The report pictures of the case are others: what is left here trains.
    chosen = dealt["report"][: QUICK_PICTURES if quick else None]
    pictures = np.stack([cifar_picture(arrays, index) for index in chosen])
    labels = arrays["label"][chosen].astype(np.int64)
    return torch.from_numpy(pictures.astype(np.uint8)), torch.from_numpy(labels)


def _stacked(samples: Iterator[Sample]) -> tuple[Tensor, Tensor]:
    """All pictures, float32 [n, 32, 32, 3], and their labels."""
    pairs = [(*one.inputs.values(), one.label) for one in samples]
    pictures, labels = zip(*pairs, strict=True)
    return torch.from_numpy(np.concatenate(pictures)), torch.tensor(labels)
