from __future__ import annotations

import pytest

from skerry.core.errors import UsageError
from skerry.core.names import check_name, claim_name, did_you_mean


def test_the_nearest_known_word_is_named() -> None:
    """A slip of the finger is answered with the word that was meant."""
    assert did_you_mean("resise", ["crop", "resize"]) == "Did you mean 'resize'?"


def test_the_known_words_are_listed_where_none_is_near() -> None:
    """They come sorted."""
    assert did_you_mean("zebra", ["topk", "crop"]) == "Known: crop, topk."


def test_no_known_words_are_no_riddle() -> None:
    """The hint is still a sentence."""
    assert did_you_mean("zebra", []) == "Nothing is known here."


@pytest.mark.parametrize("name", ["a", "gw-1", "0", "meter-reader", "x" * 63])
def test_a_host_label_is_a_name(name: str) -> None:
    """It comes back as it is."""
    assert check_name(name, kind="device") == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a.b", "a/b", "a b", "é", "x" * 64, "a\n", "+", "#"]
)
def test_what_could_mean_more_than_itself_is_no_name(name: str) -> None:
    """Nothing that a topic, a path or a file system gives another meaning."""
    with pytest.raises(UsageError, match="cannot be the name of a device"):
        check_name(name, kind="device")


def test_a_name_is_given_once() -> None:
    """The second to wish for it gets a number."""
    taken: set[str] = set()
    assert [claim_name("x", taken) for _ in range(3)] == ["x", "x_2", "x_3"]
    assert claim_name("x_2", taken) == "x_2_2"
