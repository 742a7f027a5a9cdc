"""What the tests of pruning share: a trained net."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from skerry.compress.train.fit import fit
from skerry.compress.train.training import TrainContext, Training
from skerry.core.budget import Budget
from skerry.runtimes.torch import torch
from tests.training import ToyNet, toy_training


@pytest.fixture(scope="session")
def trained() -> Training:
    """A net of 16 channels that tells tall from wide, and what trains it further."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        training = toy_training(ToyNet(16), n=256)
    fit(training.module, training, epochs=4)
    return training


@pytest.fixture
def context(trained: Training) -> Iterator[TrainContext]:
    """A budget of 5 points; afterwards the original must be what it was."""
    before = {name: one.clone() for name, one in trained.module.state_dict().items()}
    yield TrainContext(training=trained, budget=Budget(accuracy_drop=0.05))
    after = trained.module.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())


@pytest.fixture
def strict(context: TrainContext) -> TrainContext:
    """A budget that nothing keeps."""
    return replace(context, budget=Budget(accuracy_drop=-1.0))
