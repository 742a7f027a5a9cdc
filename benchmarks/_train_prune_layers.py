"""Layers of ResNet-8, trained on Fashion-MNIST like the other nets.

The rival loses the layers that ours does, all at once and with no heir, and is trained
on the same batches for as many epochs. What the original gains when it is trained for
as many epochs more stands beside both.

Ours takes its layers whatever they cost on the selection pictures, of which 1,000 tell
no point from none: the report pictures decide.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks._train_net import SEEDS, Case, make_case, right_in_torch
from benchmarks._train_prune_channels import Found, lost_by_picture, table_row
from benchmarks._train_prune_timing import gain, write_module
from benchmarks.nets.places import fashion, keep
from benchmarks.nets.torch_resnet8 import ResNet8
from skerry.compress.train.fit import fit
from skerry.compress.train.prune.blocks import Block, leave_out
from skerry.compress.train.prune.layers import PruneLayers
from skerry.compress.train.prune.recover import Recovery
from skerry.compress.train.training import TrainContext
from skerry.core.budget import Budget
from skerry.runtimes.torch import nn, torch

BAR = "train.prune.layers_speedup"
ALLOWED = 1.0
"""Points."""

OURS = PruneLayers(most=2, epochs=8, learning_rate=3e-3)
EPOCHS = OURS.most * OURS.epochs
ORIGINAL = "original"
LONGER = f"original, trained for {EPOCHS} epochs more"
RIVAL = "the same at once"

Way = Callable[[], nn.Module]


def measure(
    work: Path, *, quick: bool, seeds: int = SEEDS
) -> tuple[list[Row], Measured]:
    """Leave layers out, for each seed."""
    if (why := fashion()) is not None:
        return [], Measured(id=BAR, figure=None, n=0, unmet=why)
    found: dict[str, list[Found]] = {}
    gone: list[str] = []
    for seed in range(1 if quick else seeds):
        case = make_case(work, seed, quick=quick, net="resnet8")
        modules = _modules(work, case, quick=quick)
        training = case.training
        before = write_module(modules[ORIGINAL], training, work / "before.onnx")
        gone.append(", ".join(left_out(modules["ours"])))
        for what, module in modules.items():
            latency = None
            if what not in (ORIGINAL, LONGER):
                after = write_module(module, training, work / "after.onnx")
                latency = gain(before, after, training, quick=quick).latency
            right = right_in_torch(module, case)
            found.setdefault(what, []).append(Found(right=right, latency=latency))
    rows = [table_row(what, found, net="ResNet-8") for what in found]
    ours = rows[[*found].index("ours")]
    ours["note"] = f"{ours['note']}; without {'; '.join(dict.fromkeys(gone))}"
    return rows, bar(found)


def bar(found: Mapping[str, Sequence[Found]]) -> Measured:
    """How much faster ours is, if it loses no more than a point."""
    lost = 100 * lost_by_picture(found["ours"], found[ORIGINAL])
    rival = 100 * lost_by_picture(found[RIVAL], found[ORIGINAL])
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


def _modules(work: Path, case: Case, *, quick: bool) -> Mapping[str, nn.Module]:
    """Train in each way, once: what is made is kept in the work folder."""
    step = replace(OURS, most=1, epochs=1, probe=2) if quick else OURS
    original = case.training.module
    context = TrainContext(training=case.training, budget=Budget(), seed=case.seed)
    found: dict[str, nn.Module] = {ORIGINAL: original}
    ways: dict[str, Way] = {
        "ours": lambda: step.apply(original, context),
        RIVAL: lambda: _at_once(left_out(found["ours"]), step, context),
        LONGER: lambda: _trained(step, context),
    }
    for what, make in ways.items():
        name = "-".join(what.replace(",", "").split())
        path = work / "made" / f"resnet8-{name}-seed{case.seed}{'-quick' * quick}.pt"
        found[what] = _read(keep(path, partial(_write, make)))
    return found


def _at_once(
    layers: tuple[str, ...], step: PruneLayers, context: TrainContext
) -> nn.Module:
    module = copy.deepcopy(context.training.module)
    leave_out(module, Block(layers=layers, cost=0))
    recovery = Recovery(
        original=context.training.module,
        context=context,
        learning_rate=step.learning_rate,
        weight=step.teach,
    )
    recovery.train(module, step.most * step.epochs)
    return module


def _trained(step: PruneLayers, context: TrainContext) -> nn.Module:
    module = copy.deepcopy(context.training.module)
    fit(
        module,
        context.training,
        epochs=step.most * step.epochs,
        learning_rate=step.learning_rate,
        seed=context.seed,
    )
    return module


def _write(make: Way, path: Path) -> None:
    tell(f"ResNet-8: {path.stem}")
    module = make()
    torch.save({"gone": left_out(module), "weights": module.state_dict()}, path)


def _read(path: Path) -> nn.Module:
    kept = torch.load(path, weights_only=True)
    module = ResNet8()
    leave_out(module, Block(layers=tuple(kept["gone"]), cost=0))
    for name, value in kept["weights"].items():
        layer = module.get_submodule(name.rpartition(".")[0])
        if name.endswith(".bias") and layer.bias is None:
            layer.bias = nn.Parameter(value)  # of an heir: others have batch norms
    module.load_state_dict(kept["weights"])
    return module.eval()
