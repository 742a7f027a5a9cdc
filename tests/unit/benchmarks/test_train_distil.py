"""The share of a gap, and the pictures that the benchmark of distillation draws."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import _train_distil
from benchmarks._train_distil import (
    QUICK_LABELLED,
    QUICK_SELECTION,
    TIMES,
    gap_closed,
    make_case,
    make_student,
    make_teacher,
)
from skerry.runtimes.torch import Tensor, torch


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


def _numbered(_which: str) -> tuple[Tensor, Tensor]:
    """Pictures that show their number, either way round, and nothing else."""
    numbers = torch.arange(4000)
    return numbers[:, None, None, None].float().expand(-1, 1, 2, 2), numbers


def test_nine_epochs_of_the_field_go_through_all_pictures_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many an epoch as have labels; those that select are never learnt from."""
    monkeypatch.setattr(_train_distil, "_read", _numbered)
    case = make_case(0, quick=True)
    seen: dict[bool, list[int]] = {True: [], False: []}
    for epoch in range(TIMES):
        batches = list(case.field.batches(epoch))
        count = sum(len(inputs[0]) for inputs, _ in batches)
        assert count == pytest.approx(QUICK_LABELLED, abs=1)
        for (pictures,), labels in batches:
            numbers = pictures[:, 0, 0, 0].int().tolist()
            seen[labels is not None] += numbers
            assert labels is None or labels.tolist() == numbers
    labelled = [
        one for _, labels in case.training.batches(0) for one in labels.tolist()
    ]
    assert sorted(seen[True]) == sorted(labelled)
    chosen = [int(one.label) for one in case.training.selection]  # type: ignore[arg-type]
    every = seen[True] + seen[False] + chosen
    assert len(set(every)) == len(every) == TIMES * QUICK_LABELLED + QUICK_SELECTION


def test_without_the_pictures_the_bar_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """No figure, and the reason."""
    monkeypatch.setattr(_train_distil, "fashion", lambda: "apt-get install them")
    rows, (figure,) = _train_distil.measure(tmp_path, quick=True)  # type: ignore[arg-type]
    assert rows == []
    assert figure.figure is None
    assert figure.unmet == "apt-get install them"
