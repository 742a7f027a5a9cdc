from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from skerry.edge.streams import heap


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    heap._find.cache_clear()
    yield
    heap._find.cache_clear()


def test_free_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By asking the C library, which is found once."""
    asked: list[int] = []

    class Library:
        malloc_trim = asked.append

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    heap.give_back()
    heap.give_back()
    assert asked == [0, 0]


@pytest.mark.parametrize("why", [OSError, TypeError, AttributeError])
def test_another_c_library_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, why: type[Exception]
) -> None:
    """Where it cannot be asked nothing happens."""

    def fail(_: object) -> None:
        raise why

    monkeypatch.setattr(ctypes, "CDLL", fail)
    heap.give_back()
