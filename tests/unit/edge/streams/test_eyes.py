from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.edge.streams.eyes import Eye, EyeSettings
from skerry.edge.streams.settings import (
    CAMERAS_SCHEMA,
    cameras_from_table,
    load_cameras,
)
from skerry.tasks.heads import BoxesScores, Nms
from skerry.tasks.steps import Layout, Letterbox
from skerry.tasks.task import Task, TaskKind, load_task
from tests.architecture.source import REPOSITORY
from tests.videos import scene

TASK = Task(
    kind=TaskKind.DETECTION,
    metric="map50",
    labels=("person", "dog"),
    pre=(Letterbox(height=100, width=100), Layout()),
    post=(BoxesScores(), Nms(iou=0.5, min_score=0.2)),
)
INPUT = TensorSpec(name="x", dtype="float32", shape=(1, 3, 100, 100))


def test_boxes_are_fractions_of_the_picture() -> None:
    """Wherever the task puts the picture; classes that do not count are left out."""
    eye = Eye(EyeSettings(name="people", labels=("person",)), TASK, [INPUT])
    inputs = eye.prepare(scene())
    assert inputs["x"].shape == (1, 3, 100, 100)
    assert inputs["x"].dtype == np.float32
    outputs = {
        # The picture of 180 × 320 lies in rows 22 to 78.
        "boxes": np.array([[[25, 22, 50, 78], [0, 0, 9, 9], [50, 0, 75, 22]]], "f4"),
        "scores": np.array([[[0.9, 0.1], [0.1, 0.8], [0.7, 0.1]]], "f4"),
    }
    (found,) = eye.read(outputs, 180, 320)
    assert found.label == "person"
    assert found.score == pytest.approx(0.9)
    assert found.region == pytest.approx((0.25, 0.0, 0.5, 1.0), abs=0.01)


def test_a_model_that_cannot_look_is_refused() -> None:
    """Another kind of task, several inputs, or a class that it has not."""
    with pytest.raises(UsageError, match="expected a detector"):
        Eye(EyeSettings(name="people"), TASK, [INPUT, INPUT])
    with pytest.raises(UsageError, match="no class 'cat'"):
        Eye(EyeSettings(name="people", labels=("cat",)), TASK, [INPUT])


def test_a_picture_that_the_task_does_not_take_is_an_error_of_ours() -> None:
    """Not a traceback of numpy's."""
    eye = Eye(EyeSettings(name="people"), TASK, [INPUT])
    with pytest.raises(DataError):
        eye.read({"boxes": np.zeros((1, 2, 4)), "scores": np.zeros((1, 3, 2))}, 9, 9)


def test_yunet_counts_from_its_cells() -> None:
    """As OpenCV reads it: middle in cells, sides as logarithms, two scores."""
    task = load_task(REPOSITORY / "examples" / "tasks" / "yunet.toml")
    spec = TensorSpec(name="input", dtype="float32", shape=(1, 3, 320, 320))
    outputs = {}
    for stride in (8, 16, 32):
        cells = (320 // stride) ** 2
        outputs[f"cls_{stride}"] = np.zeros((1, cells, 1), "f4")
        outputs[f"obj_{stride}"] = np.zeros((1, cells, 1), "f4")
        outputs[f"bbox_{stride}"] = np.zeros((1, cells, 4), "f4")
        outputs[f"kps_{stride}"] = np.zeros((1, cells, 10), "f4")
    cell = 5 * 20 + 10  # row 5 and column 10 of the grid of 16 pixels
    outputs["cls_16"][0, cell], outputs["obj_16"][0, cell] = 0.9, 0.4
    outputs["bbox_16"][0, cell] = (0.5, 0.5, np.log(2), np.log(3))
    eye = Eye(EyeSettings(name="faces", finds="faces"), task, [spec])
    # 640 × 360 lies in the upper left 320 × 180 pixels.
    (face,) = eye.read(outputs, 360, 640)
    assert face.score == pytest.approx(0.6)
    middle_x, middle_y = 10.5 * 16 / 320, 5.5 * 16 / 180
    assert face.region == pytest.approx(
        (
            middle_x - 16 / 320,
            middle_y - 24 / 180,
            middle_x + 16 / 320,
            middle_y + 24 / 180,
        )
    )
    outputs["obj_8"] = np.zeros((1, 7, 1), "f4")
    with pytest.raises(DataError, match="yunet"):
        eye.read(outputs, 360, 640)


CAMERAS = """
schema = "skerry.cameras/1"
[models.people]
path = "people.onnx"
task = "people.toml"
[[cameras]]
name = "gate"
url = "gate.avi"
sub_url = "rtsp://gate/sub"
[[cameras.zones]]
name = "door"
points = [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]
[[cameras.lines]]
name = "edge"
start = [0, 0.5]
end = [1, 0.5]
"""


def test_a_file_names_models_and_cameras(tmp_path: Path) -> None:
    """Relative paths begin beside it, and URLs stay what they are."""
    path = tmp_path / "cameras.toml"
    path.write_text(CAMERAS)
    found = load_cameras(path)
    (camera,) = found.cameras
    assert found.models["people"].path == str(tmp_path / "people.onnx")
    assert camera.url == str(tmp_path / "gate.avi")
    assert camera.sub_url == "rtsp://gate/sub"
    assert camera.zones[0].holds((0.5, 0.3))
    assert camera.lines[0].name == "edge"


def test_the_first_version_of_the_file_stays_readable() -> None:
    """What somebody wrote for it means the same for ever."""
    found = load_cameras(REPOSITORY / "tests" / "golden" / "cameras-1.toml")
    assert [camera.name for camera in found.cameras] == ["gate", "yard"]
    assert [camera.weight for camera in found.cameras] == [2.0, 1.0]
    assert found.cameras[0].sub_url == "rtsp://10.0.0.9/sub"
    assert found.cameras[0].lines[0].start == (0.2, 0.8)
    assert found.cameras[1].zones[0].stay_s == 30.0
    assert {name: one.finds for name, one in found.models.items()} == {
        "people": "people",
        "faces": "faces",
    }
    assert found.deadline_ms == 200.0


def test_the_examples_files_are_what_they_say() -> None:
    """Tasks are beside the example."""
    found = load_cameras(REPOSITORY / "examples" / "streams" / "cameras.toml")
    for model in found.models.values():
        task = load_task(Path(model.task))
        assert set(model.labels) <= set(task.labels)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("skerry.cameras/1", "skerry.cameras/2", "expected 'skerry.cameras/1'"),
        ('"gate.avi"', '"gate.avi"\nwieght = 2', "unknown key 'cameras.0.wieght'"),
        ('"gate.avi"', '"gate.avi"\nweight = 0', "expected more than 0"),
        ('"gate.avi"', '"gate.avi"\nframes_per_s = nan', "expected more than 0"),
        ('name = "edge"', 'name = "door"', "two zones or lines have one name"),
        ("[0.5, 0.9]", "[0.5, 9.0]", "corners"),
        ('name = "gate"', 'name = "../x"', "camera"),
        ('schema = "skerry', 'share = 2\nschema = "skerry', "share 2"),
        ('task = "people.toml"', 'task = "a.toml"\nsure = 1.5', "sure is 1.5"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    tmp_path: Path, before: str, after: str, what: str
) -> None:
    """With what was got and what was expected."""
    path = tmp_path / "cameras.toml"
    path.write_text(CAMERAS.replace(before, after, 1))
    with pytest.raises(UsageError) as caught:
        load_cameras(path)
    assert what in caught.value.what
    assert caught.value.hint


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "url", "zones", "points", "path", "task", "weight"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["models", "cameras", "share", "clip_s"]), values)
)
def test_no_table_is_more_than_a_usage_error(table: dict[str, object]) -> None:
    """Whatever somebody writes."""
    whole = {"schema": CAMERAS_SCHEMA, **table}
    with contextlib.suppress(UsageError):
        cameras_from_table(whole, folder=Path(), name="it")
