from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from skerry.app.logs import LogFormat, set_up

log = logging.getLogger("skerry.room")
Capture = pytest.CaptureFixture[str]


def test_a_person_reads_the_event_and_its_fields(capsys: Capture) -> None:
    """On one line, whatever the fields hold."""
    set_up(LogFormat.TEXT)
    log.info("release.accepted", extra={"release": "meter/1", "why": "a\nb"})
    line = capsys.readouterr().err
    assert line.endswith(" info release.accepted release=meter/1 why=a b\n")
    assert line[:4].isdigit()
    log.info("update.phase", extra={"fields": {"step": "load"}})
    assert capsys.readouterr().err.endswith(" update.phase step=load\n")


def test_a_machine_reads_json(capsys: Capture) -> None:
    """One object a line; what is no JSON is written as text."""
    set_up(LogFormat.JSON)
    log.warning("storage.failed", extra={"path": Path("/x"), "size_bytes": 3})
    entry = json.loads(capsys.readouterr().err)
    assert entry["event"] == "storage.failed"
    assert (entry["level"], entry["logger"]) == ("warning", "skerry.room")
    assert (entry["path"], entry["size_bytes"]) == ("/x", 3)


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_bug_leaves_its_trace(log_format: LogFormat, capsys: Capture) -> None:
    """The traceback goes to the log, and nowhere else."""
    set_up(log_format)
    try:
        {}["oh"]
    except KeyError:
        log.exception("part.failed")
    said = capsys.readouterr().err
    assert "part.failed" in said
    assert "KeyError: 'oh'" in said


def test_others_are_heard_only_when_it_matters(capsys: Capture) -> None:
    """A library's chatter stays out."""
    set_up(LogFormat.TEXT)
    logging.getLogger("uvicorn").info("started")
    log.debug("detail")
    assert capsys.readouterr().err == ""
