"""What quantizing one operator alone loses of the task's metric.

How far outputs move tells which operators to suspect, from few samples; whether that
changes an answer only the metric can say, and that takes more of them. So those that
are suspected most are judged by it, on some labelled samples, and what chance explains
counts as nothing lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.search.candidates import recipe_of
from skerry.compress.search.scoring import LabelledScorer, Place, Seen
from skerry.core.model import Model
from skerry.core.recipe import Recipe
from skerry.tasks.samples import SampleSource, take
from skerry.tasks.task import Task

MOST_JUDGED = 8
"""Operators, at most, that are judged by the metric."""

SAMPLES = 48
"""Labelled samples on which they are."""


def only(step: Quantize, name: str, planned: Sequence[str]) -> Recipe:
    """The recipe that quantizes one operator and leaves the others in float.

    Args:
        step: What would quantize all of them.
        name: The operator.
        planned: Names of all that the step would quantize.
    """
    others = {*step.keep_float, *planned} - {name}
    return recipe_of(replace(step, keep_float=tuple(sorted(others))))


class LossAlone:
    """Scores models in which one operator is quantized.

    Args:
        source: The float model.
        place: What runs them.
        samples: Labelled; some of them are looked at.
        task: How outputs are decoded and scored.
    """

    def __init__(
        self, source: Model, place: Place, samples: SampleSource, task: Task
    ) -> None:
        self._scorer = LabelledScorer(
            source, place, take(samples, SAMPLES), task, allowed=None
        )
        self._place = place

    def measure(self, make: Callable[[], Model], title: str) -> float:
        """The loss of the metric, in its unit, with one standard error taken off.

        Args:
            make: Makes the model.
            title: What it is, for progress.

        Raises:
            ModelError: The model does not fit the task.
            RuntimeFailure: The runtime cannot run it.
        """
        return surely_lost(self._scorer.score(make(), self._place, title=title))


def surely_lost(seen: Seen) -> float:
    """What is lost even if chance was unkind by one standard error; never below 0."""
    reach = 0.0 if seen.at_worst is None else seen.at_worst - seen.drop
    return max(0.0, seen.drop - reach)
