"""A net on Fashion-MNIST, as `skerry tune --train` takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks._train_net import as_source, make_case
from skerry.compress.train.training import Training

SETUP = """
from pathlib import Path

from benchmarks._train_setup import training


def setup():
    return training(Path({work!r}), net={net!r}, seed={seed}, quick={quick})
"""
"""What a user's training code is here: it says where the trained net is kept."""


def training(work: Path, *, net: str, seed: int, quick: bool) -> Training:
    """The net that a seed trains; the test pictures report."""
    case = make_case(work, seed, quick=quick, net=net)
    report = as_source(case.pictures, case.labels)
    return replace(case.training, report=report)
