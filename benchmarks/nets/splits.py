"""Deal things out to the three parts of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from benchmarks.nets.case import PARTS

Thing = TypeVar("Thing")


def deal_out(
    things: Sequence[Thing], counts: Mapping[str, int], seed: int
) -> dict[str, list[Thing]]:
    """Deal things out to the parts, none to two.

    Args:
        things: In any order that is always the same.
        counts: How many each part gets at most; the last parts get fewer where there
            are too few.
        seed: Shuffles.
    """
    order = np.random.default_rng([seed, len(things)]).permutation(len(things))
    dealt, first = {}, 0
    for part in PARTS:
        chosen = order[first : first + counts[part]]
        dealt[part] = [things[index] for index in chosen]
        first += counts[part]
    return dealt
