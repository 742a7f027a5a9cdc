from __future__ import annotations

from skerry.core.names import did_you_mean


def test_the_nearest_known_word_is_named() -> None:
    """A slip of the finger is answered with the word that was meant."""
    assert did_you_mean("resise", ["crop", "resize"]) == "Did you mean 'resize'?"


def test_the_known_words_are_listed_where_none_is_near() -> None:
    """They come sorted."""
    assert did_you_mean("zebra", ["topk", "crop"]) == "Known: crop, topk."


def test_no_known_words_are_no_riddle() -> None:
    """The hint is still a sentence."""
    assert did_you_mean("zebra", []) == "Nothing is known here."
