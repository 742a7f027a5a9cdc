from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array
from skerry.tasks.steps import (
    POST_STEPS,
    PRE_STEPS,
    Crop,
    Ctc,
    Layout,
    Letterbox,
    Normalize,
    Resize,
    Softmax,
    TopK,
    step_from_table,
)

RED = np.array([200, 100, 50], dtype=np.uint8)


def _flat(rows: int, columns: int) -> Array:
    return np.broadcast_to(RED, (rows, columns, 3)).copy()


def test_resize_stretches() -> None:
    """Without keep_aspect both sides become what was asked for."""
    resized = Resize(height=4, width=9).apply(_flat(10, 10))
    assert resized.shape == (4, 9, 3)
    assert (resized == RED).all()


@pytest.mark.parametrize(("columns", "covered"), [(10, 5), (25, 13), (500, 40)])
def test_resize_keeps_the_aspect_and_fills_on_the_right(
    columns: int, covered: int
) -> None:
    """Width follows height, at most the width asked for; the rest is filled."""
    step = Resize(height=5, width=40, keep_aspect=True, fill=7)
    resized = step.apply(_flat(10, columns))
    assert resized.shape == (5, 40, 3)
    assert (resized[:, :covered] == RED).all()
    assert (resized[:, covered:] == 7).all()


@pytest.mark.parametrize(
    ("anchor", "rows"), [("center", slice(2, 6)), ("top_left", slice(0, 4))]
)
def test_letterbox_shows_the_whole_picture(anchor: str, rows: slice) -> None:
    """A wide picture fits the width, in the middle or at the top."""
    step = step_from_table(
        {"step": "letterbox", "height": 8, "width": 8, "fill": 9, "anchor": anchor},
        PRE_STEPS,
        name="t",
    )
    boxed = step.apply(_flat(10, 20))
    assert (boxed[rows] == RED).all()
    assert (boxed == RED).all(axis=2).sum() == 4 * 8
    assert boxed.shape == (8, 8, 3)


def test_letterbox_keeps_a_sliver() -> None:
    """A picture far longer than the frame still has one row."""
    boxed = Letterbox(height=8, width=8, fill=9).apply(_flat(1, 1000))
    assert (boxed == RED).all(axis=2).sum() == 8


def test_crop_cuts_the_middle() -> None:
    """The middle is kept, exactly."""
    rows = np.arange(7, dtype=np.uint8)[:, None, None] * np.ones((1, 5, 3), np.uint8)
    cropped = Crop(height=3, width=1).apply(rows)
    assert cropped.shape == (3, 1, 3)
    assert cropped[:, 0, 0].tolist() == [2, 3, 4]


def test_crop_needs_enough_pixels() -> None:
    """A picture smaller than the crop is refused with both sizes."""
    with pytest.raises(DataError, match="9 × 2 out of a picture of 8 × 8"):
        Crop(height=9, width=2).apply(_flat(8, 8))


def test_normalize_applies_scale_then_mean_then_std() -> None:
    """(x · scale - mean) / std, a channel each, in float32."""
    step = Normalize(scale=0.01, mean=(1.0, 0.5, 0.0), std=(1.0, 0.25, 2.0))
    normalized = step.apply(_flat(2, 2))
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(normalized[1, 1], [1.0, 2.0, 0.25], rtol=1e-6)


def test_normalize_refuses_other_numbers_of_channels() -> None:
    """Three means for one channel are refused."""
    with pytest.raises(DataError, match="3 values of mean for 1 channels"):
        Normalize(mean=(1.0, 2.0, 3.0)).apply(np.zeros((2, 2, 1)))


@pytest.mark.parametrize(
    ("order", "channels", "shape", "first"),
    [
        ("CHW", "RGB", (1, 3, 2, 4), 200),
        ("HWC", "RGB", (1, 2, 4, 3), 200),
        ("CHW", "BGR", (1, 3, 2, 4), 50),
        ("HWC", "GRAY", (1, 2, 4, 1), round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)),
    ],
)
def test_layout_orders_axes_and_channels(
    order: str, channels: str, shape: tuple[int, ...], first: int
) -> None:
    """Axes, channels and the batch axis come out as named; the dtype stays."""
    table = {"step": "layout", "order": order, "channels": channels}
    laid = step_from_table(table, PRE_STEPS, name="t").apply(_flat(2, 4))
    assert laid.shape == shape
    assert laid.dtype == np.uint8
    assert laid.reshape(-1)[0] == first
    assert laid.flags.c_contiguous


def test_layout_without_batch() -> None:
    """`batch = false` leaves the batch axis out."""
    assert Layout(batch=False).apply(_flat(2, 4)).shape == (3, 2, 4)


@pytest.mark.parametrize(
    ("apply", "array"),
    [
        (Resize(height=2, width=2).apply, np.zeros((2, 3, 3), np.float32)),
        (Letterbox(height=2, width=2).apply, np.zeros((2, 3), np.uint8)),
        (Resize(height=2, width=2).apply, np.zeros((0, 3, 3), np.uint8)),
        (Layout().apply, np.zeros((1, 3, 2, 2), np.uint8)),
        (Softmax(axis=2).apply, np.zeros((3, 4))),
    ],
)
def test_steps_in_a_wrong_order_are_refused(
    apply: Callable[[Array], Array], array: Array
) -> None:
    """A step that cannot take what it gets says so."""
    with pytest.raises(DataError):
        apply(array)


def test_softmax_gives_probabilities_even_of_large_scores() -> None:
    """Each row sums to 1 and its order stays; nothing overflows."""
    given = np.array([[1e4, 1e4 + 1.0], [0.0, 0.0]], dtype=np.float32)
    result = Softmax().apply(given)
    np.testing.assert_allclose(result.sum(axis=1), 1)
    np.testing.assert_allclose(result[0], [1 / (1 + np.e), np.e / (1 + np.e)])


def test_topk_ranks_classes() -> None:
    """The best k come best first; ties go to the lower index."""
    scores = np.array([0.1, 0.4, 0.4, 0.05], dtype=np.float32)
    prediction = TopK(k=3).decode(scores, ["a", "b", "c", "d"])
    assert (prediction.label, prediction.name) == (1, "b")
    assert prediction.confidence == pytest.approx(0.4)
    assert [index for index, _ in prediction.ranked] == [1, 2, 0]


def test_topk_without_names_uses_the_index() -> None:
    """Where classes have no names, their index stands for them."""
    assert TopK().decode(np.array([[[0.0]], [[2.0]]]), []).name == "1"


def test_ctc_merges_repeats_and_drops_blanks() -> None:
    """Repeats without a blank between them are one character; blanks are none."""
    labels = ["", "a", "b"]
    path = [1, 1, 0, 1, 2, 2, 0]
    scores = np.full((len(path), 3), 0.1)
    scores[np.arange(len(path)), path] = [0.8, 0.6, 0.9, 0.7, 0.6, 0.5, 0.9]
    prediction = Ctc().decode(scores, labels)
    assert prediction.label == prediction.name == "aab"
    assert prediction.confidence == pytest.approx((0.8 + 0.7 + 0.6) / 3)


def test_ctc_of_blanks_is_the_empty_line() -> None:
    """Blanks alone, or no steps at all, read as nothing, without confidence."""
    for scores in (np.eye(3)[[0, 0]], np.zeros((0, 3))):
        prediction = Ctc().decode(scores, ["", "a", "b"])
        assert (prediction.label, prediction.confidence) == ("", 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_no_answer(bad: float) -> None:
    """NaN and infinities are answered with no class and no text."""
    assert TopK().decode(np.array([0.0, bad]), []).label == -1
    assert Ctc().decode(np.array([[0.0, bad]]), ["", "a"]).label == ""


@pytest.mark.parametrize(
    ("decoder", "shape"),
    [(TopK(), (3,)), (TopK(), (0,)), (Ctc(), (4, 3)), (Ctc(), (2,))],
)
def test_scores_must_fit_the_labels(
    decoder: TopK | Ctc, shape: tuple[int, ...]
) -> None:
    """Another number of classes or symbols than labels is refused."""
    with pytest.raises(DataError, match=r"labels|symbols"):
        decoder.decode(np.zeros(shape), ["", "a"])


@pytest.mark.parametrize(
    ("table", "hint"),
    [
        ({"step": "resise", "height": 2, "width": 2}, "Did you mean 'resize'?"),
        ({"step": "resize", "heigth": 2, "width": 2}, "Did you mean 'height'?"),
        ({"step": "resize", "height": 2}, "Known keys"),
        ({"step": "resize", "height": 0, "width": 2}, "pixels"),
        ({"step": "resize", "height": 10**30, "width": 2}, "pixels"),
        ({"step": "resize", "height": "2", "width": 2}, "Known keys"),
        ({"step": "resize", "height": 2, "width": 2, "version": 2}, "upgrade"),
        ({"step": "resize", "height": 2, "width": 2, "version": True}, "upgrade"),
        ({"step": "crop", "height": 2, "width": -1}, "pixels"),
        ({"step": "letterbox", "height": 2, "width": 2, "fill": 256}, "uint8"),
        ({"step": "letterbox", "height": 2, "width": 2, "anchor": "left"}, "Known"),
        ({"step": "normalize", "std": 0.0}, "0–255"),
        ({"step": "normalize", "mean": [0.0, float("nan")]}, "0–255"),
        ({"step": "layout", "order": "WHC"}, "Known keys"),
        ({"step": "softmax"}, "Known: band_energies, crop"),
        ({"height": 2}, "Known: band_energies, crop"),
    ],
)
def test_bad_steps_are_refused(table: dict[str, object], hint: str) -> None:
    """An unknown step, parameter, value or version is refused with what is known."""
    with pytest.raises(UsageError) as caught:
        step_from_table(table, PRE_STEPS, name="t.toml")
    assert hint in caught.value.hint
    assert caught.value.what.startswith(("t.toml", str(table.get("step"))))


def test_topk_needs_a_class() -> None:
    """Keeping no class is refused."""
    with pytest.raises(UsageError, match="k is 0"):
        step_from_table({"step": "topk", "k": 0}, POST_STEPS, name="t")
