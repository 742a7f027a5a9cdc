from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from skerry.core.documents import to_json
from skerry.core.errors import DataError, NewerSchemaError
from skerry.evolve import drift
from skerry.evolve.drift import (
    DriftVerdict,
    DriftWatch,
    Observation,
    Reference,
    make_reference,
    read_reference,
    write_reference,
)
from tests.clusters import CLASSES, SIZE, Floats, classes, confidences, draw

GOLDEN = Path(__file__).parents[2] / "golden" / "drift-1.npz"


def _reference(n: int = 400, seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    points, _ = draw(n, rng)
    return make_reference(points, confidences(points), rng=rng, labels=classes(points))


def _watch(watch: DriftWatch, points: Floats) -> list[DriftVerdict]:
    return [
        watch.update(Observation(embedding=point[None], confidence=sure, label=label))
        for point, sure, label in zip(
            points, confidences(points), classes(points).tolist(), strict=True
        )
    ]


def _first(verdicts: list[DriftVerdict]) -> int:
    return next(
        (place for place, verdict in enumerate(verdicts) if verdict.is_drift), 10**6
    )


@pytest.mark.parametrize("seed", range(3))
def test_clean_frames_raise_no_alarm_and_a_shift_does_soon(seed: int) -> None:
    """No false alarm of either chart in 6,000 clean frames; a shift within 60."""
    watch = DriftWatch(_reference(seed=seed))
    rng = np.random.default_rng(100 + seed)
    clean = _watch(watch, draw(6000, rng)[0])
    assert not any(verdict.is_drift for verdict in clean)
    assert sum(verdict.input.is_drift for verdict in clean) == 0
    assert clean[-1].seen == 6000
    assert _first(_watch(watch, draw(300, rng, shift=1.0)[0])) < 60


def test_another_mixture_of_the_same_classes_is_no_change() -> None:
    """A stream of one class only raises neither chart."""
    watch = DriftWatch(_reference())
    points, labels = draw(3000, np.random.default_rng(5))
    verdicts = _watch(watch, points[labels == 1])
    assert not any(verdict.is_drift for verdict in verdicts)
    assert max(verdict.input.statistic for verdict in verdicts) < (
        3 * verdicts[0].input.limit
    )


def test_a_confidence_that_falls_alone_is_seen() -> None:
    """Inputs as ever and a lower confidence: the second chart alone alarms."""
    reference = _reference()
    watch = DriftWatch(reference)
    points, _ = draw(200, np.random.default_rng(6))
    low = reference.confidence_mean - 1.5 * reference.confidence_deviation
    verdicts = [
        watch.update(Observation(embedding=point, confidence=low, label=label))
        for point, label in zip(points, classes(points).tolist(), strict=True)
    ]
    assert _first(verdicts) < 60
    assert not verdicts[-1].input.is_drift
    assert verdicts[-1].confidence.is_drift


def test_a_far_input_is_drift_however_sure_the_model_is() -> None:
    """A model that is sure of its nonsense does not hide a strong change."""
    watch = DriftWatch(_reference())
    points, _ = draw(200, np.random.default_rng(7))
    verdicts = [
        watch.update(Observation(embedding=point + 4, confidence=1.0, label=0))
        for point in points
    ]
    assert _first(verdicts) < 60
    assert not verdicts[-1].confidence.is_drift


def test_the_alarm_ends_when_the_world_is_back() -> None:
    """After a change that passes, both charts come down again."""
    watch = DriftWatch(_reference())
    rng = np.random.default_rng(8)
    _watch(watch, draw(500, rng, shift=1.0)[0])
    back = _watch(watch, draw(1000, rng)[0])
    assert back[0].is_drift
    assert back[-1].is_calm


def test_two_usual_conditions_are_both_usual() -> None:
    """A reference of clean and shifted samples is calm under either, for long."""
    rng = np.random.default_rng(9)
    clean, moved = draw(300, rng)[0], draw(100, rng, shift=0.5)[0]
    points = np.concatenate([clean, moved])
    reference = make_reference(
        points,
        confidences(points),
        rng=rng,
        labels=classes(points),
        conditions=np.repeat([0, 1], [300, 100]),
    )
    for shift in (0.0, 0.5):
        verdicts = _watch(DriftWatch(reference), draw(2000, rng, shift=shift)[0])
        assert not any(verdict.is_drift for verdict in verdicts)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_far_from_usual(bad: float) -> None:
    """NaN and infinities alarm, and the charts stay finite."""
    watch = DriftWatch(_reference())
    for _ in range(100):
        verdict = watch.update(
            Observation(
                embedding=np.full(SIZE, bad, np.float32), confidence=bad, label=9
            )
        )
    assert verdict.is_drift
    assert math.isfinite(verdict.statistic)


def test_an_embedding_of_another_length_is_refused() -> None:
    """The reference of another model is noticed."""
    watch = DriftWatch(_reference())
    with pytest.raises(DataError, match="5 numbers, the reference 12"):
        watch.update(Observation(embedding=np.zeros(5), confidence=0.5))


def test_a_reference_comes_back_from_its_bytes() -> None:
    """Written and read it is the same, and the same one gives the same bytes."""
    reference = _reference()
    content = write_reference(reference)
    read = read_reference(content)
    for field in dataclasses.fields(Reference):
        np.testing.assert_array_equal(
            getattr(read, field.name), getattr(reference, field.name)
        )
    assert write_reference(read) == content


def test_the_first_versions_reference_is_read_for_ever() -> None:
    """The golden file of `skerry.drift/1` still raises its alarm."""
    watch = DriftWatch(read_reference(GOLDEN.read_bytes()))
    rng = np.random.default_rng(1)
    assert not any(verdict.is_drift for verdict in _watch(watch, draw(500, rng)[0]))
    assert _first(_watch(watch, draw(300, rng, shift=1.0)[0])) < 60


def test_samples_without_classes_or_variance_make_a_reference() -> None:
    """No labels, and embeddings that never vary: both are handled."""
    rng = np.random.default_rng(2)
    reference = make_reference(np.ones((60, 4, 2)), np.ones(60), rng=rng)
    assert reference.means.shape == (1, 8)
    watch = DriftWatch(reference)
    same = watch.update(Observation(embedding=np.ones(8), confidence=1.0))
    assert not same.is_drift
    for _ in range(200):
        other = watch.update(Observation(embedding=np.zeros(8), confidence=0.0))
    assert other.is_drift


@pytest.mark.parametrize(
    ("n", "n_sure", "value", "message"),
    [
        (49, 49, 0.5, "got 49 embeddings"),
        (60, 59, 0.5, "59 confidences"),
        (60, 60, math.nan, "NaN"),
    ],
)
def test_bad_samples_make_no_reference(
    n: int, n_sure: int, value: float, message: str
) -> None:
    """Too few, not as many, or not numbers: each says so."""
    with pytest.raises(DataError, match=message):
        make_reference(
            np.full((n, 3), value), np.full(n_sure, 0.5), rng=np.random.default_rng(0)
        )


def test_conditions_must_be_one_a_sample() -> None:
    """Another number of conditions is refused."""
    with pytest.raises(DataError, match="got 3 conditions for 60 samples"):
        make_reference(
            np.ones((60, 3)),
            np.ones(60),
            rng=np.random.default_rng(0),
            conditions=np.zeros(3),
        )


def _with(**changes: object) -> bytes:
    return write_reference(dataclasses.replace(_reference(), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"input_limit": 0.0},
        {"confidence_limit": -1.0},
        {"axes": np.zeros((SIZE, 2), np.float32)},
        {"means": np.zeros((CLASSES + 1, SIZE), np.float64)},
        {"means": np.full((CLASSES + 1, SIZE), np.nan, np.float32)},
    ],
)
def test_a_reference_that_makes_no_sense_is_refused(
    changes: dict[str, object],
) -> None:
    """Limits not above 0, sizes that disagree, other dtypes, NaN."""
    with pytest.raises(DataError, match=r"not a whole skerry\.drift/1"):
        read_reference(_with(**changes))


def test_a_newer_reference_asks_for_an_upgrade(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next schema is not half-read."""
    reference = _reference()

    def newer(header: object, *, schema: str) -> bytes:
        return to_json(header, schema=schema.replace("/1", "/2"))

    monkeypatch.setattr(drift, "to_json", newer)
    with pytest.raises(NewerSchemaError):
        read_reference(write_reference(reference))


def test_a_reference_that_is_too_large_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Packed or unpacked, it is bounded."""
    content = write_reference(_reference())
    monkeypatch.setattr(drift, "LARGEST_REFERENCE_BYTES", len(content))
    with pytest.raises(DataError, match="has"):
        read_reference(content + b"x")
    monkeypatch.setattr(drift, "LARGEST_REFERENCE_BYTES", 1200)
    with pytest.raises(DataError, match="has"):
        read_reference(content)
