from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.compress.search.scoring import (
    FIRST_BLOCK,
    LabelledScorer,
    Place,
    Seen,
    UnlabelledScorer,
)
from skerry.core.errors import DataError
from skerry.core.model import Model
from skerry.core.seams import Tensors
from skerry.graph import open_model
from skerry.runtimes.null import NullRuntime
from skerry.tasks.evaluate import SELECTION_MARGIN
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind
from tests import models

TASK = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))


@dataclass
class Answers:
    """A runtime that is wrong on the samples of these numbers, and counts its runs."""

    wrong: frozenset[int]
    runs: int = 0

    def __call__(self, inputs: Tensors) -> dict[str, Any]:
        self.runs += 1
        index = int(inputs["x"][0, 0])
        scores = np.zeros((1, 3), np.float32)
        scores[0, int(index in self.wrong)] = 1
        return {"y": scores}

    @property
    def place(self) -> Place:
        """Where it runs."""
        return Place(runtime=NullRuntime(self))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A file with the right signature; nobody runs it."""
    path = tmp_path / "net.onnx"
    path.write_bytes(models.mlp())
    return open_model(path)


def numbered(count: int) -> MemorySource:
    """Samples that carry their number; class 0 is right for each."""
    return MemorySource(
        samples=tuple(
            Sample(
                inputs={"x": np.full((1, 8), index, np.float32)},
                label=0,
                name=f"s{index}",
            )
            for index in range(count)
        )
    )


def score(
    model: Model, wrong: Sequence[int], count: int, allowed: float | None
) -> tuple[Seen, Answers, LabelledScorer]:
    """Score a candidate that is wrong on some samples against a perfect source."""
    scorer = LabelledScorer(
        model, Answers(frozenset()).place, numbered(count), TASK, allowed=allowed
    )
    answers = Answers(frozenset(int(index) for index in wrong))
    return scorer.score(model, answers.place, title="candidate"), answers, scorer


def test_what_is_hopeless_is_soon_refused(model: Model) -> None:
    """A candidate that reads nothing is refused after the first few samples."""
    seen, answers, scorer = score(model, range(300), 300, 0.01)
    assert (seen.seen, seen.total, answers.runs) == (FIRST_BLOCK, 300, FIRST_BLOCK)
    assert not seen.holds
    assert scorer.say(seen) == "refused after 24 of 300 samples: loses too much"


def test_what_holds_is_seen_on_all_samples(model: Model) -> None:
    """Its figure is that of all samples, whatever their order."""
    seen, answers, scorer = score(model, [7, 200], 300, 0.01)
    assert (seen.seen, answers.runs, seen.holds) == (300, 300, True)
    assert seen.drop == pytest.approx(2 / 300)
    assert scorer.say(seen) == ""
    assert scorer.source_accuracy() == 1


def test_a_part_of_the_allowed_loss_is_kept_back(model: Model) -> None:
    """Three quarters may be used up on the selection half, and not one sample more."""
    assert SELECTION_MARGIN == 0.75
    for lost, holds in ((15, True), (16, False)):
        seen, _, scorer = score(model, range(lost), 200, 0.1)
        assert seen.holds is holds
        assert seen.seen == 200
    assert scorer.say(seen) == "refused: loses too much"


def test_without_a_limit_everything_holds(model: Model) -> None:
    """Whoever demands nothing is refused nothing."""
    seen, _, _ = score(model, range(300), 300, None)
    assert seen.holds
    assert seen.seen == 300


@pytest.mark.parametrize("size", [60, 300, 1000])
@pytest.mark.parametrize("allowed", [0.01, 0.05, 0.3])
def test_what_holds_is_never_refused_early(
    model: Model, size: int, allowed: float
) -> None:
    """With the largest loss that holds, at any places, all samples are seen.

    The worst case for the rule: many draws of what is just within the limit.
    """
    lost = int(size * allowed * SELECTION_MARGIN)
    for seed in range(6000 // size):
        wrong = np.random.default_rng(1000 + seed).permutation(size)[:lost]
        seen, _, _ = score(model, wrong, size, allowed)
        assert seen.seen == size
        assert seen.holds


def test_sorted_files_are_seen_mixed(model: Model) -> None:
    """A loss at the end of the file shows as soon as one at its beginning."""
    for wrong in (range(90), range(210, 300)):
        seen, _, _ = score(model, wrong, 300, 0.01)
        assert seen.seen < 200


@pytest.mark.parametrize(
    ("seen", "limit", "was", "holds"),
    [
        (300, 0.02, 0.001, True),
        (300, 0.001, 0.02, False),
        (300, None, 0.02, True),
        (24, 0.01, 0.02, False),
        (24, 0.03, 0.02, None),
        (24, None, 0.02, None),
    ],
)
def test_a_kept_score_under_another_limit(
    seen: int, limit: float | None, was: float, *, holds: bool | None
) -> None:
    """A full score serves any limit, an early refusal none that is wider."""
    kept = Seen(accuracy=0.9, drop=0.01, seen=seen, total=300, holds=False)
    again = kept.under(limit, was, looked=limit)
    assert (again.holds if again else None) is holds


def test_outputs_are_compared_until_it_cannot_hold(model: Model) -> None:
    """Without labels, a sum that is over the limit already ends it."""
    source = numbered(64)
    for wrong, seen_most, holds in ((range(64), 2, False), ((), 64, True)):
        answers = Answers(frozenset(wrong))
        scorer = UnlabelledScorer(model, Answers(frozenset()).place, source, limit=0.05)
        seen = scorer.score(model, answers.place, title="candidate")
        assert (seen.seen, seen.holds) == (seen_most, holds)
        assert seen.accuracy is None
        assert bool(scorer.say(seen)) is not holds
    assert scorer.source_accuracy() is None


def test_nothing_to_compare_is_an_error(model: Model) -> None:
    """No samples say nothing of a candidate."""
    place = Answers(frozenset()).place
    scorer = UnlabelledScorer(model, place, numbered(0), limit=0.1)
    with pytest.raises(DataError, match="no samples"):
        scorer.score(model, place, title="candidate")


def test_progress_counts_the_samples(model: Model) -> None:
    """The source first, then the candidate, each by its name."""
    told: list[tuple[str, int, int]] = []
    progress: Callable[[str, int, int], None] = lambda *step: told.append(step)  # noqa: E731
    place = Answers(frozenset()).place
    scorer = LabelledScorer(
        model, place, numbered(3), TASK, allowed=0.1, progress=progress
    )
    scorer.source_accuracy()
    scorer.score(model, place, title="one")
    assert told[:3] == [("try: source", k, 3) for k in (1, 2, 3)]
    assert told[3:] == [("try: one", k, 3) for k in (1, 2, 3)]
