"""`skerry check`: exit code, Markdown on standard output and in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.app.main import main
from skerry.app.reports import write_report
from skerry.core.errors import BudgetError, StorageError, UsageError
from tests.commands import Typist
from tests.reports import BARE, FULL

LARGE = ("--size-bytes", "4000000")
MISSED = BudgetError.exit_code
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def typist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Typist:
    """Types in a folder of two reports."""
    monkeypatch.chdir(tmp_path)
    write_report(FULL, tmp_path / "full.json")
    write_report(BARE, tmp_path / "bare.json")
    return Typist(capsys)


def test_the_exit_code_is_the_budget_s(typist: Typist) -> None:
    """The report's own limits count, unless a flag gives another."""
    missed = typist.ask("check", "full.json", code=MISSED)
    assert missed["exit_code"] == MISSED
    assert [one["limit"] for one in missed["verdict"]["breaches"]] == ["size_bytes"]
    assert typist.ask("check", "full.json", *LARGE)["exit_code"] == 0
    flags = (
        *(*LARGE, "--accuracy-drop", "0.001"),
        *("--latency-ms", "8", "--memory-bytes", "1000"),
    )
    found = typist.ask("check", "full.json", *flags, code=MISSED)["verdict"]
    names = [one["limit"] for one in found["breaches"]]
    assert names == ["accuracy_drop", "latency_ms", "memory_bytes"]


def test_the_loss_against_the_base_decides_too(typist: Typist, tmp_path: Path) -> None:
    """A base that was better than the source may be missed where that is not."""
    assert FULL.accuracy
    better = replace(FULL.accuracy, after=0.96, paired_delta=0.007, ci95=(0.0, 0.014))
    write_report(replace(FULL, accuracy=better), tmp_path / "base.json")
    words = ("check", "full.json", *LARGE)
    assert typist.ask(*words, "--against", "full.json")["exit_code"] == 0
    found = typist.ask(*words, "--against", "base.json", code=MISSED)["verdict"]
    assert found["breaches"] == []
    assert found["breaches_against"][0]["measured"] == pytest.approx(0.011)


def test_the_markdown_is_the_same_everywhere(
    typist: Typist, tmp_path: Path, capsys: Capture
) -> None:
    """On standard output with whole lines, in the JSON, and in the file."""
    words = ("check", "full.json", "--markdown", "out.md")
    found = typist.ask(*words, code=MISSED)
    assert found["written"] == "out.md"
    written = (tmp_path / "out.md").read_text()
    assert found["markdown"] == written
    assert main(words) == MISSED
    said = capsys.readouterr()
    assert said.out == written
    assert max(map(len, said.out.splitlines())) > 100
    assert said.err == ""


def test_what_cannot_be_judged(typist: Typist, tmp_path: Path) -> None:
    """Another model's report, a bad limit or file are errors; nothing is written."""
    usage = UsageError.exit_code
    for words in (
        ("full.json", "--against", "bare.json"),
        ("full.json", "--latency-ms", "nan"),
        ("none.json",),
        ("full.json", "--against", "none.json"),
    ):
        error = typist.ask("check", *words, "--markdown", "out.md", code=usage)
        assert error["hint"]
    assert not (tmp_path / "out.md").exists()
    nowhere = ("check", "full.json", "--markdown", "none/out.md")
    typist.ask(*nowhere, code=StorageError.exit_code)
