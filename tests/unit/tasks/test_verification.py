from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.tasks.metrics import METRICS, compare_tallies
from skerry.tasks.prediction import Prediction
from skerry.tasks.tally import Quotient


def _seen(vectors: np.ndarray) -> list[Prediction]:
    return [
        Prediction(label="", name="", confidence=1.0, vector=vector)
        for vector in np.asarray(vectors, np.float64)
    ]


def _people(
    people: int, each: int, spread: float, seed: int = 0
) -> tuple[list[Prediction], list[int]]:
    """Embeddings around one place a person, of length 1."""
    generator = np.random.default_rng(seed)
    places = generator.normal(size=(people, 16))
    vectors = np.repeat(places, each, axis=0)
    vectors = vectors + generator.normal(0, spread, vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return _seen(vectors), np.repeat(np.arange(people), each).tolist()


@pytest.mark.parametrize("metric", ["verification", "tar_at_far_1e-2", "rank1"])
def test_people_far_apart_are_told_apart(metric: str) -> None:
    """Embeddings close together for one person and far apart for two are all right."""
    assert METRICS[metric].value(*_people(20, 5, 0.01)) == 1


def test_embeddings_of_nobody_are_a_coin() -> None:
    """What says nothing of the person is right for about half of the pairs."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 5).tolist()
    value = METRICS["verification"].value(
        _seen(generator.normal(size=(200, 8))), labels
    )
    assert value == pytest.approx(0.5, abs=0.05)


def test_the_rate_of_true_acceptance_is_that_of_its_definition() -> None:
    """By brute force: the lowest threshold at which few enough impostors pass."""
    predictions, labels = _people(30, 4, 0.9)
    vectors = np.array([one.vector for one in predictions])
    alike = -np.square(vectors[:, None] - vectors[None]).sum(axis=-1)
    upper = np.triu_indices(len(vectors), 1)
    same = np.equal.outer(labels, labels)[upper]
    genuine, impostor = alike[upper][same], alike[upper][~same]
    thresholds = np.sort(alike[upper])
    passing = [t for t in thresholds if (impostor >= t).mean() <= 0.01]
    expected = (genuine >= min(passing)).mean()
    assert 0.1 < expected < 0.9
    value = METRICS["tar_at_far_1e-2"].value(predictions, labels)
    assert value == pytest.approx(expected)


def test_a_threshold_is_not_chosen_on_those_it_is_tested_on() -> None:
    """People whose pairs have another scale are told wrong by the others' threshold."""
    angles = [0, 0.1, 1.6, 1.7, 3.2, 3.3, 4.8, 4.9]
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert METRICS["verification"].value(_seen(vectors), labels) == 1
    # Two of the four, one in each part, are as far from themselves as from others.
    vectors[[1, 5]] *= -1
    assert METRICS["verification"].value(_seen(vectors), labels) < 1


def test_rank1_compares_with_first_pictures() -> None:
    """Each person's first picture is the gallery: it has no weight, others have one."""
    predictions = _seen(np.array([[0, 0], [10, 0], [1, 0], [9, 0], [4.9, 0]]))
    tally = METRICS["rank1"].tally(predictions, ["ann", "bob", "ann", "bob", "bob"])
    assert isinstance(tally, Quotient)
    assert tally.weights.tolist() == [0, 0, 1, 1, 1]
    assert tally.scores.tolist() == [0, 0, 1, 1, 0]
    delta = compare_tallies(tally, tally)
    assert (delta.method, delta.n) == ("tango", 3)


@pytest.mark.parametrize("metric", ["verification", "tar_at_far_1e-2", "rank1"])
def test_no_numbers_count_as_wrong(metric: str) -> None:
    """A picture without an embedding is wrong in each of its pairs, never right."""
    predictions, labels = _people(20, 5, 0.01)
    nothing = np.full(16, np.nan)
    broken = _seen(
        [
            nothing if k % 5 == 1 else one.vector  # each person's second
            for k, one in enumerate(predictions)
        ]
    )
    assert METRICS[metric].value(broken, labels) < 0.95
    assert METRICS[metric].value(_seen([nothing] * 100), labels) <= 0.5


def test_a_difference_is_drawn_over_people() -> None:
    """The interval's n is the number of people, and noise is seen."""
    before, labels = _people(24, 4, 0.7, seed=1)
    after, _ = _people(24, 4, 1.1, seed=1)
    for name in ("verification", "tar_at_far_1e-3"):
        metric = METRICS[name]
        delta = compare_tallies(
            metric.tally(before, labels), metric.tally(after, labels)
        )
        assert (delta.n, delta.method) == (24, "bootstrap")
        assert delta.low < delta.delta < delta.high < 0


@pytest.mark.parametrize(
    ("metric", "labels", "what"),
    [
        ("verification", [0, 0, 1, 1, 2], "got 3 people, 2 of them"),
        ("verification", [0, 0, 1, 2, 3], "got 4 people, 1 of them"),
        ("tar_at_far_1e-3", [0, 0, 1, 1, 2], "2 pairs of one person and 8 of two"),
        ("rank1", [0, 1, 2, 3, 4], "5 pictures show as many people"),
    ],
)
def test_too_few_people_are_refused(metric: str, labels: list[int], what: str) -> None:
    """What a metric cannot say is an error, not a number."""
    with pytest.raises(DataError, match=what):
        METRICS[metric].value(_seen(np.eye(5)), labels)


def test_many_pictures_are_compared_in_part() -> None:
    """Beyond the limits pairs are drawn, always the same ones."""
    predictions, labels = _people(4, 300, 0.5)
    metric = METRICS["verification"]
    assert metric.value(predictions, labels) == metric.value(predictions, labels)
    assert metric.value(predictions, labels) > 0.9
