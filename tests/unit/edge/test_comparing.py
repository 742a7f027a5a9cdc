from __future__ import annotations

import math

import numpy as np
import pytest

from skerry.core.release import ReleaseId
from skerry.edge.comparing import (
    LAST_KEPT,
    Comparison,
    DisagreementRecord,
    compare,
    copy_tensors,
    distance_of,
    impression_of,
)

ONE, TWO = (ReleaseId(name="meter", version=version) for version in (1, 2))


def test_an_answer_is_told_in_a_few_numbers() -> None:
    """Scores by their largest column, all by their mean; text not at all."""
    found = impression_of(
        {
            "scores": np.array([[0.1, 0.9], [0.8, 0.2]], np.float16),
            "boxes": np.arange(8, dtype=np.float32).reshape(1, 2, 4),
            "count": np.array([3], np.int64),
            "text": np.array(["a"]),
            "nothing": np.zeros((0, 4), np.float32),
            "alone": np.ones((1, 1), np.float32),
        },
        2.5,
    )
    assert found.latency_ms == 2.5
    assert found.classes == {"scores": (1, 0)}
    assert found.levels == {
        "scores": pytest.approx(0.5, abs=1e-3),
        "boxes": 3.5,
        "count": 3.0,
        "alone": 1.0,
    }


def test_numbers_at_the_end_of_their_range_are_told_too() -> None:
    """Infinities and NaN raise no warning."""
    huge = {"y": np.full((1, 3), np.finfo(np.float64).max)}
    odd = {"y": np.array([[np.nan, np.inf, 1.0]])}
    assert impression_of(huge, 1).classes == {"y": (0,)}
    assert math.isnan(impression_of(odd, 1).levels["y"])
    assert distance_of(huge, odd) == math.inf
    assert distance_of(huge, huge) == 0


def test_two_answers_are_compared() -> None:
    """By their distance, and by the classes of each row."""
    scores = {"y": np.array([[1.0, 2.0]])}
    close, other = {"y": np.array([[1.1, 2.0]])}, {"y": np.array([[2.0, 1.0]])}
    before = impression_of(scores, 1)
    for ran, is_same in ((close, True), (other, False)):
        found = compare(
            before, impression_of(ran, 1), distance_of(scores, ran), at_ms=5
        )
        assert (found.is_same_class, found.at_ms) == (is_same, 5)
        assert found.distance > 0
    boxes = impression_of({"boxes": np.ones((1, 2, 4))}, 1)
    assert compare(boxes, boxes, 0.0, at_ms=0).is_same_class is None


def test_disagreements_add_up() -> None:
    """Beyond the tolerance or of another class; the infinite ones are in no mean."""
    record = DisagreementRecord(ONE, TWO, tolerance=0.1)
    assert record.figures().mean_distance == 0
    for distance, is_same in (
        (0.0, None),
        (0.1, True),
        (0.05, False),
        (0.25, True),
        (math.inf, None),
    ):
        record.add(Comparison(at_ms=1, distance=distance, is_same_class=is_same))
    found = record.figures()
    assert (found.compared, found.differing, found.other_class) == (5, 3, 1)
    assert found.mean_distance == pytest.approx(0.1)
    assert found.worst_distance == math.inf
    assert [each.distance for each in found.last] == [0.05, 0.25, math.inf]


def test_only_the_last_disagreements_are_kept() -> None:
    """However many there are."""
    record = DisagreementRecord(ONE, TWO, tolerance=0)
    for n in range(100):
        record.add(Comparison(at_ms=n, distance=1.0, is_same_class=None))
    last = record.figures().last
    assert [each.at_ms for each in last] == list(range(100 - LAST_KEPT, 100))


def test_copies_are_nobody_elses() -> None:
    """Read-only views of a body become arrays of their own."""
    view = np.frombuffer(b"\x01\x02", np.uint8)
    copied = copy_tensors({"x": view})["x"]
    assert copied.flags.owndata
    assert copied.tolist() == [1, 2]
