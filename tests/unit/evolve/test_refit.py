from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.evolve.refit import (
    Head,
    Labelled,
    Refit,
    RefitSettings,
    refit,
    refit_head,
)
from tests.clusters import BIAS, CLASSES, SIZE, WEIGHT, draw

HEAD = Head(weight=WEIGHT, bias=BIAS)


def _draw(n: int, seed: int, *, shift: float = 0.0) -> Labelled:
    points, labels = draw(n, np.random.default_rng(seed), shift=shift)
    return Labelled(embeddings=points, labels=labels)


def _accuracy(head: Head, part: Labelled) -> float:
    return float((head.predict(part.embeddings) == part.labels).mean())


def _refit(field: Labelled, *, old: Labelled | None = None, **changes: float) -> Refit:
    return refit(
        HEAD,
        field=field,
        old=_draw(300, 2) if old is None else old,
        rng=np.random.default_rng(0),
        settings=replace(RefitSettings(), **changes),  # type: ignore[arg-type]
    )


def test_a_refit_recovers_and_forgets_little() -> None:
    """Most of what the shift cost comes back; the clean loss stays below a point."""
    result = _refit(_draw(100, 3, shift=1.0))
    field, clean = _draw(3000, 4, shift=1.0), _draw(3000, 5)
    before, after = _accuracy(HEAD, field), _accuracy(result.head, field)
    assert before < 0.8
    assert after > before + 0.6 * (_accuracy(HEAD, clean) - before)
    assert _accuracy(result.head, clean) > _accuracy(HEAD, clean) - 0.01


def test_the_evidence_says_what_was_proved() -> None:
    """Counts, accuracies and intervals are those of the sets that were given."""
    field = _draw(100, 3, shift=1.0)
    evidence = _refit(field).evidence
    assert evidence.passed
    assert evidence.reason == ""
    assert (evidence.n_field, evidence.n_old) == (100, 300)
    assert evidence.field_before == pytest.approx(_accuracy(HEAD, field))
    assert evidence.field_gain.delta == pytest.approx(
        evidence.field_after - evidence.field_before
    )
    assert evidence.field_gain.low > 0
    assert evidence.old_change.delta == pytest.approx(
        evidence.old_after - evidence.old_before
    )


def test_no_gain_does_not_pass() -> None:
    """Field samples like the old ones: nothing to gain, and the gate says so."""
    evidence = _refit(_draw(100, 3)).evidence
    assert not evidence.passed
    assert "field samples" in evidence.reason


def test_wrong_labels_do_not_pass() -> None:
    """Labels drawn at random make no head better on samples it has not seen."""
    field = _draw(100, 3, shift=1.0)
    labels = np.random.default_rng(7).integers(0, CLASSES, 100)
    evidence = _refit(replace(field, labels=labels)).evidence
    assert not evidence.passed


def test_forgetting_does_not_pass() -> None:
    """A gain in the field that costs too much of the old is refused."""
    field = _draw(100, 3, shift=1.0)
    turned = replace(field, labels=(field.labels + 1) % CLASSES)
    evidence = _refit(turned, field_share=0.99, pull=0.0).evidence
    assert evidence.field_gain.low > 0
    assert not evidence.passed
    assert "old samples" in evidence.reason


def test_the_pull_holds_the_head_where_it_was() -> None:
    """With a strong pull nothing moves; the head keeps its dtype."""
    held = refit_head(
        HEAD,
        field=_draw(50, 3, shift=1.0),
        replay=_draw(50, 1),
        settings=replace(RefitSettings(), pull=1e6),
    )
    assert held.weight.dtype == np.float32
    np.testing.assert_allclose(held.weight, WEIGHT, atol=1e-4)
    np.testing.assert_allclose(held.bias, BIAS, atol=1e-4)


def test_a_refit_is_the_same_each_time() -> None:
    """No chance is in the fit."""
    parts = {"field": _draw(50, 3, shift=1.0), "replay": _draw(50, 1)}
    first, second = refit_head(HEAD, **parts), refit_head(HEAD, **parts)
    np.testing.assert_array_equal(first.weight, second.weight)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (_draw(19, 3), "at least 20"),
        (
            Labelled(embeddings=np.zeros((30, 2)), labels=np.zeros(30, np.int64)),
            "shape",
        ),
        (
            Labelled(embeddings=np.zeros((30, SIZE)), labels=np.full(30, CLASSES)),
            "knows 0 to 2",
        ),
        (
            Labelled(
                embeddings=np.full((30, SIZE), np.nan), labels=np.zeros(30, np.int64)
            ),
            "NaN",
        ),
        (_draw(0, 3), "field embeddings"),
    ],
)
def test_samples_that_do_not_fit_are_refused(field: Labelled, message: str) -> None:
    """Too few, another size, unknown classes, not numbers."""
    with pytest.raises(DataError, match=message):
        _refit(field)


def test_too_few_old_samples_are_refused() -> None:
    """What is forgotten could not be told from chance."""
    with pytest.raises(DataError, match="19 old samples"):
        _refit(_draw(100, 3), old=_draw(19, 2))


def test_settings_that_make_no_sense_are_refused() -> None:
    """The field's share is between 0 and 1."""
    with pytest.raises(UsageError):
        _refit(_draw(30, 3), field_share=1.0)
