from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skerry.compress.ptq.quantize import ACCURATE, Quantize
from skerry.compress.search import choose as module
from skerry.compress.search.choose import Choice, Search, choose
from skerry.core.budget import Budget
from skerry.core.seams import Runtime
from skerry.tasks.evaluate import Scores
from skerry.tasks.tally import Quotient

BUDGET = Budget(accuracy_drop=0.25)
PLAIN = 2
"""The first two candidates are plain; then come three with weights only."""

FixLatency = Callable[[dict[str, float]], None]
SearchFor = Callable[..., Choice]


@pytest.fixture
def search_for(
    workplace: Any, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> SearchFor:
    """Search where the source and the candidates score what a test says, in order."""

    def search(
        scores: list[float],
        *,
        budget: Budget = BUDGET,
        metric: str = "top1",
    ) -> Choice:
        values: Iterator[float] = iter(scores)

        def evaluate(*_: object) -> Scores:
            return Scores(
                metric=metric,
                tally=Quotient(scores=np.zeros(0), weights=np.zeros(0)),
                value=next(values),
                predictions=(),
                labels=(),
                names=(),
            )

        monkeypatch.setattr(module, "evaluate", evaluate)
        return choose(
            workplace.model,
            workplace.graph,
            Search(
                calibration=workplace.calibration,
                selection=workplace.selection,
                task=workplace.task,
                runtime=runtime,
                budget=budget,
            ),
            workplace.folder,
        )

    return search


@pytest.mark.parametrize(("fastest", "time_ms"), [(0, 0.4), (1, 0.5), (2, 0.9)])
def test_the_fastest_of_those_that_hold_is_chosen(
    fastest: int, time_ms: float, search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """Where everything holds, latency decides, and nothing else is tried."""
    fixed_latency({"0": 2.0, "1": 2.0, "2": 2.0} | {str(fastest): time_ms})
    choice = search_for([0.75] * 4)
    assert len(choice.candidates) == 3
    assert choice.chosen is choice.candidates[fastest]
    assert choice.chosen.latency is not None
    assert choice.chosen.latency.median == pytest.approx(time_ms)
    assert choice.sensitivity == {}
    attempts = choice.attempts()
    assert [one.chosen for one in attempts].index(True) == fastest + 1
    assert attempts[0].accuracy == 0.75
    assert attempts[fastest + 1].latency_ratio == pytest.approx(time_ms)


def test_what_loses_too_much_is_refused_however_fast(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """A candidate beyond the budget is not even timed."""
    fixed_latency({"0": 0.1, "1": 0.1, "2": 0.9})
    choice = search_for([0.75, 0.25, 0.25, 0.75])
    assert choice.chosen is choice.candidates[2]
    assert [one.note for one in choice.attempts()] == [
        "",
        "refused: loses too much",
        "refused: loses too much",
        "",
    ]
    assert choice.attempts()[1].latency_ratio is None


@pytest.mark.parametrize(("accuracy", "holds"), [(0.5625, True), (0.56, False)])
def test_a_part_of_the_allowed_loss_is_kept_back(
    accuracy: float, *, holds: bool, search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """On the selection half a candidate may lose three quarters of what is allowed."""
    fixed_latency({})
    choice = search_for([0.75, accuracy, *[0.0] * 20])
    assert (choice.chosen is not None) == holds


def test_methods_are_tried_in_turn(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """The most accurate step first, then other ranges, then the graph as it was."""
    fixed_latency({})
    choice = search_for([0.75, 0, 0, 0, 0, 0.75])
    steps = [candidate.step for candidate in choice.candidates[PLAIN:]]
    assert steps == [ACCURATE, replace(ACCURATE, method="minmax"), Quantize()]
    assert choice.chosen is choice.candidates[-1]


def test_operators_are_put_back_until_it_holds(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """The most sensitive stay float, by the method that lost least."""
    fixed_latency({})
    choice = search_for([0.75, 0, 0, 0.1, 0.4, 0.2, 0.3, 0.75])
    assert choice.chosen is choice.candidates[-1]
    step = choice.chosen.step
    assert step == replace(ACCURATE, method="minmax", keep_float=step.keep_float)
    order = sorted(choice.sensitivity, key=choice.sensitivity.__getitem__)
    assert set(choice.sensitivity) == {"a", "b", "c", "d"}
    assert step.keep_float == tuple(sorted(order[-2:]))
    assert choice.candidates[-2].step.keep_float == (order[-1],)
    assert choice.attempts()[-1].kept_float == 2


def test_nothing_is_chosen_where_nothing_holds(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """At most half of the operators are put back; then the source is the answer."""
    fixed_latency({})
    choice = search_for([0.75, *[0.0] * 20])
    assert choice.chosen is None
    assert [len(one.step.keep_float) for one in choice.candidates[5:]] == [1, 2]
    assert [one.chosen for one in choice.attempts()] == [True, *[False] * 7]


def test_the_budget_of_size_is_kept(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """A file that is too large is refused, and the reason says so."""
    fixed_latency({})
    choice = search_for([0.75] * 20, budget=Budget(size_bytes=10))
    assert choice.chosen is None
    assert {one.note for one in choice.attempts()[1:]} == {"refused: too large"}
    roomy = search_for([0.75] * 20, budget=Budget(size_bytes=10**6))
    assert roomy.chosen is not None


def test_a_lower_error_is_better(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """For the character error a rise is the loss, a fall a gain."""
    fixed_latency({"0": 0.1, "1": 0.2, "2": 0.3})
    choice = search_for([0.5, 0.75, 0.25, 0.5], metric="character_error")
    assert [one.drop for one in choice.candidates] == [0.25, -0.25, 0.0]
    assert choice.chosen is choice.candidates[1]


def test_not_a_number_never_holds(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """A score that is NaN is refused like a loss."""
    fixed_latency({})
    choice = search_for([0.75, *[float("nan")] * 20])
    assert choice.chosen is None


def test_a_measured_search(
    workplace: Any, runtime: Runtime, fixed_latency: FixLatency
) -> None:
    """Without scripts: a net that bears quantization is quantized, with progress."""
    fixed_latency({"1": 0.5})
    told: list[str] = []
    choice = choose(
        workplace.model,
        workplace.graph,
        Search(
            calibration=workplace.calibration,
            selection=workplace.selection,
            task=workplace.task,
            runtime=runtime,
            budget=Budget(accuracy_drop=1),
            progress=lambda what, _done, _total: told.append(what),
        ),
        workplace.folder,
    )
    assert choice.baseline.value == 1
    assert choice.chosen is choice.candidates[1]
    assert choice.chosen.accuracy >= 0.5
    assert choice.chosen.size_bytes == len(choice.chosen.read().to_bytes())
    assert {"calibrate", "try: source"} < set(told)
    assert replace(choice.chosen.step, per_channel=False) == choice.candidates[0].step
