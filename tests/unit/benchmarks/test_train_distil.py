"""The share of a gap, and the pictures that the benchmark of distillation draws."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import _train_distil
from benchmarks._train_distil import gap_closed, make_student, make_teacher


def _rights(*accuracies: float) -> list[np.ndarray]:
    """Two seeds of 1,000 pictures each, told right by so many."""
    return [
        np.tile(np.arange(1000) < 1000 * accuracy, (2, 1)).astype(float)
        for accuracy in accuracies
    ]


def test_the_share_is_that_between_labels_and_teacher() -> None:
    """0.80 to 0.90: at 0.89 nine tenths are closed, and the interval holds that."""
    hard, ours, teacher = _rights(0.80, 0.89, 0.90)
    rights = {"teacher": teacher, "student, labels": hard}
    share, low, high = gap_closed(ours, rights)
    assert share == pytest.approx(90)
    assert low < 90 < high
    assert gap_closed(teacher, rights) == pytest.approx((100, 100, 100))


def test_a_gap_that_is_none_has_no_share() -> None:
    """A teacher that is no better than the student teaches nothing to measure."""
    hard, ours = _rights(0.80, 0.89)
    rights = {"teacher": hard, "student, labels": hard}
    assert gap_closed(ours, rights) is None


def test_the_student_is_a_fortieth_of_the_teacher() -> None:
    """As the bar asks for."""
    sizes = [
        sum(one.numel() for one in make(0).parameters())
        for make in (make_teacher, make_student)
    ]
    assert sizes == [421_642, 9_854]
    assert sizes[0] >= 40 * sizes[1]


def test_without_the_pictures_the_bar_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """No figure, and the reason."""
    monkeypatch.setattr(_train_distil, "fashion", lambda: "apt-get install them")
    rows, (figure,) = _train_distil.measure(tmp_path, quick=True)  # type: ignore[arg-type]
    assert rows == []
    assert figure.figure is None
    assert figure.unmet == "apt-get install them"
