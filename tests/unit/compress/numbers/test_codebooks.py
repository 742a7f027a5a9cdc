from __future__ import annotations

import numpy as np
import pytest

from skerry.compress.numbers.codebooks import CodebookKind, encode, pack, unpack
from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array


def weights(*shape: int, seed: int = 3) -> Array:
    """Make bell-shaped numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def error(values: Array, **how: object) -> float:
    """The squared error of coding values."""
    decoded = encode(values, **how).decode()
    return float(np.square(values.astype(np.float64) - decoded).sum())


def test_few_distinct_numbers_are_kept_exactly() -> None:
    """Up to as many numbers as there are entries are the entries."""
    values = np.random.default_rng(0).choice(weights(16), size=(20, 30))
    assert np.array_equal(encode(values).decode(), values)


def test_kmeans_beats_even_steps() -> None:
    """Sixteen entries where the numbers are lose less than sixteen evenly spaced."""
    values = weights(8000)
    even = np.linspace(values.min(), values.max(), 16)
    nearest = even[np.abs(values[:, None] - even).argmin(axis=1)]
    assert error(values) < 0.7 * float(np.square(values - nearest).sum())


def test_kmeans_is_near_the_optimum_for_a_normal_distribution() -> None:
    """Max (1960), table I: 16 levels on a unit normal have a mean error of 0.009497."""
    values = weights(200_000)
    assert error(values) / values.size == pytest.approx(0.0095, rel=0.05)


def test_more_bits_lose_less() -> None:
    """256 entries lose less than a hundredth of what 16 do."""
    values = weights(40_000)
    assert error(values, bits=8) < 0.01 * error(values, bits=4)


def test_channels_of_other_scales_share_entries() -> None:
    """With a scale each, a channel a thousand times smaller is not rounded to zero."""
    values = weights(4, 500) * np.array([[1e-3], [1], [1], [1e3]], np.float32)
    for kind in ("kmeans", "power-of-two"):
        decoded = encode(values, kind=kind, axis=0).decode()
        wrong = np.square(values - decoded).sum(axis=1)
        assert (wrong < 0.06 * np.square(values).sum(axis=1)).all()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_powers_of_two_are_powers_of_two(axis: int | None) -> None:
    """Each number becomes zero or ±2^k, the scale of its channel included."""
    decoded = encode(weights(6, 50), kind="power-of-two", axis=axis).decode()
    mantissas, _ = np.frexp(np.abs(decoded[decoded != 0]))
    assert (mantissas == 0.5).all()
    assert len(np.unique(np.abs(decoded))) > 4


def test_powers_of_two_cover_the_largest() -> None:
    """The largest magnitude is at most a third off, as INQ's choice of 2^n has it."""
    for largest in (0.74, 0.76, 1.0, 1.49, 1.51, 3e-20):
        values = np.array([largest, -largest / 3, 0], np.float32)
        decoded = encode(values, kind="power-of-two").decode()
        assert abs(decoded[0] - values[0]) <= values[0] / 3 * 1.001
        assert decoded[2] == 0


@pytest.mark.parametrize("kind", ["kmeans", "power-of-two"])
@pytest.mark.parametrize("axis", [None, 0])
def test_zeros_stay_zeros(kind: CodebookKind, axis: int | None) -> None:
    """A tensor, and a channel, of nothing but zero decode to zero."""
    values = np.zeros((2, 40), np.float32)
    assert not encode(values, kind=kind, axis=axis).decode().any()


def test_the_same_values_give_the_same_codes() -> None:
    """Nothing is left to chance."""
    first, second = encode(weights(500)), encode(weights(500))
    assert np.array_equal(first.codes, second.codes)
    assert np.array_equal(first.entries, second.entries)


@pytest.mark.parametrize(
    "how",
    [
        {"bits": 3},
        {"bits": True},
        {"kind": "k-means"},
        {"bits": 8, "kind": "power-of-two"},
        {"axis": 2},
    ],
)
def test_nonsense_is_refused(how: dict[str, object]) -> None:
    """Another width, kind or axis: an error with a hint."""
    with pytest.raises(UsageError) as caught:
        encode(weights(4, 4), **how)
    assert caught.value.hint


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    """NaN and infinity have no nearest entry."""
    with pytest.raises(DataError):
        encode(np.array([1.0, bad], np.float32))


def test_two_codes_are_a_byte() -> None:
    """The first code is the lower half of the first byte."""
    codes = np.array([[1, 2], [15, 0], [7, 9]], np.uint8)
    assert pack(codes).tolist() == [0x21, 0x0F, 0x97]
    assert pack(codes.reshape(-1)[:5]).tolist() == [0x21, 0x0F, 0x07]


@pytest.mark.parametrize("count", [3, 6, -1])
def test_another_count_than_was_packed_is_refused(count: int) -> None:
    """Two bytes hold four codes or three and a rest."""
    packed = np.zeros(2, np.uint8)
    if count == 3:
        assert unpack(packed, count).size == count
        return
    with pytest.raises(DataError, match="expected"):
        unpack(packed, count)
