from __future__ import annotations

from typing import Any

from rich.console import Console

from skerry.app.commands.fleet import count, render_show
from skerry.core.fleet import Device, Rollout, RolloutState, Shadow
from skerry.core.release import ReleaseId


def device(name: str, *, online: bool = True) -> Device:
    """An enrolled device."""
    return Device(name=name, created_at_ms=1, enrolled_at_ms=2, is_online=online)


def shadow(name: str, desired: dict[str, Any], reported: dict[str, Any]) -> Shadow:
    """A shadow with these sides."""
    return Shadow(device=name, desired=desired, reported=reported)


WANTS = {"releases": {"meter": {"version": 2}}}
RUNS = {"releases": {"meter": {"version": 2}}}
LATE = {
    "releases": {"meter": {"version": 1}},
    "refused": {"meter": {"release": "meter/2", "reason": "latency"}},
    "drift": {"meter": {"is_drift": True}},
}


def test_a_fleet_is_counted() -> None:
    """What runs, who is behind, what is refused and where the field has changed."""
    running = Rollout(id="r-1", release=ReleaseId(name="meter", version=2), waves=())
    ended = Rollout(
        id="r-0", release=running.release, waves=(), state=RolloutState.UNDONE
    )
    view = count(
        (device("a"), device("b", online=False), Device(name="c", created_at_ms=1)),
        [shadow("a", WANTS, RUNS), shadow("b", WANTS, LATE), shadow("c", {}, {})],
        (running, ended),
    )
    assert (view.devices, view.enrolled, view.online) == (3, 2, 1)
    assert view.running == {"meter/1": 1, "meter/2": 1}
    assert view.behind == ("b",)
    assert view.refused == (("b", "meter/2", "latency"),)
    assert view.drifting == ("b",)
    assert view.rollouts == ("r-1",)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(render_show(view))
    text = " ".join(capture.get().split())
    assert "3, 2 enrolled, 1 online" in text
    assert "b: meter/2 (latency)" in text


def test_what_devices_report_may_have_any_shape() -> None:
    """Nonsense is passed over."""
    odd = {"releases": [1], "refused": {"meter": 3}, "drift": None}
    view = count((device("a"),), [shadow("a", WANTS, odd)], ())
    assert view.running == {}
    assert view.behind == ("a",)
    assert view.refused == ()
