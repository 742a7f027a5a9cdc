from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.tasks import _image
from skerry.tasks._annotations import parse_coco
from skerry.tasks._folder import parse_labels
from skerry.tasks.boxes import TrueBoxes
from skerry.tasks.evaluate import evaluate
from skerry.tasks.heads import BoxesScores, Nms
from skerry.tasks.samples import open_samples
from skerry.tasks.steps import Layout, Letterbox, Resize, TopK
from skerry.tasks.task import Task, TaskKind

COCO: dict[str, Any] = {
    "info": {"year": 2026},
    "images": [
        {"id": 7, "file_name": "a.png", "width": 40, "height": 20},
        {"id": 9, "file_name": "b.png", "width": 20, "height": 40},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 18,
            "bbox": [4, 5, 10, 8],
            "area": 50.5,
            "iscrowd": 0,
            "segmentation": [[1, 2]],
        },
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": 1},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}],
}
CSV = """file,label,x_min,y_min,x_max,y_max,area,is_crowd
a.png,dog,4,5,14,13,50.5,
b.png,,,,,,,
a.png,cat,0,0,4,4,,1
"""
SPEC = TensorSpec(name="x", dtype="uint8", shape=("N", 3, 32, 32))


def _task(step: Any) -> Task:
    return Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=("cat", "dog"),
        pre=(step, Layout()),
        post=(BoxesScores(), Nms()),
    )


SQUARE = _task(Resize(height=32, width=32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures without labels."""
    for name, (rows, columns) in (("a.png", (20, 40)), ("b.png", (40, 20))):
        picture = np.zeros((rows, columns, 3), np.uint8)
        (tmp_path / name).write_bytes(_image.encode_png(picture))
    return tmp_path


@pytest.mark.parametrize(("file", "text"), [("coco.json", COCO), ("labels.csv", CSV)])
def test_boxes_are_read_from_both_forms(folder: Path, file: str, text: Any) -> None:
    """Classes by name, crowds, areas of outlines; a picture without objects."""
    (folder / file).write_text(text if file.endswith("csv") else json.dumps(text))
    first, second = open_samples(folder, [SPEC], SQUARE)
    label = first.label
    assert isinstance(label, TrueBoxes)
    # 40 columns and 20 rows become 32 of each.
    np.testing.assert_allclose(label.corners, [[3.2, 8, 11.2, 20.8], [0, 0, 3.2, 6.4]])
    assert label.labels.tolist() == [1, 0]
    assert label.is_crowd.tolist() == [False, True]
    assert label.areas.tolist() == [50.5, 16]
    assert label.pixel_area == pytest.approx(0.8 * 1.6)
    assert isinstance(second.label, TrueBoxes)
    assert len(second.label) == 0


class _Perfect:
    """A session that finds what is there, as the samples tell it."""

    inputs = outputs = ()

    def __init__(self, truths: list[TrueBoxes]) -> None:
        self._truths = iter(truths)

    def run(self, inputs: Tensors) -> dict[str, Array]:
        del inputs
        truth = next(self._truths)
        scores = np.eye(2)[truth.labels] * 0.9
        return {"boxes": truth.corners[None], "scores": scores[None]}

    def close(self) -> None:
        """Hold nothing."""


@pytest.mark.parametrize(
    "step",
    [
        Resize(height=32, width=32),
        Resize(height=32, width=32, keep_aspect=True),
        Letterbox(height=32, width=32),
        Letterbox(height=32, width=32, anchor="top_left"),
    ],
)
def test_truths_are_where_the_picture_is(folder: Path, step: Any) -> None:
    """The marked object's pixels lie inside the moved box, whatever the step."""
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[5:13, 4:14] = 255
    (folder / "a.png").write_bytes(_image.encode_png(picture))
    (folder / "labels.csv").write_text(CSV)
    source = open_samples(folder, [SPEC], _task(step))
    first = next(iter(source))
    assert isinstance(first.label, TrueBoxes)
    bright = np.argwhere(first.inputs["x"][0, 0] > 127)
    top, left = bright.min(axis=0)
    bottom, right = bright.max(axis=0) + 1
    np.testing.assert_allclose(
        first.label.corners[0], [left, top, right, bottom], atol=1.01
    )
    truths = [sample.label for sample in source]
    scores = evaluate(_Perfect(truths), source, _task(step))  # type: ignore[arg-type]
    assert scores.value == pytest.approx(1)
    assert scores.predictions[0].name == "1 cat, 1 dog"
    assert scores.per_sample.shape == scores.weights.shape == (0,)


def _changed(**changes: Any) -> bytes:
    return json.dumps(COCO | changes).encode()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"{}", "is not COCO's JSON"),
        (b"\xff", "is not COCO's JSON"),
        (_changed(images=[{"id": "7", "file_name": "a"}]), "Expected `int`"),
        (
            _changed(annotations=[{"image_id": 8, "category_id": 3, "bbox": [0] * 4}]),
            "annotation 0 is of image 8 and category 3",
        ),
        (
            _changed(annotations=[{"image_id": 7, "category_id": 3, "bbox": [0] * 3}]),
            "length 4",
        ),
    ],
)
def test_a_damaged_coco_file_is_refused(content: bytes, what: str) -> None:
    """What is wrong is said, and where."""
    with pytest.raises(DataError, match=what):
        parse_coco(content, name="coco.json")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"images": [], "annotations": []}, "lists no pictures"),
        (
            {"images": [{"id": 7, "file_name": "../a.png"}], "annotations": []},
            "leads out",
        ),
        ({"images": [{"id": 7, "file_name": "c.png"}], "annotations": []}, "not there"),
        (
            {"categories": [{"id": 3, "name": "cow"}, {"id": 18, "name": "dog"}]},
            "'cow'",
        ),
    ],
)
def test_a_coco_folder_that_does_not_fit_is_refused(
    folder: Path, changes: dict[str, Any], what: str
) -> None:
    """Files that are not there, and classes that the task has not."""
    (folder / "coco.json").write_bytes(_changed(**changes))
    with pytest.raises(DataError, match=what):
        open_samples(folder, [SPEC], SQUARE)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("a.png,dog,1,2,3,x", "line 2: a box is 1, 2, 3, x"),
        ("a.png,dog,1,2,3,inf", "expected finite numbers"),
        ("a.png,dog,1,2,3,", "expected finite numbers"),
        (",dog,1,2,3,4", "a value is missing"),
        ("/a.png,dog,1,2,3,4", "leads out of the folder"),
    ],
)
def test_a_damaged_row_is_refused(row: str, what: str) -> None:
    """The line is named."""
    head = "file,label,x_min,y_min,x_max,y_max\n"
    with pytest.raises(DataError, match=what):
        parse_labels((head + row).encode(), name="labels.csv")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("a.png,dog,9,2,3,4", "expected x_min ≤ x_max"),
        ("a.png,7,1,2,3,4", "a class of 0 to 1"),
        ("a.png,dogs,1,2,3,4", "'dogs', which is no class"),
    ],
)
def test_a_box_that_cannot_be_is_refused(folder: Path, row: str, what: str) -> None:
    """Turned corners, and classes that the task has not."""
    head = "file,label,x_min,y_min,x_max,y_max\n"
    (folder / "labels.csv").write_text(head + row)
    with pytest.raises(DataError, match=what):
        open_samples(folder, [SPEC], SQUARE)


def test_boxes_are_for_detection(folder: Path) -> None:
    """Another kind of task has no use for them, and detection for no other labels."""
    task = Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        labels=("cat", "dog"),
        pre=SQUARE.pre,
        post=(TopK(),),
    )
    (folder / "labels.csv").write_text(CSV)
    with pytest.raises(DataError, match="are boxes, the task is classification"):
        open_samples(folder, [SPEC], task)
    (folder / "labels.csv").write_text("file,label\na.png,cat\n")
    with pytest.raises(DataError, match="expected boxes"):
        open_samples(folder, [SPEC], SQUARE)


def test_boxes_of_an_npz(tmp_path: Path) -> None:
    """Samples × most boxes × columns; rows of class −1 fill up."""
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 4))
    task = Task(kind=TaskKind.DETECTION, metric="map", post=(BoxesScores(), Nms()))
    label = np.full((2, 3, 7), -1.0, np.float32)
    label[0, :2] = [[0, 0, 4, 4, 2, 0, 9], [1, 1, 2, 2, 0, 1, 0]]
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((2, 4), np.float32), label=label)
    first, second = (sample.label for sample in open_samples(path, [spec], task))
    assert isinstance(first, TrueBoxes)
    assert first.labels.tolist() == [2, 0]
    assert first.is_crowd.tolist() == [False, True]
    assert first.areas.tolist() == [9, 1]
    assert isinstance(second, TrueBoxes)
    assert len(second) == 0
    for bad, what in (
        (np.zeros((2, 3, 4)), "has shape"),
        (np.zeros((2, 3)), "has shape"),
        (np.zeros(2), "expected boxes"),
        (np.full((2, 1, 5), np.nan), "expected x_min"),
    ):
        np.savez(path, x=np.zeros((2, 4), np.float32), label=bad)
        with pytest.raises(DataError, match=what):
            open_samples(path, [spec], task)


@pytest.mark.parametrize(
    ("kind", "metric", "labels", "expected"),
    [
        (TaskKind.REGRESSION, "mae", [1.5, -2.0], [1.5, -2.0]),
        (TaskKind.REGRESSION, "mae", [1, 2], [1.0, 2.0]),
        (TaskKind.REGRESSION, "mae", ["1.5", "2e3"], [1.5, 2000.0]),
        (TaskKind.ANOMALY, "auc", [0, 1], [0, 1]),
        (TaskKind.ANOMALY, "auc", [False, True], [0, 1]),
        (TaskKind.EMBEDDING, "rank1", ["ann", "bob"], ["ann", "bob"]),
        (TaskKind.EMBEDDING, "rank1", [4, -7], [4, -7]),
    ],
)
def test_labels_of_each_kind(
    tmp_path: Path, kind: TaskKind, metric: str, labels: list[Any], expected: list[Any]
) -> None:
    """Values, whether a sample is abnormal, who it shows."""
    from skerry.tasks.decoders import Embedding, Value

    decoder = Embedding() if kind is TaskKind.EMBEDDING else Value()
    task = Task(kind=kind, metric=metric, post=(decoder,))
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 4))
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4), np.float32), label=labels)
    source = open_samples(tmp_path / "a.npz", [spec], task)
    assert [sample.label for sample in source] == expected


@pytest.mark.parametrize(
    ("kind", "metric", "labels", "what"),
    [
        (TaskKind.REGRESSION, "mae", ["1.5", "x"], "expected a finite number"),
        (TaskKind.REGRESSION, "mae", [1.5, np.inf], "expected a finite number"),
        (TaskKind.ANOMALY, "auc", [0, 2], "is 2, expected 0 to 1"),
        (TaskKind.ANOMALY, "auc", ["0", "9"], "is 9, expected 0 to 1"),
        (TaskKind.ANOMALY, "auc", [0.0, 1.0], "expected a whole number"),
    ],
)
def test_labels_of_another_kind_are_refused(
    tmp_path: Path, kind: TaskKind, metric: str, labels: list[Any], what: str
) -> None:
    """What cannot be scored is named before anything runs."""
    from skerry.tasks.decoders import Value

    task = Task(kind=kind, metric=metric, post=(Value(),))
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 4))
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4), np.float32), label=labels)
    with pytest.raises(DataError, match=what):
        open_samples(tmp_path / "a.npz", [spec], task)
