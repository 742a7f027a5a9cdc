from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.fleet import Gate, Outcome, Rollout, RolloutState, Shadow, Wave
from skerry.core.release import Reason, ReleaseId
from skerry.evolve.rollout import (
    Action,
    Approve,
    DesiredChangedElsewhere,
    DeviceReported,
    Event,
    Joined,
    Pause,
    Resume,
    SetDesired,
    Stop,
    Tick,
    Undo,
    is_changed_elsewhere,
    start,
    step,
    steps,
)
from skerry.evolve.rollout.observe import TOLD

NEW = ReleaseId(name="meter", version=7)
DEVICES = tuple("abcdef")
WAVES = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(
    lambda sizes: [
        Wave(devices=DEVICES[sum(sizes[:i]) : sum(sizes[:i]) + size])
        for i, size in enumerate(sizes)
        if sum(sizes[:i]) < len(DEVICES)
    ]
)
GATES = st.builds(
    Gate,
    success_ratio=st.sampled_from([0.0, 0.5, 2 / 3, 1.0]),
    timeout_s=st.sampled_from([0.0, 5.0, 60.0]),
    retries=st.sampled_from([0, 0, 2]),
    soak_s=st.sampled_from([0.0, 3.0]),
)
REPORTED = st.one_of(
    st.builds(
        lambda version, probation, reason: {
            "releases": {"meter": {"version": version, "probation": probation}},
            "refused": {
                "meter": {
                    "release": f"meter/{version}",
                    "reason": reason,
                    "rollout": "r",
                }
            },
        },
        st.sampled_from([6, 7]),
        st.booleans(),
        st.sampled_from([None, *Reason, "unheard-of"]),
    ),
    st.dictionaries(
        st.sampled_from(["releases", "refused", "update"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.dictionaries(st.sampled_from(["meter", "version"]), inner),
            max_leaves=4,
        ),
    ),
)
NAMES = st.sampled_from([*DEVICES, "stranger"])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(DeviceReported, device=NAMES, reported=REPORTED),
    st.builds(DeviceReported, device=NAMES, reported=REPORTED),
    st.builds(DesiredChangedElsewhere, device=NAMES),
    st.builds(Tick, away=st.frozensets(st.sampled_from(DEVICES), max_size=2)),
    st.builds(Joined, device=st.sampled_from(["x", "y"])),
    st.builds(Pause, by=st.just("ann")),
    st.builds(Resume, by=st.just("ann")),
    st.builds(Approve, by=st.just("ann")),
    st.builds(Stop, by=st.just("ann")),
    st.builds(Undo, by=st.just("ann")),
)
STEPS = st.lists(st.tuples(EVENTS, st.integers(-20_000, 40_000)), max_size=30)


TERMS = st.fixed_dictionaries(
    {
        "gate": GATES,
        "on_failure": st.sampled_from(["stop", "undo"]),
        "approval": st.sampled_from(["none", "none", "first", "each"]),
        "is_dynamic": st.booleans(),
    }
)


def _begin(waves: list[Wave], terms: Mapping[str, Any]) -> tuple[Rollout, Any]:
    previous: Mapping[str, ReleaseId | None] = {
        device: ReleaseId(name="meter", version=6) if device < "d" else None
        for device in DEVICES
    }
    return start("r", NEW, waves, previous=previous, now_ms=0, query="", **terms)


def _check(before: Rollout, after: Rollout, actions: tuple[Action, ...]) -> None:
    assert after.wave in {before.wave, before.wave + 1}
    told = [one for one in actions if isinstance(one, SetDesired)]
    for one in told:
        was = before.progress.get(one.device)
        assert was is None or was.outcome is not Outcome.SUPERSEDED
    if after.state in {RolloutState.PAUSED, RolloutState.AWAITING}:
        assert not told
    if after.wave > before.wave and before.approval == "each":
        assert after.approved == after.wave
    devices = [device for wave in after.waves for device in wave.devices]
    assert len(devices) == len(set(devices))
    assert set(devices) == set(after.progress)
    if after.wave > before.wave:
        judged = [after.progress[device] for device in after.waves[before.wave].devices]
        counted = [one for one in judged if one.outcome is not Outcome.SUPERSEDED]
        updated = sum(one.outcome is Outcome.UPDATED for one in counted)
        assert counted
        assert all(one.outcome is not Outcome.SENT for one in counted)
        assert updated >= math.ceil(after.gate.success_ratio * len(counted) - 1e-9)
    for device in {d for wave in after.waves[after.wave + 1 :] for d in wave.devices}:
        assert after.progress[device].outcome in {Outcome.WAITING, Outcome.SUPERSEDED}


@given(waves=WAVES, terms=TERMS, steps=STEPS)
def test_no_order_of_events_breaks_a_promise(
    waves: list[Wave], terms: dict[str, Any], steps: list[tuple[Event, int]]
) -> None:
    """No wave is skipped, nobody outside is touched, each is told and undone once."""
    rollout, actions = _begin(waves, terms)
    forth: Counter[str] = Counter()
    back: Counter[str] = Counter()
    now_ms = 0
    for event, later_ms in [(Tick(), 0), *steps]:
        for one in actions:
            if isinstance(one, SetDesired) and one.attempt == 1:
                (forth if one.release == NEW else back)[one.device] += 1
                wanted = {NEW, rollout.progress[one.device].previous}
                assert one.release in wanted
        now_ms += later_ms
        before = rollout
        rollout, actions = step(rollout, event, now_ms)
        _check(before, rollout, actions)
    members = set(rollout.progress)
    assert set(forth) | set(back) <= members
    assert all(times == 1 for times in (*forth.values(), *back.values()))
    assert set(back) <= set(forth)


@given(waves=WAVES, terms=TERMS, steps=STEPS)
def test_a_rollout_ends_when_time_passes(
    waves: list[Wave], terms: dict[str, Any], steps: list[tuple[Event, int]]
) -> None:
    """Whatever came before, ticks and whoever must resume and approve end it."""
    rollout, _ = _begin(waves, terms)
    now_ms = 0
    for event, later_ms in steps:
        now_ms += later_ms
        rollout, _ = step(rollout, event, now_ms)
    for _ in range(20 * len(waves)):
        now_ms += 61_000
        for event in (Resume(by="ann"), Approve(by="ann"), Tick()):
            rollout, _ = step(rollout, event, now_ms)
    assert not rollout.state.is_going_on


class Fleet:
    """Shadows, and rollouts that change them as the hub lets them."""

    def __init__(self) -> None:
        self.wants: dict[str, tuple[ReleaseId | None, str]] = dict.fromkeys(
            DEVICES, (OLD, "")
        )
        self.runs: dict[str, ReleaseId | None] = dict.fromkeys(DEVICES, OLD)
        self.rollouts: list[Rollout] = []
        self.now_ms = 0

    def begin(self, version: int, devices: list[str]) -> None:
        """Begin a rollout; those under way on these devices give way."""
        for place in range(len(self.rollouts)):
            for device in devices:
                self.give(place, DesiredChangedElsewhere(device=device))
        rollout, actions = start(
            f"r{version}",
            ReleaseId(name="meter", version=version),
            [Wave(devices=(device,)) for device in devices],
            previous={device: self.wants[device][0] for device in devices},
            now_ms=self.now_ms,
        )
        self.rollouts.append(rollout)
        self.obey(rollout, actions)

    def give(self, place: int, event: Event) -> None:
        """Let a rollout take an event; it looks at the shadows first, as on the hub."""
        rollout = self.rollouts[place]
        elsewhere = [
            DesiredChangedElsewhere(device=device)
            for device in rollout.progress
            if is_changed_elsewhere(rollout, self.shadow(device))
        ]
        rollout, actions = steps(rollout, [*elsewhere, event], self.now_ms)
        self.rollouts[place] = rollout
        self.obey(rollout, actions)

    def obey(self, rollout: Rollout, actions: tuple[Action, ...]) -> None:
        """Change the shadows; nobody may overwrite what another rollout wants."""
        for one in actions:
            if isinstance(one, SetDesired):
                by = self.wants[one.device][1]
                others = {
                    other.id
                    for other in self.rollouts
                    if other.id != rollout.id
                    and other.state.is_under_way
                    and one.device in other.progress
                    and other.progress[one.device].outcome in TOLD
                }
                assert by not in others
                self.wants[one.device] = (one.release, rollout.id)

    def shadow(self, device: str) -> Shadow:
        """A device's shadow."""
        wanted, by = self.wants[device]
        runs = self.runs[device]
        desired = (
            {"meter": {"version": wanted.version, "rollout": by}} if wanted else {}
        )
        reported = {"meter": {"version": runs.version}} if runs else {}
        return Shadow(
            device=device,
            desired={"releases": desired},
            reported={"releases": reported},
        )


OLD = ReleaseId(name="meter", version=6)
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "converge", "report", "undo", "stop", "pause", "go"]),
        st.integers(0, 3),
        st.lists(st.sampled_from(DEVICES), min_size=1, max_size=3, unique=True),
    ),
    max_size=30,
)
ORDERS: Mapping[str, Event] = {
    "undo": Undo(by="ann"),
    "stop": Stop(by="ann"),
    "pause": Pause(by="ann"),
    "go": Resume(by="ann"),
}


@given(acts=ACTS)
def test_two_rollouts_never_fight_and_undo_leaves_nobody_behind(
    acts: list[tuple[str, int, list[str]]],
) -> None:
    """No rollout overwrites another's wish; once undone, nobody keeps its release."""
    fleet = Fleet()
    for kind, place, devices in acts:
        fleet.now_ms += 1000
        if kind == "begin" and len(fleet.rollouts) < 4:
            fleet.begin(7 + len(fleet.rollouts), devices)
        elif kind == "converge":
            for device in devices:
                fleet.runs[device] = fleet.wants[device][0]
        elif place < len(fleet.rollouts):
            shadow = fleet.shadow(devices[0])
            report = DeviceReported(device=devices[0], reported=shadow.reported)
            fleet.give(place, ORDERS.get(kind, report))
    for place in range(len(fleet.rollouts)):
        fleet.give(place, Undo(by="ann"))
        for device in DEVICES:
            fleet.runs[device] = fleet.wants[device][0]
        for device in DEVICES:
            reported = fleet.shadow(device).reported
            fleet.give(place, DeviceReported(device=device, reported=reported))
        rollout = fleet.rollouts[place]
        assert not rollout.state.is_under_way
        for device, one in rollout.progress.items():
            if one.outcome is not Outcome.SUPERSEDED:
                assert fleet.runs[device] != rollout.release
