"""Try a recipe, no longer than it takes to see that it leads nowhere.

A recipe is given up as early as that is sure. Made and timed, it is not scored where
its size, its latency or its memory already breaks the budget. Scored, it is seen on
twice as many samples after each look, and dropped when it surely loses more than the
budget allows, or more than another that is as small and as fast (racing: O. Maron and
A. Moore, "Hoeffding Races", NIPS 1993; the doubling looks are those of successive
halving, K. Jamieson and A. Talwalkar, AISTATS 2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property

from skerry.compress.search.candidates import Candidate
from skerry.compress.search.scoring import Place
from skerry.compress.search.trials import Trials
from skerry.compress.tune.space import describe
from skerry.compress.tune.trial import Outcome, Trial, holding
from skerry.core.budget import Breach, Budget
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import DataError, UsageError
from skerry.core.model import Model
from skerry.core.recipe import Recipe
from skerry.graph import peak_activation_bytes, read_graph
from skerry.tasks.measure import Ratio, measure_latency

FAILED = 10.0
"""The violation of what could not be made, or not be run: worse than any that could."""

SOURCE_REPEATS = 15
"""Rounds in which the source is timed, for latencies in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetGate:
    """Says of a candidate that was made and timed whether the budget can still hold.

    Attributes:
        budget: What must hold.
        source_ms: Median latency of the source.
        trials: What else was tried.
        memory_bytes: Peak activation memory of a model; asked where it is limited.
    """

    budget: Budget
    source_ms: float
    trials: Sequence[Trial]
    memory_bytes: Callable[[Model], int | None]

    def refusal(self, model: Model, latency: Ratio) -> str:
        """The first limit that does not hold, or nothing."""
        broken = self.breaches(model, latency)
        return f"refused: {broken[0]}" if broken else ""

    def breaches(self, model: Model, latency: Ratio) -> list[Breach]:
        """The limits that size, latency and memory break."""
        budget = Budget(
            latency_ms=self.budget.latency_ms,
            size_bytes=self.budget.size_bytes,
            memory_bytes=self.budget.memory_bytes,
        )
        measured: dict[str, float] = {
            "latency_ms": latency.low * self.source_ms,
            "size_bytes": model.size_bytes,
        }
        if self.budget.memory_bytes is not None:
            peak = self.memory_bytes(model)
            measured |= {} if peak is None else {"memory_bytes": peak}
        return budget.breaches(measured)

    def rival_drop(self, model: Model, latency: Ratio) -> float | None:
        """The least loss of those that hold and are as small and as fast."""
        drops = [
            one.outcome.drop
            for one in holding(self.trials)
            if one.outcome
            and one.outcome.latency
            and one.outcome.drop is not None
            and one.outcome.latency.median <= latency.median
            and (one.outcome.size_bytes or 0) <= model.size_bytes
        ]
        return min(drops, default=None)


class Judge:
    """Tries recipes of one model, within a budget.

    Args:
        trials: What makes, times and scores candidates.
        clock: What measures how long a trial took; this machine's by default.
    """

    def __init__(self, trials: Trials, *, clock: Clock | None = None) -> None:
        self._trials = trials
        self._clock = clock or SystemClock()

    @cached_property
    def source_ms(self) -> float:
        """Median latency of one inference of the source."""
        trials = self._trials
        key = {**trials.latency_key(trials.source), "figure": "ms"}
        return trials.remembered("source-ms", key, float, self._time_source)

    @property
    def source_holds(self) -> bool:
        """Whether the source runs, in the budget of size, latency and memory."""
        if self._trials.cannot_run(self._trials.source):
            return False
        itself = Ratio(median=1.0, low=1.0, high=1.0)
        return not self._gate(()).breaches(self._trials.source, itself)

    def __call__(self, recipe: Recipe, others: Sequence[Trial]) -> Outcome:
        """Try a recipe.

        Args:
            recipe: What is tried.
            others: What else was tried, for what is no better than one of them.

        Raises:
            DataError: Samples do not fit the model or the task.
        """
        started_s = self._clock.wall_s()
        gate = self._gate(others)
        try:
            found = self._trials.attempt(describe(recipe), recipe, gate=gate)
        except DataError:
            raise
        except UsageError as error:
            # Parameters that do not go together; the others may well.
            outcome = Outcome(violation=FAILED, refusal=f"refused: {error.what}")
        else:
            outcome = self._outcome(found, gate)
        return replace(outcome, took_s=self._clock.wall_s() - started_s)

    def _gate(self, others: Sequence[Trial]) -> BudgetGate:
        return BudgetGate(
            budget=self._trials.search.budget,
            source_ms=self.source_ms,
            trials=others,
            memory_bytes=self._peak,
        )

    def _outcome(self, found: Candidate, gate: BudgetGate) -> Outcome:
        model, latency, drop = found.model, found.latency, found.drop
        is_sound = drop is None or math.isfinite(drop)
        if model is None or latency is None or not is_sound:
            return Outcome(violation=FAILED, refusal=found.refusal)
        over = sum(map(_excess, gate.breaches(model, latency)))
        if drop is not None and (limit := self._trials.scorer.limit) is not None:
            over += max(0.0, drop - limit) / (limit or 1.0)
        return Outcome(
            drop=drop,
            latency=latency,
            size=model.size_bytes / self._trials.source.size_bytes,
            size_bytes=model.size_bytes,
            accuracy=found.accuracy,
            seen=found.seen,
            is_sure=found.is_sure,
            violation=over,
            refusal=found.refusal,
        )

    def _peak(self, model: Model) -> int | None:
        sample = self._trials.sample
        shapes = {
            # A resized model has sides of its own; what it leaves open, samples say.
            one.name: tuple(
                side if isinstance(side, int) else given
                for side, given in zip(one.shape, sample[one.name].shape, strict=True)
            )
            for one in model.inputs
        }
        return peak_activation_bytes(read_graph(model.path), shapes)

    def _time_source(self) -> float:
        trials, search = self._trials, self._trials.search
        if search.meter is not None:
            return search.meter.latency_ms(trials.source, trials.sample, search.runtime)
        with closing(Place(runtime=search.runtime).load(trials.source)) as session:
            found = measure_latency(
                {"source": lambda: session.run(trials.sample)},
                repeats=SOURCE_REPEATS,
            )
        return found["source"].median_ms


def _excess(breach: Breach) -> float:
    """By how much a figure is over its limit, as a fraction; what is not known, all."""
    if breach.measured is None:
        return 1.0
    return breach.measured / breach.allowed - 1 if breach.allowed else 1.0
