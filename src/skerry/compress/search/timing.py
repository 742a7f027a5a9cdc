"""Time candidates against the source, in turns, on one thread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial

from skerry.compress.search.scoring import Place
from skerry.core.model import Model
from skerry.core.seams import Tensors
from skerry.tasks.measure import Ratio, measure_latency, ratio

SOURCE = "source"
"""The name of what all others are compared with."""

FEWEST_ROUNDS = 6
MOST_ROUNDS = 61
QUICK_MS = 250.0
"""Time for a first look at one candidate: small nets, which are noisier, have more
rounds in it."""

TIE = 0.02
"""Latencies that differ by less count as the same: nobody would notice."""


def time_models(
    models: Mapping[str, tuple[Model, Place, Tensors]],
    *,
    rounds: int | None = None,
) -> dict[str, Ratio]:
    """Time models in turns.

    Args:
        models: By name, each with where it runs and what it is given; one is called
            `source`.
        rounds: How often; None decides by how long the source takes.

    Returns:
        By name, latency ÷ the source's; the source's own is not among them.

    Raises:
        RuntimeFailure: One cannot be run.
    """
    with ExitStack() as stack:
        calls = {
            name: partial(stack.enter_context(closing(place.load(model))).run, inputs)
            for name, (model, place, inputs) in models.items()
        }
        if rounds is None:
            first = measure_latency({SOURCE: calls[SOURCE]}, repeats=1)
            rounds = rounds_for(first[SOURCE].median_ms * len(calls))
        found = measure_latency(calls, repeats=rounds)
    return {
        name: ratio(latency, found[SOURCE])
        for name, latency in found.items()
        if name != SOURCE
    }


def rounds_for(round_ms: float) -> int:
    """How many rounds a first look takes; each runs every model twice."""
    wished = math.ceil(QUICK_MS / max(2 * round_ms, 1e-3))
    return min(MOST_ROUNDS, max(FEWEST_ROUNDS, wished))


def is_slower(found: Ratio, than: float = 1.0) -> bool:
    """Whether a model is slower than a ratio, beyond noise and what anyone notices."""
    return found.low > than * (1 + TIE)
