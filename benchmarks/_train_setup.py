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
    return training(Path({work!r}), net={net!r}, quick={quick})
"""
"""What a user's training code is here: it says where the trained net is kept."""


def training(work: Path, *, net: str, quick: bool) -> Training:
    """The net of seed 0; the test pictures report."""
    case = make_case(work, 0, quick=quick, net=net)
    report = as_source(case.pictures, case.labels)
    return replace(case.training, report=report)
