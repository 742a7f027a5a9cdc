from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.tasks.decoders import Embedding, ReconstructionError, Value
from skerry.tasks.heads import BoxesScores, Centernet, Fastestdet, Nms, Yolox
from skerry.tasks.metrics import METRICS
from skerry.tasks.steps import (
    Crop,
    Ctc,
    Layout,
    Letterbox,
    Normalize,
    Resize,
    Softmax,
    TopK,
)
from skerry.tasks.task import Task, TaskKind, load_task, parse_task, task_to_toml

GOLDEN = Path(__file__).parents[2] / "golden"

CLASSES = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top5",
    labels=("cat", "dög", 'a "quoted" one'),
    pre=(
        Resize(height=40, width=60, keep_aspect=True, fill=127),
        Letterbox(height=48, width=48, anchor="top_left", interpolation="nearest"),
        Crop(height=32, width=32),
        Normalize(mean=(0.5, 0.25, 0.125), std=0.5, scale=0.00390625),
        Layout(order="HWC", channels="BGR", batch=True),
    ),
    post=(Softmax(axis=0), TopK(k=5)),
    output="scores",
    golden_tolerance=0.02,
)
TEXT = Task(
    kind=TaskKind.TEXT,
    metric="character_error",
    labels=("", "a", "\\", "\n", " "),
    pre=(Normalize(mean=0.5, std=0.5, scale=0.25), Layout()),
    post=(Ctc(blank=0),),
)
DETECTION = Task(
    kind=TaskKind.DETECTION,
    metric="map50",
    labels=("cat", "dog"),
    pre=(Letterbox(height=416, width=320), Layout(channels="BGR")),
    post=(
        Yolox(height=416, width=320, strides=(8, 16), output="o"),
        Nms(iou=0.5, min_score=0.25, most=50, classes="all"),
    ),
)
SSD = Task(
    kind=TaskKind.DETECTION,
    metric="map_small",
    post=(
        BoxesScores(
            boxes="b",
            scores="s",
            order="cxcywh",
            height=240,
            width=320,
            background=0,
            softmax=True,
        ),
        Nms(),
    ),
)
EMBEDDING = Task(
    kind=TaskKind.EMBEDDING,
    metric="tar_at_far_1e-3",
    post=(Embedding(normalize=False),),
)
ANOMALY = Task(
    kind=TaskKind.ANOMALY,
    metric="auc",
    labels=("normal", "abnormal"),
    post=(ReconstructionError(input="x"),),
)
REGRESSION = Task(
    kind=TaskKind.REGRESSION,
    metric="rmse",
    post=(Value(index=1, scale=125.0, offset=-2.5),),
)
OTHER_HEADS = [
    Task(kind=TaskKind.DETECTION, metric="map", post=(head, Nms()))
    for head in (
        Fastestdet(height=352, width=352),
        Centernet(heatmap="a", scale="b", offset="c", stride=8),
    )
]
KINDS = {
    "task-1.toml": CLASSES,
    "task-1-text.toml": TEXT,
    "task-1-detection.toml": DETECTION,
    "task-1-detection-ssd.toml": SSD,
    "task-1-embedding.toml": EMBEDDING,
    "task-1-anomaly.toml": ANOMALY,
    "task-1-regression.toml": REGRESSION,
}
SMALL = """
schema = "skerry.task/1"
kind = "classification"
metric = "top1"
post = [{step = "topk"}]
"""


@pytest.mark.parametrize(("file", "task"), KINDS.items())
def test_golden_files_are_read_for_ever(file: str, task: Task) -> None:
    """The first version's files are read as they were meant."""
    assert load_task(GOLDEN / file) == task


@pytest.mark.parametrize("task", [*KINDS.values(), *OTHER_HEADS])
def test_toml_gives_the_same_task_back(task: Task) -> None:
    """What is written is read as the same task."""
    assert parse_task(task_to_toml(task).encode(), name="t") == task


def test_defaults_may_be_left_out() -> None:
    """The smallest task file says kind, metric and decoder."""
    task = parse_task(SMALL.encode(), name="t")
    assert task == Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=5),))
    assert task.scoring is METRICS["top1"]


@pytest.mark.parametrize(
    ("old", "new", "what", "hint"),
    [
        ("task/1", "task/2", "this Skerry reads 'skerry.task/1'", "upgrade"),
        ("skerry.task/1", "skerry.report/1", "expected 'skerry.task/1'", "begins"),
        ('schema = "skerry.task/1"', "", "schema is None", "begins"),
        ("metric", "metrics", "unknown key 'metrics'", "'metric'"),
        ('"top1"', '"top-1"', "no metric called 'top-1'", "'top1'"),
        ('"top1"', '"lines_right"', "lines_right is one for text", "top1"),
        ('"classification"', '"segmentation"', "segmentation", "Known keys"),
        ('{step = "topk"}', '{step = "topc"}', "unknown step 'topc'", "'topk'"),
        ('{step = "topk"}', "", "got 0 decoders", "one topk or ctc"),
        ('{step = "topk"}', '{step = "ctc"}', "got ctc", "one topk or ctc"),
        (
            '{step = "topk"}',
            '{step = "topk"}, {step = "softmax"}',
            "before others",
            "one topk or ctc",
        ),
        ('{step = "topk"}', '{step = "topk"}, {step = "topk"}', "2 decoders", "one"),
        ('"top1"', '"top5"\nlabels = ["a", "a"]', "two classes are called 'a'", "name"),
        ('"top1"', '"top1"\ngolden_tolerance = 0.0', "golden_tolerance is 0", "0.01"),
        ('"top1"', '"top1"\ngolden_tolerance = nan', "golden_tolerance is nan", "0.01"),
        ("schema", "\x00", "is not TOML", "toml.io"),
        ("post = [", "post = 3 #", "post", "Known keys"),
        ("post = [", "pre = [1]\npost = [", "pre", "Known keys"),
    ],
)
def test_bad_task_files_are_refused(old: str, new: str, what: str, hint: str) -> None:
    """Each fault is named, with what would have been right."""
    with pytest.raises(UsageError) as caught:
        parse_task(SMALL.replace(old, new).encode(), name="t.toml")
    assert what in caught.value.what
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "metric", "post", "what"),
    [
        (
            "detection",
            "map",
            (Nms(),),
            "end with nms or selected, got 0 heads among 1 steps",
        ),
        (
            "detection",
            "map",
            (Centernet(), BoxesScores(), Nms()),
            "got 2 heads among 3 steps",
        ),
        (
            "detection",
            "map",
            (Softmax(), BoxesScores(), Nms()),
            "got 1 heads among 3 steps",
        ),
        ("detection", "map", (Nms(), BoxesScores()), "got it before others"),
        ("detection", "top1", (BoxesScores(), Nms()), "top1 is one for classification"),
        ("classification", "top1", (BoxesScores(), TopK()), "got 1 heads"),
        ("anomaly", "auc", (TopK(),), "end with value or reconstruction_error, got to"),
        ("regression", "mae", (ReconstructionError(),), "got reconstruction_error"),
        (
            "embedding",
            "rank1",
            (Value(),),
            "end with embedding or embed_match, got value",
        ),
    ],
)
def test_steps_of_another_kind_are_refused(
    kind: str, metric: str, post: tuple[Any, ...], what: str
) -> None:
    """Each kind of task has its own last steps, and its own metrics."""
    with pytest.raises(UsageError, match=what) as caught:
        Task(kind=TaskKind(kind), metric=metric, post=post)
    assert caught.value.hint


def test_a_detector_sees_whole_pictures() -> None:
    """A crop would cut objects away that the truth still has."""
    with pytest.raises(UsageError, match="have a crop, which cuts objects away"):
        Task(
            kind=TaskKind.DETECTION,
            metric="map",
            pre=(Crop(height=8, width=8),),
            post=(BoxesScores(), Nms()),
        )


def test_anomalies_have_two_classes() -> None:
    """Normal and abnormal, or no names at all."""
    with pytest.raises(UsageError, match="3 labels, expected 2 or none"):
        Task(
            kind=TaskKind.ANOMALY, metric="auc", labels=("a", "b", "c"), post=(Value(),)
        )


def test_top5_needs_five_classes_kept() -> None:
    """A top-5 score of fewer ranked classes would be another metric."""
    with pytest.raises(UsageError, match="looks at five"):
        Task(kind=TaskKind.CLASSIFICATION, metric="top5", post=(TopK(k=4),))


def test_text_needs_an_alphabet() -> None:
    """A text task without the blank among its labels is refused."""
    with pytest.raises(UsageError, match="blank is 0, the alphabet has 0"):
        Task(kind=TaskKind.TEXT, metric="lines_right", post=(Ctc(),))


def test_labels_are_unicode() -> None:
    """A label that no file can hold is refused before it is written."""
    with pytest.raises(UsageError, match="not Unicode"):
        Task(
            kind=TaskKind.CLASSIFICATION,
            metric="top1",
            labels=("\ud800",),
            post=(TopK(),),
        )


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    """A task file that is not there is refused with its path."""
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_task(tmp_path / "none.toml")


def test_prepare_runs_the_steps_in_order() -> None:
    """A picture comes out as the model's input."""
    prepared = CLASSES.prepare(np.full((10, 15, 3), 128, np.uint8))
    assert prepared.shape == (1, 32, 32, 3)
    assert prepared.dtype == np.float32
    # Blue comes first, and its mean is 0.125: (128 / 256 - 0.125) / 0.5.
    np.testing.assert_allclose(prepared[0, 0, 0], [0.75, 0.5, 0.0])


def test_decode_reads_the_named_output_and_drops_the_batch() -> None:
    """The named output is softmaxed and ranked."""
    outputs = {"other": np.zeros((9, 9)), "scores": np.array([[0.0, 2.0, 1.0]])}
    prediction = CLASSES.decode(outputs)
    assert prediction.name == "dög"
    assert sum(score for _, score in prediction.ranked) == pytest.approx(1)


def test_decode_of_an_infinity_is_no_answer() -> None:
    """Scores that are not finite pass softmax without a warning, and answer nothing."""
    outputs = {"scores": np.array([[0.0, np.inf, np.nan]], np.float32)}
    assert CLASSES.decode(outputs).label == -1


@pytest.mark.parametrize(
    ("outputs", "what"),
    [
        ({"score": np.zeros((1, 3))}, "no output called 'scores'"),
        ({"scores": np.zeros((2, 3))}, "holds 2 × 3, expected a batch of 1"),
        ({"scores": np.float32(1)}, "a number"),
        ({"scores": np.zeros((1, 4))}, "4 scores, the task names 3 labels"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(
    outputs: dict[str, np.ndarray], what: str
) -> None:
    """Another output, batch or number of classes is a DataError."""
    with pytest.raises(DataError, match=what):
        CLASSES.decode(outputs)
