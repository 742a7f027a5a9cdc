"""Turn the outcome of a search into a report, on data the search never saw."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import StepContext
from skerry.compress.search.candidates import Candidate, Choice, without_chosen
from skerry.compress.search.choose import choose
from skerry.compress.search.condition_rows import ConditionCheck, condition_notes
from skerry.compress.search.likeness import alike
from skerry.compress.search.making import Maker, Workshop
from skerry.compress.search.meter import Pace
from skerry.compress.search.operator_errors import MOST_SAMPLES
from skerry.compress.search.operator_rows import Subject, operator_rows
from skerry.compress.search.pareto import mark_pareto
from skerry.compress.search.request import DEFAULT_BUDGET, Search
from skerry.compress.search.sample_notes import sample_notes
from skerry.compress.search.timing import TIE
from skerry.compress.view import SAME, view_of
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.model import Model
from skerry.core.profile import Profile
from skerry.core.recipe import Recipe
from skerry.core.report import (
    Accuracy,
    Change,
    ConditionRow,
    LatencyChange,
    LayerRow,
    Report,
)
from skerry.core.seams import LoadOptions, Runtime, Tensors
from skerry.graph import (
    Graph,
    peak_activation_bytes,
    read_graph,
    write_graph,
)
from skerry.tasks.evaluate import Scores, compare_scores, evaluate
from skerry.tasks.measure import measure_latency, ratio
from skerry.tasks.metrics import PairedDelta, condition_drops, find_metric
from skerry.tasks.samples import FolderSource, SampleSource
from skerry.tasks.task import Task

REPORT_REPEATS = 31
PROFILE_REPEATS = 10

MODEL_FILE = "model.onnx"
"""What a result is called: where its weights lie apart, the file names theirs, so its
hash depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compressed model and the proof of what it costs and brings.

    Attributes:
        graph: The model to write; the source's own graph where nothing held.
        report: The evidence, from the report half.
        choice: Everything that was tried.
        scores: Of the source and of the compressed model, on the report half; None
            without labels.
        task: The compressed model's task, where it is another than the source's.
    """

    graph: Graph
    report: Report
    choice: Choice
    scores: tuple[Scores, Scores] | None
    task: Task | None = None

    @property
    def before(self) -> Scores:
        """The source's scores on the report half.

        Raises:
            UsageError: There were no labels.
        """
        return self._scored()[0]

    @property
    def after(self) -> Scores:
        """The compressed model's scores on the report half.

        Raises:
            UsageError: There were no labels.
        """
        return self._scored()[1]

    def _scored(self) -> tuple[Scores, Scores]:
        if self.scores is None:
            raise UsageError(
                "nothing was scored: there were no labelled samples",
                hint="Compress with labelled samples and a task.",
            )
        return self.scores


def compress(
    source: Model,
    *,
    calibration: SampleSource,
    selection: SampleSource,
    report: SampleSource | None,
    task: Task | None,
    runtime: Runtime,
    budget: Budget = DEFAULT_BUDGET,
    threads: int = 1,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Quantize a model as far as its budget allows, and report what that did.

    Args:
        source: A float model.
        calibration: Real inputs, for the ranges of activations.
        selection: Labelled samples that the search looks at.
        report: Labelled samples that only the report looks at; None without a task.
        task: How outputs are decoded and scored; None compares outputs alone.
        runtime: What runs, and times, the models.
        budget: What must hold.
        threads: CPU threads for everything but latency, which is measured on one.
        folder: Where the files of all candidates stay; it exists. None keeps none.
        progress: Told of what is under way.

    Raises:
        DataError: Samples do not fit the model or the task.
        ModelError: The model cannot be quantized.
        RuntimeFailure: The runtime cannot run it.

    Example:
        ```python
        halves = split(open_samples(path, model.inputs, task), seed=0)
        done = compress(model, calibration=few, selection=halves[0],
                        report=halves[1], task=task, runtime=get_runtime("onnxruntime"))
        write_graph(done.graph, Path("small.onnx"))
        ```
    """
    search = Search(
        calibration=calibration,
        selection=selection,
        task=task,
        runtime=runtime,
        budget=budget,
        threads=threads,
        progress=progress,
    )
    return search_and_prove(source, search, report=report, folder=folder)


def search_and_prove(
    source: Model,
    search: Search,
    *,
    report: SampleSource | None,
    folder: Path | None = None,
) -> Compressed:
    """Do what is asked of a search, and report what that did.

    Args:
        source: A float model.
        search: What is asked.
        report: Labelled samples that only the report looks at; None without a task.
        folder: Where the files of all candidates stay; it exists. None keeps none.

    Raises:
        The errors of `compress`.
    """
    graph = read_graph(source.path)
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        choice = choose(source, graph, search, folder or Path(work))
        return prove(source, choice, search, report=report)


def prove(
    source: Model, choice: Choice, search: Search, *, report: SampleSource | None
) -> Compressed:
    """Report on what a search has chosen, unless a longer look says it is slower.

    Args:
        source: The float model.
        choice: What was tried; the files of its candidates are still there.
        search: What was asked.
        report: Labelled samples that only the report looks at; None without a task.

    Raises:
        The errors of `compress`.
    """
    graph = read_graph(source.path)
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        path = Path(work) / MODEL_FILE
        result = graph if choice.chosen is None else choice.chosen.read()
        result, choice = alike(result, choice, search, source)
        proof = _Proof(source, write_graph(result, path), choice, search, report)
        if proof.is_slower_than_thought():
            # The last look was a longer one, and counts. What was chosen may have begun
            # with another float graph than the source's.
            choice = replace(without_chosen(choice), prepared=prepare(graph))
            result = graph
            model = write_graph(result, path)
            proof = _Proof(source, model, choice, search, report)
        return proof.compressed(result)


def apply_and_prove(
    source: Model, recipe: Recipe, search: Search, *, report: SampleSource | None
) -> Compressed:
    """Make what a recipe says, without a search, and report what that did.

    Args:
        source: A float model.
        recipe: The steps.
        search: Data, runtime and budget; nothing is chosen.
        report: Labelled samples that only the report looks at; None without a task.

    Raises:
        The errors of the recipe's steps, and those of `compress`.
    """
    graph = read_graph(source.path)
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        context = StepContext(
            calibration=search.calibration,
            runtime=search.runtime,
            threads=search.threads,
            progress=search.progress,
        )
        workshop = Workshop(
            folder=Path(work), cache=search.cache, trainer=search.trainer
        )
        maker = Maker(source, graph, context, workshop)
        applied = Candidate(
            title="the recipe that was given",
            recipe=recipe,
            runtime=search.runtime.name,
            model=maker.make(recipe),
        )
        choice = Choice(
            prepared=maker.prepared_for(recipe),
            baseline=None,
            candidates=(applied,),
            chosen=applied,
            sensitivity={},
            notes=(
                "A recipe was applied as it is: nothing was searched for.",
                *maker.sample_notes(),
            ),
        )
        result, choice = alike(applied.read(), choice, search, source)
        model = write_graph(result, Path(work) / MODEL_FILE)
        return _Proof(source, model, choice, search, report).compressed(result)


class _Proof:
    """Measures the source and the chosen model on the report half."""

    def __init__(
        self,
        source: Model,
        model: Model,
        choice: Choice,
        search: Search,
        samples: SampleSource | None,
    ) -> None:
        self._source = source
        self._model = model
        self._choice = choice
        self._search = search
        self._samples = samples
        chosen = choice.chosen
        self._view = SAME if chosen is None else view_of(chosen.recipe, source.inputs)
        self._sample = next(iter(search.calibration)).inputs
        few = islice(self._view.samples(search.calibration), MOST_SAMPLES)
        self._few: list[Tensors] = [sample.inputs for sample in few]
        """Samples as the chosen model sees them."""

    def compressed(self, graph: Graph) -> Compressed:
        """The chosen model, read, with everything measured."""
        scores = self.scores()
        return Compressed(
            graph=graph,
            report=self.report(scores),
            choice=self._choice,
            scores=scores,
            task=self._own_task,
        )

    def is_slower_than_thought(self) -> bool:
        """Whether what was chosen for its latency is slower than the source."""
        is_chosen = self._choice.chosen is not None
        if not is_chosen or self._search.prefer != "latency":
            return False
        is_slower = self._latency.ratio - self._latency.noise > 1 + TIE
        return is_slower and self._source_fits()

    def _source_fits(self) -> bool:
        """Whether the source could be returned: it keeps what needs no scoring."""
        asked = self._search.budget
        budget = Budget(
            latency_ms=asked.latency_ms,
            size_bytes=asked.size_bytes,
            memory_bytes=asked.memory_bytes,
        )
        measured: dict[str, float] = {
            "latency_ms": self._latency.before,
            "size_bytes": self._source.size_bytes,
        }
        if asked.memory_bytes is not None and (memory := self._memory()):
            measured["memory_bytes"] = memory.before
        return not budget.breaches(measured)

    def scores(self) -> tuple[Scores, Scores] | None:
        """The scores of both models on the report half; None without labels."""
        if self._search.task is None or self._samples is None:
            return None
        named, place = self._search.runtime, self._runtime
        samples, task = self._samples, self._search.task
        before = self._score(self._source, named, samples, task)
        if self._choice.chosen is None:
            return before, before
        samples, task = self._view.samples(samples), self._view.task(task)
        return before, self._score(self._model, place, samples, task)

    def _score(
        self, model: Model, runtime: Runtime, samples: SampleSource, task: Task
    ) -> Scores:
        options = LoadOptions(threads=self._search.threads)
        with closing(runtime.load(model, options)) as session:
            return evaluate(session, samples, task, self._search.progress)

    @property
    def _runtime(self) -> Runtime:
        """What the chosen model is to run on."""
        search, chosen = self._search, self._choice.chosen
        for other in search.others:
            if chosen is not None and other.name == chosen.runtime:
                return other
        return search.runtime

    def report(self, scores: tuple[Scores, Scores] | None) -> Report:
        """Everything measured, in one document."""
        delta = None if scores is None else compare_scores(*scores)
        accuracy = None
        if scores is not None and delta is not None:
            accuracy = _accuracy(*scores, delta)
        budget = self._search.budget
        if accuracy is None:
            # What cannot be measured without labels is not demanded either.
            budget = replace(budget, accuracy_drop=None)
        size = Change(before=self._source.size_bytes, after=self._model.size_bytes)
        latency = self._latency
        memory = self._memory()
        conditions = self._conditions()
        breaches = budget.breaches(
            {"latency_ms": latency.after, "size_bytes": size.after}
            | ({"accuracy_drop": _drop(accuracy)} if accuracy else {})
            | ({"memory_bytes": memory.after} if memory else {})
            | (condition_drops(conditions, accuracy.metric) if accuracy else {})
        )
        tried = mark_pareto(
            self._choice.attempts(),
            metric=accuracy.metric if accuracy else None,
            source_bytes=self._source.size_bytes,
        )
        notes = self._notes(latency, delta, size)
        notes += sample_notes(self._search, () if scores is None else scores[0].labels)
        if accuracy is not None:
            notes += condition_notes(conditions, accuracy)
        chosen = self._choice.chosen
        return Report(
            model=self._source.path.name,
            sha256=(self._source.sha256, self._model.sha256),
            budget=budget,
            breaches=tuple(breaches),
            accuracy=accuracy,
            size_bytes=size,
            latency_ms=latency,
            memory_bytes=memory,
            layers=self._layers(),
            tried=tried,
            recipe=Recipe(steps=()) if chosen is None else chosen.recipe,
            notes=tuple(notes),
            conditions=conditions,
            alike=self._choice.alike,
        )

    def _conditions(self) -> tuple[ConditionRow, ...]:
        """The budget's conditions, on the report half."""
        search, chosen = self._search, self._choice.chosen
        if search.task is None or self._samples is None:
            return ()
        return ConditionCheck(
            self._source,
            self._samples,
            search.task,
            search.runtime,
            search.budget.conditions,
            threads=search.threads,
            progress=search.progress,
        ).rows(
            self._model,
            runtime=self._runtime,
            precision="default" if chosen is None else chosen.precision,
            view=self._view,
        )

    @cached_property
    def _latency(self) -> LatencyChange:
        options = LoadOptions(threads=1)
        if (meter := self._search.meter) is not None:
            pace = meter.compare(
                (self._source, self._sample, self._search.runtime),
                (self._model, self._few[0], self._runtime),
            )
            return self._change(pace)
        with (
            closing(self._search.runtime.load(self._source, options)) as before,
            closing(self._runtime.load(self._model, options)) as after,
        ):
            latencies = measure_latency(
                {
                    "before": lambda: before.run(self._sample),
                    "after": lambda: after.run(self._few[0]),
                },
                repeats=REPORT_REPEATS,
            )
        return self._change(
            Pace(
                before_ms=latencies["before"].median_ms,
                after_ms=latencies["after"].median_ms,
                ratio=ratio(latencies["after"], latencies["before"]),
                repeats=REPORT_REPEATS,
            )
        )

    def _change(self, pace: Pace) -> LatencyChange:
        return LatencyChange(
            before=pace.before_ms,
            after=pace.after_ms,
            runtime=self._runtime.name,
            threads=1,
            repeats=pace.repeats,
            ratio=pace.ratio.median,
            noise=(pace.ratio.high - pace.ratio.low) / 2,
        )

    def _memory(self) -> Change | None:
        """Peak activation memory of both graphs, where their shapes can be known."""
        samples = ((self._source, self._sample), (self._model, self._few[0]))
        peaks = [
            peak_activation_bytes(
                read_graph(model.path),
                {name: array.shape for name, array in sample.items()},
            )
            for model, sample in samples
        ]
        if peaks[0] is None or peaks[1] is None:
            return None
        return Change(before=peaks[0], after=peaks[1])

    def _layers(self) -> tuple[LayerRow, ...]:
        """One row an operator; of the best candidate's errors where none is chosen."""
        prepared, chosen = self._choice.prepared, self._choice.chosen
        shown = chosen or _best(self._choice)
        result = prepared if chosen is None else read_graph(self._model.path)
        quantized = None
        if shown is not None:
            quantized = result if shown is chosen else shown.read()
        with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
            before = self._profile(
                write_graph(prepared, Path(folder) / "source.onnx"),
                self._search.runtime,
            )
        subject = Subject(
            prepared=prepared,
            result=result,
            quantized=quantized,
            step=None if shown is None else shown.step,
            samples=self._few,
            before=before,
            after=before
            if chosen is None
            else self._profile(self._model, self._runtime),
            known=self._choice.sensitivity,
            is_given=self._choice.baseline is None and self._search.task is not None,
        )
        return operator_rows(
            subject,
            runtime=self._search.runtime,
            threads=self._search.threads,
            progress=self._search.progress,
        )

    @property
    def _own_task(self) -> Task | None:
        """The chosen model's task, where it is not the source's."""
        task, source = self._search.task, self._search.calibration
        if task is None and isinstance(source, FolderSource):
            # Without labels nothing is scored, and pictures are prepared all the same.
            task = source.task
        if task is None or not self._view.is_changed:
            return None
        return self._view.task(task)

    def _profile(self, model: Model, runtime: Runtime) -> Profile:
        if (meter := self._search.meter) is not None:
            return meter.profile(model, self._few[0], runtime)
        return runtime.profile(
            model, self._few[0], LoadOptions(threads=1), repeats=PROFILE_REPEATS
        )

    def _notes(
        self, latency: LatencyChange, delta: PairedDelta | None, size: Change
    ) -> list[str]:
        notes = []
        is_none = all(one.refusal for one in self._choice.candidates)
        if self._choice.chosen is None and is_none:
            notes.append(
                "Nothing that was tried holds the budget: the source model is returned."
            )
        elif latency.ratio - latency.noise > 1:
            notes.append(
                f"The compressed model is slower: {latency.ratio:.2f} × the source's "
                f"time on {latency.runtime}; take it for its size only."
            )
        elif latency.ratio + latency.noise >= 1 and size.after < size.before:
            notes.append(
                f"The gain is in size: on {latency.runtime} the compressed model is no "
                "faster than the source beyond the noise."
            )
        if self._view.is_changed:
            notes.append(_resized_note(self._source, self._model))
        notes += self._choice.notes
        if delta is not None and delta.needed is not None:
            notes.append(f"The change in accuracy is {delta}.")
        return notes


def _resized_note(before: Model, after: Model) -> str:
    """What became of the input, for who is to run the model."""
    sizes = [
        ", ".join(" × ".join(map(str, one.shape)) for one in model.inputs)
        for model in (before, after)
    ]
    return (
        f"The model takes {sizes[1]} instead of {sizes[0]}: the task changes with it. "
        "Operators are compared with those of the float model at that size."
    )


def _accuracy(before: Scores, after: Scores, delta: PairedDelta) -> Accuracy:
    return Accuracy(
        metric=before.metric,
        before=before.value,
        after=after.value,
        n=len(before.names),
        paired_delta=delta.delta,
        ci95=(delta.low, delta.high),
    )


def _drop(accuracy: Accuracy) -> float:
    """What was lost, as a positive fraction, whichever way the metric runs."""
    metric = find_metric(accuracy.metric)
    return metric.drop(accuracy.before, accuracy.paired_delta)


def _best(choice: Choice) -> Candidate | None:
    """The quantized candidate that loses least, of those whose file is there."""
    tried = [
        one
        for one in choice.candidates
        # Of the same float graph: its operators are those of the rows.
        if one.step is not None and one.model and len(one.recipe.steps) == 1
    ]
    return min(
        (one for one in tried if one.drop is not None),
        key=lambda one: one.drop or 0.0,
        default=None,
    )
