"""When quantizers begin to round, and when their scales come to rest.

Rounding a whole network at once is a jump that small networks take long to recover
from. Beginning with a part lets the rest make up for it (A. Zhou et al., "Incremental
Network Quantization", ICLR 2017, section 3.1); scales that stand still at the end let
weights settle into their codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from skerry.compress.train.qat.fake import FakeQuantizer

Order = Literal["together", "forward", "weights"]
"""Which quantizers begin: all; those nearest the input, and by the middle of training
all; or those of weights, and in the middle of training the others."""


def advance(
    quantizers: Sequence[FakeQuantizer],
    epoch: int,
    epochs: int,
    *,
    order: Order,
    frozen: float,
) -> None:
    """Switch quantizers on, and freeze their scales, for one epoch of training.

    Args:
        quantizers: All of a network, from its input to its output.
        epoch: From 0.
        epochs: How many there are.
        order: Which of them begin.
        frozen: The share of the epochs, at the end, in which scales stand still; one
            epoch at least is left for them to move.
    """
    ramp = epochs // 2
    is_started = epoch >= ramp
    count = len(quantizers)
    first = count if is_started else math.ceil(count * (epoch + 1) / (ramp + 1))
    is_frozen = epoch >= max(epochs - round(frozen * epochs), 1)
    for index, one in enumerate(quantizers):
        if order == "forward":
            one.is_on = index < first
        elif order == "weights":
            one.is_on = is_started or one.is_weights
        else:
            one.is_on = True
        one.freeze(is_frozen=is_frozen)
