"""Channels of the depthwise net on Fashion-MNIST, and single weights beside them.

The rival removes half of all channels at once by the factors of batch norms, as
torch-pruning's own example does, and trains for one epoch; and for as many as ours.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch_pruning
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks._train_prune_timing import every_gain, gain, write_module
from benchmarks.nets.depthwise import FASHION, QUICK_TRAINING, fashion_task
from benchmarks.nets.places import fashion, keep
from benchmarks.nets.torch_depthwise import BATCH, DepthwiseNet, read_pictures, train
from skerry.compress.train.fit import fit
from skerry.compress.train.prune.channels import PruneChannels
from skerry.compress.train.prune.gains import packed_bytes
from skerry.compress.train.prune.sparse import Sparsify
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.durable import make_folder
from skerry.runtimes.torch import Tensor, functional, nn, torch
from skerry.tasks.measure import Ratio
from skerry.tasks.sample import MemorySource, Sample

BAR = "train.prune.lost_at_2x"
LEAST_SPEEDUP = 2.0
SEEDS = (0, 1, 2)
SELECTION, QUICK_SELECTION = 1000, 100
RATE = 3e-3

OURS = PruneChannels(
    ratio=0.65, rounds=3, epochs=1, last_epochs=1, multiple=16, learning_rate=RATE
)
SPARSE = {
    "half of the weights, 2:4": Sparsify(pattern="2:4", epochs=2, learning_rate=RATE),
    "80 % of the weights": Sparsify(sparsity=0.8, epochs=2, learning_rate=RATE),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A trained net, and the pictures that report."""

    seed: int
    training: Training
    pictures: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What one seed came to: which pictures are right, and how long one takes."""

    right: NDArray[np.bool_]
    latency: Ratio | None


def measure(work: Path, *, quick: bool) -> tuple[list[Row], Measured]:
    """Prune the net in each way, for each seed."""
    if (why := fashion()) is not None:
        return [], Measured(id=BAR, figure=None, n=0, unmet=why)
    make_folder(work)
    rows: list[Row] = []
    found: dict[str, list[Found]] = {}
    for seed in SEEDS[:1] if quick else SEEDS:
        case = _case(work, seed, quick=quick)
        for what, module in _pruned(case, quick=quick).items():
            found.setdefault(what, []).append(_time(case, module, work, quick=quick))
        rows += _sparse_rows(case, work, quick=quick)
    rows = [table_row(what, found) for what in found] + rows
    return rows, bar(found)


def _pruned(case: Case, *, quick: bool) -> Mapping[str, nn.Module]:
    training = case.training
    step = replace(OURS, rounds=1, last_epochs=0) if quick else OURS
    context = TrainContext(training=training, budget=Budget(), seed=case.seed)
    tell(f"seed {case.seed}: {step.rounds} rounds of channels")
    ours = step.apply(training.module, context)
    epochs = step.rounds * step.epochs + step.last_epochs
    rivals = {}
    for count in (1,) if quick else (1, epochs):
        tell(f"seed {case.seed}: torch-pruning, {count} epochs")
        rivals[f"torch-pruning, {count} epochs"] = _one_shot(case, count)
    return {"original": training.module, "ours": ours, **rivals}


def _one_shot(case: Case, epochs: int) -> nn.Module:
    """Half of all channels at once, by the factors of batch norms."""
    module = copy.deepcopy(case.training.module).eval()
    torch_pruning.pruner.BNScalePruner(
        module,
        case.training.example,
        importance=torch_pruning.importance.BNScaleImportance(),
        pruning_ratio=0.5,
        global_pruning=True,
        ignored_layers=[module.get_submodule("classifier")],
    ).step()
    fit(
        module,
        case.training,
        epochs=epochs,
        learning_rate=RATE,
        seed=case.seed,
        keep_best=False,
    )
    return module


def _time(case: Case, module: nn.Module, work: Path, *, quick: bool) -> Found:
    right = _right(module, case)
    if module is case.training.module:
        return Found(right=right, latency=None)
    before = write_module(case.training.module, case.training, work / "before.onnx")
    after = write_module(module, case.training, work / "after.onnx")
    timed = gain(before, after, case.training, quick=quick)
    return Found(right=right, latency=timed.latency)


def _sparse_rows(case: Case, work: Path, *, quick: bool) -> list[Row]:
    """What zeros buy, runtime by runtime."""
    if case.seed:
        return []
    training, rows = case.training, list[Row]()
    before = write_module(training.module, training, work / "before.onnx")
    context = TrainContext(training=training, budget=Budget())
    reference = _right(training.module, case).mean()
    for what, step in SPARSE.items():
        tell(f"sparse: {what}")
        module = replace(step, epochs=1 if quick else step.epochs).apply(
            training.module, context
        )
        after = write_module(module, training, work / "sparse.onnx")
        every = every_gain(before, after, training, quick=quick)
        packed = packed_bytes(after) / packed_bytes(before)
        rows.append(
            {
                "what": f"points lost, {what} are 0",
                "net": "depthwise",
                "figure": 100 * float(reference - _right(module, case).mean()),
                "unit": "points",
                "n": len(case.labels),
                "note": f"zlib packs the file into {packed:.0%} of the original's; "
                + "; ".join(one.sentence for one in every),
            }
        )
    return rows


def table_row(what: str, found: Mapping[str, Sequence[Found]]) -> Row:
    """A line of the table: what one way loses over all seeds, and how fast it is."""
    times = [one.latency for one in found[what] if one.latency is not None]
    speed = f"{1 / np.median([one.median for one in times]):.2f} ×" if times else "1 ×"
    lost = _lost(found[what], found["original"])
    accuracy = 100 * float(np.mean([one.right.mean() for one in found[what]]))
    return {
        "what": f"points lost, {what}",
        "net": "depthwise",
        "figure": 100 * float(lost.mean()),
        "unit": "points",
        "n": lost.size,
        "note": f"{accuracy:.2f} % top-1, {speed} as fast",
    }


def bar(found: Mapping[str, Sequence[Found]]) -> Measured:
    """What ours loses; each seed must be twice as fast as the original."""
    lost = 100 * _lost(found["ours"], found["original"])
    slowest = max(
        (one.latency.median for one in found["ours"] if one.latency), default=1.0
    )
    rival = next(one for one in found if one.startswith("torch-pruning"))
    theirs = 100 * float(_lost(found[rival], found["original"]).mean())
    half = 1.96 * float(lost.std() / np.sqrt(lost.size))
    middle = float(lost.mean())
    return Measured(
        id=BAR,
        figure=middle,
        n=lost.size,
        interval=(middle - half, middle + half),
        peer=f"{rival} loses {theirs:.2f}",
        unmet=""
        if 1 / slowest >= LEAST_SPEEDUP
        else f"only {1 / slowest:.2f} × as fast",
    )


def _lost(after: Sequence[Found], before: Sequence[Found]) -> NDArray[np.float64]:
    """By seed and picture: 1 where only the original is right, -1 where it is not."""
    pairs = zip(before, after, strict=True)
    found = [old.right.astype(float) - new.right for old, new in pairs]
    return np.stack(found).astype(np.float64)


def _right(module: nn.Module, case: Case) -> NDArray[np.bool_]:
    with torch.inference_mode():
        module.eval()
        answers = [module(some).argmax(1) for some in case.pictures.split(500)]
    return np.asarray((torch.cat(answers) == case.labels).numpy())


def _case(work: Path, seed: int, *, quick: bool) -> Case:
    """The net that a seed trains; selection pictures are held out of its training."""
    pictures, labels = _read("train")
    count = QUICK_SELECTION if quick else SELECTION
    order = np.random.default_rng([seed, 61]).permutation(len(labels))
    held, rest = torch.from_numpy(order[:count]), torch.from_numpy(order[count:])
    if quick:
        rest = rest[:QUICK_TRAINING]
    chosen, known = pictures[rest], labels[rest]

    def make(path: Path) -> None:
        tell(f"seed {seed}: the original")
        torch.save(train(chosen, known, seed).state_dict(), path)

    kept = keep(work / "made" / f"prune-seed{seed}{'-quick' * quick}.pt", make)
    module = DepthwiseNet()
    module.load_state_dict(torch.load(kept, weights_only=True))

    def batches(epoch: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        places = torch.randperm(len(known), generator=generator).split(BATCH)
        return [((_mirrored(chosen[some], generator),), known[some]) for some in places]

    source = _source(pictures[held], labels[held])
    training = Training(
        module=module.eval(),
        example=(pictures[:2],),
        inputs=("picture",),
        outputs=("logits",),
        batches=batches,
        loss=functional.cross_entropy,
        calibration=source,
        selection=source,
        task=fashion_task(),
    )
    test = _read("t10k")
    report = 500 if quick else len(test[1])
    return Case(
        seed=seed, training=training, pictures=test[0][:report], labels=test[1][:report]
    )


def _read(which: str) -> tuple[Tensor, Tensor]:
    names = (f"{which}-{one}-ubyte.gz" for one in ("images-idx3", "labels-idx1"))
    return read_pictures(*(FASHION / name for name in names))


def _mirrored(pictures: Tensor, generator: torch.Generator) -> Tensor:
    is_mirrored = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5
    mirrored = torch.where(is_mirrored, pictures.flip(3), pictures)
    return mirrored.to(memory_format=torch.channels_last)


def _source(pictures: Tensor, labels: Tensor) -> MemorySource:
    return MemorySource(
        samples=tuple(
            Sample(
                inputs={"picture": picture[None].numpy()},
                label=int(label),
                name=f"picture {index}",
            )
            for index, (picture, label) in enumerate(zip(pictures, labels, strict=True))
        )
    )
