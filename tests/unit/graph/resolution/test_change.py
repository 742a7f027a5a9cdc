from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import ModelError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.graph import Graph, parse_graph
from skerry.graph.resolution import change_resolution, find_picture
from tests import models
from tests.running import same_outputs

WEIGHTS = {
    "w1": (8, 3, 3, 3),
    "w2": (8, 1, 3, 3),
    "w3": (12, 8, 3, 3),
    "p1": (6, 8, 1, 1),
    "p2": (6, 20, 1, 1),
}
STRIDES = (4, 8)
FORMS = ("cells", "pixels", "fraction")


def int64(*numbers: int) -> Array:
    """Sizes as a graph holds them."""
    return np.array(numbers, np.int64)


def cells(form: str, height: int, width: int) -> Array:
    """The left upper corner of each cell of both grids, [1, cells, 2]."""
    parts = []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride].astype(np.float64)
        xy = np.stack([x, y], -1).reshape(-1, 2) + 0.5
        scale = {
            "cells": 1,
            "pixels": stride,
            "fraction": stride / np.array([width, height]),
        }
        parts.append(xy * scale[form])
    return np.concatenate(parts)[None].astype(np.float32)


def steps(form: str, height: int, width: int) -> Array:
    """What sides are multiplied by, [1, cells, 1]: strides, or an anchor's fraction."""
    unit = 1.0 if form != "fraction" else 2.5 / width
    parts = [
        np.full((height // s) * (width // s), s * unit, np.float32) for s in STRIDES
    ]
    return np.concatenate(parts)[None, :, None]


def detector(form: str, height: int, width: int) -> Graph:
    """A detector with two grids, a shuffle, a path up, and boxes in its graph."""
    rows, columns = height // 8, width // 8
    pairs = f"float[1, {rows * columns * 5}, 2]"
    text = f"""net (float[1, 3, {height}, {width}] x)
      => ({pairs} middle, {pairs} side, {pairs} score, float[1, 8, 1, 1] mean) {{
      a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w1)
      b = Conv <strides = [2, 2], pads = [1, 1, 1, 1], group = 8> (a, w2)
      s1 = Reshape(b, split) s2 = Transpose <perm = [0, 2, 1, 3, 4]> (s1)
      s = Reshape(s2, merge)
      c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (s, w3)
      up = Resize <mode = "nearest"> (c, , , larger)
      both = Concat <axis = 1> (s, up)
      half = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (both)
      o1 = Conv (s, p1) f1 = Reshape(o1, flat1)
      t1 = Transpose <perm = [0, 2, 1]> (f1)
      o2 = Conv (half, p2) f2 = Reshape(o2, flat2)
      t2 = Transpose <perm = [0, 2, 1]> (f2)
      all = Concat <axis = 1> (t1, t2)
      xy, wh, score = Split <axis = 2> (all, twos)
      moved = Add(xy, grid) middle = Mul(moved, one)
      side = Mul(wh, step)
      mean = AveragePool <kernel_shape = [{height // 4}, {width // 4}]> (s)
    }}"""
    constants = {
        "split": int64(1, 2, 4, rows * 2, columns * 2),
        "merge": int64(0, 8, rows * 2, columns * 2),
        "larger": int64(1, 12, rows * 2, columns * 2),
        "flat1": int64(1, 6, rows * columns * 4),
        "flat2": int64(1, 6, -1),
        "twos": int64(2, 2, 2),
        "grid": cells(form, height, width),
        "step": steps(form, height, width),
        "one": np.ones(1, np.float32),
    }
    content = models.model_bytes(text, {**models.random_weights(WEIGHTS), **constants})
    return parse_graph(content)


@settings(max_examples=25, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    old=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    new=st.tuples(st.integers(2, 9), st.integers(2, 9)),
)
def test_a_detector_computes_what_one_drawn_at_that_size_does(
    form: str, old: tuple[int, int], new: tuple[int, int]
) -> None:
    """Shapes, grids, strides and anchors are those of the detector at that size."""
    if form == "fraction":
        # An anchor's fraction follows one side: both must change alike.
        new = (old[0] * 2, old[1] * 2)
    before = detector(form, old[0] * 8, old[1] * 8)
    expected = detector(form, new[0] * 8, new[1] * 8)
    found = change_resolution(before, new[0] * 8, new[1] * 8)
    assert same_outputs(expected, found)
    assert found.outputs == expected.outputs


def test_the_graph_given_stays_as_it_was() -> None:
    """Changing the resolution changes a copy."""
    graph = detector("cells", 32, 32)
    content = graph.to_bytes()
    change_resolution(graph, 64, 48)
    assert graph.to_bytes() == content


def net(
    body: str, *, side: int = 32, out: str = "float[n, k, h, w] y", **constants: Array
) -> Graph:
    """A graph of one input, a picture, with weights and these constants."""
    weights = models.random_weights({**WEIGHTS, "dense": (8 * 64, 5)})
    text = f"net (float[1, 3, {side}, {side}] x) => ({out}) {{ {body} }}"
    return parse_graph(models.model_bytes(text, {**weights, **constants}))


STEM = "a = Conv <strides = [4, 4], pads = [1, 1, 1, 1]> (x, w1) "

REFUSED: dict[str, tuple[str, dict[str, Array], str]] = {
    "a dense layer on the whole map": (
        STEM + "f = Flatten(a) y = Gemm(f, dense)",
        {},
        "learnt for one resolution",
    ),
    "an embedding of positions": (
        STEM + "y = Add(a, p)",
        {"p": models.random_weights({"p": (1, 8, 8, 8)})["p"]},
        "was learnt",
    ),
    "cells turned into rows and columns that could be either": (
        "a = Reshape(x, one) y = Reshape(a, two)",
        {"one": int64(1, 3, 32, 2, 16), "two": int64(1, 3, 8, 4, 32)},
        "cannot be told",
    ),
    "half of the map": (
        STEM + "y = Slice(a, zero, four, two)",
        {"zero": int64(0), "four": int64(4), "two": int64(2)},
        "a margin or a part",
    ),
    "anchors without positions": (
        STEM + "y = Mul(a, k)",
        {"k": np.full((1, 1, 8, 8), 0.3, np.float32)},
        "in pixels or a fraction",
    ),
    "a step that is no stride": (
        STEM + "y = Add(a, k)",
        {"k": np.arange(8, dtype=np.float32).reshape(1, 1, 1, 8) * 0.7},
        "from cell to cell",
    ),
    "cells by their numbers": (
        STEM + "y = Gather <axis = 3> (a, k)",
        {"k": int64(1, 3, 5)},
        "by their numbers",
    ),
    "a number that is a side of the picture, or any": (
        STEM + "g = GlobalAveragePool(a) y = Mul(g, k)",
        {"k": np.array([32], np.float32)},
        "may be a side",
    ),
    "an operator that is not known": (
        STEM + 'y = Einsum <equation = "nchw->nhwc"> (a)',
        {},
        "is none whose shapes",
    ),
}
RANKS = {
    "a dense layer on the whole map": "n, k",
    "cells turned into rows and columns that could be either": "n, k, a, b, c",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_refused(case: str) -> None:
    """A graph of which it cannot be told how it depends on the size names the node."""
    body, constants, words = REFUSED[case]
    rank = RANKS.get(case, "n, k, h, w")
    graph = net(body, out=f"float[{rank}] y", **constants)
    with pytest.raises(ModelError, match=words) as caught:
        change_resolution(graph, 64, 64)
    assert caught.value.hint


def test_paths_that_no_longer_meet_are_refused() -> None:
    """A side that a stride does not divide names the node where two maps meet."""
    graph = detector("cells", 32, 32)
    with pytest.raises(ModelError, match="do not fit together") as caught:
        change_resolution(graph, 36, 36)
    assert "multiples of" in caught.value.hint


def test_one_answer_stays_one() -> None:
    """A classifier whose last layer covers the map does not become a map of answers."""
    graph = net(
        "y = Conv <strides = [1, 1]> (x, all)",
        side=8,
        all=models.random_weights({"all": (4, 3, 8, 8)})["all"],
    )
    with pytest.raises(ModelError, match="fit one resolution"):
        change_resolution(graph, 16, 16)


def test_boxes_are_scaled_by_the_new_sides() -> None:
    """What scales boxes of each cell by the picture's sides does so by the new ones."""

    def scaled(height: int, width: int) -> Graph:
        sides = np.array([width, height, width, height], np.float32)
        cells = height // 4 * (width // 4)
        boxes = f"float[1, {cells * 2}, 4]"
        text = f"""net (float[1, 3, {height}, {width}] x) => ({boxes} y) {{
          a = Conv <strides = [4, 4], pads = [1, 1, 1, 1]> (x, w1)
          t = Transpose <perm = [0, 2, 3, 1]> (a) f = Reshape(t, four)
          y = Mul(f, sides)
        }}"""
        constants: dict[str, Array] = {"four": int64(1, -1, 4), "sides": sides}
        weights = {**models.random_weights(WEIGHTS), **constants}
        return parse_graph(models.model_bytes(text, weights))

    assert same_outputs(scaled(48, 80), change_resolution(scaled(32, 64), 48, 80))
    with pytest.raises(ModelError, match="height and width both"):
        change_resolution(scaled(32, 32), 32, 64)


def test_shapes_that_the_graph_computes_follow_by_themselves() -> None:
    """A reshape by the shape of a map fits at the new size."""
    graph = net(
        STEM + "s = Shape(a) b = Relu(a) f = Reshape(b, flat) y = Reshape(f, s)",
        out="float[1, 8, 8, 8] y",
        flat=int64(1, 8, 64),
    )
    expected = net(
        STEM + "s = Shape(a) b = Relu(a) f = Reshape(b, flat) y = Reshape(f, s)",
        side=64,
        out="float[1, 8, 16, 16] y",
        flat=int64(1, 8, 256),
    )
    assert same_outputs(expected, change_resolution(graph, 64, 64))


def test_an_open_resolution_becomes_a_fixed_one() -> None:
    """A model for pictures of any size gets the size, and a batch of one."""
    fixed = change_resolution(parse_graph(models.dynamic_net()), 24, 16)
    assert fixed.inputs[0].shape == (1, 3, 24, 16)


def test_a_picture_has_four_axes_and_few_channels() -> None:
    """The picture is found in either order; none, or two, is refused."""
    planes = TensorSpec(name="x", dtype="float32", shape=(1, 3, 32, 40))
    pixels = TensorSpec(name="x", dtype="float32", shape=(1, 32, 40, 3))
    assert find_picture((planes,)) == (planes, 2)
    assert find_picture((pixels,)) == (pixels, 1)
    for inputs in ((), (planes, pixels)):
        with pytest.raises(ModelError, match="pictures, expected one"):
            find_picture(inputs)


def test_a_side_must_be_positive() -> None:
    """A resolution without pixels is refused."""
    with pytest.raises(UsageError, match="expected pixels"):
        change_resolution(detector("cells", 32, 32), 0, 32)
