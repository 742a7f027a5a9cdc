"""Where a command's words go: results to stdout, talk and progress to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from skerry.core.errors import SkerryError

Progress = Callable[[str, int, int], None]
"""What long work calls: (what is being done, how much is done, of how much)."""

PIPE_COLUMNS = 100
"""Width of what is printed where there is no terminal to ask."""

_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - set(b"\t\n"))


class Output:
    r"""The two streams of one run of the command line.

    Args:
        as_json: Whether the result is one JSON object instead of text for people.
        stdout: Where results go; the process's own by default.
        stderr: Where talk, progress and errors go; the process's own by default.

    Example:
        >>> import io
        >>> stdout = io.StringIO()
        >>> Output(as_json=True, stdout=stdout).result({"n": 1}, str)
        >>> stdout.getvalue()
        '{"ok":true,"result":{"n":1}}\n'
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        stdout: IO[str] | None = None,
        stderr: IO[str] | None = None,
    ) -> None:
        self.as_json = as_json
        self._stdout = sys.stdout if stdout is None else stdout
        self._stderr = sys.stderr if stderr is None else stderr
        self._talk: Console | None = None

    @property
    def console(self) -> Console:
        """The console for talk, for commands that draw a live view on stderr."""
        if self._talk is None:
            self._talk = make_console(self._stderr)
        return self._talk

    def result(self, result: Any, render: Callable[[Any], RenderableType]) -> None:
        """Print what the command returned, the only thing that stdout ever gets."""
        if self.as_json:
            self._write_json({"ok": True, "result": result})
        else:
            self._print(render(result))
        self._stdout.flush()

    def error(self, error: SkerryError) -> None:
        """Print an error: its one line and its hint, or one JSON object."""
        self.failure(error.code, error.what, error.hint)

    def failure(self, code: str, what: str, hint: str, *, label: str = "error") -> None:
        """Print what went wrong and what to do next.

        Args:
            code: The stable name of the kind of failure.
            what: What happened; a line break becomes a space.
            hint: What to do next.
            label: The word before the line for people.
        """
        what, hint = " ".join(what.split()), " ".join(hint.split())
        if self.as_json:
            failure = {"code": code, "what": what, "hint": hint}
            self._write_json({"ok": False, "error": failure})
            self._stdout.flush()
            return
        for word, style, line in ((label, "bold red", what), ("hint", "bold", hint)):
            text = Text.assemble((f"{word}:", style), " ", line)
            self.console.print(text, soft_wrap=True)

    def talk(self, *words: RenderableType) -> None:
        """Say something that is not the result."""
        self.console.print(*words, soft_wrap=any(map(_is_whole, words)))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show how far long work is, on a terminal; elsewhere show nothing.

        Yields:
            The function to call with what is being done, how much of it is done, and
            of how much; a new first word begins a new line.
        """
        if not self.console.is_terminal:
            yield _ignore
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, console=self.console, transient=True) as bars:
            lines: dict[str, Any] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in lines:
                    lines[what] = bars.add_task(what, total=total)
                bars.update(lines[what], completed=done, total=total)

            yield show

    def _print(self, words: RenderableType) -> None:
        console = make_console(self._stdout)
        is_whole = _is_whole(words)
        if console.is_terminal:
            console.print(words, soft_wrap=is_whole)
            return
        # Rich fills lines up with spaces, which no file or pipe needs.
        with console.capture() as capture:
            console.print(words, soft_wrap=is_whole)
        for line in capture.get().splitlines():
            self._stdout.write(line.rstrip() + "\n")

    def _write_json(self, answer: dict[str, Any]) -> None:
        encoded = msgspec.json.encode(answer, enc_hook=_plain)
        self._stdout.write(encoded.decode() + "\n")


def _is_whole(words: RenderableType) -> bool:
    """Whether lines stay whole: text that says so is for programs as well."""
    return isinstance(words, Text) and bool(words.no_wrap)


def make_console(stream: IO[str]) -> Console:
    """Make a console on a stream: colours only on a terminal, never with NO_COLOR.

    Square brackets in what it prints are just brackets, for file and tensor names
    hold them: style goes through `rich.text.Text`.

    Args:
        stream: Where it prints; not a terminal means plain text, `PIPE_COLUMNS` wide
            unless the environment variable COLUMNS says otherwise.
    """
    console = _Console(file=stream, highlight=False, emoji=False, markup=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PIPE_COLUMNS
    return console


class _Console(Console):
    """A console that shows text as text, and lets a reader's leaving be an error."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Leave out control characters: no device's words may drive a terminal."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(text.translate(_CONTROLS), style)

    def on_broken_pipe(self) -> None:
        """Let the BrokenPipeError under way go on; rich would exit with 1."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


def _ignore(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def _plain(value: object) -> object:
    """Turn what msgspec does not know into what it does."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return value.tolist()
    raise NotImplementedError
