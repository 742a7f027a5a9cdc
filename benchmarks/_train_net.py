"""The nets on Fashion-MNIST that most parts train further: one a seed.

The original is trained for three epochs on all training pictures but those held out.
An epoch of all that comes after goes through a third of them, drawn anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks.nets.depthwise import (
    COUNTS,
    FASHION,
    QUICK_COUNTS,
    QUICK_TRAINING,
    fashion_task,
)
from benchmarks.nets.places import keep
from benchmarks.nets.torch_depthwise import BATCH, DepthwiseNet, read_pictures, train
from benchmarks.nets.torch_plain import PlainNet
from benchmarks.nets.torch_resnet8 import ResNet8
from skerry.compress.train.training import Batch, Training
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import Tensor, functional, nn, torch
from skerry.tasks.sample import MemorySource, Sample

SEEDS = 3
"""So many, from 0, unless told otherwise."""

AN_EPOCH, QUICK_EPOCH = 20_000, 2000
"""How many pictures an epoch of what comes after goes through."""

AT_ONCE = 100
"""How many pictures are scored at once."""

Right = NDArray[np.float64]
"""Whether each test picture is told right, 0 or 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A trained net, and the test pictures that report.

    Attributes:
        seed: Of its training, and of the pictures held out.
        training: The net, and what trains it further.
        pictures: `[n, 1, 28, 28]` in 0–1, of the test set.
        labels: Their classes.
    """

    seed: int
    training: Training
    pictures: Tensor
    labels: Tensor


NETS: Mapping[str, Callable[[], nn.Module]] = {
    "depthwise": DepthwiseNet,
    "plain": PlainNet,
    "resnet8": ResNet8,
}


def make_case(work: Path, seed: int, *, quick: bool, net: str = "depthwise") -> Case:
    """The net that this seed trains, from the folder where it is there already.

    Args:
        work: What is trained is kept in its folder `made`.
        seed: Of the training.
        quick: A tenth of the pictures.
        net: Which one, of `NETS`.
    """
    pictures, labels = _read("train")
    counts = QUICK_COUNTS if quick else COUNTS
    order = np.random.default_rng([seed, 61]).permutation(len(labels))
    ends = np.cumsum([counts["calibration"], counts["selection"]])
    few, held, rest = (torch.from_numpy(part) for part in np.split(order, ends))
    rest = rest[:QUICK_TRAINING] if quick else rest

    def make(path: Path) -> None:
        tell(f"seed {seed}: the original")
        trained = train(pictures[rest], labels[rest], seed, NETS[net])
        torch.save(trained.state_dict(), path)

    kept = keep(work / "made" / f"{net}-seed{seed}{'-quick' * quick}.pt", make)
    module = NETS[net]()
    module.load_state_dict(torch.load(kept, weights_only=True))

    def batches(epoch: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(1000 * seed + epoch)
        drawn = torch.randperm(len(rest), generator=generator)
        places = rest[drawn[: QUICK_EPOCH if quick else AN_EPOCH]]
        return [
            ((_mirrored(pictures[some], generator),), labels[some])
            for some in places.split(BATCH)
        ]

    test = _read("t10k")
    return Case(
        seed=seed,
        training=Training(
            module=module.eval(),
            example=(pictures[few[:AT_ONCE]],),
            inputs=("picture",),
            outputs=("logits",),
            batches=batches,
            loss=functional.cross_entropy,
            calibration=as_source(pictures[few], labels[few]),
            selection=as_source(pictures[held], labels[held]),
            task=fashion_task(),
        ),
        pictures=test[0][: counts["report"]],
        labels=test[1][: counts["report"]],
    )


def as_source(pictures: Tensor, labels: Tensor) -> MemorySource:
    """Pictures as samples."""
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


def right_in_torch(module: nn.Module, case: Case) -> Right:
    """Which test pictures a module tells right."""
    module.eval()
    with torch.inference_mode():
        answers = [module(some).argmax(1) for some in case.pictures.split(AT_ONCE)]
    return np.asarray((torch.cat(answers) == case.labels).numpy(), np.float64)


def right_in_file(model: Model, case: Case) -> Right:
    """Which test pictures a file tells right, on onnxruntime."""
    session = get_runtime("onnxruntime").load(model, LoadOptions(threads=1))
    batch = model.inputs[0].shape[0]
    parts = case.pictures.numpy()
    size = batch if isinstance(batch, int) else AT_ONCE
    answers = [
        session.run({"picture": parts[start : start + size]})["logits"].argmax(1)
        for start in range(0, len(parts), size)
    ]
    session.close()
    return np.asarray(np.concatenate(answers) == case.labels.numpy(), np.float64)


def _read(which: str) -> tuple[Tensor, Tensor]:
    names = (f"{which}-{one}-ubyte.gz" for one in ("images-idx3", "labels-idx1"))
    return read_pictures(*(FASHION / name for name in names))


def _mirrored(pictures: Tensor, generator: torch.Generator) -> Tensor:
    is_mirrored = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5
    mirrored = torch.where(is_mirrored, pictures.flip(3), pictures)
    return mirrored.to(memory_format=torch.channels_last)
