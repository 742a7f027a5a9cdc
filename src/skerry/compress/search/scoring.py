"""Score candidates against the source, no longer than it takes to refuse one.

The selection samples are gone through in a random order that is always the same, block
after block, so that what has been seen is a fair sample of all. After each block a
candidate is refused when its loss is beyond the limit by more than chance explains:

    loss - 2 · reach · sqrt(1 - seen / all) > limit

where `reach` is the distance from the loss to the nearer end of its 95 % interval,
paired with the source. Twice that is about four standard deviations, and the root is
the correction for a finite population (W. G. Cochran, "Sampling Techniques", 3rd ed.,
1977, section 2.6): with all samples seen nothing is left to chance, and the loss itself
decides. So what holds on all samples is refused in less than one case in a thousand,
and what is hopeless costs a tenth of them.

Few samples tell little: a candidate that loses nothing on 300 may lose a point on
2,000. So one that holds is called sure where its loss still holds with one standard
error on top (five cases in six), and those that are sure go before all others.

Without labels there is the distance of the outputs from the source's. Its mean cannot
fall below what has been summed up already: a candidate is refused when that sum alone,
divided by all samples, is over the limit. That rule is never wrong.

Whatever the limit allows, a candidate is refused that is broken: its outputs are NaN or
infinite where the source's are not, or the same for all samples while the source's
differ. A loose limit, or a metric that a guess satisfies, does not let it pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.search.traced import Trace, TracedSession
from skerry.compress.view import SAME, View
from skerry.core.errors import DataError, ModelError
from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Precision, Runtime, Session
from skerry.tasks.evaluate import (
    MOST_COMPARED,
    SELECTION_MARGIN,
    Answered,
    Scores,
    answers,
    compare_scores,
    output_distance,
    score,
)
from skerry.tasks.metrics import find_metric
from skerry.tasks.samples import SampleSource, take
from skerry.tasks.task import Task

FIRST_BLOCK = 24
"""Samples seen before a candidate may be refused; each look after has twice as many."""

REACHES = 2.0
"""How many times the reach of the 95 % interval a loss must be beyond the limit."""

STANDARD_ERRORS = 1.96
"""Reach of a 95 % interval in standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How a candidate did, as far as it was looked at.

    Attributes:
        accuracy: The task's metric; None without labels.
        drop: What is lost against the source, in the unit of the limit; infinite
            where the candidate is broken.
        seen: Samples looked at.
        total: Samples there are.
        holds: Whether the loss is within the limit.
        broken: What is wrong with the outputs whatever the limit, or nothing.
        at_worst: The loss with one standard error on top; None where it is exact.
    """

    accuracy: float | None
    drop: float
    seen: int
    total: int
    holds: bool
    broken: str = ""
    at_worst: float | None = None

    def is_sure(self, allowed: float | None) -> bool:
        """Whether the loss is allowed even with one standard error on top."""
        worst = self.drop if self.at_worst is None else self.at_worst
        return self.holds and (allowed is None or worst <= allowed)

    def under(
        self,
        limit: float | None,
        measured_under: float | None,
        *,
        looked: float | None,
    ) -> Seen | None:
        """The same under another limit; None where that takes a new look.

        Args:
            limit: The limit that counts now; None allows any loss.
            measured_under: The loss beyond which the look was stopped.
            looked: The one beyond which it would be stopped now.
        """
        if self.broken:
            return self
        if self.seen == self.total:
            return replace(self, holds=limit is None or self.drop <= limit)
        if looked is None or measured_under is None or looked > measured_under:
            return None
        return self


def tighter(limit: float | None, rival_drop: float | None) -> float | None:
    """The loss beyond which nothing more need be seen of a candidate."""
    known = [one for one in (limit, rival_drop) if one is not None]
    return min(known, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a model is run."""

    runtime: Runtime
    threads: int = 1
    precision: Precision = "default"

    def load(self, model: Model) -> Session:
        """Load a model there."""
        options = LoadOptions(threads=self.threads, precision=self.precision)
        return self.runtime.load(model, options)


class Scorer(Protocol):
    """Says what a candidate loses, in a unit of its own."""

    def source_accuracy(self) -> float | None:
        """The source's metric on all samples; None without labels."""
        ...

    @property
    def allowed(self) -> float | None:
        """The largest loss that the budget allows; None where any is."""
        ...

    @property
    def limit(self) -> float | None:
        """The largest loss that holds on these samples; None where any does."""
        ...

    def score(
        self,
        model: Model,
        place: Place,
        *,
        title: str,
        rival_drop: float | None = None,
        view: View = SAME,
    ) -> Seen:
        """Score a candidate.

        Args:
            model: Its file.
            place: What runs it.
            title: What it is, for progress.
            rival_drop: The loss at which another candidate is better in everything:
                one that surely loses more is seen no further.
            view: How it sees samples.
        """
        ...

    def say(self, seen: Seen) -> str:
        """Why a candidate is refused, in a few words; empty where it holds."""
        ...


class LabelledScorer:
    """Scores by the task's metric, paired with the source.

    Args:
        source: The model that candidates are made from.
        place: What runs it.
        samples: With labels.
        task: How outputs are decoded and scored.
        allowed: The largest loss of the metric, as a fraction; None allows any.
        progress: Told after each sample.
    """

    def __init__(
        self,
        source: Model,
        place: Place,
        samples: SampleSource,
        task: Task,
        *,
        allowed: float | None,
        progress: Progress | None = None,
    ) -> None:
        self._task = task
        self._progress = progress
        self._total = len(samples)
        self._blocks = list(_blocks(samples))
        self.allowed = allowed
        self.limit = None if allowed is None else allowed * SELECTION_MARGIN
        self._source = source
        self._place = place

    def source_accuracy(self) -> float:
        """The source's metric on all samples."""
        return self._baseline.value

    @cached_property
    def _right(self) -> tuple[list[Answered], Trace]:
        """What the source says; not asked before a candidate must be compared."""
        told = _counter(self._progress, "source", self._total)
        with closing(TracedSession(self._place.load(self._source))) as session:
            found = [
                one
                for block in self._blocks
                for one in self._run(session, block, self._task, told)
            ]
            return found, session.trace

    @cached_property
    def _baseline(self) -> Scores:
        return score(self._right[0], self._task)

    def score(
        self,
        model: Model,
        place: Place,
        *,
        title: str,
        rival_drop: float | None = None,
        view: View = SAME,
    ) -> Seen:
        """Score a candidate, until it is refused or all samples are seen.

        Raises:
            ModelError: Its outputs do not fit the task, though the source's do.
            RuntimeFailure: The runtime cannot run it.
        """
        # The source comes first: what does not fit then is the fault of the data.
        right = self._right[1]
        told = _counter(self._progress, title, self._total)
        found: list[Answered] = []
        limit = tighter(self.limit, rival_drop)
        task = view.task(self._task)
        with closing(TracedSession(place.load(model))) as session:
            for block in self._blocks:
                own = view.samples(block)
                with _own_fault():
                    found += self._run(session, own, task, told)
                broken = session.trace.broken(right)
                if broken or self._is_hopeless(found, limit):
                    break
        if broken:
            return Seen(
                accuracy=None,
                drop=float("inf"),
                seen=len(found),
                total=self._total,
                holds=False,
                broken=broken,
            )
        after = score(found, self._task)
        before = self._before(len(found))
        drop = _loss(before, after)
        holds = len(found) == self._total and (self.limit is None or drop <= self.limit)
        return Seen(
            accuracy=after.value,
            drop=drop,
            seen=len(found),
            total=self._total,
            holds=holds,
            at_worst=drop + _reach(before, after) / STANDARD_ERRORS if holds else None,
        )

    def say(self, seen: Seen) -> str:
        """Why a candidate is refused, in a few words; empty where it holds."""
        if seen.broken:
            return f"refused: {seen.broken}"
        if seen.holds:
            return ""
        if seen.seen == seen.total:
            return "refused: loses too much"
        return f"refused after {seen.seen} of {seen.total} samples: loses too much"

    def _run(
        self,
        session: Session,
        block: SampleSource,
        task: Task,
        told: Callable[[], None],
    ) -> Iterator[Answered]:
        for one in answers(session, block, task):
            yield one
            told()

    def _before(self, seen: int) -> Scores:
        if seen == self._total:
            return self._baseline
        return score(self._right[0][:seen], self._task)

    def _is_hopeless(self, found: list[Answered], limit: float | None) -> bool:
        """Whether what was seen so far loses too much to be chance."""
        if limit is None or len(found) == self._total:
            return False
        try:
            before, after = self._before(len(found)), score(found, self._task)
        except DataError:
            # Too few samples for this metric: nothing is known yet.
            return False
        drop = _loss(before, after)
        if not drop > limit:
            return False
        reach = _reach(before, after)
        unseen = 1 - len(found) / self._total
        return drop - REACHES * reach * math.sqrt(unseen) > limit


def _loss(before: Scores, after: Scores) -> float:
    """What is lost of the metric, whichever way it runs; below 0 is a gain."""
    metric = find_metric(after.metric)
    return metric.drop(before.value, after.value - before.value)


def _reach(before: Scores, after: Scores) -> float:
    """From the loss to the nearer end of its 95 % interval, as a loss."""
    metric, change = find_metric(after.metric), compare_scores(before, after)
    # A loss is a fall where higher is better: its harmless end is the upper one.
    end = change.high if metric.higher_is_better else change.low
    return abs(metric.drop(before.value, end) - _loss(before, after))


class UnlabelledScorer:
    """Scores by how far outputs move from the source's.

    Args:
        source: The model that is right by definition.
        place: What runs it.
        samples: Real inputs; labels are not looked at.
        limit: The largest mean relative squared error that holds.
        progress: Told after each sample.
    """

    def __init__(
        self,
        source: Model,
        place: Place,
        samples: SampleSource,
        *,
        limit: float,
        progress: Progress | None = None,
    ) -> None:
        self.allowed = self.limit = limit
        self._source = source
        self._place = place
        self._samples = take(samples, MOST_COMPARED)
        self._progress = progress

    def source_accuracy(self) -> None:
        """There is none without labels."""

    def score(
        self,
        model: Model,
        place: Place,
        *,
        title: str,
        rival_drop: float | None = None,
        view: View = SAME,
    ) -> Seen:
        """Compare a candidate's outputs with the source's, until it cannot hold.

        Raises:
            DataError: There are no samples.
            RuntimeFailure: The runtime cannot run it.
        """
        total, seen, error = len(self._samples), 0, 0.0
        limit = self.limit if rival_drop is None else min(self.limit, rival_drop)
        told = _counter(self._progress, title, total)
        broken = ""
        with (
            closing(TracedSession(self._place.load(self._source))) as right,
            closing(TracedSession(place.load(model))) as session,
        ):
            for sample, own in zip(
                self._samples, view.samples(self._samples), strict=True
            ):
                reference = right.run(sample.inputs)
                if right.trace.unsound:
                    raise DataError(
                        f"the source model gives NaN or infinity for {sample.name}: "
                        "nothing can be compared with that",
                        hint="Repair the model or the sample, or give labels.",
                    )
                error += output_distance(reference, session.run(own.inputs))
                seen += 1
                told()
                broken = session.trace.broken(right.trace)
                if broken or error / total > limit:
                    break
        if not seen:
            raise DataError(
                "there are no samples to compare outputs on",
                hint="Give real inputs of the model.",
            )
        return Seen(
            accuracy=None,
            drop=float("inf") if broken else error / seen,
            seen=seen,
            total=total,
            holds=not broken and seen == total and error / total <= self.limit,
            broken=broken,
        )

    def say(self, seen: Seen) -> str:
        """How far the outputs moved, in a few words; empty where that holds."""
        if seen.broken:
            return f"refused: {seen.broken}"
        if seen.holds:
            return ""
        where = "" if seen.seen == seen.total else f" after {seen.seen} samples"
        return f"refused{where}: outputs move by {seen.drop:.2g} of their energy"


@contextmanager
def _own_fault() -> Iterator[None]:
    """Turn what a candidate's outputs do not fit into a fault of the candidate."""
    try:
        yield
    except DataError as error:
        raise ModelError(error.what, hint=error.hint) from error


def _blocks(samples: SampleSource) -> Iterator[SampleSource]:
    """Deal samples out: a few, then as many again as there were, in a random order."""
    total = len(samples)
    order = np.random.default_rng(0).permutation(total)
    start = 0
    while start < total:
        stop = max(FIRST_BLOCK, 2 * start)
        # A last block of a few would be a look that is hardly worth it.
        stop = total if stop * 1.5 > total else stop
        mask = np.zeros(total, np.bool_)
        mask[order[start:stop]] = True
        yield samples.pick(mask)
        start = stop


def _counter(progress: Progress | None, title: str, total: int) -> Callable[[], None]:
    """Tell of one more sample at each call."""
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(f"try: {title}", done, total)

    return told
