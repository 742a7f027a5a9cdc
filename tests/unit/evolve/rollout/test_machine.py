from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from skerry.core.errors import UsageError
from skerry.core.fleet import (
    Gate,
    MetricGate,
    Outcome,
    Rollout,
    RolloutState,
    Shadow,
    Wave,
)
from skerry.core.release import ReleaseId
from skerry.evolve.rollout import (
    Action,
    Approve,
    DesiredChangedElsewhere,
    DeviceReported,
    Event,
    Finish,
    Joined,
    Pause,
    Resume,
    SetDesired,
    Stop,
    Tick,
    Undo,
    canary_waves,
    is_changed_elsewhere,
    previous_release,
    start,
    step,
    steps,
)

OLD, NEW = ReleaseId(name="meter", version=1), ReleaseId(name="meter", version=2)
GATE = Gate(timeout_s=60)


def _start(
    *waves: tuple[str, ...], gate: Gate = GATE, **more: Any
) -> tuple[Rollout, tuple[Action, ...]]:
    previous = more.pop("previous", {device: OLD for wave in waves for device in wave})
    return start(
        "r-1",
        NEW,
        [Wave(devices=wave) for wave in waves],
        previous=previous,
        now_ms=1000,
        gate=gate,
        **more,
    )


def _runs(version: int | None, **more: Any) -> Mapping[str, Any]:
    entry = {"version": version, "blob": "0" * 64, "since_ms": 1, "probation": False}
    return {"releases": {"meter": entry | more}} if version else {"releases": {}}


def _refuses(reason: str = "latency", rollout: str = "r-1") -> Mapping[str, Any]:
    refusal = {"release": "meter/2", "reason": reason, "what": "slow", "at_ms": 1}
    return {**_runs(1), "refused": {"meter": {**refusal, "rollout": rollout}}}


def _play(
    rollout: Rollout, *events: Event, now_ms: int = 2000
) -> tuple[Rollout, list[Action]]:
    done: list[Action] = []
    for event in events:
        rollout, actions = step(rollout, event, now_ms)
        done += actions
    return rollout, done


def _outcomes(rollout: Rollout) -> dict[str, str]:
    return {device: one.outcome.value for device, one in rollout.progress.items()}


def test_waves_follow_one_another_and_the_rollout_succeeds() -> None:
    """The next wave begins when each device of the one before has updated."""
    rollout, actions = _start(("a",), ("b", "c"))
    assert actions == (SetDesired(device="a", release=NEW),)
    rollout, done = _play(rollout, DeviceReported(device="a", reported=_runs(2)))
    assert done == [
        SetDesired(device="b", release=NEW),
        SetDesired(device="c", release=NEW),
    ]
    rollout, done = _play(rollout, DeviceReported(device="c", reported=_runs(2)))
    assert (rollout.state, done) == (RolloutState.RUNNING, [])
    rollout, done = _play(rollout, DeviceReported(device="b", reported=_runs(2)))
    assert done == [Finish(state=RolloutState.SUCCEEDED)]
    assert rollout.finished_at_ms == 2000
    assert set(_outcomes(rollout).values()) == {"updated"}


def test_a_device_on_probation_has_not_updated_yet() -> None:
    """The wanted version counts only after its probation."""
    rollout, _ = _start(("a",))
    trial = DeviceReported(device="a", reported=_runs(2, probation=True))
    rollout, _ = _play(rollout, trial)
    assert _outcomes(rollout) == {"a": "sent"}


def test_a_refusal_stops_at_once_and_undoes_who_was_told() -> None:
    """Updated, refusing and silent devices go back; those still waiting stay out."""
    rollout, _ = _start(("a",), ("b", "c"), ("d",))
    rollout, done = _play(
        rollout,
        DeviceReported(device="a", reported=_runs(2)),
        DeviceReported(device="b", reported=_refuses()),
    )
    assert done[2:] == [SetDesired(device=name, release=OLD) for name in "abc"]
    assert rollout.state is RolloutState.UNDOING
    assert "wave 2: 0 of 2 updated, 2 needed: b refused (latency: slow)" in (
        rollout.reason
    )
    rollout, done = _play(
        rollout, *(DeviceReported(device=name, reported=_runs(1)) for name in "abc")
    )
    assert done == [Finish(state=RolloutState.UNDONE)]
    assert _outcomes(rollout) == {
        "a": "undone",
        "b": "undone",
        "c": "undone",
        "d": "waiting",
    }


def test_on_failure_stop_leaves_the_updated_ones() -> None:
    """Where failure means stop, nobody is told to go back."""
    rollout, _ = _start(("a", "b"), on_failure="stop")
    rollout, done = _play(
        rollout,
        DeviceReported(device="a", reported=_runs(2)),
        DeviceReported(device="b", reported=_refuses("golden")),
    )
    assert done == [Finish(state=RolloutState.STOPPED)]
    assert _outcomes(rollout) == {"a": "updated", "b": "refused"}


def test_a_gate_below_one_lets_some_fail() -> None:
    """With half needed, one refusal of two goes on; the second stops."""
    half = Gate(success_ratio=0.5, timeout_s=60)
    rollout, _ = _start(("a", "b"), ("c", "d"), gate=half)
    rollout, done = _play(
        rollout,
        DeviceReported(device="a", reported=_refuses()),
        DeviceReported(device="b", reported=_runs(2)),
    )
    assert [a.device for a in done if isinstance(a, SetDesired)] == ["c", "d"]
    rollout, _ = _play(
        rollout,
        DeviceReported(device="c", reported=_refuses()),
        DeviceReported(device="d", reported=_refuses()),
    )
    assert rollout.state is RolloutState.UNDOING


@pytest.mark.parametrize(
    "reported",
    [
        pytest.param(_refuses("unreachable"), id="passing reason"),
        pytest.param(_refuses(rollout="r-0"), id="an earlier rollout"),
        pytest.param({"refused": [1], "releases": "x"}, id="no sense"),
        pytest.param({"releases": {"meter": {"version": True}}}, id="no version"),
        pytest.param({}, id="nothing"),
    ],
)
def test_what_is_no_answer_leaves_a_device_sent(reported: Mapping[str, Any]) -> None:
    """A passing trouble, another rollout's refusal and nonsense are no answer."""
    rollout, _ = _start(("a",))
    after, done = _play(rollout, DeviceReported(device="a", reported=reported))
    assert (_outcomes(after), done) == (_outcomes(rollout), [])
    assert after.progress["a"].reason in {"", "unreachable: slow"}


def test_a_reason_of_a_newer_agent_is_a_refusal() -> None:
    """A reason that this version does not know counts as final."""
    rollout, _ = _start(("a",), on_failure="stop")
    strange = DeviceReported(device="a", reported=_refuses("too-hot"))
    rollout, _ = _play(rollout, strange)
    assert _outcomes(rollout) == {"a": "refused"}


def test_a_silent_device_is_late_and_fails_the_gate() -> None:
    """Without an answer in the gate's time the rollout stops by itself."""
    rollout, _ = _start(("a",), ("b",))
    rollout, done = _play(rollout, Tick(), now_ms=60_999)
    assert done == []
    rollout, done = _play(rollout, Tick(), now_ms=61_000)
    assert done == [SetDesired(device="a", release=OLD)]
    assert "no answer in 60 s" in rollout.reason


def test_a_late_device_that_answers_still_counts() -> None:
    """With a gate that forgives it, a late device may yet be updated."""
    rollout, _ = _start(("a", "b"), gate=Gate(success_ratio=0.5, timeout_s=60))
    rollout, _ = _play(rollout, Tick(), now_ms=30_000)
    rollout, _ = _play(
        rollout, DeviceReported(device="b", reported=_runs(2)), now_ms=30_000
    )
    rollout, done = _play(rollout, Tick(), now_ms=61_000)
    assert (_outcomes(rollout)["a"], rollout.state) == ("late", RolloutState.SUCCEEDED)
    assert done == [Finish(state=RolloutState.SUCCEEDED)]


def test_soak_is_waited_for_after_the_last_answer() -> None:
    """The next wave waits; a device that turns in the soak stops the rollout."""
    soak = Gate(timeout_s=60, soak_s=10)
    rollout, _ = _start(("a",), ("b",), gate=soak)
    rollout, _ = _play(rollout, DeviceReported(device="a", reported=_runs(2)))
    rollout, done = _play(rollout, Tick(), now_ms=11_999)
    assert done == []
    turned, done = _play(rollout, DeviceReported(device="a", reported=_refuses()))
    assert turned.state is RolloutState.UNDOING
    rollout, done = _play(rollout, Tick(), now_ms=12_000)
    assert done == [SetDesired(device="b", release=NEW)]


def test_a_clock_that_goes_back_only_delays() -> None:
    """After a jump to 1970 the timeout counts from there."""
    rollout, _ = start(
        "r-1",
        NEW,
        [Wave(devices=("a",))],
        previous={},
        now_ms=1_000_000,
        gate=GATE,
        on_failure="stop",
    )
    rollout, _ = _play(rollout, Tick(), now_ms=5)
    rollout, done = _play(rollout, Tick(), now_ms=60_005)
    assert done == [Finish(state=RolloutState.STOPPED)]


def test_a_superseded_device_is_left_alone() -> None:
    """What somebody else changed is neither counted nor undone."""
    rollout, _ = _start(("a", "b"))
    rollout, done = _play(
        rollout,
        DesiredChangedElsewhere(device="b"),
        DeviceReported(device="b", reported=_refuses()),
        DeviceReported(device="a", reported=_runs(2)),
    )
    assert rollout.state is RolloutState.SUCCEEDED
    rollout, done = _play(rollout, Undo(by="ann"))
    assert done == [SetDesired(device="a", release=OLD)]


def test_a_wave_that_was_superseded_whole_proves_nothing() -> None:
    """The rollout stops there, and undoes nobody: nothing has failed."""
    rollout, _ = _start(("a",), ("b",))
    rollout, done = _play(rollout, DesiredChangedElsewhere(device="a"))
    assert done == [Finish(state=RolloutState.STOPPED)]
    assert "superseded" in rollout.reason


def test_a_person_stops_and_then_undoes() -> None:
    """Stop leaves all as it is; undo takes the told ones back; both only once."""
    rollout, _ = _start(("a",), ("b",))
    rollout, done = _play(rollout, Stop(by="ann"), Stop(by="bob"))
    assert done == [Finish(state=RolloutState.STOPPED)]
    assert rollout.reason == "stopped by ann"
    rollout, done = _play(rollout, Undo(by="ann"), Undo(by="bob"))
    assert done == [SetDesired(device="a", release=OLD)]
    assert rollout.reason == "stopped by ann; undone by ann"


def test_a_first_release_is_undone_by_taking_it_away() -> None:
    """The name leaves the shadow; a device that serves it serves on, and says so."""
    rollout, _ = _start(("a",), previous={"a": None})
    rollout, done = _play(rollout, Undo(by="ann"))
    assert done == [SetDesired(device="a", release=None)]
    busy = {**_runs(None), "update": {"meter": {"version": 2, "phase": "checking"}}}
    rollout, done = _play(rollout, DeviceReported(device="a", reported=busy))
    assert done == []
    for runs, reason in ((2, "nothing to go back to: meter/2"), (None, "")):
        after, done = _play(rollout, DeviceReported(device="a", reported=_runs(runs)))
        assert done == [Finish(state=RolloutState.UNDONE)]
        assert after.progress["a"].outcome is Outcome.UNDONE
        assert after.progress["a"].reason.startswith(reason)


def test_a_device_in_the_midst_of_the_update_is_not_undone_yet() -> None:
    """It runs the old release still, but says that it is at work on the new one."""
    rollout, _ = _start(("a",))
    busy = {**_runs(1), "update": {"meter": {"version": 2, "phase": "switching"}}}
    rollout, _ = _play(
        rollout, Undo(by="ann"), DeviceReported(device="a", reported=busy)
    )
    assert rollout.state is RolloutState.UNDOING
    rollout, _ = _play(rollout, DeviceReported(device="a", reported=_runs(1)))
    assert rollout.state is RolloutState.UNDONE


def test_a_device_that_cannot_go_back_ends_the_undoing() -> None:
    """It ends as stopped, says so, and is not told a second time."""
    rollout, _ = _start(("a",))
    refusal = {"release": "meter/1", "reason": "replayed", "rollout": "r-1"}
    stuck = {**_runs(2), "refused": {"meter": refusal}}
    rollout, done = _play(
        rollout, Undo(by="ann"), DeviceReported(device="a", reported=stuck)
    )
    assert done[-1] == Finish(state=RolloutState.STOPPED)
    assert "could not go back" in rollout.reason
    assert _play(rollout, Undo(by="ann")) == (rollout, [])


@pytest.mark.parametrize(
    ("waves", "gate"),
    [
        ([], GATE),
        ([()], GATE),
        ([("a",), ()], GATE),
        ([("a",), ("a",)], GATE),
        ([("a",)], Gate(success_ratio=1.1)),
        ([("a",)], Gate(success_ratio=float("nan"))),
        ([("a",)], Gate(timeout_s=-1)),
        ([("a",)], Gate(soak_s=float("inf"))),
    ],
)
def test_what_cannot_be_a_rollout_is_refused(
    waves: list[tuple[str, ...]], gate: Gate
) -> None:
    """No wave, an empty one, a device twice, or a senseless gate."""
    with pytest.raises(UsageError):
        _start(*waves, gate=gate)


def test_canaries_come_first() -> None:
    """One, then the rest; a fleet of one has one wave."""
    assert canary_waves(["a"]) == (Wave(devices=("a",)),)
    assert canary_waves(["a", "b", "c"], canaries=2) == (
        Wave(devices=("a", "b")),
        Wave(devices=("c",)),
    )
    assert canary_waves([]) == ()


def _shadow(desired: Mapping[str, Any], reported: Mapping[str, Any]) -> Shadow:
    return Shadow(device="a", desired=desired, reported=reported)


def _wants(version: int, rollout: str = "r-1") -> Mapping[str, Any]:
    return {"releases": {"meter": {"version": version, "rollout": rollout}}}


def test_undoing_goes_back_to_what_was_wanted_unless_that_was_refused() -> None:
    """A refused release is nothing to go back to; a passing trouble is not refusing."""
    assert previous_release(_shadow({}, {}), "meter") is None
    assert previous_release(_shadow(_wants(1), {}), "meter") == OLD
    assert previous_release(_shadow(_wants(2), _refuses()), "meter") == OLD
    assert previous_release(_shadow(_wants(2), _refuses("storage")), "meter") == NEW


def test_a_change_by_somebody_else_is_noticed() -> None:
    """In each stage: by the version, and by whose rollout it names."""
    rollout, _ = _start(("a",))
    assert not is_changed_elsewhere(rollout, _shadow(_wants(2), {}))
    assert is_changed_elsewhere(rollout, _shadow(_wants(2, "r-2"), {}))
    assert is_changed_elsewhere(rollout, _shadow(_wants(1), {}))
    undoing, _ = _play(rollout, Undo(by="ann"))
    assert not is_changed_elsewhere(undoing, _shadow(_wants(1), {}))
    assert is_changed_elsewhere(undoing, _shadow(_wants(3), {}))
    later, _ = _start(("b",), ("a",))
    assert not is_changed_elsewhere(later, _shadow(_wants(1, "r-0"), {}))
    assert is_changed_elsewhere(later, _shadow(_wants(3, "r-9"), {}))
    gone, _ = _play(rollout, DesiredChangedElsewhere(device="a"))
    assert not is_changed_elsewhere(gone, _shadow({}, {}))
    assert Outcome.SUPERSEDED is gone.progress["a"].outcome


def test_a_paused_rollout_sends_nothing_and_goes_on_when_resumed() -> None:
    """Reports are heard meanwhile; the time of the pause is nobody's fault."""
    rollout, _ = _start(("a",), ("b",))
    rollout, done = _play(rollout, Pause(by="ann"), Pause(by="bob"))
    assert (rollout.state, rollout.reason) == (RolloutState.PAUSED, "paused by ann")
    report = DeviceReported(device="a", reported=_runs(2))
    heard, more = _play(rollout, report, Tick(), now_ms=900_000)
    assert (done, more, _outcomes(heard)["a"]) == ([], [], "updated")
    heard, done = _play(heard, Resume(by="ann"), now_ms=900_000)
    assert done == [SetDesired(device="b", release=NEW)]
    silent, done = _play(rollout, Resume(by="ann"), Tick(), now_ms=900_000)
    assert (done, _outcomes(silent)["a"]) == ([], "sent")
    assert silent.reason == ""


@pytest.mark.parametrize(
    ("approval", "asked"), [("none", []), ("first", [1]), ("each", [1, 2])]
)
def test_a_wave_waits_for_approval(approval: str, asked: list[int]) -> None:
    """Per wave or after the first only; nothing is sent before a person says so."""
    rollout, _ = _start(("a",), ("b",), ("c",), approval=approval)
    waited = []
    for device in "abc":
        rollout, _ = _play(rollout, DeviceReported(device=device, reported=_runs(2)))
        if rollout.state is RolloutState.AWAITING:
            waited.append(rollout.wave + 1)
            assert _outcomes(rollout)[chr(ord(device) + 1)] == "waiting"
            rollout, done = _play(rollout, Approve(by="ann"))
            assert len(done) == 1
    assert waited == asked
    assert rollout.state is RolloutState.SUCCEEDED


def test_what_turns_while_a_person_thinks_still_fails_the_gate() -> None:
    """Approval does not stop the watch over the wave before."""
    rollout, _ = _start(("a",), ("b",), approval="first")
    rollout, _ = _play(rollout, DeviceReported(device="a", reported=_runs(2)))
    rollout, done = _play(rollout, DeviceReported(device="a", reported=_refuses()))
    assert rollout.state is RolloutState.UNDOING
    assert done == [SetDesired(device="a", release=OLD)]


def test_a_late_device_is_told_again_before_it_counts_as_late() -> None:
    """Each attempt has the gate's time; the last one says how many there were, why."""
    gate = Gate(timeout_s=60, retries=2)
    rollout, _ = _start(("a",), gate=gate)
    trouble = DeviceReported(device="a", reported=_refuses("unreachable"))
    rollout, _ = _play(rollout, trouble)
    for attempt, now_ms in ((2, 61_000), (3, 121_000)):
        rollout, done = _play(rollout, Tick(), now_ms=now_ms)
        assert done == [SetDesired(device="a", release=NEW, attempt=attempt)]
    rollout, _ = _play(rollout, Tick(), now_ms=181_000)
    assert "no answer in 60 s and 3 attempts; unreachable: slow" in rollout.reason


def test_the_time_of_a_device_that_is_away_stands_still() -> None:
    """Closed window or offline: only the time in which it could answer counts."""
    rollout, _ = _start(("a",), on_failure="stop")
    away = Tick(away=frozenset("a"))
    rollout, _ = _play(rollout, away, now_ms=31_000)
    rollout, _ = _play(rollout, away, now_ms=10_000_000)
    rollout, _ = _play(rollout, Tick(), now_ms=10_000_000)
    rollout, done = _play(rollout, Tick(), now_ms=10_029_999)
    assert done == []
    rollout, done = _play(rollout, Tick(), now_ms=10_030_000)
    assert done == [Finish(state=RolloutState.STOPPED)]


def test_a_device_that_comes_later_joins_the_last_wave() -> None:
    """It waits for its wave, or is told at once where that is under way."""
    rollout, _ = _start(("a",), ("b",), query="", is_dynamic=True)
    rollout, done = _play(rollout, Joined(device="c", previous=OLD))
    assert (rollout.waves[-1].devices, done) == (("b", "c"), [])
    rollout, done = _play(rollout, DeviceReported(device="a", reported=_runs(2)))
    assert [one.device for one in done if isinstance(one, SetDesired)] == ["b", "c"]
    rollout, done = _play(rollout, Joined(device="d"), Joined(device="d"))
    assert done == [SetDesired(device="d", release=NEW)]
    named, _ = _start(("a",))
    assert _play(named, Joined(device="c")) == (named, [])
    with pytest.raises(UsageError, match="dynamic"):
        _start(("a",), is_dynamic=True)


def _serves(version: int, requests: int, failed: int) -> Mapping[str, Any]:
    served = {"version": version, "requests": requests, "failed": failed}
    return {**_runs(version), "serving": {"meter": served}}


@pytest.mark.parametrize(
    ("requests", "failed", "state", "reason"),
    [
        (100, 1, RolloutState.SUCCEEDED, ""),
        (100, 9, RolloutState.UNDOING, "error_rate is 0.09, at most 0.02 allowed"),
        (3, 0, RolloutState.UNDOING, "too little is known of error_rate"),
    ],
)
def test_a_metric_gate_is_judged_when_the_wave_has_soaked(
    requests: int, failed: int, state: RolloutState, reason: str
) -> None:
    """Against the device's own figures before; too little evidence does not hold."""
    metric = MetricGate(metric="error_rate", limit=2, relative_to="before")
    gate = Gate(timeout_s=60, soak_s=10, metrics=(metric,))
    rollout, _ = _start(("a",), gate=gate)
    stale = {**_runs(2), "serving": _serves(1, 100, 50)["serving"]}
    rollout, _ = _play(
        rollout,
        DeviceReported(device="a", reported=_serves(1, 100, 1)),
        DeviceReported(device="a", reported=stale),
        DeviceReported(device="a", reported=_serves(2, requests, failed)),
        Tick(),
    )
    assert rollout.state is RolloutState.RUNNING
    rollout, _ = _play(rollout, Tick(), now_ms=12_000)
    assert rollout.state is state
    assert reason in rollout.reason


def test_a_gate_may_compare_with_devices_not_updated_yet() -> None:
    """Their figures come with the tick; without a tick nothing is judged."""
    metric = MetricGate(metric="error_rate", limit=1, relative_to="others")
    gate = Gate(timeout_s=60, soak_s=1, metrics=(metric,))
    rollout, _ = _start(("a",), ("b",), gate=gate)
    better = DeviceReported(device="a", reported=_serves(2, 100, 1))
    rollout, _ = _play(rollout, better)
    rollout, done = _play(rollout, better, now_ms=4000)
    assert done == []
    tick = Tick(others=[{"requests": 100.0, "failed": 2.0}])
    rollout, done = _play(rollout, tick, now_ms=4000)
    assert [one.device for one in done if isinstance(one, SetDesired)] == ["b"]


@pytest.mark.parametrize(
    "gate",
    [
        Gate(retries=-1),
        Gate(retries=1000),
        Gate(least_requests=-1),
        Gate(metrics=(MetricGate(metric="error_rate", limit=1),)),
        Gate(soak_s=1, metrics=(MetricGate(metric="a", limit=float("nan")),)),
    ],
)
def test_a_gate_that_can_never_hold_is_refused(gate: Gate) -> None:
    """Figures need a soak to be gathered in; counts and limits must make sense."""
    with pytest.raises(UsageError):
        _start(("a",), gate=gate)


def test_many_events_are_judged_once() -> None:
    """What comes at once is taken whole; where nothing changed it is the same."""
    rollout, _ = _start(tuple("abc"))
    reports = [DeviceReported(device=name, reported=_runs(2)) for name in "abc"]
    ended, done = steps(rollout, reports, 2000)
    assert (ended.state, done) == (
        RolloutState.SUCCEEDED,
        (Finish(state=RolloutState.SUCCEEDED),),
    )
    assert steps(ended, [*reports, Tick()], 3000)[0] is ended
