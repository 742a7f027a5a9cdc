"""Where a command's words go."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.text import Text

from skerry.app.output import Output
from skerry.app.tables import indent, plain_table
from skerry.core.errors import UsageError


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@dataclass(frozen=True)
class Result:
    """What a command may return."""

    path: Path
    number: object
    words: tuple[str, ...]


def test_json_takes_what_results_hold() -> None:
    """Paths, numpy's numbers and arrays, and NaN are all valid JSON."""
    stdout = io.StringIO()
    result = Result(path=Path("a/b"), number=np.float32(0.5), words=("é",))
    Output(as_json=True, stdout=stdout).result(
        (result, np.arange(2), float("nan"), float("inf")), str
    )
    answer = json.loads(stdout.getvalue())
    row = {"path": "a/b", "number": 0.5, "words": ["é"]}
    assert answer["result"] == [row, [0, 1], None, None]


def test_brackets_are_not_markup() -> None:
    """A name with brackets is shown as it is."""
    stdout, stderr = io.StringIO(), io.StringIO()
    output = Output(stdout=stdout, stderr=stderr)
    output.talk("x[red] :smile:")
    output.result("float[3]", str)
    assert stderr.getvalue() == "x[red] :smile:\n"
    assert stdout.getvalue() == "float[3]\n"


def test_no_line_ends_in_spaces_in_a_file() -> None:
    """Tables and paragraphs are not filled up with spaces where no person looks."""
    stdout = io.StringIO()
    table = plain_table("name", "#n")
    table.add_row("a", "10")
    Output(stdout=stdout).result(indent(table), lambda shown: shown)
    lines = stdout.getvalue().splitlines()
    assert lines == ["  name   n", "  a     10"]


def test_errors_stay_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long an error is, it is one line and its hint another."""
    monkeypatch.setenv("COLUMNS", "40")
    stderr = io.StringIO()
    Output(stderr=stderr).error(UsageError("long " * 30 + "\nend", hint="do\nthis"))
    lines = stderr.getvalue().splitlines()
    assert lines == ["error: " + "long " * 30 + "end", "hint: do this"]


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets colours unless NO_COLOR is set; a pipe never does."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def shown(stream: io.StringIO) -> str:
        Output(stderr=stream).error(UsageError("x", hint="y"))
        return stream.getvalue()

    assert "\x1b[1;31m" in shown(Terminal())
    assert "\x1b" not in shown(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in shown(Terminal())


def test_progress_is_for_terminals() -> None:
    """Progress is drawn on a terminal, and nowhere else."""
    quiet, loud = io.StringIO(), Terminal()
    for stream in (quiet, loud):
        with Output(stderr=stream).progress() as progress:
            progress("evaluate", 1, 2)
            progress("evaluate", 2, 2)
            progress("calibrate", 1, 9)
    assert quiet.getvalue() == ""
    assert "evaluate" in loud.getvalue()
    assert "calibrate" in loud.getvalue()


def test_a_device_cannot_drive_the_terminal() -> None:
    """Control characters in what comes from outside are left out; colours stay."""
    stream = Terminal()
    evil = "a\x1b]0;owned\x07b\x1b[2J\x9b1Ac\rd"
    output = Output(stdout=stream, stderr=stream)
    table = plain_table("event")
    table.add_row(evil)
    output.result(table, lambda shown: shown)
    output.talk(evil)
    output.failure("Bug", evil, evil)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert "a]0;ownedb[2J1Acd" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}


def test_talk_keeps_lines_whole_that_say_so() -> None:
    """A command line that is to be copied is not folded at the edge of the terminal."""
    stderr = io.StringIO()
    line = "curl " + "x" * 300
    Output(stderr=stderr).talk(Text(line, no_wrap=True))
    assert stderr.getvalue() == line + "\n"
