"""Find, by measurement, what must stay float, and return the best model that holds.

Candidates are tried on the selection half of the evaluation data: plain quantization of
everything, then of the operators with weights, by each way of choosing ranges. Where
none holds the budget, the operators that hurt most are put back to float, until one
does. What is returned is the fastest of those that hold; its figures come from the
report half, which nothing here has looked at before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.ptq.equalize import Equalization
from skerry.compress.ptq.plan import plan_quantization
from skerry.compress.ptq.quantize import (
    ACCURATE,
    Measured,
    Quantize,
    StepContext,
    prepare,
)
from skerry.compress.search.candidates import Candidate, Choice, recipe_of
from skerry.compress.search.sensitivity import measure_sensitivity
from skerry.core.budget import Budget
from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Runtime
from skerry.graph import Graph, write_graph
from skerry.tasks.evaluate import Scores, evaluate
from skerry.tasks.measure import Ratio, measure_latency, ratio
from skerry.tasks.metrics import find_metric
from skerry.tasks.samples import SampleSource
from skerry.tasks.task import Task

DEFAULT_BUDGET = Budget(accuracy_drop=0.01)
SENSITIVITY_SAMPLES = 6
LATENCY_REPEATS = 15
STEPS: Mapping[str, Quantize] = {
    "operators with weights, equalized, mse, biases corrected": ACCURATE,
    "operators with weights, equalized, minmax, biases corrected": replace(
        ACCURATE, method="minmax"
    ),
    "operators with weights, minmax": Quantize(),
}
"""Ways of quantizing what has weights, by title, in the order in which they are tried:
equalizing and correcting cost nothing when the model runs."""

MOST_FLOAT = 0.5
"""Over this share of operators in float there is no point in going on."""

LADDER = 1.6
"""How much longer the list of operators kept float gets from trial to trial."""

SELECTION_MARGIN = 0.75
"""Share of the allowed loss that may be used up on the selection half: whoever picks
the best of many on some samples does a little worse on others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is to be compressed, on which data, within which budget.

    Attributes:
        calibration: Real inputs; labels are not looked at.
        selection: Labelled samples that the search may look at.
        task: How outputs are decoded and scored.
        runtime: What runs, and times, the models.
        budget: What must hold.
        threads: CPU threads for calibration and evaluation; latency is measured on one.
        progress: Told of what is under way.
    """

    calibration: SampleSource
    selection: SampleSource
    task: Task
    runtime: Runtime
    budget: Budget = DEFAULT_BUDGET
    threads: int = 1
    progress: Progress | None = None


def choose(source: Model, graph: Graph, search: Search, folder: Path) -> Choice:
    """Search for the fastest quantization of a model that holds the budget.

    Args:
        source: The float model's file.
        graph: The same model, read.
        search: Data, task, runtime and budget.
        folder: Where the candidates' files go; it exists.

    Raises:
        DataError: Samples do not fit the model or the task.
        ModelError: The graph cannot be quantized.
        RuntimeFailure: The runtime cannot run it.
    """
    return _Trials(source, graph, search, folder).run()


class _Trials:
    """Keeps what the trials share: ranges, the source's score, the work folder."""

    def __init__(
        self, source: Model, graph: Graph, search: Search, folder: Path
    ) -> None:
        self._source = source
        self._search = search
        self._folder = folder
        # What the runtime refuses is told as that: values behind an operator that it
        # does not know have no type, and would seem to leave nothing to quantize.
        search.runtime.load(source, LoadOptions(threads=search.threads)).close()
        self._prepared = prepare(graph)
        self._context = StepContext(
            calibration=search.calibration,
            runtime=search.runtime,
            threads=search.threads,
            progress=search.progress,
        )
        self._graphs: dict[tuple[Equalization, bool], Graph] = {}
        self._measures: dict[Quantize, Measured] = {}
        self._candidates: list[Candidate] = []
        self._sensitivity: Mapping[str, float] = {}
        self._baseline = self._score(source, "source")

    def run(self) -> Choice:
        """Try plain quantization, then operators with weights, then fewer of them."""
        plain = Quantize(operators="all")
        self._try(
            "plain INT8: every operator, MinMax, per tensor",
            replace(plain, per_channel=False),
        )
        self._try("plain INT8: every operator, MinMax, per channel", plain)
        for title, step in STEPS.items():
            self._try(title, step)
            if self._holding():
                return self._choice()
        self._put_back()
        return self._choice()

    def _put_back(self) -> None:
        """Put the operators that hurt most back to float, more and more of them.

        Errors of operators partly cancel, so more in float is not always better: the
        number grows in small steps, and the first that holds is taken.
        """
        _, best, title = min(
            (
                (one.drop, one.step, one.title)
                for one in self._candidates
                if one.step is not None and one.drop is not None
                if one.step.operators != "all"
            ),
            key=itemgetter(0),
        )
        order = self._order(best)
        count = 1
        while count <= len(order) * MOST_FLOAT:
            step = replace(best, keep_float=tuple(sorted(order[:count])))
            name = f"{title}, {count} kept float"
            if not self._try(name, step).refusal:
                return
            count = round(count * LADDER)

    def _order(self, step: Quantize) -> list[str]:
        """The step's operators, those whose quantization hurts most first."""
        few = [
            sample.inputs
            for sample in islice(self._search.calibration, SENSITIVITY_SAMPLES)
        ]
        self._sensitivity = measure_sensitivity(
            self._equalized(step),
            plan_quantization(self._prepared, operators=step.operators),
            self._measured(step).ranges,
            few,
            runtime=self._search.runtime,
            schemes=step.schemes,
            threads=self._search.threads,
            progress=self._search.progress,
        )
        return sorted(
            self._sensitivity, key=lambda name: self._sensitivity[name], reverse=True
        )

    def _try(self, title: str, step: Quantize) -> Candidate:
        measured = self._measured(step)
        graph = step.write(
            self._equalized(step), measured.ranges, measured.shifts, measured.codes
        )
        model = write_graph(graph, self._file(len(self._candidates)))
        scores = self._score(model, title)
        before = self._baseline.value
        drop = find_metric(scores.metric).drop(before, scores.value - before)
        candidate = Candidate(
            title=title,
            recipe=recipe_of(step),
            runtime=self._search.runtime.name,
            model=model,
            accuracy=scores.value,
            drop=drop,
            seen=len(self._search.selection),
            refusal=self._refusal(drop, model.size_bytes),
        )
        self._candidates.append(candidate)
        return candidate

    def _equalized(self, step: Quantize) -> Graph:
        key = (step.equalize, step.per_channel)
        if key not in self._graphs:
            self._graphs[key] = step.equalized(self._prepared, self._context)
        return self._graphs[key]

    def _measured(self, step: Quantize) -> Measured:
        """Calibrate for a step, unless a step before needed the same.

        Ranges of a wider choice of operators would do but for the last bit: a runtime
        that is watched in more places fuses less, and the recipe must give the same
        bytes.
        """
        whole = replace(step, keep_float=())
        if not step.correct_bias and step.equalize == "none":
            # These two have no part in the ranges then.
            whole = replace(whole, per_channel=True, weight_method="minmax")
        if whole not in self._measures:
            self._measures[whole] = step.measure(self._equalized(step), self._context)
        return self._measures[whole]

    def _holding(self) -> list[int]:
        return [
            index
            for index, candidate in enumerate(self._candidates)
            if not candidate.refusal
        ]

    def _refusal(self, drop: float, size_bytes: int) -> str:
        budget = self._search.budget
        allowed = budget.accuracy_drop
        if allowed is not None and not drop <= allowed * SELECTION_MARGIN:
            return "refused: loses too much"
        if budget.size_bytes is not None and size_bytes > budget.size_bytes:
            return "refused: too large"
        return ""

    def _choice(self) -> Choice:
        ratios = self._latencies()
        for index, latency in ratios.items():
            self._candidates[index] = replace(self._candidates[index], latency=latency)
        fastest = min(ratios, key=lambda index: ratios[index].median, default=None)
        return Choice(
            prepared=self._prepared,
            baseline=self._baseline,
            candidates=tuple(self._candidates),
            chosen=None if fastest is None else self._candidates[fastest],
            sensitivity=self._sensitivity,
        )

    def _latencies(self) -> dict[int, Ratio]:
        """Time those that hold, interleaved with the source, on one thread."""
        holding = self._holding()
        if not holding:
            return {}
        sample = next(iter(self._search.calibration)).inputs
        runtime, options = self._search.runtime, LoadOptions(threads=1)
        models = {"source": self._source} | {
            str(index): model
            for index in holding
            if (model := self._candidates[index].model) is not None
        }
        sessions = {
            name: runtime.load(model, options) for name, model in models.items()
        }
        try:
            latencies = measure_latency(
                {
                    name: partial(session.run, sample)
                    for name, session in sessions.items()
                },
                repeats=LATENCY_REPEATS,
            )
        finally:
            for session in sessions.values():
                session.close()
        return {
            index: ratio(latencies[str(index)], latencies["source"])
            for index in holding
        }

    def _score(self, model: Model, what: str) -> Scores:
        options = LoadOptions(threads=self._search.threads)
        session = self._search.runtime.load(model, options)
        told = self._search.progress
        try:
            return evaluate(
                session,
                self._search.selection,
                self._search.task,
                (lambda _, done, total: told(f"try: {what}", done, total))
                if told
                else None,
            )
        finally:
            session.close()

    def _file(self, index: int) -> Path:
        return self._folder / f"candidate-{index}.onnx"
