"""The rollout machine: one wave of devices after another, each judged by the gate.

A rollout is nothing but a change of the desired side of shadows. The machine takes what
devices report, the time and what people ask for, and answers with the shadows that are
to change. It knows no network and no clock, so that each order of events can be tried.

```
running ⇄ paused                     nothing is sent while it is paused
running → awaiting → running         a person approves the next wave
running → succeeded | stopped        the last gate held | a gate did not, or a person
any of them → undoing → undone       by a gate (on_failure=undo) or by a person
```

The waves are the canary and the stages of a staged rollout (B. Beyer et al., "Site
Reliability Engineering", O'Reilly 2016, chapter 8): a wave begins when the one before
it was judged and found good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from skerry.core.errors import UsageError
from skerry.core.fleet import (
    DeviceProgress,
    Figures,
    Gate,
    Outcome,
    Rollout,
    RolloutState,
    Wave,
)
from skerry.core.names import check_name
from skerry.core.release import ReleaseId
from skerry.evolve.rollout.events import (
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
)
from skerry.evolve.rollout.gates import broken
from skerry.evolve.rollout.observe import (
    TOLD,
    entry_of,
    figures_of,
    refusal_of,
    release_in,
    runs_for_good,
    serves,
    trouble_of,
)
from skerry.evolve.rollout.plan import check_gate, check_waves

Result = tuple[Rollout, tuple[Action, ...]]


def start(
    rollout_id: str,
    release: ReleaseId,
    waves: Sequence[Wave],
    *,
    previous: Mapping[str, ReleaseId | None],
    now_ms: int,
    gate: Gate | None = None,
    zones: Mapping[str, str] | None = None,
    **terms: Any,
) -> Result:
    """Begin a rollout with its first wave.

    Args:
        rollout_id: Its name.
        release: What is delivered.
        waves: To whom, in this order; each device once.
        previous: What undoing goes back to, by device (see `previous_release`).
        now_ms: The time, milliseconds since 1970.
        gate: What must hold after each wave.
        zones: The devices' time zones, as far as they are known.
        **terms: Other fields of the `Rollout`: `on_failure`, `approval`, `window` …

    Raises:
        UsageError: A name cannot be one, a wave is empty, a device stands in two waves,
            the gate can never hold, or nothing says who may join later.
    """
    check_name(rollout_id, kind="rollout")
    gate, zones = gate or Gate(), zones or {}
    check_waves(waves)
    check_gate(gate)
    if terms.get("is_dynamic") and terms.get("query") is None:
        raise UsageError(
            "a dynamic rollout to named devices: nothing says who may join it",
            hint="Give a label query.",
        )
    progress = {
        device: DeviceProgress(
            since_ms=now_ms, previous=previous.get(device), zone=zones.get(device, "")
        )
        for wave in waves
        for device in wave.devices
    }
    rollout = Rollout(
        id=rollout_id,
        release=release,
        waves=tuple(waves),
        gate=gate,
        progress=progress,
        started_at_ms=now_ms,
        **terms,
    )
    draft = _Draft(rollout, now_ms)
    draft.begin_wave()
    return draft.result()


def step(rollout: Rollout, event: Event, now_ms: int) -> Result:
    """Take one event; see `steps`."""
    return steps(rollout, [event], now_ms)


def steps(rollout: Rollout, events: Sequence[Event], now_ms: int) -> Result:
    """Take events in their order, then judge.

    Args:
        rollout: Where it stands.
        events: What happened since; of many at once each costs the same.
        now_ms: The time, milliseconds since 1970; it may go back.

    Returns:
        Where it stands now, and what is to be done, in this order. An event that means
        nothing to the rollout, such as a report after its end, changes nothing; where
        none changes anything, it is the very same object.
    """
    draft = _Draft(rollout, now_ms)
    for event in events:
        draft.take(event)
    draft.go_on()
    return draft.result()


class _Draft:
    """A rollout that is being brought on.

    Its progress is copied once for all the events of a call, not once an event: with
    a hundred thousand devices that is the difference between seconds and hours.
    """

    def __init__(self, rollout: Rollout, now_ms: int) -> None:
        self._was = self._now = rollout
        self._now_ms = now_ms
        self._progress = dict(rollout.progress)
        self._is_touched = False
        self._actions: list[Action] = []
        self._others: Sequence[Figures] | None = None

    def result(self) -> Result:
        """Where it stands, and what is to be done."""
        rollout = self._now
        if self._is_touched:
            rollout = replace(rollout, progress=self._progress)
        return rollout, tuple(self._actions)

    def take(self, event: Event) -> None:
        """Take one event, without judging yet."""
        match event:
            case DeviceReported():
                self._observe(event)
            case DesiredChangedElsewhere(device=device):
                self._supersede(device)
            case Tick():
                self._others = event.others
                self._let_time_pass(event.away)
            case Joined():
                self._join(event)
            case Undo(by=by):
                # Why it had stopped is worth knowing after it has been undone, too.
                before = f"{self._now.reason}; " if self._now.reason else ""
                self._undo(f"{before}undone by {by}")
            case Stop(by=by) if self._now.state.is_going_on:
                self._rest(RolloutState.STOPPED, f"stopped by {by}")
            case Pause(by=by) if self._now.state in {
                RolloutState.RUNNING,
                RolloutState.AWAITING,
            }:
                self._change(state=RolloutState.PAUSED, reason=f"paused by {by}")
            case Resume() if self._now.state is RolloutState.PAUSED:
                self._resume()
            case Approve() if self._now.state is RolloutState.AWAITING:
                number = self._now.wave + 1
                self._change(state=RolloutState.RUNNING, approved=number, reason="")
            case _:
                pass

    def go_on(self) -> None:
        """Judge what has been taken."""
        state = self._now.state
        if state in {RolloutState.RUNNING, RolloutState.AWAITING}:
            self._judge()
        elif state is RolloutState.UNDOING:
            self._end_undo()

    def begin_wave(self) -> None:
        """Tell the devices of the current wave."""
        self._send_waiting()
        self._judge()

    def _change(self, **fields: Any) -> None:
        self._now = replace(self._now, **fields)

    def _set(self, device: str, **fields: Any) -> None:
        self._progress[device] = replace(self._progress[device], **fields)
        self._is_touched = True

    def _wave(self) -> tuple[str, ...]:
        return self._now.waves[self._now.wave].devices

    def _send_waiting(self) -> None:
        for device in self._wave():
            if self._progress[device].outcome is Outcome.WAITING:
                self._set(device, outcome=Outcome.SENT, since_ms=self._now_ms)
                told = SetDesired(device=device, release=self._now.release)
                self._actions.append(told)

    def _resume(self) -> None:
        self._change(state=RolloutState.RUNNING, reason="")
        for device in self._wave():
            # The time of the pause is nobody's fault.
            if self._progress[device].outcome is Outcome.SENT:
                self._set(device, since_ms=self._now_ms, away_since_ms=None)
        self._send_waiting()

    def _join(self, event: Joined) -> None:
        now = self._now
        is_wanted = now.is_dynamic and now.state.is_going_on
        if not is_wanted or event.device in self._progress:
            return
        last = Wave(devices=(*now.waves[-1].devices, event.device))
        self._change(waves=(*now.waves[:-1], last))
        self._progress[event.device] = DeviceProgress(
            since_ms=self._now_ms, previous=event.previous, zone=event.zone
        )
        self._is_touched = True
        is_its_turn = now.wave + 1 == len(now.waves)
        if is_its_turn and now.state is RolloutState.RUNNING:
            self._send_waiting()

    def _supersede(self, device: str) -> None:
        one = self._progress.get(device)
        if one is not None and one.outcome is not Outcome.SUPERSEDED:
            self._set(device, outcome=Outcome.SUPERSEDED, since_ms=self._now_ms)

    def _judge(self) -> None:
        """Stop, wait, begin the next wave, or succeed."""
        now = self._now
        wave = [self._progress[device] for device in self._wave()]
        counted = [one for one in wave if one.outcome is not Outcome.SUPERSEDED]
        if not counted:
            # A wave that tried nothing proves nothing: going on would be a leap.
            reason = f"wave {now.wave + 1}: each of its devices was superseded"
            self._rest(RolloutState.STOPPED, reason)
            return
        updated = [one for one in counted if one.outcome is Outcome.UPDATED]
        sent = sum(one.outcome is Outcome.SENT for one in counted)
        needed = math.ceil(now.gate.success_ratio * len(counted) - 1e-9)
        if len(updated) + sent < needed:
            said = f"{len(updated)} of {len(counted)} updated, {needed} needed"
            self._fail(f"wave {now.wave + 1}: {said}: {self._causes()}")
            return
        settled_ms = max(one.since_ms for one in counted)
        if sent or self._now_ms < settled_ms + now.gate.soak_s * 1000:
            return
        self._pass(updated)

    def _pass(self, updated: Sequence[DeviceProgress]) -> None:
        """All have answered and soaked: look at their figures, and go on."""
        now = self._now
        if now.gate.metrics and self._others is None:
            return  # the next tick brings the figures of the others
        wrong = broken(
            now.gate,
            after=[one.after for one in updated],
            before=[one.before for one in updated],
            others=self._others or (),
        )
        if wrong:
            self._fail(f"wave {now.wave + 1}: {wrong}")
        elif now.wave + 1 == len(now.waves):
            self._rest(RolloutState.SUCCEEDED, "")
        elif self._needs_approval(now.wave + 1):
            if now.state is not RolloutState.AWAITING:
                reason = f"wave {now.wave + 2} waits for approval"
                self._change(state=RolloutState.AWAITING, reason=reason)
        else:
            self._change(wave=now.wave + 1)
            self.begin_wave()

    def _needs_approval(self, wave: int) -> bool:
        now = self._now
        is_asked = now.approval == "each" or (now.approval == "first" and wave == 1)
        return is_asked and now.approved < wave

    def _causes(self) -> str:
        causes = [
            f"{device} {one.outcome.value} ({one.reason})"
            for device in self._wave()
            if (one := self._progress[device]).outcome
            in {Outcome.REFUSED, Outcome.LATE}
        ]
        return "; ".join(causes[:3]) + ("; …" if len(causes) > 3 else "")

    def _fail(self, reason: str) -> None:
        if self._now.on_failure == "undo":
            self._undo(reason)
        else:
            self._rest(RolloutState.STOPPED, reason)

    def _rest(self, state: RolloutState, reason: str) -> None:
        self._change(state=state, reason=reason, finished_at_ms=self._now_ms)
        self._actions.append(Finish(state=state))

    def _undo(self, reason: str) -> None:
        state = self._now.state
        told = [name for name, one in self._progress.items() if one.outcome in TOLD]
        is_over = state in {RolloutState.UNDOING, RolloutState.UNDONE}
        if is_over or (not told and not state.is_going_on):
            return
        for device in told:
            self._set(device, outcome=Outcome.UNDOING, since_ms=self._now_ms)
            back = self._progress[device].previous
            self._actions.append(SetDesired(device=device, release=back))
        self._change(state=RolloutState.UNDOING, reason=reason, finished_at_ms=None)
        self._end_undo()

    def _end_undo(self) -> None:
        everyone = self._progress.values()
        waited_for = [one for one in everyone if one.outcome is Outcome.UNDOING]
        stuck = self._stuck()
        refused = sum(one.reason.startswith(stuck) for one in waited_for)
        if refused < len(waited_for):
            return
        if refused:
            reason = f"{self._now.reason}; {refused} could not go back"
            self._rest(RolloutState.STOPPED, reason)
        else:
            self._rest(RolloutState.UNDONE, self._now.reason)

    def _stuck(self) -> str:
        return f"did not go back from {self._now.release}: "

    def _observe(self, event: DeviceReported) -> None:
        one, state = self._progress.get(event.device), self._now.state
        if one is None:
            return
        if state.is_going_on and one.outcome in TOLD:
            self._observe_update(event, one)
        elif state is RolloutState.UNDOING and one.outcome is Outcome.UNDOING:
            self._observe_undo(event, one)

    def _observe_update(self, event: DeviceReported, one: DeviceProgress) -> None:
        now, reported = self._now, event.reported
        self._observe_figures(event, one)
        outcome, reason = one.outcome, one.reason
        refusal = refusal_of(now, now.release, reported)
        if runs_for_good(now, reported):
            outcome, reason = Outcome.UPDATED, ""
        elif refusal:
            outcome, reason = Outcome.REFUSED, refusal
        elif one.outcome is Outcome.SENT:
            reason = trouble_of(now, now.release, reported)
        if outcome is not one.outcome:
            since_ms = self._now_ms
            self._set(event.device, outcome=outcome, reason=reason, since_ms=since_ms)
        elif reason != one.reason:
            self._set(event.device, reason=reason)

    def _observe_figures(self, event: DeviceReported, one: DeviceProgress) -> None:
        now, reported = self._now, event.reported
        name = now.release.name
        figures = figures_of(reported, name, now.gate.metrics)
        runs = release_in(reported, name)
        if not figures or serves(reported, name) not in {None, runs}:
            return  # the figures are of what ran a moment ago
        if runs == now.release:
            if figures != one.after:
                self._set(event.device, after=figures)
        elif not one.before:
            self._set(event.device, before=figures)

    def _observe_undo(self, event: DeviceReported, one: DeviceProgress) -> None:
        release, reported = self._now.release, event.reported
        name = release.name
        under_way = entry_of(reported, "update", name).get("version")
        previous = None if one.previous is None else one.previous.version
        is_leaving = under_way == release.version != previous
        runs = release_in(reported, name)
        is_back = runs == one.previous or one.previous is None
        if is_back and not is_leaving:
            # A device never stops serving: where nothing ran before, this stays.
            stays = f"nothing to go back to: {runs} goes on serving"
            self._set(
                event.device,
                outcome=Outcome.UNDONE,
                since_ms=self._now_ms,
                reason=one.reason if runs == one.previous else stays,
            )
        elif one.previous is not None:
            refusal = refusal_of(self._now, one.previous, reported)
            reason = f"{self._stuck()}{refusal}"
            if refusal and one.reason != reason:
                self._set(event.device, reason=reason)

    def _let_time_pass(self, away: frozenset[str]) -> None:
        if self._now.state is not RolloutState.RUNNING:
            return
        for device in self._wave():
            one = self._progress[device]
            since_ms = one.away_since_ms or one.since_ms
            if max(since_ms, one.since_ms) > self._now_ms:
                # The clock went back: count from here, or it would never be late.
                is_away = one.away_since_ms is not None
                away_since_ms = self._now_ms if is_away else None
                self._set(device, since_ms=self._now_ms, away_since_ms=away_since_ms)
            elif one.outcome is Outcome.SENT:
                self._wait_for(device, one, is_away=device in away)

    def _wait_for(self, device: str, one: DeviceProgress, *, is_away: bool) -> None:
        """Let the time for a device's answer stand still, go on, or end."""
        gate, now_ms = self._now.gate, self._now_ms
        if is_away:
            if one.away_since_ms is None:
                self._set(device, away_since_ms=now_ms)
            return
        since_ms = one.since_ms
        if one.away_since_ms is not None:
            since_ms += now_ms - one.away_since_ms
            self._set(device, since_ms=since_ms, away_since_ms=None)
        if now_ms - since_ms < gate.timeout_s * 1000:
            return
        if one.attempt <= gate.retries:
            attempt = one.attempt + 1
            self._set(device, since_ms=now_ms, attempt=attempt)
            release = self._now.release
            again = SetDesired(device=device, release=release, attempt=attempt)
            self._actions.append(again)
            return
        times = f" and {one.attempt} attempts" if one.attempt > 1 else ""
        trouble = f"; {one.reason}" if one.reason else ""
        reason = f"no answer in {gate.timeout_s:g} s{times}{trouble}"
        self._set(device, outcome=Outcome.LATE, reason=reason, since_ms=now_ms)
