from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.fleet import Window
from skerry.core.release import Reason, Refusal
from skerry.evolve.update import step
from skerry.evolve.update_state import (
    Action,
    Desired,
    Done,
    Event,
    Facts,
    Failed,
    Found,
    Halt,
    Phase,
    Restarted,
    Run,
    Step,
    Tick,
    UpdateState,
    Want,
)
from skerry.evolve.window import SPREAD_S, is_open
from tests.publishing import make_parts

HOUR_MS = 3_600_000
NIGHT = Window(opens="02:00", closes="05:00")
WANT = Want(version=2, rollout="r", window=NIGHT)
FETCHING = {Step.REFRESH, Step.MANIFEST, Step.BLOBS}
FORTH = {Step.REBUILD, Step.INSTALL, Step.LOAD, Step.SWITCH}
GONE = Refusal(release="meter/2", reason=Reason.UNREACHABLE, what="gone", at_ms=0)


class Device:
    """A machine, the time, and what it was told to do."""

    def __init__(self, hours: float, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.state = UpdateState(name="meter")
        self.now_ms = round(hours * HOUR_MS)
        self.actions: list[Action] = []
        self.facts = Facts(active=1, counter=1)
        self.feed(Restarted(facts=self.facts))

    def feed(self, event: Event) -> None:
        """Take one event."""
        self.state, actions = step(self.state, event, now_ms=self.now_ms, rng=self.rng)
        self.actions += actions

    def done(self) -> None:
        """Let the step under way be done."""
        found = None
        if self.state.running is Step.MANIFEST:
            found = Found(manifest=make_parts(2)[0])
        self.feed(Done(serial=self.state.serial, facts=self.facts, found=found))

    def wait(self, hours: float) -> None:
        """Let time pass."""
        self.now_ms += round(hours * HOUR_MS)
        self.feed(Tick())

    @property
    def steps(self) -> list[Step]:
        """What it was told to do."""
        return [one.step for one in self.actions if isinstance(one, Run)]


def test_nothing_begins_before_the_window_opens() -> None:
    """It waits, says until when, and blames nobody; then it begins."""
    device = Device(hours=1)
    device.feed(Desired(want=WANT))
    assert (device.steps, device.state.phase) == ([], Phase.WAITING)
    assert device.state.retry_at_ms is not None
    late_ms = device.state.retry_at_ms - 2 * HOUR_MS
    assert 0 <= late_ms <= 1000 * SPREAD_S
    assert device.state.awaits_window
    assert device.state.why is None
    device.wait(1)
    assert device.steps == []
    device.wait(late_ms / HOUR_MS)
    assert device.steps == [Step.REFRESH]


def test_a_fleet_does_not_come_through_the_window_as_one() -> None:
    """Each device begins at another moment, but never after the window has closed."""
    short = replace(WANT, window=replace(NIGHT, closes="02:01"))
    for want, length_ms in ((WANT, 300_000), (short, 60_000)):
        begins = set()
        for seed in range(40):
            device = Device(hours=1, seed=seed)
            device.feed(Desired(want=want))
            begins.add(device.state.retry_at_ms)
        assert 2 * HOUR_MS <= min(begins) <= max(begins) < 2 * HOUR_MS + length_ms
        assert len(begins) > 5


def test_a_download_is_given_up_when_the_window_closes() -> None:
    """What comes of it then counts for nothing; the next night it goes on."""
    device = Device(hours=4.9)
    device.feed(Desired(want=WANT))
    device.done()
    device.done()
    assert device.state.running is Step.BLOBS
    device.wait(0.2)
    assert any(isinstance(one, Halt) for one in device.actions)
    assert device.state.awaits_window
    device.done()
    assert device.steps == [Step.REFRESH, Step.MANIFEST, Step.BLOBS]
    device.wait(21)
    assert device.steps[-1] is Step.REFRESH


def test_where_only_the_switch_waits_it_downloads_at_any_time() -> None:
    """What is downloaded lies there; nothing is installed before the window opens."""
    device = Device(hours=12)
    device.feed(
        Desired(want=replace(WANT, window=replace(NIGHT, allows_download=True)))
    )
    for _ in range(3):
        device.done()
    assert device.steps == [Step.REFRESH, Step.MANIFEST, Step.BLOBS]
    assert device.state.awaits_window
    device.wait(14.5)
    for _ in range(6):
        device.done()
    assert device.steps[-1] is Step.SWITCH


def test_the_windows_own_zone_comes_before_the_devices() -> None:
    """The same moment is night in one place and day in another."""
    east = dt.timezone(dt.timedelta(hours=8))
    device = Device(hours=19)
    device.feed(Desired(want=WANT))
    assert device.steps == []
    device.feed(Desired(want=replace(WANT, zone=east)))
    assert device.steps == [Step.REFRESH]


def test_being_told_again_ends_a_wait_at_once() -> None:
    """Another attempt of the same rollout begins anew, without its long pause."""
    device = Device(hours=1)
    want = Want(version=2, rollout="r")
    device.feed(Desired(want=want))
    for _ in range(9):
        device.feed(
            Failed(serial=device.state.serial, facts=device.facts, refusal=GONE)
        )
        device.wait(0.1)
    before = len(device.steps)
    device.feed(Failed(serial=device.state.serial, facts=device.facts, refusal=GONE))
    assert len(device.steps) == before
    device.feed(Desired(want=replace(want, attempt=2)))
    assert len(device.steps) == before + 1
    assert device.state.attempt == 0


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["done", "tick", "want", "undo", "fail", "restart"]),
        st.integers(0, 10 * HOUR_MS),
    ),
    max_size=40,
)


@given(events=EVENTS, allows=st.booleans())
def test_no_step_forth_is_ever_taken_outside_the_window(
    events: list[tuple[str, int]], *, allows: bool
) -> None:
    """Whatever happens in whatever order; only fetching may, where that is allowed."""
    window = replace(NIGHT, allows_download=allows)
    device = Device(hours=0)
    for kind, later_ms in events:
        device.now_ms += later_ms
        seen = len(device.actions)
        match kind:
            case "done":
                device.done()
            case "want":
                device.feed(Desired(want=replace(WANT, window=window)))
            case "undo":
                device.feed(Desired(want=None))
            case "restart":
                device.feed(Restarted(facts=device.facts))
            case "fail":
                state = device.state
                device.feed(
                    Failed(serial=state.serial, facts=device.facts, refusal=GONE)
                )
            case _:
                device.feed(Tick())
        for one in device.actions[seen:]:
            is_free = isinstance(one, Run) and allows and one.step in FETCHING
            if isinstance(one, Run) and one.step in {*FETCHING, *FORTH}:
                assert is_free or is_open(window, dt.UTC, device.now_ms)
