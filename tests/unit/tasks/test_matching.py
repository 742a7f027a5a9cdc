"""Whose embedding it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.tasks.matching import EmbedMatch, Gallery, read_gallery
from tests.contents import gallery_bytes

GALLERY = read_gallery(gallery_bytes(), name="g")


def test_a_gallery_is_read_with_vectors_of_length_one() -> None:
    """Names stand for one vector or several."""
    assert GALLERY.names == ("Ann", "Bob", "Bob")
    np.testing.assert_allclose(GALLERY.vectors, [[1, 0], [0, 1], [0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize(
    ("vector", "name", "similarity"),
    [([3, 0.1], "Ann", 0.99944), ([0.7, 0.7], "Bob", 0.98995), ([-1, 0], None, 0)],
)
def test_the_nearest_vector_counts(
    vector: list[float], name: str | None, similarity: float
) -> None:
    """Its length does not; below the threshold it is nobody's."""
    step = EmbedMatch(threshold=0.5)
    found = step.decode(np.array(vector, np.float32), ()).vector
    assert found is not None
    match = step.match(found, GALLERY)
    assert match.name == name
    assert match.similarity == pytest.approx(similarity, abs=1e-5)


def test_the_threshold_itself_is_a_match() -> None:
    """At least as near."""
    vector = np.array([1.0, 0.0])
    assert EmbedMatch(threshold=1).match(vector, GALLERY).name == "Ann"


def test_what_is_not_finite_is_nobodys() -> None:
    """A model that failed names nobody."""
    found = EmbedMatch(threshold=-1).match(np.array([np.nan, 1.0]), GALLERY)
    assert found.name is None


def test_a_gallery_of_another_model_is_refused() -> None:
    """Vectors of another length."""
    with pytest.raises(DataError, match="gives 3 numbers, the gallery"):
        EmbedMatch().match(np.ones(3), GALLERY)


@pytest.mark.parametrize(
    "arrays",
    [
        {"vectors": np.zeros((3, 2))},
        {"vectors": np.full((3, 2), np.inf)},
        {"vectors": np.ones((2, 2))},
        {"vectors": np.ones((3, 2), np.int64)},
        {"vectors": np.ones((3, 0))},
        {"vectors": np.ones(3)},
        {"names": np.array([1, 2, 3])},
        {"names": np.array(["Ann", "", "Bob"])},
        {"names": np.array(["A" * 201, "B", "C"])},
        {"more": np.ones(3)},
    ],
)
def test_what_is_no_gallery_is_refused(arrays: dict[str, Any]) -> None:
    """Without a direction, a name, or the two arrays."""
    with pytest.raises(DataError) as caught:
        read_gallery(gallery_bytes(**arrays), name="g")
    assert caught.value.hint
    with pytest.raises(DataError):
        read_gallery(b"no archive", name="g")


def test_a_threshold_is_a_cosine() -> None:
    """From -1 to 1."""
    with pytest.raises(UsageError):
        EmbedMatch(threshold=1.1)
    assert isinstance(GALLERY, Gallery)
