"""Whether a deployment still answers as it should."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from skerry.adapt.optimize.deployment import Deployment
from skerry.core.errors import DataError
from skerry.core.seams import Session
from skerry.tasks.evaluate import (
    MOST_COMPARED,
    Scores,
    compare_scores,
    evaluate,
    output_distance,
)
from skerry.tasks.metrics import PairedDelta, find_metric
from skerry.tasks.samples import SampleSource, take
from skerry.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a deployment's answers are worth.

    Attributes:
        holds: Whether they are as good as demanded.
        loss: What is lost of the metric, a fraction; or without labels the mean
            relative squared error of the outputs.
        delta: The metric's change with its interval; None without labels.
        said: The same in a few words.
    """

    holds: bool
    loss: float
    delta: PairedDelta | None
    said: str


class Validator:
    """Compares deployments' answers with those of the first one, on some samples.

    Args:
        start: The deployment that is right by definition.
        samples: Real inputs, with labels where there is a task.
        task: How outputs are decoded and scored; None compares outputs.
        limit: The largest loss of the metric, a fraction; or without a task the
            largest mean relative squared error of the outputs.

    Raises:
        SkerryError: The first deployment cannot be run on the samples.
    """

    def __init__(
        self,
        start: Deployment,
        samples: SampleSource,
        task: Task | None,
        *,
        limit: float,
    ) -> None:
        self._start = start
        self._samples = samples if task else take(samples, MOST_COMPARED)
        self._task = task
        self._limit = limit
        with closing(start.load()) as session:
            self._right = self._scores(session) if task else None

    @property
    def start_score(self) -> float | None:
        """The first deployment's metric; None without labels."""
        return self._right.value if self._right else None

    @property
    def metric(self) -> str:
        """The metric's name; empty without labels."""
        return self._right.metric if self._right else ""

    def __call__(self, deployment: Deployment) -> Verdict:
        """Judge a deployment.

        Raises:
            SkerryError: It cannot be run.
        """
        with closing(deployment.load()) as session:
            if self._right is None:
                return self._compared(session)
            after = self._scores(session)
        delta = compare_scores(self._right, after)
        loss = find_metric(after.metric).drop(self._right.value, delta.delta)
        return Verdict(
            holds=loss <= self._limit,
            loss=loss,
            delta=delta,
            said=f"{after.metric} {100 * after.value:.2f} after "
            f"{100 * self._right.value:.2f}, {delta}",
        )

    def _scores(self, session: Session) -> Scores:
        if self._task is None:
            raise DataError("there is no task", hint="Give a task file.")
        return evaluate(session, self._samples, self._task)

    def _compared(self, session: Session) -> Verdict:
        with closing(self._start.load()) as right:
            distances = [
                output_distance(right.run(one.inputs), session.run(one.inputs))
                for one in self._samples
            ]
        if not distances:
            raise DataError("there are no samples", hint="Give at least one.")
        loss = sum(distances) / len(distances)
        return Verdict(
            holds=loss <= self._limit,
            loss=loss,
            delta=None,
            said=f"outputs moved by {loss:.2g} (relative squared error)",
        )
