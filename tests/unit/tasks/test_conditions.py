from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.tasks import _image
from skerry.tasks.conditions import Condition, degrade, parse_conditions
from skerry.tasks.samples import MemorySource, open_samples, under
from skerry.tasks.steps import Layout, TopK
from skerry.tasks.task import Task, TaskKind


@pytest.fixture
def picture() -> np.ndarray:
    """A gray ramp with a bright square."""
    ramp = np.linspace(30, 200, 64, dtype=np.uint8)
    made = np.repeat(np.tile(ramp, (48, 1))[:, :, None], 3, axis=2)
    made[10:20, 10:20] = 240
    return made


@pytest.mark.parametrize("condition", Condition)
def test_a_condition_spoils_the_same_way_each_time(
    condition: Condition, picture: np.ndarray
) -> None:
    """The picture changes, keeps its size, and depends on picture and name alone."""
    before = picture.copy()
    spoilt = degrade(picture, condition, name="a.png")
    assert spoilt.shape == picture.shape
    assert spoilt.dtype == np.uint8
    assert np.abs(spoilt.astype(int) - picture).mean() > 1
    np.testing.assert_array_equal(spoilt, degrade(picture, condition, name="a.png"))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("condition", ["dark", "noise", "rain", "gain", "glare"])
def test_chance_differs_from_picture_to_picture(
    condition: str, picture: np.ndarray
) -> None:
    """Another name is another draw."""
    one, other = (
        degrade(picture, Condition(condition), name=name) for name in ("a", "b")
    )
    assert (one != other).any()


def test_light_goes_the_way_it_should(picture: np.ndarray) -> None:
    """Dark is darker, glare and gain are brighter, blur has less contrast."""

    def spoilt(condition: Condition) -> np.ndarray:
        return degrade(picture, condition, name="a").astype(float)

    assert spoilt(Condition.DARK).mean() < 0.6 * picture.mean()
    assert spoilt(Condition.GLARE).mean() > picture.mean() + 10
    assert spoilt(Condition.GAIN).mean() > picture.mean() + 10
    sharp = np.abs(np.diff(picture.astype(float), axis=1)).max()
    assert np.abs(np.diff(spoilt(Condition.BLUR), axis=1)).max() < sharp


@pytest.mark.parametrize("condition", Condition)
def test_the_smallest_picture_is_spoilt_too(condition: Condition) -> None:
    """One pixel, black."""
    spoilt = degrade(np.zeros((1, 1, 3), np.uint8), condition, name="a")
    assert spoilt.shape == (1, 1, 3)


def test_words_are_conditions() -> None:
    """In the order given, each once; all of them; a mistyped one is met."""
    assert parse_conditions("blur, dark,blur") == (Condition.BLUR, Condition.DARK)
    assert parse_conditions("all") == tuple(Condition)
    for text in ("darc", "dark,", "dark,all"):
        with pytest.raises(UsageError, match="no condition called"):
            parse_conditions(text)
    with pytest.raises(UsageError) as caught:
        parse_conditions("darc")
    assert "'dark'" in caught.value.hint


def test_a_folder_is_read_under_a_condition(
    tmp_path: Path, picture: np.ndarray
) -> None:
    """Pictures are spoilt before the steps; picking keeps the condition."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(_image.encode_png(picture))
    task = Task(
        kind=TaskKind.CLASSIFICATION, metric="top1", pre=(Layout(),), post=(TopK(),)
    )
    spec = TensorSpec(name="x", dtype="uint8", shape=("N", 3, 48, 64))
    source = under(open_samples(tmp_path, [spec], task), Condition.NOISE)
    second = next(iter(source.pick(np.array([False, True]))))
    expected = task.prepare(degrade(picture, Condition.NOISE, name="b.png"))
    np.testing.assert_array_equal(second.inputs["x"], expected)


def test_arrays_have_no_conditions() -> None:
    """What a lens does to numbers nobody knows."""
    with pytest.raises(DataError, match="the condition dark spoils pictures"):
        under(MemorySource(samples=()), Condition.DARK)
