from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.tasks.metrics import METRICS, compare_tallies
from skerry.tasks.prediction import Prediction


def _valued(values: list[float]) -> list[Prediction]:
    return [
        Prediction(label="", name="", confidence=1.0, value=value) for value in values
    ]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("mae", 1.0), ("rmse", np.sqrt(6 / 4)), ("r2", 1 - 6 / 5)],
)
def test_errors_of_known_values(metric: str, expected: float) -> None:
    """The mean, the root of the mean square, and 1 − errors / variance."""
    value = METRICS[metric].value(_valued([1, 3, 2, 6]), [1.0, 2.0, 3.0, 4.0])
    assert value == pytest.approx(expected)


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_no_number_is_wrong_by_the_whole_span(metric: str) -> None:
    """A prediction that is none is as wrong as the labels go."""
    labels = [0.0, 5.0, 10.0]
    worst = METRICS[metric].value(_valued([0.0, float("nan"), 10.0]), labels)
    assert worst == METRICS[metric].value(_valued([0.0, 15.0, 10.0]), labels)


def test_labels_that_are_all_alike_have_no_r2() -> None:
    """There is no variance to explain."""
    with pytest.raises(DataError, match="nothing to score"):
        METRICS["r2"].value(_valued([1, 2, 3]), [2.5, 2.5, 2.5])


def test_a_drop_is_relative_where_the_metric_has_a_unit() -> None:
    """A tenth more error is a drop of 0.1, whatever the unit; less is a gain."""
    for name in ("mae", "rmse"):
        assert METRICS[name].drop(20.0, 2.0) == pytest.approx(0.1)
        assert METRICS[name].drop(20.0, -2.0) == pytest.approx(-0.1)
        assert METRICS[name].drop(0.0, 1.0) == np.inf
        assert METRICS[name].drop(0.0, 0.0) == 0
    assert METRICS["r2"].drop(0.9, -0.1) == pytest.approx(0.1)
    assert METRICS["character_error"].drop(0.2, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_intervals_hold_the_change(metric: str) -> None:
    """The bootstrap is over samples, repeatable, and holds what was seen."""
    generator = np.random.default_rng(0)
    labels = generator.normal(size=200)
    before = _valued((labels + generator.normal(0, 0.2, 200)).tolist())
    after = _valued((labels + generator.normal(0, 0.4, 200)).tolist())
    tallies = [METRICS[metric].tally(one, labels.tolist()) for one in (before, after)]
    delta = compare_tallies(*tallies)
    assert delta.method == "bootstrap"
    assert delta.low < delta.delta < delta.high
    assert not delta.is_inside_noise
    assert str(delta) == "a real difference: n=200"
    assert delta == compare_tallies(*tallies)


def test_tallies_of_other_samples_are_refused() -> None:
    """They are no pairs."""
    tallies = [
        METRICS["rmse"].tally(_valued([1.0] * n), list(map(float, range(n))))
        for n in (3, 4)
    ]
    with pytest.raises(DataError, match="got 3 samples before and 4 after"):
        compare_tallies(*tallies)
