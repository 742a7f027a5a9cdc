"""Turn the outcome of a search into a report, on data the search never saw."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from skerry.compress.ptq.calibrate import FEWEST_SAMPLES, Progress
from skerry.compress.search.candidates import Candidate, Choice
from skerry.compress.search.choose import DEFAULT_BUDGET, Search, choose
from skerry.compress.search.condition_rows import (
    ConditionCheck,
    condition_drops,
    condition_notes,
)
from skerry.compress.search.operator_errors import MOST_SAMPLES
from skerry.compress.search.operator_rows import Subject, operator_rows
from skerry.compress.search.pareto import mark_pareto
from skerry.core.budget import Budget
from skerry.core.errors import ModelError
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
from skerry.core.seams import LoadOptions, Runtime, Session, Tensors
from skerry.graph import (
    Graph,
    count,
    infer_shapes,
    read_graph,
    with_static_inputs,
    write_graph,
)
from skerry.tasks.evaluate import Scores, compare_scores, evaluate
from skerry.tasks.measure import measure_latency, ratio
from skerry.tasks.metrics import PairedDelta, find_metric
from skerry.tasks.samples import SampleSource
from skerry.tasks.task import Task

REPORT_REPEATS = 31
PROFILE_REPEATS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compressed model and the proof of what it costs and brings.

    Attributes:
        graph: The model to write; the source's own graph where nothing held.
        report: The evidence, from the report half.
        choice: Everything that was tried.
        before: The source's scores on the report half.
        after: The compressed model's scores on the report half.
    """

    graph: Graph
    report: Report
    choice: Choice
    before: Scores
    after: Scores


def compress(
    source: Model,
    *,
    calibration: SampleSource,
    selection: SampleSource,
    report: SampleSource,
    task: Task,
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
        report: Labelled samples that only the report looks at.
        task: How outputs are decoded and scored.
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
    graph = read_graph(source.path)
    search = Search(
        calibration=calibration,
        selection=selection,
        task=task,
        runtime=runtime,
        budget=budget,
        threads=threads,
        progress=progress,
    )
    with tempfile.TemporaryDirectory(prefix="skerry-") as work:
        choice = choose(source, graph, search, folder or Path(work))
        result = graph if choice.chosen is None else choice.chosen.read()
        model = write_graph(result, Path(work) / "chosen.onnx")
        proof = _Proof(source, model, choice, search, report)
        before, after = proof.scores(source), proof.scores(model)
        return Compressed(
            graph=result,
            report=proof.report(before, after),
            choice=choice,
            before=before,
            after=after,
        )


class _Proof:
    """Measures the source and the chosen model on the report half."""

    def __init__(
        self,
        source: Model,
        model: Model,
        choice: Choice,
        search: Search,
        samples: SampleSource,
    ) -> None:
        self._source = source
        self._model = model
        self._choice = choice
        self._search = search
        self._samples = samples
        few = islice(search.calibration, MOST_SAMPLES)
        self._few: list[Tensors] = [sample.inputs for sample in few]
        self._sample = self._few[0]

    def scores(self, model: Model) -> Scores:
        """A model's scores on the report half."""
        session = self._load(model, threads=self._search.threads)
        try:
            return evaluate(
                session, self._samples, self._search.task, self._search.progress
            )
        finally:
            session.close()

    def report(self, before: Scores, after: Scores) -> Report:
        """Everything measured, in one document."""
        delta = compare_scores(before, after)
        accuracy = _accuracy(before, after, delta)
        size = Change(before=self._source.size_bytes, after=self._model.size_bytes)
        latency = self._latency()
        memory = self._memory()
        conditions = self._conditions()
        breaches = self._search.budget.breaches(
            {
                "accuracy_drop": _drop(accuracy),
                "latency_ms": latency.after,
                "size_bytes": size.after,
            }
            | ({"memory_bytes": memory.after} if memory else {})
            | condition_drops(conditions, accuracy.metric)
        )
        tried = mark_pareto(
            self._choice.attempts(),
            metric=accuracy.metric,
            source_bytes=self._source.size_bytes,
        )
        notes = self._notes(latency, delta, size)
        chosen = self._choice.chosen
        return Report(
            model=self._source.path.name,
            sha256=(self._source.sha256, self._model.sha256),
            budget=self._search.budget,
            breaches=tuple(breaches),
            accuracy=accuracy,
            size_bytes=size,
            latency_ms=latency,
            memory_bytes=memory,
            layers=self._layers(),
            tried=tried,
            recipe=Recipe(steps=()) if chosen is None else chosen.recipe,
            notes=(*notes, *condition_notes(conditions, accuracy)),
            conditions=conditions,
        )

    def _conditions(self) -> tuple[ConditionRow, ...]:
        """The budget's conditions, on the report half."""
        search = self._search
        return ConditionCheck(
            self._source,
            self._samples,
            search.task,
            search.runtime,
            search.budget.conditions,
            threads=search.threads,
            progress=search.progress,
        ).rows(self._model)

    def _load(self, model: Model, *, threads: int) -> Session:
        return self._search.runtime.load(model, LoadOptions(threads=threads))

    def _latency(self) -> LatencyChange:
        before = self._load(self._source, threads=1)
        after = self._load(self._model, threads=1)
        try:
            latencies = measure_latency(
                {
                    "before": lambda: before.run(self._sample),
                    "after": lambda: after.run(self._sample),
                },
                repeats=REPORT_REPEATS,
            )
        finally:
            before.close()
            after.close()
        change = ratio(latencies["after"], latencies["before"])
        return LatencyChange(
            before=latencies["before"].median_ms,
            after=latencies["after"].median_ms,
            runtime=self._search.runtime.name,
            threads=1,
            repeats=REPORT_REPEATS,
            ratio=change.median,
            noise=(change.high - change.low) / 2,
        )

    def _memory(self) -> Change | None:
        """Peak activation memory of both graphs, where their shapes can be known."""
        shapes = {name: array.shape for name, array in self._sample.items()}
        try:
            peaks = [
                count(
                    infer_shapes(with_static_inputs(read_graph(model.path), shapes))
                ).peak_activation_bytes
                for model in (self._source, self._model)
            ]
        except ModelError:
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
            before = self._profile(write_graph(prepared, Path(folder) / "source.onnx"))
        subject = Subject(
            prepared=prepared,
            result=result,
            quantized=quantized,
            step=None if shown is None else shown.step,
            samples=self._few,
            before=before,
            after=before if chosen is None else self._profile(self._model),
            known=self._choice.sensitivity,
        )
        return operator_rows(
            subject,
            runtime=self._search.runtime,
            threads=self._search.threads,
            progress=self._search.progress,
        )

    def _profile(self, model: Model) -> Profile:
        return self._search.runtime.profile(
            model, self._sample, LoadOptions(threads=1), repeats=PROFILE_REPEATS
        )

    def _notes(
        self, latency: LatencyChange, delta: PairedDelta, size: Change
    ) -> list[str]:
        notes = []
        if self._choice.chosen is None:
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
        if delta.needed is not None:
            notes.append(f"The change in accuracy is {delta}.")
        samples = len(self._search.calibration)
        if samples < FEWEST_SAMPLES:
            notes.append(
                f"The ranges come from {samples} calibration samples only; give "
                f"{FEWEST_SAMPLES} or more."
            )
        return notes


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
    tried = [one for one in choice.candidates if one.step is not None and one.model]
    return min(
        (one for one in tried if one.drop is not None),
        key=lambda one: one.drop or 0.0,
        default=None,
    )
