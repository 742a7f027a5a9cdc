"""Laws that hold for all tasks, samples and scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.model import TensorSpec
from skerry.tasks import _image
from skerry.tasks.boxes import Boxes, Placement, overlaps
from skerry.tasks.detection import make_tally
from skerry.tasks.metrics import (
    METRICS,
    edit_distance,
    paired_interval,
    tango_interval,
)
from skerry.tasks.prediction import Prediction
from skerry.tasks.ranking import RocArea
from skerry.tasks.samples import MemorySource, Sample, open_samples, split, take
from skerry.tasks.steps import (
    Crop,
    Layout,
    Letterbox,
    Normalize,
    Resize,
    Softmax,
    TopK,
)
from skerry.tasks.tally import value_of
from skerry.tasks.task import Task, TaskKind, parse_task, task_to_toml
from skerry.tasks.verification import make_tar_tally, tally_verification
from tests.boxes import Scene, make_scene

SIDES = st.integers(1, 40)
NUMBERS = st.floats(-1e6, 1e6)
FACTORS = st.floats(0.001, 1000)
PRE = st.one_of(
    st.builds(Resize, height=SIDES, width=SIDES, keep_aspect=st.booleans()),
    st.builds(
        Letterbox,
        height=SIDES,
        width=SIDES,
        fill=st.integers(0, 255),
        anchor=st.sampled_from(["center", "top_left"]),
    ),
    st.builds(Crop, height=SIDES, width=SIDES),
    st.builds(
        Normalize,
        mean=NUMBERS | st.tuples(NUMBERS, NUMBERS, NUMBERS),
        std=FACTORS | st.tuples(FACTORS, FACTORS, FACTORS),
        scale=NUMBERS,
    ),
    st.builds(
        Layout,
        order=st.sampled_from(["CHW", "HWC"]),
        channels=st.sampled_from(["RGB", "BGR", "GRAY"]),
        batch=st.booleans(),
    ),
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TASKS = st.builds(
    Task,
    kind=st.just(TaskKind.CLASSIFICATION),
    metric=st.just("top1"),
    labels=st.lists(WORDS, max_size=5, unique=True).map(tuple),
    pre=st.lists(PRE, max_size=4).map(tuple),
    post=st.builds(
        lambda axis, k: (Softmax(axis=axis), TopK(k=k)),
        st.integers(-2, 2),
        st.integers(1, 9),
    ),
    output=WORDS,
    golden_tolerance=FACTORS,
)


@given(task=TASKS)
def test_a_task_survives_toml(task: Task) -> None:
    """Any task is read back as it was written, whatever its labels hold."""
    assert parse_task(task_to_toml(task).encode(), name="t") == task


@given(rows=SIDES, columns=SIDES, height=SIDES, width=SIDES, seed=st.integers(0, 9))
def test_pictures_get_the_size_asked_for(
    rows: int, columns: int, height: int, width: int, seed: int
) -> None:
    """Resizing, in any way, gives the size asked for and values within the range."""
    picture = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    for step in (
        Resize(height=height, width=width),
        Resize(height=height, width=width, keep_aspect=True),
        Letterbox(height=height, width=width),
    ):
        resized = step.apply(picture)
        assert resized.shape == (height, width, 3)
        assert resized.dtype == np.uint8


@given(rows=SIDES, columns=SIDES, seed=st.integers(0, 9))
def test_png_is_lossless(rows: int, columns: int, seed: int) -> None:
    """A picture survives encoding and decoding."""
    picture = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    decoded = _image.decode_picture(_image.encode_png(picture), name="p")
    np.testing.assert_array_equal(decoded, picture)


def _slow_distance(one: str, other: str) -> int:
    """Compute the Levenshtein distance by its definition's matrix."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


@given(one=st.text("abc", max_size=70), other=st.text("abcé", max_size=70))
def test_edit_distance_is_levenshtein(one: str, other: str) -> None:
    """The bits agree with the matrix, past a machine word too."""
    assert edit_distance(one, other) == _slow_distance(one, other)


@given(n=st.integers(1, 300), parts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_tango_interval_holds_its_middle(n: int, parts: tuple[float, float]) -> None:
    """The interval holds the change seen, and mirrors when the models swap."""
    gained = int(parts[0] * n)
    lost = int(parts[1] * (n - gained))
    low, high = tango_interval(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert low < high
    mirrored = tango_interval(lost, gained, n)
    np.testing.assert_allclose((low, high), (-mirrored[1], -mirrored[0]), atol=1e-9)


@settings(max_examples=20)
@given(
    scores=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(2, 9)),
        min_size=1,
        max_size=30,
    )
)
def test_a_bootstrap_stays_between_the_extremes(
    scores: list[tuple[int, int, int]],
) -> None:
    """Any weighted interval lies within the changes of single samples."""
    before, after, weights = np.array(scores, float).T
    result = paired_interval(before, after, weights)
    changes = (after - before) / weights
    assert changes.min() - 1e-9 <= result.low <= result.high <= changes.max() + 1e-9


@given(count=st.integers(2, 60), seed=st.integers(0, 2**64), n=st.integers(1, 70))
def test_halves_are_a_partition_and_take_is_a_part(
    count: int, seed: int, n: int
) -> None:
    """No sample is lost, doubled or in both halves."""
    samples = (Sample(inputs={}, label=k, name="") for k in range(count))
    source = MemorySource(samples=tuple(samples))
    first, second = split(source, seed)
    halves = [sample.label for half in (first, second) for sample in half]
    assert sorted(halves) == list(range(count))
    taken = [sample.label for sample in take(source, n)]
    assert taken == sorted(set(taken))
    assert len(taken) == min(n, count)


@settings(max_examples=25)
@given(
    count=st.integers(1, 12),
    sides=st.lists(st.integers(1, 4), max_size=3),
    dtype=st.sampled_from(["float32", ">f8", "uint8", "int64", "bool"]),
    save=st.sampled_from([np.savez, np.savez_compressed]),
)
def test_an_npz_gives_back_its_rows(
    count: int, sides: list[int], dtype: str, save: Callable[..., None]
) -> None:
    """Whatever numpy writes is read row by row as it was."""
    stored = np.arange(count * math.prod(sides)).reshape(count, *sides).astype(dtype)
    spec = TensorSpec(name="a b", dtype=stored.dtype.name, shape=("N", *sides))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        save(path, **{"a b": stored})
        source = open_samples(path, [spec], None)
        read = np.concatenate([sample.inputs["a b"] for sample in source])
    np.testing.assert_array_equal(read, stored)


SEEDS = st.integers(0, 2**16)
DETECTION = st.sampled_from(["map", "map50"])


def _scene(seed: int) -> Scene:
    """A scene where no two boxes are equally sure, so that no order is left open."""
    scene = make_scene(seed, pictures=4)
    scores = np.random.default_rng(seed).permutation(500) / 1000 + 0.25
    taken = 0
    predictions = []
    for one in scene.predictions:
        boxes = one.boxes
        assert boxes is not None
        own = scores[taken : taken + len(boxes)]
        taken += len(boxes)
        predictions.append(_found(boxes.corners, boxes.labels, own))
    return Scene(predictions=predictions, labels=scene.labels, classes=scene.classes)


def _found(corners: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Prediction:
    boxes = Boxes(corners=corners, labels=labels, scores=scores)
    return Prediction(label="", name="", confidence=0.5, boxes=boxes)


def _precision(name: str, scene: Scene) -> float:
    """The metric's value; −1 where there is no object to find."""
    value = value_of(METRICS[name].tally(scene.predictions, scene.labels))
    return -1.0 if math.isnan(value) else value


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, name=DETECTION)
def test_a_precision_does_not_hang_on_how_it_is_told(seed: int, name: str) -> None:
    """Order of pictures and boxes, scale of scores and of pixels change nothing."""
    scene = _scene(seed)
    value = _precision(name, scene)
    generator = np.random.default_rng(seed)
    placement = Placement(rows=1, columns=1, scale_x=0.37, scale_y=2.5, left=17, top=-4)
    scales = np.array([0.37, 2.5] * 2)
    predictions = []
    for one in scene.predictions:
        assert one.boxes is not None
        order = generator.permutation(len(one.boxes))
        predictions.append(
            _found(
                (one.boxes.corners * scales + [17, -4, 17, -4])[order],
                one.boxes.labels[order],
                (one.boxes.scores**3)[order],
            )
        )
    moved = [label.moved(placement) for label in scene.labels]
    pictures = generator.permutation(len(moved))
    other = Scene(
        predictions=[predictions[index] for index in pictures],
        labels=[moved[index] for index in pictures],
        classes=scene.classes,
    )
    assert abs(_precision(name, other) - value) < 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, name=DETECTION)
def test_a_precision_is_bounded_and_perfect_boxes_are_perfect(
    seed: int, name: str
) -> None:
    """0 to 1; the truth found is 1; one more sure and wrong box never helps."""
    scene = _scene(seed)
    value = _precision(name, scene)
    if value < 0:
        return
    assert 0 <= value <= 1
    perfect = [
        _found(label.corners, label.labels, np.linspace(1, 0.5, len(label)))
        for label in scene.labels
    ]
    same = Scene(predictions=perfect, labels=scene.labels, classes=scene.classes)
    assert abs(_precision(name, same) - 1) < 1e-9
    first = scene.predictions[0].boxes
    assert first is not None
    for kind in range(scene.classes):
        worse = _found(
            np.vstack([[[5000, 5000, 5009, 5009]], first.corners]),
            np.append(kind, first.labels),
            np.append(1.0, first.scores),
        )
        more = Scene(
            predictions=[worse, *scene.predictions[1:]],
            labels=scene.labels,
            classes=scene.classes,
        )
        assert _precision(name, more) <= value + 1e-12


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, counts=st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_counting_a_picture_is_as_good_as_copying_it(
    seed: int, counts: list[int]
) -> None:
    """A resample told by counts has the value of the copied pictures."""
    scene = _scene(seed)
    tally = make_tally()(scene.predictions, scene.labels)
    counted = tally.values(np.array([counts], float))[0]
    copies = np.repeat(np.arange(4), counts)
    copied = make_tally()(
        [scene.predictions[index] for index in copies],
        [scene.labels[index] for index in copies],
    )
    np.testing.assert_allclose(counted, value_of(copied), atol=1e-9)


@given(seed=SEEDS, n=st.integers(1, 6), m=st.integers(1, 6))
def test_overlaps_are_symmetric_fractions(seed: int, n: int, m: int) -> None:
    """0 to 1, the same both ways, 1 with itself."""
    generator = np.random.default_rng(seed)
    one, other = (
        np.hstack([corner, corner + generator.uniform(0.1, 9, corner.shape)])
        for corner in (generator.uniform(0, 20, (size, 2)) for size in (n, m))
    )
    table = overlaps(one, other)
    assert ((table >= 0) & (table <= 1 + 1e-12)).all()
    np.testing.assert_allclose(table, overlaps(other, one).T)
    np.testing.assert_allclose(np.diag(overlaps(one, one)), 1)


@given(
    pairs=st.lists(
        st.tuples(st.integers(-5, 5), st.booleans(), st.integers(0, 3)),
        min_size=1,
        max_size=25,
    )
)
def test_the_area_under_the_curve_is_a_count_of_pairs(
    pairs: list[tuple[int, bool, int]],
) -> None:
    """By brute force, ties and repeated samples too; and so are the placements."""
    scores = np.array([score for score, _, _ in pairs], float)
    is_abnormal = np.array([abnormal for _, abnormal, _ in pairs])
    counts = np.array([count for _, _, count in pairs])
    tally = RocArea(scores=scores, is_abnormal=is_abnormal)
    copied = np.repeat(np.arange(len(pairs)), counts)
    for chosen, value in (
        (np.arange(len(pairs)), value_of(tally)),
        (copied, tally.values(counts[None].astype(float))[0]),
    ):
        high = scores[chosen][is_abnormal[chosen]][:, None]
        low = scores[chosen][~is_abnormal[chosen]][None]
        if high.size == 0 or low.size == 0:
            assert math.isnan(value)
            continue
        expected = ((high > low) + (high == low) / 2).mean()
        np.testing.assert_allclose(value, expected)
    if 0 < is_abnormal.sum() < len(pairs):
        upper, lower = tally.placements()
        np.testing.assert_allclose([upper.mean(), lower.mean()], value_of(tally))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, people=st.integers(5, 9))
def test_verification_hangs_on_nothing_but_distances(seed: int, people: int) -> None:
    """Turning all embeddings, scaling them and renaming people change nothing."""
    generator = np.random.default_rng(seed)
    vectors = np.repeat(generator.normal(size=(people, 6)), 3, axis=0)
    vectors = vectors + generator.normal(0, 0.8, vectors.shape)
    labels = np.repeat(np.arange(people), 3).tolist()
    turn = np.linalg.qr(generator.normal(size=(6, 6)))[0]

    def seen(rows: np.ndarray) -> list[Prediction]:
        return [
            Prediction(label="", name="", confidence=1.0, vector=row) for row in rows
        ]

    for tally in (tally_verification, make_tar_tally(0.1)):
        value = value_of(tally(seen(vectors), labels))
        assert 0 <= value <= 1
        names = [f"p{9 - label}" for label in labels]
        other = value_of(tally(seen(3 * vectors @ turn), names))
        np.testing.assert_allclose(other, value, atol=1e-9)
