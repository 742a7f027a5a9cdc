from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from skerry.core.errors import DataError
from skerry.tasks.boxes import Boxes, Placement, TrueBoxes, areas_of, overlaps
from skerry.tasks.metrics import METRICS, compare_tallies
from skerry.tasks.prediction import Prediction
from tests.boxes import Scene, found, make_scene, true

COCO_STATS = ("map", "map50", None, "map_small", "map_medium", "map_large")
"""What COCOeval's first six figures are here."""


def _coco_figures(scene: Scene) -> dict[str, float]:
    """What pycocotools says of a scene."""
    annotations = [
        {
            "id": 0,
            "image_id": picture,
            "category_id": int(label),
            "bbox": [*corners[:2], *(corners[2:] - corners[:2])],
            "area": float(area),
            "iscrowd": int(crowd),
        }
        for picture, one in enumerate(scene.labels)
        for corners, label, area, crowd in zip(
            one.corners, one.labels, one.areas, one.is_crowd, strict=True
        )
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    results = [
        {
            "image_id": picture,
            "category_id": int(label),
            "bbox": [*corners[:2], *(corners[2:] - corners[:2])],
            "score": float(score),
        }
        for picture, one in enumerate(scene.predictions)
        for corners, label, score in zip(
            one.boxes.corners, one.boxes.labels, one.boxes.scores, strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "info": {},
            "images": [{"id": index} for index in range(len(scene.labels))],
            "annotations": annotations,
            "categories": [{"id": index} for index in range(scene.classes)],
        }
        reference.createIndex()
        run = COCOeval(reference, reference.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {
        name: float(value)
        for name, value in zip(COCO_STATS, run.stats, strict=False)
        if name
    }


@pytest.mark.parametrize("seed", range(12))
def test_average_precisions_are_those_of_pycocotools(seed: int) -> None:
    """With crowds, equal scores, areas of outlines, missing classes, too many boxes."""
    scene = make_scene(seed)
    for name, expected in _coco_figures(scene).items():
        metric = METRICS[name]
        if expected < 0:
            with pytest.raises(DataError, match="nothing to score"):
                metric.value(scene.predictions, scene.labels)
        else:
            ours = metric.value(scene.predictions, scene.labels)
            assert ours == pytest.approx(expected, abs=1e-12), name


def test_only_the_surest_hundred_boxes_count() -> None:
    """A right box behind a hundred wrong ones of its picture is not seen."""
    corners = [[0, 0, 5, 5]] * 100 + [[50, 50, 60, 60]]
    label = true([[50, 50, 60, 60]], [0])
    for kept, expected in ((100, 0.0), (99, 1 / 100)):
        chosen = corners[100 - kept :]
        prediction = found(chosen, [0] * len(chosen), np.linspace(1, 0.1, len(chosen)))
        value = METRICS["map50"].value([prediction], [label])
        assert value == pytest.approx(expected)


def test_a_crowd_is_neither_demanded_nor_held_against() -> None:
    """Boxes inside a crowd do not count, however many; the crowd is not missed."""
    label = true([[0, 0, 10, 10], [20, 0, 60, 40]], [0, 0], is_crowd=[False, True])
    inside = [[21, 1, 26, 6], [30, 1, 35, 6]]
    prediction = found([[0, 0, 10, 10], *inside], [0] * 3, [0.5, 0.9, 0.8])
    assert METRICS["map"].value([prediction], [label]) == pytest.approx(1)


def test_areas_are_in_pixels_of_the_picture() -> None:
    """A picture enlarged fourfold into the input keeps its small objects small."""
    placement = Placement(rows=400, columns=400, scale_x=4, scale_y=4)
    label = true([[10, 10, 30, 30]], [0]).moved(placement)
    assert label.corners.tolist() == [[40, 40, 120, 120]]
    assert label.areas.tolist() == [400]
    wrong = found([[40, 40, 120, 120], [200, 200, 240, 240]], [0, 0], [0.5, 0.9])
    # The wrong box has 100 pixels of the picture: small, and held against.
    assert METRICS["map_small"].value([wrong], [label]) == pytest.approx(0.5)
    with pytest.raises(DataError, match="nothing to score"):
        METRICS["map_large"].value([wrong], [label])


def test_a_difference_of_detectors_has_an_interval() -> None:
    """Boxes off by a few pixels cost precision, and the interval says how much."""
    scene = make_scene(3, pictures=40)
    worse = [
        Prediction(
            label="",
            name="",
            confidence=0.5,
            boxes=Boxes(
                corners=one.boxes.corners + 6,
                labels=one.boxes.labels,
                scores=one.boxes.scores,
            ),
        )
        for one in scene.predictions
    ]
    metric = METRICS["map50"]
    before = metric.tally(scene.predictions, scene.labels)
    delta = compare_tallies(before, metric.tally(worse, scene.labels))
    assert delta.method == "bootstrap"
    assert delta.n == 40
    assert delta.low < delta.delta < delta.high < 0
    same = compare_tallies(before, before)
    assert (same.low, same.delta, same.high) == (0, 0, 0)
    assert str(same) == "no difference on n=40"


def test_overlaps_of_known_boxes() -> None:
    """Intersection over union, over the found box's area for a crowd, 0 for lines."""
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float64)
    others = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]], np.float64)
    table = overlaps(boxes, others)
    np.testing.assert_allclose(table, [[1 / 3, 1, 0], [0, 0, 0]])
    crowd = overlaps(boxes, others, np.array([True, False, False]))
    np.testing.assert_allclose(crowd[0], [0.5, 1, 0])
    assert areas_of(boxes).tolist() == [100, 0]


def test_placements_follow_each_other() -> None:
    """Scaling, then moving, then scaling again."""
    first = Placement(rows=20, columns=40, scale_x=2, scale_y=4, left=1, top=2)
    both = first.then(Placement(rows=9, columns=9, scale_x=3, scale_y=5, left=10))
    assert (both.rows, both.columns) == (9, 9)
    label = true([[1, 1, 2, 2]], [0])
    expected = label.moved(first).corners * [3, 5, 3, 5] + [10, 0, 10, 0]
    np.testing.assert_allclose(label.moved(both).corners, expected)
    assert isinstance(label.moved(both), TrueBoxes)
    assert label.moved(both).pixel_area == 2 * 4 * 3 * 5
    assert len(label) == 1
