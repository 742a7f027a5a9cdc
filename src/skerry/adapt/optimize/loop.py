"""The loop: what is expected to gain most is tried first, and stays if it measures so.

Each round profiles the deployment at hand and asks what might help. The remedy that
promises most is applied; the result is timed beside the deployment at hand, and
stays if it is faster beyond the noise and its answers hold on the selection samples.
What did not help is tried again only once something else has changed. The loop ends
when nothing that is promised has not been tried.

Afterwards each remedy that helped is measured alone, beside the first deployment and
the chosen one: the ablation says what each is worth. Where all of them
together are not faster than one alone, beyond the noise, that one takes their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from skerry.adapt.optimize.deployment import Deployment, Kind, Remedy
from skerry.adapt.optimize.timing import Timing
from skerry.adapt.optimize.validate import Verdict
from skerry.core.errors import SkerryError
from skerry.core.profile import Profile
from skerry.tasks.measure import Ratio, ratio

MOST_TRIALS = 24

LEAST_GAIN = 0.02
"""What is faster by less is not worth another setting."""

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while long work goes on."""

Diagnose = Callable[[Deployment], tuple[Profile, Sequence[Remedy]]]
"""Profiles a deployment and says what might help."""

Validate = Callable[[Deployment], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A remedy that was tried.

    Attributes:
        remedy: Its name.
        kind: What it changes.
        why: What spoke for it.
        on: The deployment it was tried on, in a few words.
        expected: Latency hoped for ÷ that of `on`.
        measured: Latency ÷ that of `on`; None where it could not be run.
        latency_ms: Median latency of one inference; None likewise.
        loss: What `Verdict` says is lost; None where answers were not looked at.
        size_bytes: Of the model's file; None where it could not be made.
        is_kept: Whether it stayed.
        said: Why it did or did not.
    """

    remedy: str
    kind: Kind
    why: str
    on: str
    expected: float
    measured: Ratio | None
    latency_ms: float | None
    loss: float | None
    size_bytes: int | None
    is_kept: bool
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What a remedy is worth on the first deployment, without the others.

    Attributes:
        remedy: Its name.
        kind: What it changes.
        measured: Latency ÷ that of the first deployment.
        holds: Whether its answers hold.
    """

    remedy: str
    kind: Kind
    measured: Ratio
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """What the loop found.

    Attributes:
        start: The first deployment.
        chosen: The fastest that was found, with answers that hold.
        before: Profile of the first.
        after: Profile of the chosen one.
        trials: What was tried, in order.
        alone: The ablation: remedies that helped, each alone.
        start_ms: Median latency of one inference of the first.
        chosen_ms: That of the chosen one, timed beside it.
        gain: The chosen one's latency ÷ the first one's.
        against_best_single: The chosen one's latency ÷ that of the fastest single
            remedy; None where there is none.
        notes: What a reader must know, in plain sentences.
    """

    start: Deployment
    chosen: Deployment
    before: Profile
    after: Profile
    trials: tuple[Trial, ...]
    alone: tuple[Alone, ...]
    start_ms: float
    chosen_ms: float
    gain: Ratio
    against_best_single: Ratio | None
    notes: tuple[str, ...] = ()


def optimize(
    start: Deployment,
    *,
    time: Timing,
    diagnose: Diagnose,
    validate: Validate,
    progress: Progress | None = None,
) -> Optimized:
    """Find a faster deployment whose answers hold.

    Args:
        start: How the model is run now.
        time: Times deployments beside one another.
        diagnose: Profiles a deployment and says what might help.
        validate: Judges answers on the selection samples.
        progress: Told of each trial.

    Raises:
        SkerryError: The first deployment cannot be run.
    """
    search = _Search(start, time, diagnose, validate, progress)
    search.run()
    return search.conclude()


class _Search:
    def __init__(
        self,
        start: Deployment,
        time: Timing,
        diagnose: Diagnose,
        validate: Validate,
        progress: Progress | None,
    ) -> None:
        self._start = self._best = start
        self._time = time
        self._diagnose = diagnose
        self._validate = validate
        self._progress = progress
        self._trials: list[Trial] = []
        self._remedies: dict[str, Remedy] = {}
        self._refused: set[tuple[str, tuple[str, ...]]] = set()
        self._before, self._promised = diagnose(start)
        self._after = self._before

    def run(self) -> None:
        """Try until nothing is promised that has not been tried."""
        while len(self._trials) < MOST_TRIALS:
            remedy = next(self._untried(), None)
            if remedy is None:
                return
            if self._progress is not None:
                done = len(self._trials)
                self._progress(f"try {remedy.name}", done, MOST_TRIALS)
            self._try(remedy)

    def _untried(self) -> Iterator[Remedy]:
        """What is promised and was not tried on this deployment, most gain first."""
        for remedy in sorted(self._promised, key=lambda one: one.expected):
            if remedy.expected < 1 and not (
                remedy.name in self._best.remedies
                or (remedy.name, self._best.remedies) in self._refused
            ):
                yield remedy

    def _try(self, remedy: Remedy) -> None:
        measured: Ratio | None = None
        latency_ms: float | None = None
        verdict: Verdict | None = None
        changed: Deployment | None = None
        try:
            changed = _applied(remedy, self._best)
            times = self._time({"now": self._best, "then": changed})
            measured = ratio(times["then"], times["now"])
            latency_ms = times["then"].median_ms
            said = _said(measured)
            if measured.high < 1 and measured.median <= 1 - LEAST_GAIN:
                verdict = self._validate(changed)
                said = f"{said}; {verdict.said}"
        except SkerryError as error:
            said = f"cannot be run: {error}"
        is_kept = verdict is not None and verdict.holds
        self._trials.append(
            Trial(
                remedy=remedy.name,
                kind=remedy.kind,
                why=remedy.why,
                on=self._best.title,
                expected=remedy.expected,
                measured=measured,
                latency_ms=latency_ms,
                loss=None if verdict is None else verdict.loss,
                size_bytes=None if changed is None else changed.model.size_bytes,
                is_kept=is_kept,
                said=said,
            )
        )
        if changed is None or not is_kept:
            self._refused.add((remedy.name, self._best.remedies))
            return
        self._best = changed
        self._remedies[remedy.name] = remedy
        self._after, self._promised = self._diagnose(changed)

    def conclude(self) -> Optimized:
        """Measure each remedy that helped alone, and the result, all in turns."""
        notes: list[str] = []
        alone = self._alone()
        subjects = {"start": self._start, "best": self._best}
        subjects |= {name: one for name, (one, _) in alone.items()}
        times = self._time(subjects)
        sound = [name for name, (_, verdict) in alone.items() if verdict.holds]
        fastest = min(sound, key=lambda name: times[name].median_ms, default=None)
        chosen, key = self._best, "best"
        if fastest is not None and ratio(times["best"], times[fastest]).high >= 1:
            chosen, key = alone[fastest][0], fastest
            if len(self._remedies) > 1:
                self._after, _ = self._diagnose(chosen)
                notes.append(f"{fastest} alone is as fast as all that helped together.")
        single = None if fastest is None else ratio(times[key], times[fastest])
        return Optimized(
            start=self._start,
            chosen=chosen,
            before=self._before,
            after=self._after,
            trials=tuple(self._trials),
            alone=tuple(
                Alone(
                    remedy=name,
                    kind=self._remedies[name].kind,
                    measured=ratio(times[name], times["start"]),
                    holds=verdict.holds,
                )
                for name, (_, verdict) in alone.items()
            ),
            start_ms=times["start"].median_ms,
            chosen_ms=times[key].median_ms,
            gain=ratio(times[key], times["start"]),
            against_best_single=single,
            notes=tuple(notes),
        )

    def _alone(self) -> dict[str, tuple[Deployment, Verdict]]:
        """The remedies that helped, each applied to the first deployment."""
        found = {}
        for name, remedy in self._remedies.items():
            try:
                deployment = _applied(remedy, self._start)
                found[name] = deployment, self._validate(deployment)
            except SkerryError:
                continue  # it builds on another: alone it cannot be run
        return found


def _applied(remedy: Remedy, deployment: Deployment) -> Deployment:
    changed = remedy.change(deployment)
    return replace(changed, remedies=(*deployment.remedies, remedy.name))


def _said(measured: Ratio) -> str:
    interval = (
        f"{measured.median:.2f} × the time ({measured.low:.2f}–{measured.high:.2f})"
    )
    if measured.high >= 1:
        return f"{interval}: not faster beyond the noise"
    if measured.median > 1 - LEAST_GAIN:
        return f"{interval}: too little to be worth it"
    return interval
