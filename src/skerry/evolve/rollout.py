"""The rollout machine: one wave of devices after another, each judged by the gate.

A rollout is nothing but a change of the desired side of shadows. The machine takes what
devices report, the time and what people ask for, and answers with the shadows that are
to change. It knows no network and no clock, so that each order of events can be tried.

The waves are the canary and the stages of a staged rollout (B. Beyer et al., "Site
Reliability Engineering", O'Reilly 2016, chapter 8): a wave begins when the one before
it was judged and found good.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from skerry.core.documents import Json
from skerry.core.errors import UsageError
from skerry.core.fleet import (
    DEFAULT_TENANT,
    DeviceProgress,
    Gate,
    Outcome,
    Rollout,
    RolloutState,
    Shadow,
    Wave,
)
from skerry.core.names import check_name
from skerry.core.release import Reason, ReleaseId

MOST_DEVICES = 100_000
"""Most devices of one rollout."""

TOLD = frozenset({Outcome.SENT, Outcome.UPDATED, Outcome.REFUSED, Outcome.LATE})
"""Outcomes of devices that were told to update and have not been told to go back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReported:
    """A device said how it is.

    Attributes:
        device: Its name.
        reported: The whole reported side of its shadow.
    """

    device: str
    reported: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredChangedElsewhere:
    """Somebody else has changed which release a device should run.

    Attributes:
        device: Its name.
    """

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A person wants no more devices updated.

    Attributes:
        by: Who.
    """

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """A person wants each device back at what it ran before.

    Attributes:
        by: Who.
    """

    by: str


Event = DeviceReported | DesiredChangedElsewhere | Tick | Stop | Undo


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDesired:
    """Change what a device should run.

    Attributes:
        device: Its name.
        release: What it should run, or None to take the name out of its shadow.
    """

    device: str
    release: ReleaseId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The rollout has come to rest.

    Attributes:
        state: How it ended.
    """

    state: RolloutState


Action = SetDesired | Finish
Result = tuple[Rollout, tuple[Action, ...]]


def canary_waves(devices: Sequence[str], *, canaries: int = 1) -> tuple[Wave, ...]:
    """Split devices into a first wave of a few and a second one of the rest.

    Args:
        devices: Their names, in the order in which they are to be updated.
        canaries: How many are in the first wave.

    Returns:
        One wave, or two where there are more devices than canaries.

    Example:
        >>> [wave.devices for wave in canary_waves(["a", "b", "c"])]
        [('a',), ('b', 'c')]
    """
    parts = (tuple(devices[:canaries]), tuple(devices[canaries:]))
    return tuple(Wave(devices=part) for part in parts if part)


def start(
    rollout_id: str,
    release: ReleaseId,
    waves: Sequence[Wave],
    *,
    previous: Mapping[str, ReleaseId | None],
    now_ms: int,
    gate: Gate | None = None,
    on_failure: Literal["stop", "undo"] = "undo",
    tenant: str = DEFAULT_TENANT,
) -> Result:
    """Begin a rollout with its first wave.

    Args:
        rollout_id: Its name.
        release: What is delivered.
        waves: To whom, in this order; each device once.
        previous: What undoing goes back to, by device (see `previous_release`).
        now_ms: The time, milliseconds since 1970.
        gate: What must hold after each wave.
        on_failure: What happens to the updated devices when a gate does not hold.
        tenant: Whose it is.

    Raises:
        UsageError: A name cannot be one, a wave is empty, a device stands in two waves,
            or the gate can never hold.
    """
    check_name(rollout_id, kind="rollout")
    gate = Gate() if gate is None else gate
    _check_waves(waves)
    _check_gate(gate)
    progress = {
        device: DeviceProgress(since_ms=now_ms, previous=previous.get(device))
        for wave in waves
        for device in wave.devices
    }
    rollout = Rollout(
        id=rollout_id,
        tenant=tenant,
        release=release,
        waves=tuple(waves),
        gate=gate,
        on_failure=on_failure,
        progress=progress,
        started_at_ms=now_ms,
    )
    return _begin_wave(rollout, now_ms)


def step(rollout: Rollout, event: Event, now_ms: int) -> Result:
    """Take one event.

    Args:
        rollout: Where it stands.
        event: What happened.
        now_ms: The time, milliseconds since 1970; it may go back.

    Returns:
        Where it stands now, and what is to be done, in this order. An event that means
        nothing to the rollout, such as a report after its end, changes nothing.
    """
    match event:
        case Stop(by=by):
            if rollout.state is RolloutState.RUNNING:
                return _rest(rollout, RolloutState.STOPPED, now_ms, f"stopped by {by}")
            return rollout, ()
        case Undo(by=by):
            return _undo(rollout, now_ms, f"undone by {by}")
        case DesiredChangedElsewhere(device=device):
            rollout = _supersede(rollout, device, now_ms)
        case DeviceReported(device=device, reported=reported):
            rollout = _observe(rollout, device, reported, now_ms)
        case Tick():
            rollout = _let_time_pass(rollout, now_ms)
    if rollout.state is RolloutState.RUNNING:
        return _judge(rollout, now_ms)
    if rollout.state is RolloutState.UNDOING:
        return _end_undo(rollout, now_ms)
    return rollout, ()


def previous_release(shadow: Shadow, name: str) -> ReleaseId | None:
    """Tell what undoing a rollout that starts now would go back to.

    That is what the shadow wants, unless the device has refused just that for good:
    then it is what the device says it runs.

    Args:
        shadow: The device's shadow.
        name: The release's name.
    """
    wanted = release_in(shadow.desired, name)
    refusal = _entry(shadow.reported, "refused", name)
    if wanted is not None and refusal.get("release") == str(wanted):
        reason = str(refusal.get("reason"))
        if not _is_passing(reason):
            return release_in(shadow.reported, name)
    return wanted


def release_in(side: Mapping[str, Json], name: str) -> ReleaseId | None:
    """Read which release of a name one side of a shadow holds."""
    version = _entry(side, "releases", name).get("version")
    if isinstance(version, int) and not isinstance(version, bool) and version > 0:
        return ReleaseId(name=name, version=version)
    return None


def is_changed_elsewhere(rollout: Rollout, shadow: Shadow) -> bool:
    """Whether a device's shadow no longer wants what the rollout left it wanting.

    Args:
        rollout: A rollout whose actions are all done.
        shadow: The shadow of one of its devices.
    """
    progress = rollout.progress[shadow.device]
    name = rollout.release.name
    wanted = release_in(shadow.desired, name)
    if progress.outcome is Outcome.WAITING:
        return progress.previous not in {wanted, previous_release(shadow, name)}
    if progress.outcome in TOLD:
        by = _entry(shadow.desired, "releases", name).get("rollout")
        return wanted != rollout.release or by != rollout.id
    if progress.outcome in {Outcome.UNDOING, Outcome.UNDONE}:
        return wanted != progress.previous
    return False


def _check_waves(waves: Sequence[Wave]) -> None:
    devices = [device for wave in waves for device in wave.devices]
    if not waves or not all(wave.devices for wave in waves):
        raise UsageError(
            f"a rollout of {len(waves)} waves, one of them empty or none at all",
            hint="Name at least one device for each wave.",
        )
    if len(devices) > MOST_DEVICES:
        raise UsageError(
            f"a rollout of {len(devices)} devices, at most {MOST_DEVICES} expected",
            hint="Start several rollouts.",
        )
    device, times = Counter(devices).most_common(1)[0]
    if times > 1:
        raise UsageError(
            f"{device} stands in this rollout twice",
            hint="Name each device in one wave.",
        )


def _check_gate(gate: Gate) -> None:
    times = (gate.timeout_s, gate.soak_s)
    if not 0 <= gate.success_ratio <= 1:
        raise UsageError(
            f"a gate's success ratio of {gate.success_ratio}, 0 to 1 expected",
            hint="0.95 lets one device of twenty fail.",
        )
    if not all(math.isfinite(time) and time >= 0 for time in times):
        raise UsageError(
            f"a gate with timeout {gate.timeout_s} s and soak {gate.soak_s} s",
            hint="Give times in seconds, from 0 up.",
        )


def _begin_wave(rollout: Rollout, now_ms: int) -> Result:
    progress = dict(rollout.progress)
    actions: list[Action] = []
    for device in rollout.waves[rollout.wave].devices:
        if progress[device].outcome is Outcome.WAITING:
            progress[device] = replace(
                progress[device], outcome=Outcome.SENT, since_ms=now_ms
            )
            actions.append(SetDesired(device=device, release=rollout.release))
    rollout, more = _judge(replace(rollout, progress=progress), now_ms)
    return rollout, (*actions, *more)


def _judge(rollout: Rollout, now_ms: int) -> Result:
    """Stop, wait, begin the next wave, or succeed."""
    wave = [rollout.progress[device] for device in rollout.waves[rollout.wave].devices]
    counted = [one for one in wave if one.outcome is not Outcome.SUPERSEDED]
    if not counted:
        # A wave that tried nothing proves nothing: going on would be a leap.
        reason = f"wave {rollout.wave + 1}: each of its devices was superseded"
        return _rest(rollout, RolloutState.STOPPED, now_ms, reason)
    updated = sum(one.outcome is Outcome.UPDATED for one in counted)
    sent = sum(one.outcome is Outcome.SENT for one in counted)
    needed = math.ceil(rollout.gate.success_ratio * len(counted) - 1e-9)
    if updated + sent < needed:
        return _fail(rollout, now_ms, updated, needed, len(counted))
    settled_ms = max(one.since_ms for one in counted)
    if sent or now_ms < settled_ms + rollout.gate.soak_s * 1000:
        return rollout, ()
    if rollout.wave + 1 == len(rollout.waves):
        return _rest(rollout, RolloutState.SUCCEEDED, now_ms, "")
    return _begin_wave(replace(rollout, wave=rollout.wave + 1), now_ms)


def _fail(
    rollout: Rollout, now_ms: int, updated: int, needed: int, counted: int
) -> Result:
    causes = [
        f"{device} {one.outcome.value} ({one.reason})"
        for device in rollout.waves[rollout.wave].devices
        if (one := rollout.progress[device]).outcome in {Outcome.REFUSED, Outcome.LATE}
    ]
    named = "; ".join(causes[:3]) + ("; …" if len(causes) > 3 else "")
    reason = (
        f"wave {rollout.wave + 1}: {updated} of {counted} updated, "
        f"{needed} needed: {named}"
    )
    if rollout.on_failure == "undo":
        return _undo(rollout, now_ms, reason)
    return _rest(rollout, RolloutState.STOPPED, now_ms, reason)


def _rest(rollout: Rollout, state: RolloutState, now_ms: int, reason: str) -> Result:
    rollout = replace(rollout, state=state, reason=reason, finished_at_ms=now_ms)
    return rollout, (Finish(state=state),)


def _undo(rollout: Rollout, now_ms: int, reason: str) -> Result:
    told = [device for device, one in rollout.progress.items() if one.outcome in TOLD]
    is_over = rollout.state in {RolloutState.UNDOING, RolloutState.UNDONE}
    if is_over or (not told and rollout.state is not RolloutState.RUNNING):
        return rollout, ()
    progress = dict(rollout.progress)
    actions: list[Action] = []
    for device in told:
        progress[device] = replace(
            progress[device], outcome=Outcome.UNDOING, since_ms=now_ms
        )
        actions.append(SetDesired(device=device, release=progress[device].previous))
    rollout = replace(
        rollout,
        state=RolloutState.UNDOING,
        progress=progress,
        reason=reason,
        finished_at_ms=None,
    )
    rollout, more = _end_undo(rollout, now_ms)
    return rollout, (*actions, *more)


def _end_undo(rollout: Rollout, now_ms: int) -> Result:
    open_ones = [
        one for one in rollout.progress.values() if one.outcome is Outcome.UNDOING
    ]
    refused = [one for one in open_ones if _is_refused_undo(rollout, one)]
    if len(refused) < len(open_ones):
        return rollout, ()
    if refused:
        reason = f"{rollout.reason}; {len(refused)} could not go back"
        return _rest(rollout, RolloutState.STOPPED, now_ms, reason)
    return _rest(rollout, RolloutState.UNDONE, now_ms, rollout.reason)


def _is_refused_undo(rollout: Rollout, one: DeviceProgress) -> bool:
    return one.reason.startswith(_refused_undo(rollout))


def _refused_undo(rollout: Rollout) -> str:
    return f"did not go back from {rollout.release}: "


def _supersede(rollout: Rollout, device: str, now_ms: int) -> Rollout:
    one = rollout.progress.get(device)
    if one is None or one.outcome is Outcome.SUPERSEDED:
        return rollout
    return _with(
        rollout, device, replace(one, outcome=Outcome.SUPERSEDED, since_ms=now_ms)
    )


def _observe(
    rollout: Rollout, device: str, reported: Mapping[str, Json], now_ms: int
) -> Rollout:
    one = rollout.progress.get(device)
    if one is None:
        return rollout
    if rollout.state is RolloutState.RUNNING and one.outcome in TOLD:
        return _observe_update(rollout, device, reported, now_ms)
    if rollout.state is RolloutState.UNDOING and one.outcome is Outcome.UNDOING:
        return _observe_undo(rollout, device, reported, now_ms)
    return rollout


def _observe_update(
    rollout: Rollout, device: str, reported: Mapping[str, Json], now_ms: int
) -> Rollout:
    one = rollout.progress[device]
    name = rollout.release.name
    runs = _entry(reported, "releases", name)
    refusal = _refusal_of(rollout, rollout.release, reported)
    outcome, reason = one.outcome, one.reason
    if release_in(reported, name) == rollout.release and not runs.get("probation"):
        outcome, reason = Outcome.UPDATED, ""
    elif refusal:
        outcome, reason = Outcome.REFUSED, refusal
    if outcome is one.outcome:
        return rollout
    return _with(
        rollout, device, replace(one, outcome=outcome, reason=reason, since_ms=now_ms)
    )


def _observe_undo(
    rollout: Rollout, device: str, reported: Mapping[str, Json], now_ms: int
) -> Rollout:
    one = rollout.progress[device]
    name = rollout.release.name
    under_way = _entry(reported, "update", name).get("version")
    is_leaving = under_way == rollout.release.version != _version(one.previous)
    runs = release_in(reported, name)
    is_back = runs == one.previous or one.previous is None
    if is_back and not is_leaving:
        undone = replace(one, outcome=Outcome.UNDONE, since_ms=now_ms)
        if runs != one.previous:
            # A device never stops serving: where nothing ran before, this stays.
            reason = f"nothing to go back to: {runs} goes on serving"
            undone = replace(undone, reason=reason)
        return _with(rollout, device, undone)
    if one.previous is not None:
        refusal = _refusal_of(rollout, one.previous, reported)
        reason = f"{_refused_undo(rollout)}{refusal}"
        if refusal and one.reason != reason:
            return _with(rollout, device, replace(one, reason=reason))
    return rollout


def _refusal_of(
    rollout: Rollout, release: ReleaseId, reported: Mapping[str, Json]
) -> str:
    """Say why a device has refused a release in this rollout; empty if it has not."""
    refusal = _entry(reported, "refused", release.name)
    reason = str(refusal.get("reason", ""))
    is_ours = refusal.get("release") == str(release)
    if not is_ours or refusal.get("rollout") != rollout.id or _is_passing(reason):
        return ""
    what = str(refusal.get("what", ""))[:200]
    return f"{reason}: {what}" if what else reason or "no reason given"


def _let_time_pass(rollout: Rollout, now_ms: int) -> Rollout:
    if rollout.state is not RolloutState.RUNNING:
        return rollout
    timeout_ms = rollout.gate.timeout_s * 1000
    reason = f"no answer in {rollout.gate.timeout_s:g} s"
    changed = {}
    for device in rollout.waves[rollout.wave].devices:
        one = rollout.progress[device]
        if one.since_ms > now_ms:
            # The clock went back: count from here, or this would never be late.
            changed[device] = replace(one, since_ms=now_ms)
        elif one.outcome is Outcome.SENT and now_ms - one.since_ms >= timeout_ms:
            changed[device] = replace(
                one, outcome=Outcome.LATE, reason=reason, since_ms=now_ms
            )
    if not changed:
        return rollout
    return replace(rollout, progress={**rollout.progress, **changed})


def _with(rollout: Rollout, device: str, one: DeviceProgress) -> Rollout:
    return replace(rollout, progress={**rollout.progress, device: one})


def _entry(side: Mapping[str, Json], key: str, name: str) -> dict[str, Json]:
    """Read `side[key][name]`; what a device says may have any shape."""
    entries = side.get(key)
    entry = entries.get(name) if isinstance(entries, dict) else None
    return entry if isinstance(entry, dict) else {}


def _is_passing(reason: str) -> bool:
    try:
        return Reason(reason).is_passing
    except ValueError:
        return False  # a newer agent's reason: for this rollout, it is a refusal


def _version(release: ReleaseId | None) -> int | None:
    return None if release is None else release.version
