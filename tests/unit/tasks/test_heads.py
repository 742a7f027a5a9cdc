from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.tasks.heads import (
    BoxesScores,
    Candidates,
    Centernet,
    Fastestdet,
    Head,
    Nms,
    Yolox,
)
from skerry.tasks.task import Task, TaskKind

BOX = [10.0, 20.0, 40.0, 60.0]


def _one(head: Head, **outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners and scores of the surest candidate."""
    found = head.read(outputs)
    best = int(found.scores.max(axis=1).argmax())
    return found.corners[best], found.scores[best]


@pytest.mark.parametrize(
    ("order", "numbers"),
    [
        ("xyxy", [0.1, 0.25, 0.4, 0.75]),
        ("yxyx", [0.25, 0.1, 0.75, 0.4]),
        ("cxcywh", [0.25, 0.5, 0.3, 0.5]),
    ],
)
def test_boxes_and_scores_in_any_order(order: Any, numbers: list[float]) -> None:
    """Fractions of the input become pixels; the background is no class."""
    head = BoxesScores(order=order, height=80, width=100, background=0)
    corners, scores = _one(
        head,
        scores=np.array([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7]], np.float32),
        boxes=np.array([[0, 0, 0, 0], numbers], np.float32),
    )
    np.testing.assert_allclose(corners, BOX, rtol=1e-6)
    np.testing.assert_allclose(scores, [0.2, 0.7], rtol=1e-6)


def test_logits_of_ssd_are_softmaxed() -> None:
    """Scores become probabilities before the background goes."""
    head = BoxesScores(softmax=True, background=1)
    _, scores = _one(head, b=np.array([BOX]), s=np.array([[1.0, 2.0, 3.0]]))
    powers = np.exp([1, 2, 3])
    np.testing.assert_allclose(scores, powers[[0, 2]] / powers.sum())


def test_yolox_counts_from_its_cells() -> None:
    """Cell (2, 1) of the grid of stride 16, after the 4 × 6 cells of stride 8."""
    rows = np.full((24 + 6, 7), -9.0, np.float32)
    rows[:, 4:] = 0
    rows[24 + 3 + 2] = [-0.4375, 1.5, np.log(30 / 16), np.log(40 / 16), 0.5, 0.2, 0.8]
    head = Yolox(height=32, width=48, strides=(8, 16))
    corners, scores = _one(head, output=rows)
    # (2 − 0.4375) · 16 = 25 and (1 + 1.5) · 16 = 40 are the middle.
    np.testing.assert_allclose(corners, BOX, rtol=1e-6)
    np.testing.assert_allclose(scores, [0.1, 0.4], rtol=1e-6)


def test_fastestdet_counts_from_its_cells() -> None:
    """Cell (1, 1) of 2 × 2, the middle moved by tanh, sides by the sigmoid."""
    planes = np.zeros((7, 2, 2), np.float32)
    logit = [np.log(share / (1 - share)) for share in (0.3, 0.5)]
    planes[:, 1, 1] = [0.5, np.arctanh(-0.5), 0, *logit, 0.1, 0.9]
    corners, scores = _one(Fastestdet(height=80, width=100), output=planes)
    np.testing.assert_allclose(corners, BOX, rtol=1e-5)
    np.testing.assert_allclose(scores, 0.5**0.6 * np.array([0.1, 0.9]) ** 0.4)


def test_centernet_reads_peaks() -> None:
    """Rows come first in the planes of scales and offsets."""
    heat, scale, offset = np.zeros((1, 15, 10)), np.zeros((2, 15, 10)), np.zeros(1)
    offset = np.zeros_like(scale)
    heat[0, 9, 6] = 0.75
    scale[:, 9, 6] = np.log([40 / 4, 30 / 4])
    offset[:, 9, 6] = 0.5, -0.25
    corners, scores = _one(Centernet(), a=heat, b=scale, c=offset)
    np.testing.assert_allclose(corners, BOX)
    assert scores == 0.75


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        (BoxesScores(), {"b": np.zeros((3, 4))}),
        (BoxesScores(), {"b": np.zeros((3, 4)), "s": np.zeros((2, 2))}),
        (BoxesScores(boxes="c"), {"b": np.zeros((3, 4)), "s": np.zeros((3, 2))}),
        (BoxesScores(boxes="s"), {"b": np.zeros((3, 4)), "s": np.zeros((3, 2))}),
        (Yolox(height=32, width=32), {"o": np.zeros((20, 6))}),
        (Yolox(height=32, width=32), {"o": np.zeros((21, 5))}),
        (Yolox(height=32, width=32), {}),
        (Fastestdet(height=8, width=8), {"o": np.zeros((5, 2, 2))}),
        (Fastestdet(height=8, width=8), {"o": np.zeros((6, 0, 2))}),
        (Centernet(), {"a": np.zeros((1, 2, 2)), "b": np.zeros((2, 2, 2))}),
        (Centernet(scale="b", offset="b"), {"a": np.zeros(2), "b": np.zeros((2, 2))}),
    ],
)
def test_other_outputs_are_refused(head: Head, outputs: dict[str, np.ndarray]) -> None:
    """What is no such head's output is an error that says what was expected."""
    with pytest.raises(DataError) as caught:
        head.read(outputs)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (Yolox, {"height": 0, "width": 8}),
        (Yolox, {"height": 8, "width": 8, "strides": ()}),
        (Yolox, {"height": 8, "width": 8, "strides": (8, 0)}),
        (BoxesScores, {"height": -1}),
        (Fastestdet, {"height": 8, "width": 0}),
        (Centernet, {"stride": 0}),
        (Nms, {"iou": 0.0}),
        (Nms, {"min_score": 1.5}),
        (Nms, {"most": 0}),
        (Nms, {"iou": float("nan")}),
    ],
)
def test_wrong_parameters_are_refused(make: Any, params: dict[str, Any]) -> None:
    """Numbers that no head has."""
    with pytest.raises(UsageError):
        make(**params)


def _candidates(boxes: list[list[float]], scores: list[list[float]]) -> Candidates:
    return Candidates(corners=np.array(boxes, float), scores=np.array(scores, float))


def test_nms_keeps_the_surest_of_those_that_overlap() -> None:
    """Class by class; a box that overlaps less stays."""
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [8, 0, 18, 10]]
    scores = [[0.8, 0], [0.9, 0], [0, 0.5], [0.3, 0]]
    found = Nms(iou=0.5).select(_candidates(boxes, scores), ("cat", "dog"))
    assert found.boxes is not None
    assert found.boxes.scores.tolist() == [0.9, 0.5, 0.3]
    assert found.boxes.labels.tolist() == [0, 1, 0]
    assert found.name == found.label == "2 cat, 1 dog"
    assert found.confidence == pytest.approx(1.7 / 3)


def test_nms_takes_one_class_a_box_or_all() -> None:
    """SSD lets one box be of several classes, YOLOX of one."""
    candidates = _candidates([[0, 0, 9, 9]], [[0.5, 0.7]])
    assert Nms().select(candidates, ()).name == "1 of class 1"
    both = Nms(classes="all").select(candidates, ())
    assert both.name == "1 of class 0, 1 of class 1"


def test_nms_keeps_no_more_than_asked_for() -> None:
    """The surest ones; none at all where none is sure enough."""
    boxes = [[20.0 * k, 0, 20 * k + 10, 10] for k in range(6)]
    candidates = _candidates(boxes, [[0.1 * k] for k in range(6)])
    found = Nms(most=2).select(candidates, ()).boxes
    assert found is not None
    np.testing.assert_allclose(found.scores, [0.5, 0.4])
    nothing = Nms(min_score=0.9).select(candidates, ())
    assert (nothing.name, nothing.label, nothing.confidence) == ("nothing", "", 0)


def test_what_is_not_finite_is_no_candidate() -> None:
    """A box or a score without a number is passed over."""
    boxes = [[0, 0, np.nan, 10], [0, 0, 10, np.inf], [0, 0, 10, 10], [30, 0, 40, 10]]
    scores = [[0.9], [0.9], [np.nan], [0.2]]
    found = Nms().select(_candidates(boxes, scores), ()).boxes
    assert found is not None
    assert found.corners.tolist() == [[30, 0, 40, 10]]


def test_scores_must_be_one_a_label() -> None:
    """Labels of another net are noticed."""
    with pytest.raises(DataError, match="2 scores a box, the task names 1"):
        Nms().select(_candidates([[0, 0, 1, 1]], [[0.5, 0.5]]), ("cat",))


def test_a_task_reads_all_outputs_of_a_head() -> None:
    """The batch axis is dropped from each."""
    task = Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=("a",),
        post=(BoxesScores(), Nms()),
    )
    outputs = {"s": np.array([[[0.5]]]), "b": np.array([[BOX]])}
    found = task.decode(outputs).boxes
    assert found is not None
    assert found.corners.tolist() == [BOX]
    with pytest.raises(DataError, match="expected a batch of 1"):
        task.decode({"s": np.zeros((2, 1, 1)), "b": np.zeros((2, 1, 4))})
