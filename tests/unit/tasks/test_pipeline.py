"""From bytes to inputs, and from outputs to answers that JSON can hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.tasks import _image
from skerry.tasks.decoders import Embedding, ReconstructionError, Value
from skerry.tasks.heads import BoxesScores, Nms, Selected
from skerry.tasks.matching import EmbedMatch, read_gallery
from skerry.tasks.pipeline import Pipeline, Reading
from skerry.tasks.series import GapFill, Resample, Reshape, Scale, Window
from skerry.tasks.spectra import Fft, Mfcc
from skerry.tasks.steps import Ctc, Layout, Letterbox, Normalize, TopK
from skerry.tasks.task import Task, TaskKind, parse_task, task_to_toml
from tests.contents import gallery_bytes, npy, wav

PICTURE = TensorSpec(name="x", dtype="float32", shape=(1, 3, 8, 8))


def _task(kind: TaskKind, metric: str, *post: Any, **more: Any) -> Task:
    return Task(kind=kind, metric=metric, post=post, **more)


def _pipeline(task: Task, spec: TensorSpec = PICTURE, **more: Any) -> Pipeline:
    return Pipeline(task=task, inputs=(spec,), **more)


DETECTION = _task(
    TaskKind.DETECTION,
    "map",
    BoxesScores(),
    Nms(),
    labels=("cat", "dog"),
    pre=(Letterbox(height=8, width=8), Normalize(), Layout()),
)
SERIES = _task(
    TaskKind.ANOMALY,
    "auc",
    Value(),
    pre=(GapFill(), Window(length=4), Fft(), Reshape(sizes=(3,))),
)
THREE = TensorSpec(name="x", dtype="float32", shape=(1, 3))


def _tell(pipeline: Pipeline, reading: Reading | None = None, **outputs: Any) -> Any:
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    answer = pipeline.tell(arrays, reading or Reading(inputs={}))
    return json.loads(json.dumps(answer, allow_nan=False))


def test_a_picture_becomes_the_input_and_boxes_come_back_in_its_pixels() -> None:
    """16 × 32 in a frame of 8 × 8: a quarter the size, two rows down."""
    pipeline = _pipeline(DETECTION)
    picture = np.full((16, 32, 3), 99, np.uint8)
    reading = pipeline.read(_image.encode_png(picture), "image/png")
    assert reading.inputs["x"].shape == (1, 3, 8, 8)
    assert (reading.inputs["x"][0, :, 2:6] == 99).all()
    found = _tell(
        pipeline,
        reading,
        boxes=[[[1, 3, 5, 5], [0, 0, 99, 99]]],
        scores=[[[0.75, 0], [0, 0.5]]],
    )
    assert found == {
        "kind": "detection",
        "boxes": [
            {"label": "cat", "index": 0, "confidence": 0.75, "box": [4, 4, 20, 12]},
            {"label": "dog", "index": 1, "confidence": 0.5, "box": [0, 0, 32, 16]},
        ],
    }


def test_a_frame_of_a_camera_needs_no_encoding() -> None:
    """uint8 rows × columns × 3 as an array is a picture too."""
    pipeline = _pipeline(DETECTION)
    picture = np.full((16, 32, 3), 99, np.uint8)
    from_array = pipeline.read(npy(picture), "application/x-npy")
    from_file = pipeline.read(_image.encode_png(picture), "image/png")
    np.testing.assert_array_equal(from_array.inputs["x"], from_file.inputs["x"])
    assert (from_array.rows, from_array.columns) == (16, 32)


def test_boxes_that_the_graph_selected_are_told_alike() -> None:
    """`selected` reads three outputs."""
    task = _task(TaskKind.DETECTION, "map", Selected(), labels=("cat", "dog"))
    found = _tell(
        _pipeline(task), b=[[[0, 0, 4, 4]]], s=np.array([[0.5]]), c=np.array([[1]])
    )
    assert found["boxes"] == [
        {"label": "dog", "index": 1, "confidence": 0.5, "box": [0, 0, 4, 4]}
    ]


def test_a_class_has_its_runners_up() -> None:
    """Best first; indices stand for names where there are none."""
    task = _task(TaskKind.CLASSIFICATION, "top1", TopK(k=2))
    found = _tell(_pipeline(task), y=[[0.25, 0.125, 0.5]])
    assert found == {
        "kind": "classification",
        "label": "2",
        "confidence": 0.5,
        "top": [
            {"label": "2", "index": 2, "confidence": 0.5},
            {"label": "0", "index": 0, "confidence": 0.25},
        ],
    }


def test_a_line_of_text() -> None:
    """Repeats merged, blanks removed."""
    task = _task(TaskKind.TEXT, "lines_right", Ctc(), labels=("_", "a", "b"))
    steps = np.eye(3)[[1, 1, 0, 2]]
    assert _tell(_pipeline(task), y=steps[None]) == {
        "kind": "text",
        "text": "ab",
        "confidence": 1,
    }


def test_an_embedding_is_told_or_matched() -> None:
    """With `embed_match` the gallery says who it is."""
    plain = _task(TaskKind.EMBEDDING, "rank1", Embedding())
    assert _tell(_pipeline(plain), y=[[3.0, 4.0]])["vector"] == [0.6, 0.8]
    matched = _task(TaskKind.EMBEDDING, "rank1", EmbedMatch(threshold=0.9))
    pipeline = _pipeline(matched, gallery=read_gallery(gallery_bytes(), name="g"))
    found = _tell(pipeline, y=[[3.0, 4.0]])
    assert found["match"] == "Bob"
    assert found["similarity"] == pytest.approx(1)
    assert _tell(pipeline, y=[[-3.0, 4.0]])["match"] is None
    with pytest.raises(UsageError, match="has no gallery"):
        _pipeline(matched)


def test_scores_and_values() -> None:
    """An autoencoder is compared with what it was given."""
    task = _task(TaskKind.ANOMALY, "auc", ReconstructionError())
    reading = Reading(inputs={"x": np.array([[1.0, 3.0]])})
    assert _tell(_pipeline(task), reading, y=[[1.0, 1.0]])["score"] == 2
    value = _task(TaskKind.REGRESSION, "mae", Value(scale=2))
    assert _tell(_pipeline(value), y=[[4.0]]) == {"kind": "regression", "value": 8}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (_task(TaskKind.CLASSIFICATION, "top1", TopK()), {"label": None, "top": []}),
        (_task(TaskKind.EMBEDDING, "rank1", Embedding()), {"vector": None}),
        (_task(TaskKind.ANOMALY, "auc", Value()), {"score": None}),
        (_task(TaskKind.REGRESSION, "mae", Value()), {"value": None}),
    ],
)
def test_what_is_not_finite_is_null(task: Task, expected: dict[str, Any]) -> None:
    """JSON has no NaN."""
    found = _tell(_pipeline(task), y=[[np.nan, 1.0]])
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"9\n1\n2\n3\n4\n", "text/csv"),
        (b"[9, 1, null, 3, 4]", "application/json"),
        (npy(np.array([9, 1, 2, 3, 4], np.int16)), ""),
    ],
)
def test_a_window_of_measurements_takes_the_steps(
    content: bytes, media_type: str
) -> None:
    """The gap is filled, the last four rows are kept, their spectrum is the input."""
    reading = _pipeline(SERIES, THREE).read(content, media_type)
    expected = Fft().apply(np.arange(1.0, 5)[:, None])
    np.testing.assert_allclose(reading.inputs["x"], expected.T, rtol=1e-6)


def _keywords(*first: Any) -> Pipeline:
    mfcc = Mfcc(
        rate_hz=16000,
        frame=480,
        hop=320,
        coefficients=10,
        low_hz=20,
        high_hz=4000,
    )
    task = _task(
        TaskKind.CLASSIFICATION,
        "top1",
        TopK(),
        pre=(
            *first,
            Scale(by="maximum"),
            Window(length=16000, pad=True),
            mfcc,
            Reshape(sizes=(49, 10, 1)),
        ),
    )
    assert parse_task(task_to_toml(task).encode(), name="t") == task
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 49, 10, 1))
    return _pipeline(task, spec)


def test_a_recording_becomes_the_features_of_its_words() -> None:
    """49 × 10 of one second, whatever rate it was recorded at."""
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)
    direct = _keywords().read(wav(tone.tolist()), "audio/wav").inputs["x"]
    assert direct.shape == (1, 49, 10, 1)
    slow = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)
    brought = _keywords(Resample(to_hz=16000)).read(
        wav(slow.tolist(), rate_hz=8000), "audio/wav"
    )
    # The middle frames; the ends of the shorter recording are filtered otherwise.
    np.testing.assert_allclose(
        brought.inputs["x"][0, 2:20, 0], direct[0, 2:20, 0], atol=1
    )


def test_a_recording_at_another_rate_is_refused() -> None:
    """Unless a resample stands first; its own rate may be odd, too."""
    content = wav([0.0, 0.5], rate_hz=8000)
    with pytest.raises(DataError, match="has 8000 samples a second, the task takes"):
        _keywords().read(content, "audio/wav")
    with pytest.raises(DataError, match="expected a ratio"):
        _keywords(Resample(to_hz=16000)).read(
            wav([0.0, 0.5], rate_hz=44101), "audio/wav"
        )


def test_without_steps_an_array_is_the_input() -> None:
    """With or without its batch axis; JSON's numbers take the input's dtype."""
    task = _task(TaskKind.REGRESSION, "mae", Value())
    spec = TensorSpec(name="x", dtype="int32", shape=("N", 3))
    for content in (b"[1, 2, 3]", b"[[1, 2, 3]]"):
        array = _pipeline(task, spec).read(content, "application/json").inputs["x"]
        assert array.dtype == np.int32
        assert array.tolist() == [[1, 2, 3]]
    given = np.zeros((3, 8, 8), np.float32)
    assert _pipeline(task).read(npy(given), "").inputs["x"].shape == (1, 3, 8, 8)
    for wrong in (b"[1.5, 2, 3]", b"[1, 2, 3e10]", b"[1, 2, null]"):
        with pytest.raises(DataError):
            _pipeline(task, spec).read(wrong, "application/json")


@pytest.mark.parametrize(
    ("task", "spec", "content", "media_type", "match"),
    [
        (DETECTION, PICTURE, b"1,2", "text/csv", "the task takes a picture"),
        (DETECTION, PICTURE, wav([0.0]), "", "the task takes a picture"),
        (SERIES, THREE, _image.encode_png(np.zeros((9, 9, 3), np.uint8)), "", "series"),
        (SERIES, THREE, b"1,2\n" * 4, "text/csv", "expected as many numbers as 3"),
        (SERIES, THREE, b"1\n2\n", "text/csv", "the window takes 4"),
        (SERIES, PICTURE, b"1\n2\n3\n4", "text/csv", "expected x float32"),
        (
            _task(TaskKind.REGRESSION, "mae", Value()),
            PICTURE,
            _image.encode_png(np.zeros((8, 8, 3), np.uint8)),
            "",
            "no steps that prepare one",
        ),
    ],
)
def test_what_the_task_does_not_take_is_refused(
    task: Task, spec: TensorSpec, content: bytes, media_type: str, match: str
) -> None:
    """A picture for a series, a series for a picture, too short, too wide."""
    with pytest.raises(DataError, match=match) as caught:
        _pipeline(task, spec).read(content, media_type)
    assert caught.value.hint


def test_one_body_feeds_one_input() -> None:
    """Several inputs are for /infer."""
    with pytest.raises(UsageError, match="the model has 2"):
        Pipeline(task=SERIES, inputs=(THREE, PICTURE))


@pytest.mark.parametrize(
    "pre",
    [
        (Window(length=4), Layout()),
        (
            Resample(to_hz=8000),
            Mfcc(rate_hz=16000, frame=480, hop=320),
        ),
    ],
)
def test_steps_that_contradict_each_other_are_refused(pre: Any) -> None:
    """Pictures and series in one task, or two rates of one series."""
    with pytest.raises(UsageError):
        _task(TaskKind.ANOMALY, "auc", Value(), pre=pre)
