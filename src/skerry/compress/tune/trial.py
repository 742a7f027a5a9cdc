"""A trial: one recipe of an experiment, and what it came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from skerry.core.recipe import Recipe
from skerry.tasks.measure import Ratio

Costs = tuple[float, float, float]
"""Loss of the metric, latency ÷ the source's, size ÷ the source's: less is better."""


UNKNOWN: Costs = (float("inf"), float("inf"), float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a recipe came to.

    Attributes:
        drop: Loss of the metric on the samples seen, as a fraction, or how far outputs
            moved; None where it was not scored.
        latency: Latency ÷ the source's; None where it was not timed.
        size: Size of its file ÷ the source's; None where it was not made.
        size_bytes: Size of its file.
        accuracy: The metric; None without labels or where it was not scored.
        seen: Samples it was scored on.
        is_sure: Whether it holds even if chance was kind to it.
        violation: By how much it breaks the budget, as fractions of the limits added
            up; 0 where it holds.
        refusal: Why it is not to be chosen, or empty.
        took_s: How long the trial took, in seconds.
    """

    drop: float | None = None
    latency: Ratio | None = None
    size: float | None = None
    size_bytes: int | None = None
    accuracy: float | None = None
    seen: int = 0
    is_sure: bool = False
    violation: float = 0.0
    refusal: str = ""
    took_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it may be chosen."""
        return not self.refusal

    @property
    def costs(self) -> Costs | None:
        """What it costs; None where one of the three is not known."""
        if self.drop is None or self.latency is None or self.size is None:
            return None
        return self.drop, self.latency.median, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One recipe of an experiment.

    Attributes:
        number: Counts from 0 in the order of claiming.
        recipe: What is tried.
        worker: Who claimed it last.
        claims: How often it was claimed: once, and again after each worker that died.
        outcome: What it came to; None while it is under way.
    """

    number: int
    recipe: Recipe
    worker: str = ""
    claims: int = 1
    outcome: Outcome | None = None

    @property
    def costs(self) -> Costs:
        """What it costs; infinite while one of the three is not known."""
        known = self.outcome.costs if self.outcome is not None else None
        return known or UNKNOWN


def holding(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that hold the budget, with all their costs known."""
    return [
        one
        for one in trials
        if one.outcome is not None and one.outcome.holds and one.outcome.costs
    ]
