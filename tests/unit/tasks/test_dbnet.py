"""Lines of text in a map of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError, UsageError
from skerry.tasks.dbnet import Dbnet, find_regions
from skerry.tasks.heads import Nms
from skerry.tasks.task import Task, TaskKind, parse_task, task_to_toml

AROUND = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def _flooded(mask: np.ndarray) -> np.ndarray:
    """Regions found pixel by pixel: 0 outside, others count from 1."""
    found = np.zeros(mask.shape, int)
    for start in zip(*np.nonzero(mask), strict=True):
        if found[start]:
            continue
        label, waiting = int(found.max()) + 1, [start]
        while waiting:
            row, column = waiting.pop()
            inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
            if not inside or not mask[row, column] or found[row, column]:
                continue
            found[row, column] = label
            waiting += [
                (row + down, column + right)
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
            ]
    return found


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 9999),
    share=st.floats(0, 1),
)
def test_regions_are_those_found_pixel_by_pixel(
    rows: int, columns: int, seed: int, share: float
) -> None:
    """Two pixels are in one region here where they are in one there."""
    mask = np.random.default_rng(seed).random((rows, columns)) < share
    painted = np.zeros(mask.shape, int)
    for row, first, end, region in zip(*find_regions(mask), strict=True):
        painted[row, first:end] = region + 1
    flooded = _flooded(mask)
    pairs = set(zip(painted.ravel().tolist(), flooded.ravel().tolist(), strict=True))
    assert len(pairs) == len(set(painted.ravel())) == len(set(flooded.ravel()))


def test_a_line_grows_back_by_its_area_and_perimeter() -> None:
    """A region of 10 × 4 in a map half as large as the input, unclip 1.4."""
    chart = np.full((1, 20, 30), 0.1, np.float32)
    chart[0, 6:10, 5:15] = 0.8
    chart[0, 6, 5] = 0.4
    chart[0, 15, 3] = 0.9  # a speck
    found = Dbnet(height=40, width=60, unclip=1.4).read({"map": chart})
    # 40 · 1.4 / 28 = 2 pixels of the map on each side.
    np.testing.assert_allclose(found.corners, [[6, 8, 34, 24]])
    np.testing.assert_allclose(found.scores, [[(39 * 0.8 + 0.4) / 40]], rtol=1e-6)


def test_lines_are_told_by_a_task_and_stay_in_the_picture() -> None:
    """Grown boxes end at the picture's edge; numbers that are none are no text."""
    task = Task(
        kind=TaskKind.DETECTION,
        metric="map50",
        labels=("text",),
        post=(Dbnet(height=8, width=8), Nms(min_score=0.5)),
    )
    assert parse_task(task_to_toml(task).encode(), name="t") == task
    chart = np.full((1, 1, 8, 8), np.nan, np.float32)
    chart[0, 0, :4] = 0.9
    boxes = task.decode({"map": chart}).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes.corners, [[0, 0, 8, 4 + 8 * 4 * 1.6 / 24]])
    assert len(task.decode({"map": chart * 0}).boxes or ()) == 0


@pytest.mark.parametrize(
    "outputs", [{}, {"a": np.zeros((2, 3, 3))}, {"a": np.zeros((1, 0, 3))}]
)
def test_other_outputs_are_refused(outputs: dict[str, np.ndarray]) -> None:
    """One map of one plane."""
    with pytest.raises(DataError) as caught:
        Dbnet(height=8, width=8).read(outputs)
    assert caught.value.hint


@pytest.mark.parametrize(
    "params",
    [{"height": 0}, {"threshold": 1.0}, {"unclip": float("nan")}, {"min_side": 0}],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    """What finds no text."""
    with pytest.raises(UsageError):
        Dbnet(**({"height": 8, "width": 8} | params))
