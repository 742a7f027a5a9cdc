from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.tasks.metrics import (
    METRICS,
    PairedDelta,
    aggregate,
    edit_distance,
    find_metric,
    paired_interval,
    tango_interval,
    value_over,
)
from skerry.tasks.prediction import Label, Prediction
from skerry.tasks.tally import Quotient


def _score(name: str, prediction: Prediction, label: Label) -> tuple[float, float]:
    tally = METRICS[name].tally([prediction], [label])
    assert isinstance(tally, Quotient)
    return tally.scores[0], tally.weights[0]


def _text(line: str) -> Prediction:
    return Prediction(label=line, name=line, confidence=1.0)


RANKED = Prediction(
    label=3,
    name="3",
    confidence=0.5,
    ranked=tuple((index, 0.1) for index in (3, 1, 4, 0, 5, 9)),
)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("kitten", "sitting", 3),
        ("", "abc", 3),
        ("abc", "", 3),
        ("flaw", "lawn", 2),
        ("a" * 200, "a" * 199 + "b", 1),
        ("same", "same", 0),
    ],
)
def test_edit_distance_of_known_pairs(one: str, other: str, distance: int) -> None:
    """Known pairs have their known distance, both ways round."""
    assert edit_distance(one, other) == edit_distance(other, one) == distance


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [("top1", 3, 1), ("top1", 1, 0), ("top5", 5, 1), ("top5", 9, 0)],
)
def test_top_k_looks_at_k_classes(name: str, label: int, expected: float) -> None:
    """The class must be among the first k that the prediction ranks."""
    assert _score(name, RANKED, label) == (expected, 1.0)


def test_lines_right_ignores_spaces() -> None:
    """A line that differs in spaces alone is right, as PaddleOCR counts."""
    assert _score("lines_right", _text("ab c"), "a bc") == (1.0, 1.0)
    assert _score("lines_right", _text("abd"), "abc") == (0.0, 1.0)


def test_character_error_sums_distances_over_lengths() -> None:
    """The value over two lines is the sum of distances over the sum of lengths."""
    metric = METRICS["character_error"]
    tally = metric.tally([_text("abx"), _text("d")], ["abc", "d efghij"])
    assert isinstance(tally, Quotient)
    assert tally.scores.tolist() == [1, 6]
    assert tally.weights.tolist() == [3, 7]
    assert value_over(tally) == pytest.approx(0.7)


def test_unknown_metric_names_the_nearest() -> None:
    """A mistyped metric is refused with the one that was meant."""
    with pytest.raises(UsageError) as caught:
        find_metric("top_1")
    assert "top1" in caught.value.hint


@pytest.mark.parametrize("weights", [[], [0.0, 0.0]])
def test_nothing_to_score_is_an_error(weights: list[float]) -> None:
    """No samples, or empty labels alone, have no value."""
    with pytest.raises(DataError, match="nothing to score"):
        aggregate([0.0] * len(weights), weights)


def test_tango_interval_of_published_tables() -> None:
    """The ends agree with those that M. Fagerland's software prints.

    M. Cavo et al. (2012), a table of M. Fagerland, S. Lydersen and P. Laake,
    "Statistical Analysis of Contingency Tables", 2017, chapter 8: of 161 patients 6
    went one way and 16 the other; -0.0621, interval -0.1240 to -0.0054 (R package
    contingencytables).
    """
    low, high = tango_interval(6, 16, 161)
    assert (round(low, 4), round(high, 4)) == (-0.1240, -0.0054)


def test_tango_interval_without_change_has_width() -> None:
    """With no change in n samples the ends are ± z² / (n + z²): few prove little."""
    square = 1.959963984540054**2
    low, high = tango_interval(0, 0, 50)
    assert high == pytest.approx(square / (50 + square))
    assert low == pytest.approx(-high)


@pytest.mark.parametrize(("gained", "lost", "end"), [(9, 0, 1), (0, 9, -1)])
def test_tango_interval_stays_within_one(gained: int, lost: int, end: int) -> None:
    """Where each sample changed the same way, the interval ends at that extreme."""
    low, high = tango_interval(gained, lost, 9)
    assert (high if end > 0 else low) == pytest.approx(end)
    assert -1 <= low < high <= 1


def test_paired_interval_of_shares_is_tango() -> None:
    """Scores of 0 and 1 are compared as pairs."""
    before = np.array([1] * 16 + [0] * 6 + [1] * 139)
    after = np.array([0] * 16 + [1] * 6 + [1] * 139)
    result = paired_interval(before, after)
    assert result.method == "tango"
    assert result.n == 161
    assert result.delta == pytest.approx(-10 / 161)
    assert (result.low, result.high) == tango_interval(6, 16, 161)
    assert not result.is_inside_noise


def test_paired_interval_of_weighted_scores_is_a_bootstrap() -> None:
    """Distances with lengths are resampled as pairs, the same way each time."""
    generator = np.random.default_rng(1)
    weights = generator.integers(5, 20, 200).astype(float)
    before = generator.poisson(1.0, 200).astype(float)
    result = paired_interval(before, before + 1, weights)
    assert result.method == "bootstrap"
    assert result.delta == pytest.approx(200 / weights.sum())
    assert result.low < result.delta < result.high
    assert result == paired_interval(before, before + 1, weights)


def test_noise_is_an_interval_over_zero() -> None:
    """A change counts as noise exactly where its interval holds 0."""

    def delta(low: float, high: float) -> PairedDelta:
        return PairedDelta(delta=low, low=low, high=high, n=9, method="tango")

    assert delta(-0.1, 0.0).is_inside_noise
    assert not delta(0.01, 0.2).is_inside_noise


def test_unequal_numbers_of_scores_are_refused() -> None:
    """Scores of different samples are no pairs."""
    with pytest.raises(DataError, match="got 2 scores before, 3 after"):
        paired_interval([0, 1], [0, 1, 1])


@pytest.mark.parametrize(("n", "up", "down"), [(60, 0.05, 0.02), (400, 0.01, 0.03)])
def test_tango_interval_covers_the_true_change(n: int, up: float, down: float) -> None:
    """In 600 simulated comparisons the interval holds the truth about 95 % of times."""
    generator = np.random.default_rng(2)
    draws = generator.multinomial(n, (up, down, 1 - up - down), size=600)
    held = [
        low <= up - down <= high
        for low, high in (tango_interval(int(g), int(x), n) for g, x, _ in draws)
    ]
    assert 0.92 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(
    ("delta", "low", "high", "needed", "said"),
    [
        (-0.002, -0.010, 0.006, 4800, "needs about 4,800 samples to tell"),
        (0.004, -0.001, 0.009, 469, "needs about 470 samples to tell"),
        (-0.02, -0.03, -0.01, None, "a real difference: n=300"),
        (0.0, -0.01, 0.01, None, "no difference on n=300"),
        (1e-9, -0.01, 0.01, None, "no difference on n=300"),
        (5e-324, -0.01, 0.01, None, "no difference on n=300"),
        (0.1, 0.0, 0.2, 300, "needs about 300 samples to tell"),
    ],
)
def test_noise_is_said_plainly(
    delta: float, low: float, high: float, needed: int | None, said: str
) -> None:
    """What is inside the noise says how many samples would tell."""
    result = PairedDelta(delta=delta, low=low, high=high, n=300, method="tango")
    assert result.needed == needed
    assert said in str(result)
    assert str(result).startswith("inside the noise: n=300, ") == (needed is not None)


def test_few_samples_need_few_more() -> None:
    """Small numbers are not rounded."""
    result = PairedDelta(delta=0.5, low=-0.1, high=1.0, n=5, method="tango")
    assert str(result) == "inside the noise: n=5, needs about 8 samples to tell"


def test_a_difference_grown_to_what_is_needed_is_told() -> None:
    """As many samples as were said, with the same shares, leave the noise behind."""
    gained, lost, n = 6, 12, 300
    small = paired_interval(*_changes(gained, lost, n))
    assert small.is_inside_noise
    assert small.needed is not None
    times = small.needed / n * 1.1
    grown = paired_interval(
        *_changes(round(gained * times), round(lost * times), round(n * times))
    )
    assert not grown.is_inside_noise


def _changes(gained: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    before = np.array([0] * gained + [1] * lost + [1] * (n - gained - lost))
    after = np.array([1] * gained + [0] * lost + [1] * (n - gained - lost))
    return before, after
