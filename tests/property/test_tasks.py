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
from skerry.tasks.metrics import edit_distance, paired_interval, tango_interval
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
from skerry.tasks.task import Task, TaskKind, parse_task, task_to_toml

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
