"""The command line: one line and one exit code for whatever happens."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from skerry.app import main as main_module
from skerry.app.command import Command
from skerry.app.main import main
from skerry.app.table import COMMANDS, GROUPS
from skerry.core.errors import ModelError

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "openvino", "PIL")
Capture = pytest.CaptureFixture[str]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )


@pytest.fixture
def doctor_does(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make the doctor command raise."""

    def replace(error: BaseException) -> None:
        def check() -> None:
            raise error

        monkeypatch.setattr("skerry.app.commands.doctor.check_machine", check)

    return replace


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """Help answers at once: nothing heavy is imported for it."""
    code = (
        f"import sys; from skerry.app.main import main; main({words!r});"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run_python(code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_row_of_the_table_exists(command: Command) -> None:
    """Each function that the table names is there."""
    for where in (command.run, command.render):
        module, _, name = where.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_ends_with_examples(command: Command, capsys: Capture) -> None:
    """Each help shows examples that begin with its own command."""
    assert main([*command.name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert command.examples
    for example in command.examples:
        assert example.startswith(command.name)
        assert f"skerry {example}" in shown


def test_groups_are_named_by_commands() -> None:
    """No group is empty, and no two-word command lacks its group."""
    first = {command.name.split()[0] for command in COMMANDS if " " in command.name}
    assert first == {group.name for group in GROUPS}


def test_result_goes_to_stdout(capsys: Capture) -> None:
    """A result is on stdout and stderr stays empty."""
    assert main(["doctor"]) == 0
    shown = capsys.readouterr()
    assert "Python" in shown.out
    assert shown.err == ""


def test_json_is_one_object(capsys: Capture) -> None:
    """With --json stdout is exactly one object, wherever the flag stands."""
    for words in (["doctor", "--json"], ["--json", "doctor"]):
        assert main(words) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["ok"] is True
        assert answer["result"]["checks"][0]["part"] == "Python"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["doctor", "--help"]])
def test_help_is_json_too(words: list[str], capsys: Capture) -> None:
    """Even help keeps the promise of one object."""
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["text"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["doctr"], "Did you mean 'doctor'?"),
        (["report", "shw"], "Did you mean 'report show'?"),
        (["doctor", "more"], "See: skerry doctor --help"),
        (["doctor", "--colour"], "See: skerry doctor --help"),
    ],
)
def test_typing_errors(words: list[str], hint: str, capsys: Capture) -> None:
    """A command line that cannot be parsed is a UsageError with a near word."""
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.splitlines()[1] == f"hint: {hint}"
    assert main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["hint"]) == ("UsageError", hint)


def test_our_errors(
    doctor_does: Callable[[BaseException], None], capsys: Capture
) -> None:
    """An error of our tree is its line, its hint and its exit code."""
    doctor_does(ModelError("m.onnx is\nempty [x]", hint="Export it."))
    assert main(["doctor"]) == ModelError.exit_code
    assert capsys.readouterr().err == "error: m.onnx is empty [x]\nhint: Export it.\n"
    assert main(["doctor", "--json"]) == ModelError.exit_code
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "error": {
            "code": "ModelError",
            "what": "m.onnx is empty [x]",
            "hint": "Export it.",
        },
    }


def test_ctrl_c(doctor_does: Callable[[BaseException], None], capsys: Capture) -> None:
    """Ctrl-C says so and exits with 130, in JSON too."""
    doctor_does(KeyboardInterrupt())
    assert main(["doctor"]) == 130
    assert "cancelled; nothing was half-written" in capsys.readouterr().err
    assert main(["doctor", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "Cancelled"


def test_a_bug_is_one_line(
    doctor_does: Callable[[BaseException], None],
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nobody foresaw is one line that says how to see more."""
    doctor_does(ZeroDivisionError("division by zero"))
    assert main(["doctor"]) == 70
    shown = capsys.readouterr().err
    assert shown.startswith("bug: ZeroDivisionError: division by zero\n")
    assert "SKERRY_TRACEBACK=1" in shown
    assert "Traceback" not in shown
    monkeypatch.setenv("SKERRY_TRACEBACK", "1")
    main(["doctor"])
    assert "Traceback" in capsys.readouterr().err


def test_out_of_memory_is_not_a_bug(
    doctor_does: Callable[[BaseException], None], capsys: Capture
) -> None:
    """Too little memory is the machine's state."""
    doctor_does(MemoryError())
    assert main(["doctor"]) == 30
    assert "out of memory" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["--help"]])
def test_a_reader_that_goes_away_is_quiet(words: list[str]) -> None:
    """`skerry … | head -0` prints no traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "skerry.app.main", *words],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == main_module.BROKEN_PIPE_EXIT_CODE


def test_a_first_word_may_be_a_command_itself(capsys: Capture) -> None:
    """`skerry serve` is one, beside `skerry serve bench`; both tell what they take."""
    assert main(["serve", "--help"]) == 0
    told = capsys.readouterr().out
    assert "Serve models on this machine" in told
    assert "--isolation" in told
    assert "bench" in told
    assert main(["serve", "bench", "--help"]) == 0
    assert "--duration-s" in capsys.readouterr().out
    assert main(["serve", "bensch", "--json"]) == 2  # a model that is not there
    assert "bensch" in json.loads(capsys.readouterr().out)["error"]["what"]
