"""Layers of ResNet-8, MLPerf Tiny's net for CIFAR-10, on the pictures at hand.

These are compressed as JPEG, which the net has not seen: it is trained on them first,
and what is left of it is compared with that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
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
from benchmarks.nets.torch_resnet8 import read_resnet8
from skerry.compress.train.fit import fit
from skerry.compress.train.prune.layers import PruneLayers
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.durable import make_folder
from skerry.core.errors import ModelError
from skerry.runtimes.torch import Tensor, functional, torch
from skerry.tasks.evaluate import compare_scores, evaluate
from skerry.tasks.metrics import PairedDelta

BAR = "train.prune.layers_speedup"
ALLOWED = 0.01
SEEDS = (0, 1, 2)
CASE_SEED = 0
"""Deals out the pictures, alike for all seeds."""

BATCH = 64
RATE = 1e-3
EPOCHS, QUICK_PICTURES = 5, 512

OURS = PruneLayers(most=3, tries=3, epochs=8, learning_rate=RATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one seed came to: what was lost, and how much faster the rest is."""

    delta: PairedDelta
    speedup: float
    gone: str


def measure(work: Path, *, quick: bool) -> tuple[list[Row], Measured]:
    """Leave layers out, for each seed."""
    if (why := NETS["resnet8"].missing()) is not None:
        return [], Measured(id=BAR, figure=None, n=0, unmet=why)
    rows: list[Row] = []
    found: list[Found] = []
    for seed in SEEDS[:1] if quick else SEEDS:
        try:
            one = _pruned(work, seed, quick=quick)
        except ModelError as error:
            rows.append({"what": "layers", "net": f"seed {seed}", "note": error.what})
            continue
        found.append(one)
        rows.append(
            {
                "what": "points lost without some layers",
                "net": f"ResNet-8, seed {seed}",
                "figure": -100 * one.delta.delta,
                "unit": "points",
                "n": one.delta.n,
                "note": f"{one.speedup:.2f} × as fast; without {one.gone}",
            }
        )
    if not found:
        return rows, Measured(id=BAR, figure=1.0, n=0, unmet="no layer could go")
    lost = -float(np.mean([one.delta.delta for one in found]))
    speeds = [one.speedup for one in found]
    return rows, Measured(
        id=BAR,
        figure=float(np.median(speeds)),
        n=sum(one.delta.n for one in found),
        interval=(min(speeds), max(speeds)),
        unmet="" if lost <= ALLOWED else f"it loses {100 * lost:.2f} points",
    )


def _pruned(work: Path, seed: int, *, quick: bool) -> Found:
    case = _case(work, quick=quick)
    training = _training(work, case, seed, quick=quick)
    context = TrainContext(
        training=training, budget=Budget(accuracy_drop=ALLOWED), seed=seed
    )
    tell(f"ResNet-8, seed {seed}: layers")
    step = replace(OURS, most=1, tries=1, epochs=1) if quick else OURS
    pruned = step.prune(training.module, context)
    before, after = (
        evaluate(training.session(module), case.report, case.task)
        for module in (training.module, pruned.module)
    )
    files = [
        write_module(module, training, work / f"resnet8-{name}.onnx")
        for name, module in (("before", training.module), ("after", pruned.module))
    ]
    timed = gain(files[0], files[1], training, quick=quick)
    return Found(
        delta=compare_scores(before, after),
        speedup=1.0 if timed.latency is None else 1 / timed.latency.median,
        gone=", ".join(one.what for one in pruned.rounds if one.is_kept),
    )


def _case(work: Path, *, quick: bool) -> Case:
    folder = work / f"resnet8{'-quick' * quick}"
    make_folder(folder)
    if not (folder / "model.onnx").exists():
        write_resnet8(folder, seed=CASE_SEED, quick=quick)
    return Case.read(folder)


def _training(work: Path, case: Case, seed: int, *, quick: bool) -> Training:
    """The net, trained on the pictures that the case leaves to training."""
    pictures, labels = _read(quick=quick)

    def batches(epoch: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        places = torch.randperm(len(labels), generator=generator).split(BATCH)
        return [
            ((_mirrored(pictures[some], generator),), labels[some]) for some in places
        ]

    training = Training(
        module=read_resnet8(case.model.path),
        example=(pictures[:1],),
        inputs=tuple(spec.name for spec in case.model.inputs),
        outputs=tuple(spec.name for spec in case.model.outputs),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=case.calibration,
        selection=case.selection,
        task=case.task,
    )

    def make(path: Path) -> None:
        tell(f"ResNet-8, seed {seed}: the original")
        epochs = 1 if quick else EPOCHS
        fit(training.module, training, epochs=epochs, learning_rate=RATE, seed=seed)
        torch.save(training.module.state_dict(), path)

    kept = keep(work / "made" / f"resnet8-seed{seed}{'-quick' * quick}.pt", make)
    training.module.load_state_dict(torch.load(kept, weights_only=True))
    return training


def _mirrored(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures, [n, rows, columns, channels], as in a mirror."""
    is_mirrored = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5
    return torch.where(is_mirrored, pictures.flip(2), pictures)


def _read(*, quick: bool) -> tuple[Tensor, Tensor]:
    """The training pictures, float32 [n, 32, 32, 3] in 0–255, and labels.

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
    return torch.from_numpy(pictures), torch.from_numpy(labels)
