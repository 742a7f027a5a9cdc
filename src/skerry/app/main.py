"""The entry point of the command line: parse, run one command, print, exit.

This is the one place where an error becomes a line and an exit code:

- an error of our tree: its line, its hint, its exit code (`skerry.core.errors`);
- a command line that cannot be parsed: a `UsageError`;
- Ctrl-C: 130;
- a reader of our output that went away (`skerry … | head`): quietly, 141;
- anything else is a bug of ours: one line, 70 (`EX_SOFTWARE` of BSD's sysexits), and
  the traceback when `SKERRY_TRACEBACK=1` is set.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from typing import Any

import cyclopts
from cyclopts import App
from cyclopts.exceptions import CycloptsError, UnknownCommandError, UnusedCliTokensError

from skerry import __version__
from skerry.app.command import Command
from skerry.app.output import Output, make_console
from skerry.app.table import COMMANDS, GROUPS, SUMMARY
from skerry.core.errors import SkerryError, StateError, UsageError
from skerry.core.names import did_you_mean

CANCELLED_EXIT_CODE = 130
BROKEN_PIPE_EXIT_CODE = 141
BUG_EXIT_CODE = 70
TRACEBACK_VARIABLE = "SKERRY_TRACEBACK"
JSON_FLAG = "--json"

_JSON_LINE = (
    'Each command takes --json: one object on standard output, {"ok": true, '
    '"result": …} or {"ok": false, "error": {"code", "what", "hint"}}.'
)
_EXIT_LINE = "Set SKERRY_TRACEBACK=1 to see where an error comes from."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The words after `skerry`; those of this process by default.

    Returns:
        The exit code.
    """
    tokens, as_json = _take_json_flag(sys.argv[1:] if argv is None else argv)
    output = Output(as_json=as_json)
    try:
        return _run(tokens, output)
    except KeyboardInterrupt:
        what, hint = "cancelled; nothing was half-written", "Run it again when ready."
        output.failure("Cancelled", what, hint)
        return CANCELLED_EXIT_CODE
    except BrokenPipeError:
        # Python flushes stdout once more at exit; give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE_EXIT_CODE
    except SkerryError as error:
        _show_traceback()
        output.error(error)
        return error.exit_code
    except MemoryError:
        _show_traceback()
        full = StateError("out of memory", hint="Free some, or take a smaller model.")
        output.error(full)
        return full.exit_code
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into a line
        _show_traceback()
        output.failure(
            "Bug",
            f"{type(error).__name__}: {error}",
            f"This is a fault of Skerry's. Set {TRACEBACK_VARIABLE}=1 to see where, "
            "and please report it with that.",
            label="bug",
        )
        return BUG_EXIT_CODE


def make_app(words: Collection[str] = ()) -> App:
    """Make the parser of the command line from the table.

    It imports no command, but for first words of two-word commands that are commands
    themselves (`skerry serve`, beside `skerry serve bench`): those are imported if they
    are among the words.

    Args:
        words: What was typed.
    """
    app = _make_group("skerry", SUMMARY, version=__version__)
    app.help_epilogue = f"{_JSON_LINE}\n\n{_EXIT_LINE}"
    groups = {group.name: _make_group(group.name, group.summary) for group in GROUPS}
    for group in groups.values():
        app.command(group)
    for command in COMMANDS:
        *first, last = command.name.split()
        if last in groups and not first:
            group = groups[last]
            group.help, group.help_epilogue = command.summary, _epilogue(command)
            if last in words:
                group.default(_import(command.run))
            continue
        parent = groups[first[0]] if first else app
        parent.command(
            command.run,
            name=last,
            help=command.summary,
            help_epilogue=_epilogue(command),
        )
    return app


def _run(tokens: list[str], output: Output) -> int:
    text = io.StringIO()
    console = make_console(text if output.as_json else sys.stdout)
    function, bound, injected = _parse(make_app(tokens[:1]), tokens, console)
    if isinstance(getattr(function, "__self__", None), App):  # --help and --version
        function(*bound.args, **bound.kwargs)
        if output.as_json:
            output.result({"text": text.getvalue()}, str)
        return 0
    extra = {name: output for name, kind in injected.items() if kind is Output}
    result = function(*bound.args, **bound.kwargs, **extra)
    output.result(result, _import_renderer(function))
    exit_code: int = getattr(result, "exit_code", 0)
    return exit_code


def _parse(app: App, tokens: list[str], console: Any) -> Any:
    try:
        return app.parse_args(
            tokens, console=console, print_error=False, exit_on_error=False
        )
    except UnknownCommandError as error:
        names = [command.name for command in COMMANDS]
        typed = " ".join([*(error.command_chain or ()), *(error.unused_tokens or ())])
        raise UsageError(
            f"there is no command {typed!r}", hint=did_you_mean(typed, names)
        ) from error
    except CycloptsError as error:
        what, _, meant = _in_our_words(error).partition(" Did you mean ")
        words = " ".join(["skerry", *(error.command_chain or ())])
        hint = f"Did you mean {meant}" if meant else f"See: {words} --help"
        raise UsageError(what.rstrip("."), hint=hint) from error


def _in_our_words(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected: {' '.join(error.unused_tokens or ())}"
    message = str(error)
    return message[0].lower() + message[1:]


def _import_renderer(function: Callable[..., Any]) -> Callable[[Any], Any]:
    where = f"{function.__module__}:{function.__name__}"
    row = next(command for command in COMMANDS if command.run == where)
    return _import(row.render)


def _import(where: str) -> Callable[..., Any]:
    module, _, name = where.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _make_group(name: str, summary: str | None, version: str = "") -> App:
    return App(
        name=name,
        help=summary,
        version=version or None,
        version_flags=("--version",) if version else (),
        help_format="plaintext",
        help_epilogue=_JSON_LINE,
        default_parameter=cyclopts.Parameter(negative=()),
        result_action="return_value",
    )


def _epilogue(command: Command) -> str:
    lines = "\n".join(f"  skerry {example}" for example in command.examples)
    return f"Examples:\n\n{lines}\n\n{_JSON_LINE}"


def _take_json_flag(words: Sequence[str]) -> tuple[list[str], bool]:
    """Take --json out before parsing, so that a parse error is JSON as well."""
    end = words.index("--") if "--" in words else len(words)
    ours = [word for word in words[:end] if word != JSON_FLAG]
    return [*ours, *words[end:]], len(ours) < end


def _show_traceback() -> None:
    if os.environ.get(TRACEBACK_VARIABLE) == "1":
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
