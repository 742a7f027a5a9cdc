"""Run an experiment: open what it is about, work on it, prove what it found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app.arguments import find_elsewhere
from skerry.app.output import Progress
from skerry.app.pipelines.compress import SearchSamples, open_search_samples
from skerry.app.pipelines.device_meter import device_meter
from skerry.app.pipelines.elsewhere import Elsewhere
from skerry.app.pipelines.training import OpenTraining
from skerry.app.project import Given
from skerry.compress.ptq.patterns import PATTERNS
from skerry.compress.search.cache import Cache
from skerry.compress.search.candidates import Candidate, Choice
from skerry.compress.search.evidence import Compressed, prove
from skerry.compress.search.ranking import Standing
from skerry.compress.search.request import Search
from skerry.compress.search.trials import Trials
from skerry.compress.tune.front import Front, find_front
from skerry.compress.tune.judge import Judge
from skerry.compress.tune.loop import work
from skerry.compress.tune.ranges import QUANTIZE, quantize_ranges, templates
from skerry.compress.tune.sampler import Proposer, make_sampler
from skerry.compress.tune.space import SearchSpace, default_space, describe
from skerry.compress.tune.space_files import parse_space
from skerry.compress.tune.store import CACHE, Experiment, Store
from skerry.compress.tune.trial import Trial
from skerry.compress.view import view_of
from skerry.core.errors import ModelError, SkerryError
from skerry.core.recipe import Choices, Recipe
from skerry.core.seams import LoadOptions
from skerry.graph import open_model, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import compare_scores, evaluate
from skerry.tasks.metrics import find_metric
from skerry.tasks.task import parse_task

if TYPE_CHECKING:
    from skerry.core.model import Model
    from skerry.tasks.task import Task

Told = Callable[[Trial], None]
"""Told of each trial that begins or ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An experiment, opened by one worker.

    Attributes:
        store: Its folder.
        experiment: What is asked.
        trials: What makes, times and scores.
        space: What recipes there are.
        samples: What may be looked at, and what only the report may.
        elsewhere: The hardware that the result is for; None for this machine.
    """

    store: Store
    experiment: Experiment
    trials: Trials
    space: SearchSpace
    samples: SearchSamples
    elsewhere: Elsewhere | None

    @property
    def source(self) -> Model:
        """The source model."""
        return self.trials.source

    @property
    def source_runs(self) -> bool:
        """Whether nothing is known against the source where the result is to run."""
        return not self.trials.cannot_run(self.source)

    def work(self, most: int, told: Told) -> None:
        """Claim and try until no trial is left."""
        sampler = make_sampler(
            self.experiment.sampler,
            self.space,
            allowed_drop=self.trials.scorer.limit,
        )
        proposer = Proposer(
            space=self.space,
            sampler=sampler,
            templates=templates(self.space),
            seed=self.experiment.seed,
        )
        work(self.store, proposer, Judge(self.trials), most=most, told=told)

    def front(self) -> Front:
        """What nothing beats so far, and which of it to take."""
        source = Standing(latency=1.0, size_bytes=self.source.size_bytes, drop=0.0)
        if not Judge(self.trials).source_holds:
            source = replace(source, latency=float("inf"), size_bytes=1 << 62)
        return find_front(self.store.trials(), self.experiment.prefer, source)


@contextmanager
def open_experiment(store: Store, progress: Progress | None) -> Iterator[Opened]:
    """Open what an experiment is about, for one worker.

    Raises:
        UsageError: The folder holds none, or what it names is not there any more.
        ModelError: The model is another one by now.
    """
    experiment = store.experiment()
    given = experiment.given
    source = open_model(Path(experiment.model))
    if source.sha256 != experiment.sha256:
        raise ModelError(
            f"{source.path} is not the model that the experiment was begun with",
            hint="Bring the old file back, or begin anew with another --store.",
        )
    training = given.get("train")
    apart = OpenTraining(training) if training else None
    target = find_elsewhere(given.get("target", ""))
    on = given.get("on", "")
    elsewhere = None if target is None else Elsewhere(target=target, place=on)
    samples = (
        apart.samples
        if apart is not None
        else open_search_samples(
            Given(
                model=source.path,
                samples=_path(given.get("evaluation")),
                task=_task(given.get("task", "")),
            ),
            _path(given.get("calibration")),
            _path(given.get("report")),
            source,
            is_report_only=False,
        )
    )
    search = Search(
        calibration=samples.calibration,
        selection=samples.selection,
        task=samples.task,
        runtime=get_runtime(given["runtime"]),
        budget=experiment.budget,
        prefer=experiment.prefer,
        threads=int(given["threads"]),
        cache=Cache(store.folder / CACHE),
        refuse=None if elsewhere is None else elsewhere.refusal,
        meter=device_meter(on, store.folder / DEVICE_LOCK) if on else None,
        progress=progress,
    )
    if apart is not None:
        search = replace(search, trainer=apart.trainer(search, seed=experiment.seed))
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        trials = Trials(source, read_graph(source.path), search, Path(folder))
        space = (
            parse_space(experiment.space.encode(), name="the experiment's space")
            if experiment.space
            else _default_space(trials)
        )
        yield Opened(
            store=store,
            experiment=experiment,
            trials=trials,
            space=space,
            samples=samples,
            elsewhere=elsewhere,
        )


def _default_space(trials: Trials) -> SearchSpace:
    if trials.search.trainer is None:
        return default_space(ranges={QUANTIZE: quantize_ranges(trials)})
    # Operators of a net that was trained are not those of the source.
    name = trials.search.runtime.name
    ranges = {"runtime": Choices(values=(name,))} if name in PATTERNS else {}
    return default_space(with_training=True, ranges={QUANTIZE: ranges})


def run_workers(opened: Opened, most: int, workers: int, told: Told) -> None:
    """Work on an experiment with several processes, this one among them.

    One that dies leaves its trial to the others.

    Raises:
        The errors of trials in this process.
    """
    context = get_context("spawn")
    folder = str(opened.store.folder)
    others = [
        context.Process(target=_work_apart, args=(folder, most), daemon=True)
        for _ in range(workers - 1)
    ]
    for child in others:
        child.start()
    try:
        opened.work(most, told)
        for child in others:
            child.join()
        if others:
            # What a worker left when it died is still to be done.
            opened.work(most, told)
    finally:
        for child in others:
            child.terminate()


def _work_apart(folder: str, most: int) -> None:
    """One more worker, in a process of its own; what it cannot do the others do."""
    try:
        with open_experiment(Store(Path(folder)), None) as opened:
            opened.work(most, lambda _: None)
    except (KeyboardInterrupt, SkerryError):
        # The process that started it meets the same, and says so.
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """A trial of the front on the samples that none has seen.

    Attributes:
        number: The trial's.
        recipe: What it is, in one line.
        drop: Its loss there; None without labels.
        ci95: 95 % interval of the loss.
    """

    number: int
    recipe: str
    drop: float | None
    ci95: tuple[float, float] | None


DEVICE_LOCK = "workers/.device"
"""Held by the worker that measures, in the experiment's folder."""

MOST_PROVED = 12
"""Trials of the front, at most, that are measured again."""


def prove_front(opened: Opened, front: Front) -> tuple[Compressed, tuple[Proved, ...]]:
    """Measure what was chosen, and the rest of the front, on samples no trial saw.

    Raises:
        The errors of `compress`.
    """
    trials, search = opened.trials, opened.trials.search
    known = opened.store.trials()
    chosen = front.chosen
    candidates = {one.number: _candidate(opened, one) for one in known if one.outcome}
    notes = [front.why, *trials.maker.sample_notes()]
    if front.closest is not None and front.closest.outcome is not None:
        notes.append(
            f"What came closest is trial {front.closest.number}, "
            f"{describe(front.closest.recipe)}: {front.closest.outcome.refusal}."
        )
    if search.meter is not None:
        notes.append(f"Latencies were measured on {search.meter.place}.")
    if opened.elsewhere is not None:
        made = None if chosen is None else candidates[chosen.number].model
        view = view_of(_recipe(chosen), opened.source.inputs)
        sample = next(iter(view.samples(opened.samples.calibration)))
        notes += opened.elsewhere.notes(made or opened.source, sample.inputs)
    choice = Choice(
        prepared=trials.maker.prepared_for(_recipe(chosen)),
        baseline=trials.source_accuracy(),
        candidates=tuple(candidates.values()),
        chosen=None if chosen is None else candidates[chosen.number],
        sensitivity={},
        notes=tuple(notes),
    )
    done = prove(opened.source, choice, search, report=opened.samples.report)
    written = done.choice.chosen
    return done, tuple(
        _prove_one(opened, one, done, is_written=candidates[one.number] is written)
        for one in front.trials[:MOST_PROVED]
    )


def _recipe(chosen: Trial | None) -> Recipe:
    return Recipe(steps=()) if chosen is None else chosen.recipe


def _prove_one(
    opened: Opened, trial: Trial, done: Compressed, *, is_written: bool
) -> Proved:
    """One trial of the front beside the source; what is written was scored already."""
    found = Proved(
        number=trial.number, recipe=describe(trial.recipe), drop=None, ci95=None
    )
    search, samples = opened.trials.search, opened.samples
    if done.scores is None or samples.report is None or search.task is None:
        return found
    if is_written:
        after = done.after
    else:
        view = view_of(trial.recipe, opened.source.inputs)
        seen, task = view.samples(samples.report), view.task(search.task)
        model = opened.trials.maker.make(trial.recipe)
        options = LoadOptions(threads=search.threads)
        with closing(search.runtime.load(model, options)) as session:
            after = evaluate(session, seen, task, search.progress)
    change, metric = compare_scores(done.before, after), find_metric(after.metric)
    drops = [metric.drop(done.before.value, one) for one in (change.low, change.high)]
    return replace(
        found,
        drop=metric.drop(done.before.value, after.value - done.before.value),
        ci95=(min(drops), max(drops)),
    )


def _candidate(opened: Opened, trial: Trial) -> Candidate:
    """A trial as a search lists it; its file is found in the cache."""
    outcome, search = trial.outcome, opened.trials.search
    found = Candidate(
        title=f"{describe(trial.recipe)}, trial {trial.number}",
        recipe=trial.recipe,
        runtime=search.runtime.name,
    )
    if outcome is None or outcome.size is None:
        return replace(found, refusal=outcome.refusal if outcome else "under way")
    return replace(
        found,
        model=opened.trials.maker.make(trial.recipe),
        accuracy=outcome.accuracy,
        drop=outcome.drop,
        seen=outcome.seen,
        is_sure=outcome.is_sure,
        refusal=outcome.refusal,
        latency=outcome.latency,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _task(text: str) -> Task | None:
    return parse_task(text.encode(), name="the experiment's task") if text else None
