"""The demo's processes: started, told where they are, and never left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.app.demo import fleet as module
from skerry.app.demo.fleet import Fleet
from skerry.core.errors import StateError

CHILD = "tests.waiting"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with nobody in it yet."""
    made = Fleet(tmp_path / "fleet")
    yield made
    made.stop()


def start(fleet: Fleet, name: str, *words: str) -> int:
    """Start a child; gives its process number."""
    told = fleet.folder / f"{name}.json"
    found = asyncio.run(fleet.start_other(name, CHILD, [str(told), *words], told))
    return int(str(found["pid"]))


def is_there(pid: int) -> bool:
    """Whether a process is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_are_stopped_also_the_deaf(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ends when asked, the other is killed; stopping twice is no fault."""
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.3)
    pids = [start(fleet, "good"), start(fleet, "deaf", "deaf")]
    assert all(map(is_there, pids))
    assert (fleet.folder / "pids").read_text().split() == [str(pid) for pid in pids]
    fleet.stop()
    fleet.stop()
    assert not any(map(is_there, pids))
    assert not (fleet.folder / "pids").read_text()


def test_a_power_cut_and_a_farewell(fleet: Fleet) -> None:
    """`kill` and `end` take one process; the others stay."""
    pids = {name: start(fleet, name) for name in ("a", "b", "c")}
    fleet.kill("a")
    asyncio.run(fleet.end("b"))
    assert {name: is_there(pid) for name, pid in pids.items()} == {
        "a": False,
        "b": False,
        "c": True,
    }
    assert fleet.pids() == {"c": pids["c"]}


def test_who_does_not_start_is_told_with_its_last_words(fleet: Fleet) -> None:
    """The message has what it said, the hint names the log."""
    with pytest.raises(StateError, match="exit code 1: it cannot start") as caught:
        start(fleet, "broken", "broken")
    assert "broken.log" in caught.value.hint
    assert fleet.ended() == {"broken": 1}


def test_who_says_nothing_is_not_waited_for_for_ever(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while it is an error; another's file does not count."""
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.5)
    told = fleet.folder / "other.json"
    told.write_text('{"address": "x", "pid": 1}')
    words = [str(fleet.folder / "elsewhere.json")]
    with pytest.raises(StateError, match="did not answer within"):
        asyncio.run(fleet.start_other("mute", CHILD, words, told))


def test_a_kept_fleet_is_not_trodden_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its processes run, the next demo refuses; after that it clears up."""
    folder = tmp_path / "fleet"
    first = Fleet(folder)
    start(first, "kept")
    kept = first.keep()
    monkeypatch.setattr(module, "_is_fleet", lambda pid: is_there(int(pid)))
    with pytest.raises(StateError, match="still runs: 1 processes") as caught:
        Fleet(folder)
    assert f"kill $(cat {folder / 'pids'})" in caught.value.hint
    first.stop()
    assert not is_there(kept["kept"])
    (folder / "pids").write_text(f"{kept['kept']}\n")
    second = Fleet(folder)
    assert not (folder / "kept.log").exists()
    second.stop()


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    """Nothing is removed that no demo has made."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StateError, match="not empty"):
        Fleet(tmp_path)
    assert (tmp_path / "thesis.tex").exists()
