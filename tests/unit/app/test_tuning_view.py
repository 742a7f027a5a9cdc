from __future__ import annotations

import io

import pytest

from skerry.app.output import Output
from skerry.app.tuning_view import live_front, share
from skerry.compress.tune.trial import Trial
from tests.tuning import trial


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def show(stream: io.StringIO, trials: list[Trial]) -> str:
    """What is seen while one more trial ends."""
    found: list[Trial] = []
    output = Output(stdout=io.StringIO(), stderr=stream)
    with live_front(output, 9, lambda: tuple(found), 0.01) as (progress, told):
        progress("evaluate", 3, 12)
        found += trials
        told(trials[-1])
    return stream.getvalue()


def test_a_terminal_shows_the_front_and_how_far_a_step_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What another beats is counted, and not listed."""
    monkeypatch.setenv("TERM", "xterm")
    seen = show(Terminal(), [trial(0, 0.001, 0.5, 0.3), trial(1, 0.002, 0.6, 0.4)])
    assert "2 of 9 trials, 2 hold the budget, 1 nothing beats" in seen
    assert "evaluate, 3 of 12" in seen
    assert "0.50 ×" in seen
    assert "0.60 ×" not in seen


def test_a_log_has_a_line_a_trial() -> None:
    """With its figures, or why it was refused."""
    assert "0.10% lost, 0.50 × time, 0.30 × size" in show(
        io.StringIO(), [trial(0, 0.001, 0.5, 0.3)]
    )
    assert "refused: too slow" in show(
        io.StringIO(), [trial(0, 0.001, 0.5, 0.3, refusal="refused: too slow")]
    )


def test_nothing_lost_has_no_sign() -> None:
    """A loss of less than nothing that rounds to nothing is nothing."""
    assert share(-0.00001) == "0.00%"
    assert share(0.0123) == "1.23%"
