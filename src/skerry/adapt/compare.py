"""Compare runtimes on one model: do they agree, and which is faster here?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import (
    DataError,
    MissingExtraError,
    ModelError,
    SkerryError,
)
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Runtime, Session, Tensors
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import output_distance
from skerry.tasks.measure import Latency, Ratio, measure_latency, ratio
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.samples import Sample, SampleSource
from skerry.tasks.task import Task

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while long work goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far one runtime's outputs are from those of the first that ran.

    Attributes:
        samples: How many samples were compared.
        max_abs_diff: Largest difference of two numbers; infinite where an output is
            missing, of another shape, or not finite.
        relative_squared_error: Σ (a - b)² / Σ a² of the sample where it is largest.
        same_argmax: Share of the rows along the outputs' last axes whose largest entry
            is at the same place, 0–1; None where no row has two entries.
        same_predictions: How many samples are decoded to the same class or text; None
            without a task.
    """

    samples: int
    max_abs_diff: float
    relative_squared_error: float
    same_argmax: float | None
    same_predictions: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRow:
    """What one runtime made of the model.

    Attributes:
        runtime: Its name.
        version: The version of the library behind it; empty if it is missing.
        refusal: Why it did not run the model; empty if it did.
        fallbacks: Why it does not run on execution providers that were wished for.
        load_ms: Time to load the model, once; None if it did not run.
        latency: Times of one inference of the first sample; None if it did not run.
        ratio: Its latency ÷ that of the first runtime that ran; None for that one, and
            where it did not run.
        agreement: Its outputs against those of the first runtime that ran; None for
            that one, and where it did not run.
        score: The task's metric over all samples; None without task and labels.
    """

    runtime: str
    version: str
    refusal: str = ""
    fallbacks: tuple[str, ...] = ()
    load_ms: float | None = None
    latency: Latency | None = None
    ratio: Ratio | None = None
    agreement: Agreement | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One model on several runtimes.

    Attributes:
        model: Name of the model's file.
        options: How each runtime loaded it.
        repeats: Rounds of measurement, all runtimes in turn.
        samples: Number of samples compared.
        metric: The task's metric; empty without a task.
        rows: One a runtime asked for, in the order asked.
    """

    model: str
    options: LoadOptions
    repeats: int
    samples: int
    metric: str
    rows: tuple[RuntimeRow, ...]


def compare(
    model: Model,
    runtimes: Sequence[str | Runtime],
    samples: SampleSource,
    *,
    task: Task | None = None,
    options: LoadOptions | None = None,
    repeats: int = 30,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run one model on several runtimes; compare outputs, then times in turns.

    A runtime that is not installed, or that refuses the model, is a row with its
    reason. The first that runs the model is the reference of the others.

    Args:
        model: The model.
        runtimes: Runtimes or their names.
        samples: What to run.
        task: How outputs are decoded; with labelled samples they are scored too.
        options: How to load; the defaults of `LoadOptions` otherwise.
        repeats: Rounds of measurement, at least one.
        clock: What measures time; this machine's clock by default.
        progress: Told after each runtime loaded and each sample compared.

    Raises:
        UsageError: A runtime's name is not known, or the model's file is not there.
        DataError: There are no samples, or they do not fit the model or the task.
    """
    options = options or LoadOptions()
    clock = clock or SystemClock()
    told = progress or _tell_nobody
    with ExitStack() as sessions:
        trials = []
        for index, runtime in enumerate(runtimes):
            trials.append(_load(runtime, model, options, clock))
            sessions.callback(trials[-1].close)
            told("load", index + 1, len(runtimes))
        _run_samples(trials, samples, task, told)
        latencies = _measure(trials, _first(samples), repeats, clock)
    return Comparison(
        model=model.path.name,
        options=options,
        repeats=repeats,
        samples=len(samples),
        metric=task.metric if task else "",
        rows=tuple(_rows(trials, latencies, task)),
    )


class _Trial:
    """A runtime on trial, and what is counted of it over the samples."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = ""
        self.refusal = ""
        self.fallbacks: tuple[str, ...] = ()
        self.load_ms: float | None = None
        self.session: Session | None = None
        self.clear()

    def clear(self) -> None:
        """Forget what was counted."""
        self.samples = 0
        self.max_abs_diff = 0.0
        self.distance = 0.0
        self.rows = 0
        self.same_rows = 0
        self.same_predictions = 0
        self.predictions: list[Prediction] = []
        self.labels: list[Label] = []

    def refuse(self, error: SkerryError) -> None:
        """Take no further part."""
        self.close()
        self.refusal = f"{error}. {error.hint}"

    def close(self) -> None:
        """Close the session, if there is one."""
        if self.session is not None:
            self.session.close()
        self.session = None

    def count(self, reference: Tensors, outputs: Tensors) -> None:
        """Count how far one sample's outputs are from the reference's."""
        self.samples += 1
        self.distance = max(self.distance, output_distance(reference, outputs))
        for name, wanted in reference.items():
            got = outputs.get(name)
            if got is None or got.shape != wanted.shape:
                self.max_abs_diff = math.inf
                continue
            self.max_abs_diff = max(self.max_abs_diff, _max_abs_diff(wanted, got))
            if wanted.ndim and wanted.shape[-1] > 1:
                same = wanted.argmax(axis=-1) == got.argmax(axis=-1)
                self.rows += same.size
                self.same_rows += int(same.sum())


def _tell_nobody(what: str, done: int, total: int) -> None:
    del what, done, total


def _first(samples: SampleSource) -> Sample:
    for sample in samples:
        return sample
    raise DataError("there are no samples to compare", hint="Give at least one.")


def _max_abs_diff(wanted: Array, got: Array) -> float:
    if not wanted.size:
        return 0.0
    diff = np.abs(wanted.astype(np.float64) - got.astype(np.float64)).max()
    return float(diff) if np.isfinite(diff) else math.inf


def _load(
    runtime: str | Runtime, model: Model, options: LoadOptions, clock: Clock
) -> _Trial:
    trial = _Trial(runtime if isinstance(runtime, str) else runtime.name)
    try:
        found = get_runtime(runtime) if isinstance(runtime, str) else runtime
        trial.version = found.version
        started_s = clock.wall_s()
        trial.session = found.load(model, options)
        trial.load_ms = (clock.wall_s() - started_s) * 1000
        # Only a session that can fall back has them.
        trial.fallbacks = tuple(getattr(trial.session, "fallbacks", ()))
    except (MissingExtraError, ModelError) as error:
        trial.refuse(error)
    return trial


def _run_samples(
    trials: Sequence[_Trial],
    samples: SampleSource,
    task: Task | None,
    told: Progress,
) -> None:
    """Run all samples on all runtimes and count.

    One that fails midway may have been the reference: it goes, and all starts over.
    """
    is_complete = False
    while not is_complete:
        alive = [trial for trial in trials if trial.session]
        for trial in alive:
            trial.clear()
        is_complete = True
        for index, sample in enumerate(samples):
            if not _run_sample(alive, sample, task):
                is_complete = False
                break
            told("compare", index + 1, len(samples))


def _run_sample(alive: Sequence[_Trial], sample: Sample, task: Task | None) -> bool:
    """Run and count one sample; answer whether all ran it."""
    reference: Tensors | None = None
    wanted: Prediction | None = None
    for trial in alive:
        try:
            outputs = trial.session.run(sample.inputs) if trial.session else {}
        except ModelError as error:
            trial.refuse(error)
            return False
        reference = outputs if reference is None else reference
        trial.count(reference, outputs)
        if task is not None:
            prediction = task.decode(outputs, sample.inputs)
            wanted = wanted or prediction
            trial.same_predictions += prediction.label == wanted.label
            if sample.label is not None:
                trial.predictions.append(prediction)
                trial.labels.append(sample.label)
    return True


def _measure(
    trials: Sequence[_Trial], sample: Sample, repeats: int, clock: Clock
) -> dict[_Trial, Latency]:
    subjects = {
        str(index): partial(trial.session.run, sample.inputs)
        for index, trial in enumerate(trials)
        if trial.session
    }
    if not subjects:
        return {}
    timed = measure_latency(subjects, repeats=repeats, clock=clock)
    return {trials[int(index)]: latency for index, latency in timed.items()}


def _rows(
    trials: Sequence[_Trial], latencies: Mapping[_Trial, Latency], task: Task | None
) -> Iterator[RuntimeRow]:
    reference = next(iter(latencies), None)
    for trial in trials:
        latency = latencies.get(trial)
        row = RuntimeRow(
            runtime=trial.name,
            version=trial.version,
            refusal=trial.refusal,
            fallbacks=trial.fallbacks if latency else (),
            load_ms=trial.load_ms if latency else None,
            latency=latency,
            score=_score(trial, task) if latency and task else None,
        )
        if latency is not None and reference is not None and trial is not reference:
            row = replace(
                row,
                ratio=ratio(latency, latencies[reference]),
                agreement=_agreement(trial, task),
            )
        yield row


def _score(trial: _Trial, task: Task) -> float | None:
    """The metric over all samples, if each has a label."""
    if not trial.labels or len(trial.labels) < trial.samples:
        return None
    return task.scoring.value(trial.predictions, trial.labels)


def _agreement(trial: _Trial, task: Task | None) -> Agreement:
    return Agreement(
        samples=trial.samples,
        max_abs_diff=trial.max_abs_diff,
        relative_squared_error=trial.distance,
        same_argmax=trial.same_rows / trial.rows if trial.rows else None,
        same_predictions=trial.same_predictions if task else None,
    )
