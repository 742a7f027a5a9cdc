"""Channels of the depthwise net on Fashion-MNIST, and single weights beside them.

The rival removes half of all channels at once by the factors of batch norms, as
torch-pruning's own example does, in blocks as large as ours, and goes through the
training pictures once; and for as many epochs as ours. Loss is counted from the
original as it was given, as one-shot pruning counts its own. What the original gains
when it is trained for as many epochs more stands beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch_pruning
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks._train_net import SEEDS, Case, Right, make_case, right_in_file
from benchmarks._train_prune_timing import every_gain, gain, write_module
from benchmarks.nets.places import fashion, keep
from skerry.compress.train.fit import fit
from skerry.compress.train.prune.channels import PruneChannels
from skerry.compress.train.prune.gains import packed_bytes
from skerry.compress.train.prune.sparse import Sparsify
from skerry.compress.train.training import TrainContext
from skerry.core.budget import Budget
from skerry.core.model import Model
from skerry.graph import open_model
from skerry.runtimes.torch import nn
from skerry.tasks.measure import Ratio

BAR = "train.prune.lost_at_2x"
LEAST_SPEEDUP = 2.0
RATE = 3e-3
ONCE = 3
"""Epochs that go through about all training pictures."""

OURS = PruneChannels(
    ratio=0.68,
    rounds=2,
    epochs=1,
    last_epochs=6,
    multiple=16,
    learning_rate=RATE,
    teach=0.3,
)
"""The original has learnt for three epochs: labels have more to say than it has."""

EPOCHS = OURS.rounds * OURS.epochs + OURS.last_epochs
SPARSE = {
    "half of the weights, 2:4": Sparsify(pattern="2:4", epochs=1, learning_rate=RATE),
    "80 % of the weights": Sparsify(sparsity=0.8, epochs=1, learning_rate=RATE),
}

ORIGINAL = "original"
LONGER = f"original, trained for {EPOCHS} epochs more"
RIVAL = f"torch-pruning, {ONCE} epochs"

Way = Callable[[Case], nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What one seed came to: which pictures are right, and how long one takes."""

    right: NDArray[np.bool_] | Right
    latency: Ratio | None


def measure(
    work: Path, *, quick: bool, seeds: int = SEEDS
) -> tuple[list[Row], Measured]:
    """Prune the net in each way, for each seed.

    Args:
        work: Where pruned models are kept: what is there is only scored and timed.
        quick: One seed, fewer pictures and epochs.
        seeds: How many.
    """
    if (why := fashion()) is not None:
        return [], Measured(id=BAR, figure=None, n=0, unmet=why)
    rows: list[Row] = []
    found: dict[str, list[Found]] = {}
    for seed in range(1 if quick else seeds):
        case = make_case(work, seed, quick=quick)
        models = {
            what: _made(work, case, what, way, quick=quick)
            for what, way in ways(quick=quick).items()
        }
        for what, model in models.items():
            right = right_in_file(model, case)
            latency = None
            if model.sha256 != models[ORIGINAL].sha256:
                before = models[ORIGINAL]
                latency = gain(before, model, case.training, quick=quick).latency
            found.setdefault(what, []).append(Found(right=right, latency=latency))
        if seed == 0:
            rows += _sparse_rows(work, case, models[ORIGINAL], quick=quick)
    return [table_row(what, found) for what in found] + rows, bar(found)


def ways(*, quick: bool) -> Mapping[str, Way]:
    """What is done to the net, by what the table calls it."""
    step = replace(OURS, rounds=1, last_epochs=0) if quick else OURS
    many, once = (1, 1) if quick else (EPOCHS, ONCE)

    def ours(case: Case) -> nn.Module:
        context = TrainContext(training=case.training, budget=Budget(), seed=case.seed)
        return step.apply(case.training.module, context)

    return {
        ORIGINAL: lambda case: case.training.module,
        LONGER: lambda case: _fitted(case.training.module, case, many),
        "ours": ours,
        RIVAL: lambda case: _fitted(_one_shot(case), case, once),
        f"torch-pruning, {EPOCHS} epochs": lambda case: _fitted(
            _one_shot(case), case, many
        ),
    }


def _made(work: Path, case: Case, what: str, way: Way, *, quick: bool) -> Model:
    """The file of one way, from the folder where it is there already."""

    def make(path: Path) -> None:
        tell(f"seed {case.seed}: {what}")
        write_module(way(case), case.training, path)

    name = "-".join(what.replace(",", "").replace("%", "").replace(":", "").split())
    path = work / "made" / f"prune-{name}-seed{case.seed}{'-quick' * quick}.onnx"
    return open_model(keep(path, make))


def _one_shot(case: Case) -> nn.Module:
    """Half of all channels at once, by the factors of batch norms."""
    module = copy.deepcopy(case.training.module).eval()
    torch_pruning.pruner.BNScalePruner(
        module,
        case.training.example,
        importance=torch_pruning.importance.BNScaleImportance(),
        pruning_ratio=0.5,
        global_pruning=True,
        round_to=OURS.multiple,
        ignored_layers=[module.get_submodule("classifier")],
    ).step()
    return module


def _fitted(module: nn.Module, case: Case, epochs: int) -> nn.Module:
    """A copy, trained on labels."""
    trained = copy.deepcopy(module)
    fit(trained, case.training, epochs=epochs, learning_rate=RATE, seed=case.seed)
    return trained


def _sparse_rows(work: Path, case: Case, before: Model, *, quick: bool) -> list[Row]:
    """What zeros buy, runtime by runtime."""
    rows: list[Row] = []
    reference = right_in_file(before, case).mean()
    for what, step in SPARSE.items():
        chosen = replace(step, epochs=1) if quick else step

        def way(case: Case, step: Sparsify = chosen) -> nn.Module:
            context = TrainContext(training=case.training, budget=Budget())
            return step.apply(case.training.module, context)

        after = _made(work, case, what, way, quick=quick)
        every = every_gain(before, after, case.training, quick=quick)
        packed = packed_bytes(after) / packed_bytes(before)
        right = right_in_file(after, case)
        rows.append(
            {
                "what": f"points lost, {what} are 0",
                "net": "depthwise",
                "figure": 100 * float(reference - right.mean()),
                "unit": "points",
                "n": len(right),
                "note": f"zlib packs the file into {packed:.0%} of the original's; "
                + "; ".join(one.sentence for one in every),
            }
        )
    return rows


def table_row(
    what: str, found: Mapping[str, Sequence[Found]], *, net: str = "depthwise"
) -> Row:
    """A line of the table: what one way loses over all seeds, and how fast it is."""
    times = [one.latency.median for one in found[what] if one.latency is not None]
    lost = lost_by_picture(found[what], found[ORIGINAL])
    accuracy = 100 * float(np.mean([one.right.mean() for one in found[what]]))
    return {
        "what": f"points lost, {what}",
        "net": net,
        "figure": 100 * float(lost.mean()),
        "unit": "points",
        "n": lost.size,
        "× as fast": float(1 / np.median(times)) if times else 1.0,
        "note": f"{accuracy:.2f} % top-1",
    }


def bar(found: Mapping[str, Sequence[Found]]) -> Measured:
    """What ours loses; each seed must be twice as fast as the original."""
    original = found[ORIGINAL]
    lost = 100 * lost_by_picture(found["ours"], original)
    gained = -100 * float(lost_by_picture(found[LONGER], original).mean())
    slowest = max(
        (one.latency.median for one in found["ours"] if one.latency), default=1.0
    )
    theirs = 100 * float(lost_by_picture(found[RIVAL], original).mean())
    half = 1.96 * float(lost.std() / np.sqrt(lost.size))
    middle = float(lost.mean())
    return Measured(
        id=BAR,
        figure=middle,
        n=lost.size,
        interval=(middle - half, middle + half),
        peer=f"{RIVAL} loses {theirs:.2f}; the original, trained as long, gains "
        f"{gained:.2f}",
        unmet=""
        if 1 / slowest >= LEAST_SPEEDUP
        else f"only {1 / slowest:.2f} × as fast",
    )


def lost_by_picture(
    after: Sequence[Found], before: Sequence[Found]
) -> NDArray[np.float64]:
    """By seed and picture: 1 where only the original is right, -1 where it is not."""
    pairs = zip(before, after, strict=True)
    found = [old.right.astype(float) - new.right for old, new in pairs]
    return np.stack(found).astype(np.float64)
