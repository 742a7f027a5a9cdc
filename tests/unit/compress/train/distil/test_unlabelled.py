"""Samples without labels between batches that have them."""

from __future__ import annotations

import pytest

from skerry.compress.train.distil.unlabelled import gather, spread
from skerry.compress.train.training import Batch
from skerry.core.errors import DataError
from skerry.runtimes.torch import torch
from skerry.tasks.sample import MemorySource
from tests import training


def _labelled(epoch: int) -> list[Batch]:
    return [((torch.full((4, 1), float(epoch)),), torch.arange(4)) for _ in range(3)]


def _numbers(batches: list[Batch]) -> list[float]:
    return [
        number
        for (inputs,), labels in batches
        if labels is None
        for number in inputs.flatten().tolist()
    ]


def test_an_epoch_goes_through_all_of_both_evenly() -> None:
    """Three labelled batches, 22 samples in pieces of four between them."""
    extra = (torch.arange(22.0).reshape(22, 1),)
    epoch = spread(_labelled, extra, seed=0)(0)
    batches = list(epoch)
    assert len(batches) == len(epoch) == 9  # type: ignore[arg-type]
    assert sorted(_numbers(batches)) == list(range(22))
    places = [place for place, (_, labels) in enumerate(batches) if labels is not None]
    assert places == [0, 3, 6]


def test_the_same_epoch_gives_the_same_batches_and_another_one_others() -> None:
    """So what a run did can be repeated, and no order is learnt."""
    extra = (torch.arange(22.0).reshape(22, 1),)
    batches = spread(_labelled, extra, seed=0)
    orders = [_numbers(list(batches(epoch))) for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != _numbers(list(spread(_labelled, extra, seed=1)(0)))


def test_samples_are_gathered_by_the_names_of_inputs() -> None:
    """One tensor an input, a row a sample; without any there is nothing to gather."""
    (pictures,) = gather(training.samples(5, seed=0), ("picture",))
    assert pictures.shape == (5, 1, 8, 8)
    with pytest.raises(DataError, match="no unlabelled"):
        gather(MemorySource(samples=()), ("picture",))
