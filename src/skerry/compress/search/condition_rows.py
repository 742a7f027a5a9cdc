"""The source and a compressed model side by side where pictures are spoilt.

A net that was compressed is often worse exactly in the dark, in rain or out of focus,
where its margins are small, while nothing is to be seen on clean pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.search.scoring import Place
from skerry.compress.view import SAME, View
from skerry.core.model import Model
from skerry.core.report import Accuracy, ConditionRow
from skerry.core.seams import Precision, Runtime
from skerry.tasks.conditions import Condition, parse_conditions
from skerry.tasks.evaluate import Scores, compare_scores, evaluate
from skerry.tasks.metrics import condition_drops, find_metric
from skerry.tasks.samples import SampleSource, under
from skerry.tasks.task import Task


class ConditionCheck:
    """Scores models under conditions; the source once, whatever it is held against.

    Args:
        source: The source model.
        samples: Labelled pictures.
        task: How outputs are decoded and scored; None scores nothing.
        runtime: What runs the source.
        conditions: Names of conditions.
        threads: CPU threads.
        progress: Told of each sample.

    Raises:
        DataError: The samples are not read from pictures.
        UsageError: There is no such condition.
    """

    def __init__(
        self,
        source: Model,
        samples: SampleSource,
        task: Task | None,
        runtime: Runtime,
        conditions: Iterable[str],
        *,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self._source = source
        self._task = task
        self._runtime = runtime
        self._threads = threads
        self._progress = progress
        # Once for each name, so that a wrong one is named by itself.
        wanted = [one for name in conditions for one in parse_conditions(name)]
        self._samples: dict[Condition, SampleSource] = {
            condition: under(samples, condition) for condition in wanted
        }
        self._before: dict[Condition, Scores] = {}

    def rows(
        self,
        model: Model,
        *,
        runtime: Runtime | None = None,
        precision: Precision = "default",
        view: View = SAME,
    ) -> tuple[ConditionRow, ...]:
        """Score a model under each condition, beside the source.

        Args:
            model: The compressed model.
            runtime: What runs it; by default what runs the source.
            precision: What that may compute floats in.
            view: How the compressed model sees samples.

        Raises:
            DataError: The samples do not fit the model or the task.
            RuntimeFailure: A runtime cannot run its model.
        """
        if not self._samples or self._task is None:
            return ()
        if not self._before:
            place = Place(runtime=self._runtime, threads=self._threads)
            self._before = self._score(self._source, self._task, place, SAME)
        place = Place(
            runtime=runtime or self._runtime,
            threads=self._threads,
            precision=precision,
        )
        after = self._score(model, self._task, place, view)
        return tuple(
            _row(condition, before, after[condition])
            for condition, before in self._before.items()
        )

    def refusal(
        self,
        model: Model,
        limits: Mapping[str, float],
        *,
        runtime: Runtime | None = None,
        precision: Precision = "default",
        view: View = SAME,
    ) -> str:
        """Say why a model is not to be chosen, or nothing.

        Args:
            model: The compressed model.
            limits: The largest loss allowed, by the name of its limit in a budget.
            runtime: What runs it; by default what runs the source.
            precision: What that may compute floats in.
            view: How the compressed model sees samples.

        Raises:
            The errors of `rows`.
        """
        rows = self.rows(model, runtime=runtime, precision=precision, view=view)
        if not rows or self._task is None:
            return ""
        drops = condition_drops(rows, self._task.scoring.name)
        missed = [
            row.condition
            for row, (limit, drop) in zip(rows, drops.items(), strict=True)
            if limit in limits and not drop <= limits[limit]
        ]
        return f"refused: loses too much under {', '.join(missed)}" if missed else ""

    def _score(
        self, model: Model, task: Task, place: Place, view: View
    ) -> dict[Condition, Scores]:
        own = view.task(task)
        with closing(place.load(model)) as session:
            return {
                condition: evaluate(session, view.samples(samples), own, self._progress)
                for condition, samples in self._samples.items()
            }


def condition_notes(rows: Iterable[ConditionRow], accuracy: Accuracy) -> list[str]:
    """Say where the compressed model is worse beyond the noise, if clean ones hold."""
    scoring = find_metric(accuracy.metric)

    def is_worse(ends: tuple[float, float]) -> bool:
        return ends[1] < 0 if scoring.higher_is_better else ends[0] > 0

    worse = [row.condition for row in rows if is_worse(row.ci95)]
    if not worse or is_worse(accuracy.ci95):
        return []
    where = ", ".join(worse)
    note = f"Under {where} the compressed model loses more than the noise explains"
    return [f"{note}, though not on clean pictures."]


def _row(condition: Condition, before: Scores, after: Scores) -> ConditionRow:
    delta = compare_scores(before, after)
    return ConditionRow(
        condition=condition.value,
        before=before.value,
        after=after.value,
        n=len(before.names),
        paired_delta=delta.delta,
        ci95=(delta.low, delta.high),
    )
