"""How a release has served, in figures."""

from __future__ import annotations

from dataclasses import dataclass, field

from skerry.core.documents import Json
from skerry.core.release import ReleaseId
from skerry.evolve.probation import Figures, PairFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingFigures:
    """How a release has served since it was switched to.

    Attributes:
        release: Which one.
        requests: Taken in, whatever became of them.
        failed: Whose inference failed; a request that does not fit the model is no
            fault of the model.
        late: Without an answer at their deadline.
        not_finite: Answered finite inputs with NaN or infinities.
        latency_ms: Median time of the last inferences, or None where there was none.
        latency_p99_ms: Their 99th percentile, or None.
        golden_error: Largest relative squared error of a golden sample here.
        busy: Turned away, as too many waited; they are not among the requests.
        interrupted: Whose inference hung and was stopped; they failed, too.
        waiting: Taken in and not begun.
        running: Begun and not ended.
        before: The same of the release that it took the place of, while that one is
            kept, else None.
        pairs: What both made of the same requests.
    """

    release: ReleaseId
    requests: int
    failed: int
    late: int
    not_finite: int
    latency_ms: float | None
    latency_p99_ms: float | None = None
    golden_error: float = 0.0
    busy: int = 0
    interrupted: int = 0
    waiting: int = 0
    running: int = 0
    before: ServingFigures | None = None
    pairs: PairFigures = field(default_factory=PairFigures)

    @property
    def reported(self) -> dict[str, Json]:
        """What of it the hub is told: the gates of a rollout ask for it by name."""
        p50_ms, p99_ms = self.latency_ms, self.latency_p99_ms
        return {
            "requests": self.requests,
            "failed": self.failed,
            "late": self.late,
            "latency_p50_ms": None if p50_ms is None else round(p50_ms, 3),
            "latency_p99_ms": None if p99_ms is None else round(p99_ms, 3),
            "golden_error": self.golden_error,
        }

    @property
    def on_probation(self) -> Figures:
        """What of it is judged on probation."""
        return Figures(
            requests=self.requests,
            failed=self.failed,
            late=self.late,
            not_finite=self.not_finite,
            latency_ms=self.latency_ms,
            before=self.before.on_probation if self.before else None,
            pairs=self.pairs,
        )
