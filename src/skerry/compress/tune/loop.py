"""Work on an experiment: claim a trial, try it, keep what it came to, again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from skerry.compress.tune.store import Propose, Store
from skerry.compress.tune.trial import Outcome, Trial
from skerry.core.errors import LinkError
from skerry.core.recipe import Recipe

Score = Callable[[Recipe, Sequence[Trial]], Outcome]
"""Tries a recipe; it is told what else was tried, to stop early."""


def work(
    store: Store,
    propose: Propose,
    score: Score,
    *,
    most: int,
    told: Callable[[Trial], None] = lambda _: None,
) -> None:
    """Work on an experiment until all its trials are claimed.

    Whatever interrupts it, the trials that were finished stay, and what was under way
    is taken over by the next worker.

    Args:
        store: The experiment's folder.
        propose: Says what to try next.
        score: Tries it.
        most: Trials of the whole experiment.
        told: Told of each trial that begins or ends.

    Raises:
        The errors of `score` and of the store.
    """
    with store.working():
        while (trial := store.claim(propose, most=most)) is not None:
            told(trial)
            try:
                outcome = score(trial.recipe, store.trials())
            except LinkError:
                store.let_go(trial)
                raise
            store.finish(trial, outcome)
            told(replace(trial, outcome=outcome))
