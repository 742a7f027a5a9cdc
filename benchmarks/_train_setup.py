"""The depthwise net on Fashion-MNIST, as `skerry tune --train` takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks._train_qat import make_case
from skerry.compress.train.training import Training
from skerry.tasks.sample import MemorySource, Sample

WORK = Path("out/bench/train")


def whole() -> Training:
    """All training pictures; the test pictures report."""
    return _training(quick=False)


def quick() -> Training:
    """A tenth of them."""
    return _training(quick=True)


def _training(*, quick: bool) -> Training:
    case = make_case(WORK, 0, quick=quick)
    pairs = zip(case.pictures, case.labels, strict=True)
    samples = tuple(
        Sample(inputs={"picture": one[None]}, label=int(label), name=f"{index}")
        for index, (one, label) in enumerate(pairs)
    )
    return replace(case.training, report=MemorySource(samples=samples))
