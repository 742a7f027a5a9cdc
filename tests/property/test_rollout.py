from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skerry.core.fleet import Gate, Outcome, Rollout, RolloutState, Wave
from skerry.core.release import Reason, ReleaseId
from skerry.evolve.rollout import (
    Action,
    DesiredChangedElsewhere,
    DeviceReported,
    Event,
    SetDesired,
    Stop,
    Tick,
    Undo,
    start,
    step,
)

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
    st.just(Tick()),
    st.builds(Stop, by=st.just("ann")),
    st.builds(Undo, by=st.just("ann")),
)
STEPS = st.lists(st.tuples(EVENTS, st.integers(-20_000, 40_000)), max_size=30)


def _begin(waves: list[Wave], gate: Gate, on_failure: Any) -> tuple[Rollout, Any]:
    previous: Mapping[str, ReleaseId | None] = {
        device: ReleaseId(name="meter", version=6) if device < "d" else None
        for device in DEVICES
    }
    return start(
        "r", NEW, waves, previous=previous, now_ms=0, gate=gate, on_failure=on_failure
    )


def _check(before: Rollout, after: Rollout, actions: tuple[Action, ...]) -> None:
    assert after.wave in {before.wave, before.wave + 1}
    told = [one for one in actions if isinstance(one, SetDesired)]
    for one in told:
        assert before.progress[one.device].outcome is not Outcome.SUPERSEDED
    if after.wave > before.wave:
        judged = [after.progress[device] for device in after.waves[before.wave].devices]
        counted = [one for one in judged if one.outcome is not Outcome.SUPERSEDED]
        updated = sum(one.outcome is Outcome.UPDATED for one in counted)
        assert counted
        assert all(one.outcome is not Outcome.SENT for one in counted)
        assert updated >= math.ceil(after.gate.success_ratio * len(counted) - 1e-9)
    for device in {d for wave in after.waves[after.wave + 1 :] for d in wave.devices}:
        assert after.progress[device].outcome in {Outcome.WAITING, Outcome.SUPERSEDED}


@given(
    waves=WAVES, gate=GATES, on_failure=st.sampled_from(["stop", "undo"]), steps=STEPS
)
def test_no_order_of_events_breaks_a_promise(
    waves: list[Wave],
    gate: Gate,
    on_failure: str,
    steps: list[tuple[Event, int]],
) -> None:
    """No wave is skipped, nobody outside is touched, each is told and undone once."""
    rollout, actions = _begin(waves, gate, on_failure)
    forth: Counter[str] = Counter()
    back: Counter[str] = Counter()
    now_ms = 0
    for event, later_ms in [(Tick(), 0), *steps]:
        for one in actions:
            if isinstance(one, SetDesired):
                (forth if one.release == NEW else back)[one.device] += 1
                wanted = {NEW, rollout.progress[one.device].previous}
                assert one.release in wanted
        now_ms += later_ms
        before = rollout
        rollout, actions = step(rollout, event, now_ms)
        _check(before, rollout, actions)
    members = {device for wave in waves for device in wave.devices}
    assert set(forth) | set(back) <= members
    assert all(times == 1 for times in (*forth.values(), *back.values()))
    assert set(back) <= set(forth)


@given(
    waves=WAVES, gate=GATES, on_failure=st.sampled_from(["stop", "undo"]), steps=STEPS
)
def test_a_rollout_ends_when_time_passes(
    waves: list[Wave],
    gate: Gate,
    on_failure: str,
    steps: list[tuple[Event, int]],
) -> None:
    """Whatever came before, and however the clock jumped, ticks alone end it."""
    rollout, _ = _begin(waves, gate, on_failure)
    now_ms = 0
    for event, later_ms in steps:
        now_ms += later_ms
        rollout, _ = step(rollout, event, now_ms)
    for _ in range(10 * len(waves)):
        now_ms += 61_000
        rollout, _ = step(rollout, Tick(), now_ms)
    assert rollout.state is not RolloutState.RUNNING
