from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from skerry.app.commands import rollout as commands
from skerry.app.output import Output
from skerry.core.errors import UsageError
from skerry.core.fleet import (
    DeviceProgress,
    Outcome,
    Rollout,
    RolloutState,
    Wave,
)
from skerry.core.release import ReleaseId

RELEASE = ReleaseId(name="meter", version=2)
SLOW = DeviceProgress(outcome=Outcome.REFUSED, reason="latency: slow")
RUNNING = Rollout(
    id="r-1",
    release=RELEASE,
    waves=(Wave(devices=("gw-1",)), Wave(devices=("gw-2",))),
    progress={"gw-1": DeviceProgress(outcome=Outcome.UPDATED), "gw-2": SLOW},
    excluded={"gw-3": "runs it already"},
    wave=1,
)


class Api:
    """A hub that notes what it is asked."""

    def __init__(self, *states: RolloutState) -> None:
        self.asked: dict[str, Any] = {}
        self._states = list(states)

    async def create_rollout(self, release: ReleaseId, **terms: Any) -> Rollout:
        """Begin nothing."""
        self.asked = {"release": release, **terms}
        return RUNNING

    async def preview_rollout(self, release: ReleaseId, **terms: Any) -> dict[str, Any]:
        """Foretell two devices."""
        self.asked = {"release": release, **terms}
        members = [
            {"device": "gw-1", "wave": 1, "note": ""},
            {"device": "gw-3", "wave": None, "note": "runs it already"},
        ]
        return {"members": members}

    async def rollout(self, name: str) -> Rollout:
        """The next state."""
        return Rollout(
            id=name,
            release=RELEASE,
            waves=RUNNING.waves,
            progress=RUNNING.progress,
            state=self._states.pop(0),
        )


@pytest.fixture(name="api")
def make_api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """The hub that all commands speak to, which ends a rollout at the second look."""
    import asyncio

    api = Api(RolloutState.RUNNING, RolloutState.AWAITING, RolloutState.SUCCEEDED)
    monkeypatch.setattr(commands, "ask", lambda _, talk: asyncio.run(talk(api)))
    monkeypatch.setattr(commands, "POLL_S", 0)
    return api


def _text(drawn: Any) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(drawn)
    return " ".join(capture.get().split())


def test_flags_become_the_terms_of_a_rollout(api: Api) -> None:
    """Labels, waves, gates and windows, each in the hub's own words."""
    made = commands.create(
        "meter/2",
        where="site=oslo",
        canary="ring=test",
        growth=3,
        gate=("error_rate<=2*before",),
        soak_s=60,
        window="sat 02:00-05:00",
        download_any_time=True,
        approval="each",
        dynamic=True,
    )
    assert made == RUNNING
    asked = api.asked
    assert (asked["query"], asked["approval"]) == ("site=oslo", "each")
    assert asked["stages"].growth == 3
    assert asked["gate"].metrics[0].relative_to == "before"
    assert (asked["window"].days, asked["window"].allows_download) == (("sat",), True)
    assert "gw-3 left out runs it already" in _text(commands.render_create(made))


def test_a_dry_run_shows_who_is_left_out(api: Api) -> None:
    """Wave or cause, a row a device."""
    made = commands.create("meter/2", dry_run=True)
    assert api.asked["release"] == RELEASE
    text = _text(commands.render_create(made))
    assert "gw-1 1" in text
    assert "gw-3 left out runs it already" in text


def test_a_zone_without_a_window_is_refused() -> None:
    """It would do nothing, and look as if it did."""
    with pytest.raises(UsageError, match="no window"):
        commands.create("meter/2", window_zone="Europe/Oslo")


def test_watch_writes_lines_where_there_is_no_terminal(api: Api) -> None:
    """One for each change, through all states that are not the end."""
    assert api.asked == {}
    stderr = io.StringIO()
    watched = commands.watch("r-1", output=Output(stderr=stderr))
    lines = stderr.getvalue().splitlines()
    assert [line.split()[1].strip(",") for line in lines] == [
        "running",
        "awaiting",
        "succeeded",
    ]
    assert watched.exit_code == 0


def test_watch_draws_each_wave_on_a_terminal(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row a wave, and who has trouble; it ends with the rollout."""
    assert api.asked == {}
    output = Output(stderr=io.StringIO())
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(Output, "console", terminal)
    assert commands.watch("r-1", output=output).rollout.state.value == "succeeded"
    text = _text(commands.draw(RUNNING))
    assert "2 (now) 0/1" in text
    assert "gw-2: refused, latency: slow" in text


def test_the_log_tells_who_did_what() -> None:
    """A row an act, without the rollout's own name in each."""
    act = {
        "at_ms": 1,
        "who": "ann",
        "what": "rollout.wave",
        "document": {"rollout": "r-1", "wave": 2},
    }
    text = _text(commands.render_log(commands.Acts(acts=(act,))))
    assert "ann rollout.wave wave 2" in text
    assert "r-1" not in text
