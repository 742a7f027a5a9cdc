from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.tasks.metrics import METRICS, compare_tallies
from skerry.tasks.prediction import Prediction
from skerry.tasks.ranking import RocArea, delong_variance, tally_auc


def _scored(scores: np.ndarray) -> list[Prediction]:
    return [
        Prediction(label="", name="", confidence=1.0, value=float(score))
        for score in scores
    ]


def _area(scores: np.ndarray, is_abnormal: np.ndarray) -> RocArea:
    return RocArea(scores=np.asarray(scores, float), is_abnormal=is_abnormal)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1, 2, 3, 4], 1), ([4, 3, 2, 1], 0), ([1, 1, 1, 1], 0.5), ([1, 3, 2, 4], 0.75)],
)
def test_areas_of_known_scores(scores: list[float], expected: float) -> None:
    """The share of pairs in which the abnormal one is higher; ties count half."""
    value = METRICS["auc"].value(_scored(np.array(scores)), [0, 0, 1, 1])
    assert value == expected


def test_no_number_counts_as_wrong() -> None:
    """An abnormal sample without a score is the lowest, a normal one the highest."""
    scores = np.array([0.1, 0.2, np.nan, 0.9])
    assert METRICS["auc"].value(_scored(scores), [0, 0, 1, 1]) == 0.5
    assert METRICS["auc"].value(_scored(scores), [0, 0, 0, 1]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_alone_is_refused(label: int) -> None:
    """Normal samples alone have nothing to be told from."""
    with pytest.raises(DataError, match="expected some of both"):
        tally_auc(_scored(np.arange(3)), [label] * 3)


def test_a_difference_of_areas_is_delongs() -> None:
    """Its variance is that of the placements; the same scores have none."""
    generator = np.random.default_rng(0)
    is_abnormal = np.arange(80) < 30
    base = generator.normal(size=80) + is_abnormal
    before = _area(base, is_abnormal)
    after = _area(base + generator.normal(0, 1.5, 80), is_abnormal)
    delta = compare_tallies(before, after)
    assert (delta.method, delta.n) == ("delong", 80)
    reach = 1.959964 * np.sqrt(delong_variance(before, after))
    assert delta.high - delta.delta == pytest.approx(reach, rel=1e-6)
    same = compare_tallies(before, before)
    assert (same.low, same.high, same.needed) == (0, 0, None)


def test_few_samples_of_a_kind_fall_back_on_a_bootstrap() -> None:
    """One abnormal sample has no variance."""
    is_abnormal = np.array([True, False, False, False])
    before = _area(np.array([3, 1, 2, 4]), is_abnormal)
    after = _area(np.array([5, 1, 2, 4]), is_abnormal)
    assert compare_tallies(before, after).method == "bootstrap"


def test_delongs_interval_covers_the_true_change() -> None:
    """In 300 simulated comparisons it holds the truth about 95 % of times."""
    generator = np.random.default_rng(1)
    is_abnormal = np.arange(120) < 50
    held = 0
    for _ in range(300):
        signal = generator.normal(size=120) + 1.0 * is_abnormal
        # Both see the same signal with noise of the same size: no true change.
        areas = [
            _area(signal + generator.normal(0, 1, 120), is_abnormal) for _ in range(2)
        ]
        held += compare_tallies(*areas).is_inside_noise
    assert 0.91 <= held / 300 <= 0.99
