from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.numbers.schemes import Scheme
from skerry.compress.train.qat.fake import FakeQuantizer
from skerry.compress.train.qat.schedule import Order, advance
from skerry.compress.train.rounding import Pair


def quantizers(count: int) -> list[FakeQuantizer]:
    """Activations and weights by turns."""
    return [
        FakeQuantizer(
            Pair(
                name=str(index),
                kind="weight" if index % 2 else "activation",
                source=str(index),
                consumers=(),
                scale=np.ones((), np.float32),
                zero_point=np.zeros((), np.int64),
                axis=None,
                dtype="int8",
            ),
            Scheme(),
        )
        for index in range(count)
    ]


def on(order: Order, epoch: int, epochs: int, count: int = 6) -> list[bool]:
    """Which quantizers round in an epoch."""
    found = quantizers(count)
    advance(found, epoch, epochs, order=order, frozen=0)
    return [one.is_on for one in found]


def test_forward_goes_from_the_input_to_the_output() -> None:
    """A growing part from the input, and all by the middle of training."""
    assert on("forward", 0, 4) == [True] * 2 + [False] * 4
    assert on("forward", 1, 4) == [True] * 4 + [False] * 2
    assert all(on("forward", 2, 4))
    assert all(on("forward", 3, 4))


def test_weights_begin_and_activations_follow() -> None:
    """Weights round from the start, activations from the middle on."""
    assert on("weights", 0, 4) == [False, True] * 3
    assert all(on("weights", 2, 4))


@pytest.mark.parametrize("order", ["together", "forward", "weights"])
def test_one_epoch_rounds_everything(order: Order) -> None:
    """However short training is, it ends with what is exported."""
    assert all(on(order, 0, 1))


@pytest.mark.parametrize(("frozen", "free"), [(0.0, 4), (0.25, 3), (0.5, 2), (1.0, 1)])
def test_scales_stand_still_at_the_end(frozen: float, free: int) -> None:
    """For the share of epochs that was asked for; the first one always moves them."""
    found = quantizers(2)
    for epoch in range(4):
        advance(found, epoch, 4, order="together", frozen=frozen)
        assert all(one.growth.requires_grad == (epoch < free) for one in found)
