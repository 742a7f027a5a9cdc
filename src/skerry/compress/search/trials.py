"""Try one candidate: make it, time it, and score it where it could be chosen.

What was made and measured is kept, so that a second search with another option, or one
that was interrupted, does only what is new.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from skerry.compress.ptq.plan import Plan, plan_quantization
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.compress.ptq.samples_check import FEWEST_SAMPLES
from skerry.compress.search.alone import SAMPLES
from skerry.compress.search.cache import Key, fingerprint, versions
from skerry.compress.search.candidates import Candidate
from skerry.compress.search.condition_rows import ConditionCheck
from skerry.compress.search.making import Maker, Workshop
from skerry.compress.search.request import Search
from skerry.compress.search.scoring import (
    LabelledScorer,
    Place,
    Scorer,
    Seen,
    UnlabelledScorer,
    tighter,
)
from skerry.compress.search.sensitivity import measure_sensitivity
from skerry.compress.search.timing import SOURCE, TIE, is_slower, time_models
from skerry.compress.view import SAME, View, view_of
from skerry.core.errors import DataError, ModelError
from skerry.core.model import Model
from skerry.core.recipe import Recipe
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.graph import Graph
from skerry.tasks.measure import Ratio
from skerry.tasks.samples import SampleSource
from skerry.tasks.task import task_to_toml


def _first(samples: SampleSource) -> Tensors:
    for sample in samples:
        return sample.inputs
    raise DataError(
        "there are no calibration samples",
        hint=f"Give {FEWEST_SAMPLES} or more real inputs of the model.",
    )


Kept = TypeVar("Kept")
"""What a cache keeps as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeptScore:
    """A score, and the limit under which it was measured."""

    seen: Seen
    limit: float | None


class Gate(Protocol):
    """Says of a candidate that was made and timed whether it is worth scoring."""

    def refusal(self, model: Model, latency: Ratio) -> str:
        """Why it could not be chosen whatever it scored, or nothing."""
        ...

    def rival_drop(self, model: Model, latency: Ratio) -> float | None:
        """The loss at which another is better in everything; None where none is."""
        ...


SENSITIVITY_SAMPLES = 3
"""Samples on which operators are quantized one by one: enough to rank them."""

NOT_SURE = "refused: too few samples to be sure of it"
TOO_FEW_INTEGERS = "not scored: more in float than --integer-share allows"


class Trials:
    """Tries candidates of one model, and remembers them.

    Args:
        source: The model's file.
        graph: The same, read.
        search: Data, task, runtime and budget.
        folder: Where the candidates' files go; it exists.
    """

    def __init__(
        self, source: Model, graph: Graph, search: Search, folder: Path
    ) -> None:
        self.source = source
        self.search = search
        self.candidates: list[Candidate] = []
        # What the runtime refuses is told as that: values behind an operator that it
        # does not know have no type, and would seem to leave nothing to quantize.
        search.runtime.load(source, LoadOptions(threads=search.threads)).close()
        self.context = StepContext(
            calibration=search.calibration,
            runtime=search.runtime,
            threads=search.threads,
            progress=search.progress,
        )
        workshop = Workshop(folder=folder, cache=search.cache, trainer=search.trainer)
        self.maker = Maker(source, graph, self.context, workshop)
        self.sample = _first(search.calibration)
        self._samples = fingerprint(search.selection) if search.cache.is_kept else ""
        self.scorer = self._make_scorer()
        self._conditions = ConditionCheck(
            source,
            search.selection,
            search.task,
            search.runtime,
            search.budget.conditions,
            threads=search.threads,
            progress=search.progress,
        )

    def attempt(
        self,
        title: str,
        recipe: Recipe,
        *,
        must_win: bool = False,
        must_be_sure: bool = False,
        is_only_timed: bool = False,
        gate: Gate | None = None,
    ) -> Candidate:
        """Try a recipe on the named runtime.

        Args:
            title: What it is, for people.
            recipe: What makes it.
            must_win: Whether it is of no use unless it is faster than what holds.
            must_be_sure: Whether what chance may have been kind to is refused.
            is_only_timed: Whether it is shown for its latency alone: too many of its
                operators are in float.
            gate: What decides whether it is scored, in place of what else was tried
                here.

        Raises:
            DataError: Samples do not fit the model or the task.
        """
        found = Candidate(title=title, recipe=recipe, runtime=self.search.runtime.name)
        try:
            model = self.maker.make(recipe)
            found = replace(found, model=model)
            place = self._place(self.search.runtime)
            if is_only_timed:
                latency = self._time(model, place.runtime, SAME)
                found = replace(found, latency=latency, refusal=TOO_FEW_INTEGERS)
            else:
                found = self._judged(
                    found, place, gate or _Turns(self, must_win=must_win)
                )
            if must_be_sure and not found.refusal and not found.is_sure:
                found = replace(found, refusal=NOT_SURE)
        except ModelError as error:
            found = replace(found, refusal=f"refused: {error.what}")
        self.candidates.append(found)
        return found

    def elsewhere(
        self,
        title: str,
        recipe: Recipe,
        runtime: Runtime,
        *,
        model: Model | None = None,
    ) -> Candidate:
        """Try a model on another runtime.

        Args:
            title: What it is, for people.
            recipe: What makes it of the source.
            runtime: Where it is to run.
            model: Its file, if it was made already.
        """
        found = Candidate(title=title, recipe=recipe, runtime=runtime.name)
        try:
            found = replace(found, model=model or self.maker.make(recipe))
            found = self._judged(
                found, self._place(runtime), _Turns(self, must_win=True)
            )
        except ModelError as error:
            found = replace(found, refusal=f"refused: {error.what}")
        self.candidates.append(found)
        return found

    def holding(self) -> list[Candidate]:
        """The candidates that hold the budget."""
        return [one for one in self.candidates if not one.refusal]

    def remembered(
        self, kind: str, key: Key, form: type[Kept], make: Callable[[], Kept]
    ) -> Kept:
        """What the cache keeps under a key, or what is made now and kept."""
        found = self._recall(kind, key, form)
        if found is None:
            found = make()
            self.search.cache.put(kind, key, msgspec.json.encode(found))
        return found

    def source_accuracy(self) -> float | None:
        """The source's metric on the selection half; None without labels."""
        if self.search.task is None:
            return None
        place = self._place(self.search.runtime)
        return self.remembered(
            "source", self._score_key(self.source, place), float, self._measure_source
        )

    def plan(self, step: Quantize) -> Plan:
        """What a step quantizes of the source."""
        return plan_quantization(
            self.maker.prepared,
            operators=step.operators,
            keep_float=frozenset(step.keep_float),
            runtime=step.runtime,
        )

    def sensitivity(self, step: Quantize) -> dict[str, float]:
        """By operator, the error that it causes when it alone is quantized.

        Raises:
            RuntimeFailure: The runtime does not bear what it takes to tell.
        """
        search = self.search

        def measure() -> dict[str, float]:
            few = islice(search.calibration, SENSITIVITY_SAMPLES)
            return measure_sensitivity(
                self.maker.equalized(step),
                self.plan(step),
                self.maker.measured(step).ranges,
                [sample.inputs for sample in few],
                runtime=search.runtime,
                schemes=step.schemes,
                threads=search.threads,
                progress=search.progress,
            )

        key = self.maker.key(effects=dict(step.spec().params), few=SENSITIVITY_SAMPLES)
        return self.remembered("effects", key, dict[str, float], measure)

    def _recall(self, kind: str, key: Key, form: type[Kept]) -> Kept | None:
        known = self.search.cache.get(kind, key)
        try:
            return None if known is None else msgspec.json.decode(known, type=form)
        except msgspec.DecodeError:
            return None

    def _measure_source(self) -> float:
        accuracy = self.scorer.source_accuracy()
        return 0.0 if accuracy is None else accuracy

    def _judged(self, found: Candidate, place: Place, gate: Gate) -> Candidate:
        model = found.model
        if model is None:
            return found
        view = view_of(found.recipe, self.source.inputs)
        if refusal := self.cannot_run(model, view):
            return replace(found, refusal=f"refused: {refusal}")
        latency = self._time(model, place.runtime, view)
        found = replace(found, latency=latency)
        if refusal := gate.refusal(model, latency):
            return replace(found, refusal=refusal)
        rival_drop = gate.rival_drop(model, latency)
        seen = self._score(model, place, found.title, rival_drop, view)
        return replace(
            found,
            accuracy=seen.accuracy,
            drop=seen.drop,
            seen=seen.seen,
            is_sure=seen.is_sure(self.scorer.allowed),
            refusal=self.scorer.say(seen) or self._under_conditions(model, place, view),
        )

    def _under_conditions(self, model: Model, place: Place, view: View) -> str:
        """Why a candidate that holds on pictures as taken does not on spoilt ones."""
        limits = self.search.budget.limits
        return self._conditions.refusal(
            model, limits, runtime=place.runtime, precision=place.precision, view=view
        )

    def cannot_run(self, model: Model, view: View = SAME) -> str:
        """Why a model would not run on the hardware that it is for, or nothing."""
        refuse = self.search.refuse
        return "" if refuse is None else refuse(model, self._shown(view))

    @property
    def source_fits(self) -> bool:
        """Whether the source itself keeps the budget of size."""
        allowed = self.search.budget.size_bytes
        return allowed is None or self.source.size_bytes <= allowed

    def latency_key(
        self, model: Model, runtime: Runtime | None = None
    ) -> dict[str, object]:
        """What a time of a model depends on; on the named runtime by default."""
        named = self.search.runtime
        runtime = runtime or named
        return {
            "source": self.maker.source,
            "model": model.sha256,
            "on": [named.name, runtime.name],
            "versions": versions(
                **{named.name: named.version, runtime.name: runtime.version}
            ),
            "machine": [platform.node(), platform.machine(), os.cpu_count() or 0]
            if (meter := self.search.meter) is None
            else [meter.place],
        }

    def _time(self, model: Model, runtime: Runtime, view: View) -> Ratio:
        named = self.search.runtime

        def measure() -> Ratio:
            if (meter := self.search.meter) is not None:
                before = (self.source, self.sample, named)
                return meter.compare(before, (model, self._shown(view), runtime)).ratio
            found = time_models(
                {
                    SOURCE: (self.source, Place(runtime=named), self.sample),
                    "candidate": (model, Place(runtime=runtime), self._shown(view)),
                }
            )
            return found["candidate"]

        return self.remembered(
            "latency", self.latency_key(model, runtime), Ratio, measure
        )

    def _shown(self, view: View) -> Tensors:
        """The sample that is timed, as a candidate sees it."""
        if not view.is_changed:
            return self.sample
        return _first(view.samples(self.search.calibration))

    def _score(
        self,
        model: Model,
        place: Place,
        title: str,
        rival_drop: float | None,
        view: View,
    ) -> Seen:
        key = self._score_key(model, place)
        known = self._recall("score", key, _KeptScore)
        limit = self.scorer.limit
        looked = tighter(limit, rival_drop)
        if known is not None:
            again = known.seen.under(limit, known.limit, looked=looked)
            if again is not None:
                return again
        seen = self.scorer.score(
            model, place, title=title, rival_drop=rival_drop, view=view
        )
        kept = _KeptScore(seen=seen, limit=looked)
        self.search.cache.put("score", key, msgspec.json.encode(kept))
        return seen

    def alone_key(self, recipe: Recipe) -> Key:
        """What the loss depends on that one operator alone causes."""
        task = self.search.task
        return self.maker.key(
            alone=[{"step": one.name, **one.params} for one in recipe.steps],
            judged_on=self._samples,
            few=SAMPLES,
            task="" if task is None else task_to_toml(task),
        )

    def _score_key(self, model: Model, place: Place) -> Key:
        task = self.search.task
        named = self.search.runtime
        return {
            "source": self.maker.source,
            "model": model.sha256,
            "samples": self._samples,
            "task": "" if task is None else task_to_toml(task),
            "on": [named.name, place.runtime.name, place.precision, place.threads],
            "versions": versions(
                **{named.name: named.version, place.runtime.name: place.runtime.version}
            ),
        }

    def _place(self, runtime: Runtime) -> Place:
        return Place(runtime=runtime, threads=self.search.threads)

    def _make_scorer(self) -> Scorer:
        search, place = self.search, self._place(self.search.runtime)
        if search.task is None:
            return UnlabelledScorer(
                self.source,
                place,
                search.selection,
                limit=search.distance,
                progress=search.progress,
            )
        return LabelledScorer(
            self.source,
            place,
            search.selection,
            search.task,
            allowed=search.budget.accuracy_drop,
            progress=search.progress,
        )


class _Turns:
    """Candidates are tried in turn, and what was tried before says what is no use.

    Args:
        trials: What was tried.
        must_win: Whether one is of no use unless it is faster than what holds.
    """

    def __init__(self, trials: Trials, *, must_win: bool) -> None:
        self._trials = trials
        self._must_win = must_win

    def refusal(self, model: Model, latency: Ratio) -> str:
        """Why a candidate could not be chosen whatever it scored, or nothing."""
        allowed = self._trials.search.budget.size_bytes
        if allowed and model.size_bytes > allowed:
            return "refused: too large"
        if self._trials.search.prefer != "latency":
            return ""
        if self._trials.source_fits and is_slower(latency):
            return f"refused: {latency.median:.2f} × the source's time"
        times = [one.latency.median for one in self._trials.holding() if one.latency]
        if not times:
            return ""
        fastest = min(times)
        is_no_win = self._must_win and latency.median > fastest * (1 - TIE)
        if is_no_win or is_slower(latency, than=fastest):
            return "not scored: slower than one that holds"
        return ""

    def rival_drop(self, model: Model, latency: Ratio) -> float | None:  # noqa: ARG002
        """None: one of those that hold is chosen, whatever else they lose."""
        return None
