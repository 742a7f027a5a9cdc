"""The update machine: how a device gets from what it runs to what it should run.

One machine a release name. It takes events, and answers with a new state and with
actions for the agent to carry out, one at a time:

```
desired → refresh → manifest → blobs → rebuild → install → load → switch
               (delta spoilt: blobs again, in full)                  ↓
idle ← settle ← probation ← ─────────────────────────────────────────┘
         roll back ← (it fails on probation, or the last switch is undone)
```

A failure that may pass by itself waits and begins again; any other refuses the release
until something else is desired. Until the switch a new desire takes over at the end of
the step under way; while it downloads, at once. What lies in the standby slot was
accepted here before: going back to it needs no network.

In a rollout with a maintenance window only the way forth waits for it to open, and a
download that is under way when it closes is given up, to be resumed: the way back, and
what serves, never wait. Each device begins at a moment of its own soon after it opens.

The machine never decides that nothing is served: it only rolls back to a release that
is whole and in place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skerry.core.documents import Json
from skerry.core.release import Manifest, Reason, Refusal, ReleaseId
from skerry.core.schemas import Schemas
from skerry.evolve.probation import Figures, judge
from skerry.evolve.update_state import (
    Action,
    Desired,
    Done,
    Event,
    Facts,
    Failed,
    Found,
    Halt,
    Keep,
    Phase,
    Refused,
    Report,
    Restarted,
    Run,
    Step,
    Tell,
    Tick,
    Transfer,
    UpdatePolicy,
    UpdateState,
    Want,
)
from skerry.evolve.ways import way_bytes
from skerry.evolve.window import SPREAD_S, is_open, next_opening

_PHASES = {
    Step.REFRESH: Phase.FETCHING,
    Step.MANIFEST: Phase.FETCHING,
    Step.BLOBS: Phase.DOWNLOADING,
    Step.REBUILD: Phase.DOWNLOADING,
    Step.INSTALL: Phase.DOWNLOADING,
    Step.LOAD: Phase.CHECKING,
    Step.SWITCH: Phase.SWITCHING,
    Step.SETTLE: Phase.PROBATION,
    Step.ROLL_BACK: Phase.PROBATION,
}

_TROUBLES = {
    Reason.UNTRUSTED: "trust.refused",
    Reason.REPLAYED: "trust.refused",
    Reason.EXPIRED: "trust.refused",
    Reason.CORRUPT: "trust.refused",
    Reason.STORAGE: "storage.failed",
}

_NEXT = {
    Step.REFRESH: Step.MANIFEST,
    Step.BLOBS: Step.REBUILD,
    Step.REBUILD: Step.INSTALL,
    Step.INSTALL: Step.LOAD,
    Step.LOAD: Step.SWITCH,
}

_FETCHING = frozenset({Step.REFRESH, Step.MANIFEST, Step.BLOBS})

Stepped = tuple[UpdateState, tuple[Action, ...]]


def step(
    state: UpdateState, event: Event, *, now_ms: int, rng: np.random.Generator
) -> Stepped:
    """Take one event.

    Args:
        state: What the machine knew.
        event: What happened.
        now_ms: Milliseconds since 1970, of a clock that never goes back.
        rng: Spreads the waits of a fleet.

    Returns:
        What it knows now, and what to do, in this order.
    """
    stepped = _step(state, event, now_ms, rng)
    is_new = stepped[0].awaits_window and stepped[0].retry_at_ms != state.retry_at_ms
    return _spread(*stepped, now_ms, rng) if is_new else stepped


def _step(
    state: UpdateState, event: Event, now_ms: int, rng: np.random.Generator
) -> Stepped:
    match event:
        case Restarted():
            return _restart(state, event.facts, now_ms)
        case Desired():
            return _desire(state, event.want, now_ms)
        case Tick():
            return _tick(state, event.figures, now_ms)
        case Done() if event.serial == state.serial and state.running:
            rest = replace(state, running=None, facts=event.facts)
            return _advance(rest, state.running, event.found, now_ms)
        case Failed() if event.serial == state.serial and state.running:
            rest = replace(state, running=None, facts=event.facts)
            return _fail(rest, state.running, event, now_ms, rng)
        case _:  # The end of an action that was given up.
            return state, ()


def check_manifest(
    manifest: Manifest,
    release: ReleaseId,
    policy: UpdatePolicy,
    *,
    spoken: Schemas | None = None,
    now_ms: int,
) -> Refusal | None:
    """Say why a device should not even download a release, or None if it should.

    Args:
        manifest: The release's.
        release: What is wanted.
        policy: What the device can run.
        spoken: What producers here send and consumers read, where that is known.
        now_ms: The time, milliseconds since 1970.
    """

    def refuse(reason: Reason, what: str) -> Refusal:
        return Refusal(release=str(release), reason=reason, what=what, at_ms=now_ms)

    if manifest.id != release:
        return refuse(
            Reason.UNTRUSTED, f"the manifest is of {manifest.id}, {release} expected"
        )
    if manifest.requires > policy.level:
        return refuse(
            Reason.TOO_NEW,
            f"it needs an agent of level {manifest.requires}, this one has "
            f"{policy.level}: upgrade the gateway first",
        )
    if unfit := _unfit(manifest, policy):
        return refuse(Reason.UNFIT, unfit)
    if spoken is not None and manifest.ways(spoken) is None:
        return refuse(
            Reason.SCHEMA,
            f"producers and consumers here speak the schemas {spoken}, it speaks "
            f"{manifest.schemas} and has no adapter between them",
        )
    return None


def _unfit(manifest: Manifest, policy: UpdatePolicy) -> str:
    """Say why none of a release's models runs here; empty if one does."""
    model = manifest.model_for(policy.target)
    if model is None:
        targets = ", ".join(sorted(each.target for each in manifest.models))
        return f"it has models for {targets}, none for {policy.target}"
    if policy.runtimes is not None and model.runtime not in policy.runtimes:
        return f"it needs the runtime {model.runtime}, not installed here"
    if policy.abi is not None and model.lacks(policy.abi):
        known = ", ".join(sorted({each.abi[:40] for each in model.libraries}))
        return (
            f"it needs a library of operators, which it has for {known}, not for "
            f"{policy.abi}"
        )
    return ""


def choose_transfer(found: Found, target: str, *, abi: str | None = None) -> Transfer:
    """Choose the fewest bytes: the cheapest way, if cheaper than the model."""
    blobs = found.manifest.blobs(target, abi=abi)
    full = Transfer(manifest=found.manifest, blobs=blobs)
    way = min(found.ways, key=way_bytes, default=())
    if way_bytes(way) >= blobs["model"].size_bytes:
        return full
    return replace(full, way=way)


def wait_s(attempt: int, policy: UpdatePolicy, rng: np.random.Generator) -> float:
    """Exponential back-off with jitter, so that a fleet does not come back as one.

    Half of the wait is random, "equal jitter" of M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015.
    """
    doubled = policy.backoff_s * 2.0 ** min(attempt - 1, 30)
    return min(doubled, policy.longest_wait_s) * float(rng.uniform(0.5, 1.0))


def _restart(state: UpdateState, facts: Facts, now_ms: int) -> Stepped:
    fresh = UpdateState(
        name=state.name,
        policy=state.policy,
        facts=facts,
        refused=facts.refused,
        serial=state.serial + 1,
    )
    if facts.trial is not None:
        fresh = _on_probation(replace(fresh, working=facts.trial), now_ms)
    return fresh, (Report(),)


def _desire(state: UpdateState, want: Want | None, now_ms: int) -> Stepped:
    if want == state.desired:
        return state, ()
    state = replace(state, desired=want)
    if state.due is None:
        state = replace(state, attempt=0)
    actions: tuple[Action, ...] = ()
    if state.refused is not None and not _is_of(state.refused, want, state.name):
        state = replace(state, refused=None)
        actions = (Keep(refused=None), Report())
    if want and state.working and want.version == state.working.version:
        # The same release by another rollout: what is done is done for it.
        state = replace(state, working=want)
        if state.phase is not Phase.WAITING:
            return state, (*actions, Report())
    if state.running not in {None, Step.BLOBS}:
        return state, actions
    state, more = _turn(state, now_ms)
    return state, (*actions, *more)


def _turn(state: UpdateState, now_ms: int) -> Stepped:
    """Look afresh at what is desired; nothing that must be finished is under way."""
    want, facts = state.desired, state.facts
    if state.phase is Phase.PROBATION:
        is_undo = want and facts.trial and want.version == facts.standby
        if is_undo and state.due is None:
            return _run(replace(state, cause=None), Step.ROLL_BACK)
        return state, (Report(),)
    if want is None or want.version == facts.active:
        forget: tuple[Action, ...] = (Keep(refused=None),) if state.refused else ()
        return replace(_idle(state), refused=None), (*forget, Report())
    if state.refused is not None:
        return _idle(state), (Report(),)
    return _begin(replace(state, working=want, transfer=None), want, now_ms)


def _begin(state: UpdateState, want: Want, now_ms: int) -> Stepped:
    facts = state.facts
    release = f"{state.name}/{want.version}"
    is_standby = want.version == facts.standby
    if want.version < facts.counter and not is_standby:
        refusal = Refusal(
            release=release,
            reason=Reason.REPLAYED,
            what=f"{release} is older than version {facts.counter}, which this device "
            f"has accepted",
            at_ms=now_ms,
        )
        return _refuse(state, refusal)
    fields: dict[str, Json] = {"release": release, "attempt": state.attempt + 1}
    state, actions = _forth(state, Step.LOAD if is_standby else Step.REFRESH, now_ms)
    return state, (Tell(name="update.started", fields=fields), *actions)


def _advance(
    state: UpdateState, done: Step, found: Found | None, now_ms: int
) -> Stepped:
    if done is Step.SWITCH:
        state = _on_probation(state, now_ms)
        told = Tell(name="release.switched", fields={"release": _release(state)})
        state, actions = _turn(state, now_ms)
        return state, (told, *actions)
    if done is Step.SETTLE:
        told = Tell(name="release.accepted", fields={"release": _release(state)})
        return _and_turn(_idle(state), (told,), now_ms)
    if done is Step.ROLL_BACK:
        return _rolled_back(state, now_ms)
    if state.working != state.desired:
        return _turn(state, now_ms)
    if done is Step.MANIFEST:
        return _choose(state, found, now_ms)
    return _forth(state, _NEXT[done], now_ms)


def _choose(state: UpdateState, found: Found | None, now_ms: int) -> Stepped:
    want = state.working
    if found is None or want is None:
        return _turn(state, now_ms)
    release = ReleaseId(name=state.name, version=want.version)
    refusal = check_manifest(
        found.manifest,
        release,
        state.policy,
        spoken=state.facts.spoken,
        now_ms=now_ms,
    )
    if refusal is not None:
        return _refuse(state, refusal)
    transfer = choose_transfer(found, state.policy.target, abi=state.policy.abi)
    return _forth(replace(state, transfer=transfer), Step.BLOBS, now_ms)


def _rolled_back(state: UpdateState, now_ms: int) -> Stepped:
    cause, working = state.cause, state.working
    fields: dict[str, Json] = {"active": state.facts.active}
    if cause is None or working is None:
        told = Tell(name="release.rolled_back", fields={**fields, "reason": "undo"})
        return _and_turn(_idle(state), (told,), now_ms)
    told = Tell(
        name="release.rolled_back",
        fields={**fields, "release": cause.release, "what": cause.what},
    )
    if state.desired is not None and state.desired.version != working.version:
        return _and_turn(_idle(state), (told,), now_ms)
    state, actions = _refuse(state, cause)
    return state, (told, *actions)


def _fail(
    state: UpdateState,
    failed: Step,
    event: Failed,
    now_ms: int,
    rng: np.random.Generator,
) -> Stepped:
    refusal = event.refusal
    told = Tell(
        name=_TROUBLES.get(refusal.reason, "update.failed"),
        fields={
            "release": refusal.release,
            "step": failed.value,
            "reason": refusal.reason.value,
            "what": refusal.what,
        },
    )
    if failed in {Step.SETTLE, Step.ROLL_BACK}:
        # What serves, serves; only the record of it is behind.
        return _wait(replace(state, due=failed), told, now_ms, rng)
    if state.working != state.desired:
        return _and_turn(state, (told,), now_ms)
    transfer = state.transfer
    is_spoilt = refusal.reason is Reason.CORRUPT
    if is_spoilt and transfer is not None and transfer.way:
        full = replace(transfer, way=())
        state, actions = _forth(replace(state, transfer=full), Step.BLOBS, now_ms)
        return state, (told, *actions)
    is_tried_again = not event.is_foreseen and state.attempt < state.policy.attempts
    if refusal.reason.is_passing or is_tried_again:
        state = replace(state, phase=Phase.WAITING, cause=refusal, transfer=None)
        return _wait(state, told, now_ms, rng)
    state, actions = _refuse(state, refusal)
    return state, (told, *actions)


def _wait(
    state: UpdateState, told: Tell, now_ms: int, rng: np.random.Generator
) -> Stepped:
    attempt = state.attempt + 1
    pause_ms = round(1000 * wait_s(attempt, state.policy, rng))
    state = replace(state, attempt=attempt, retry_at_ms=now_ms + pause_ms)
    return state, (told, Report())


def _tick(state: UpdateState, figures: Figures, now_ms: int) -> Stepped:
    if state.running is Step.BLOBS and _opens_ms(state, Step.BLOBS, now_ms) > now_ms:
        state, actions = _forth(state, Step.BLOBS, now_ms)
        return state, (Halt(), *actions)
    is_early = state.retry_at_ms is not None and now_ms < state.retry_at_ms
    if state.running is not None or is_early:
        return state, ()
    if state.phase is Phase.WAITING:
        return _turn(replace(state, retry_at_ms=None), now_ms)
    if state.phase is Phase.PROBATION:
        return _watch(state, figures, now_ms)
    return state, ()


def _watch(state: UpdateState, figures: Figures, now_ms: int) -> Stepped:
    if state.due is not None:
        return _run(state, state.due)
    # Nothing to go back to: a release that fails now and then is better than none.
    is_alone = state.facts.standby is None
    wrong = "" if is_alone else judge(figures, state.policy.limits)
    if wrong:
        refusal = Refusal(
            release=_release(state), reason=Reason.PROBATION, what=wrong, at_ms=now_ms
        )
        return _run(replace(state, cause=refusal), Step.ROLL_BACK)
    if state.probation_until_ms is None or now_ms >= state.probation_until_ms:
        return _run(state, Step.SETTLE)
    return state, ()


def _forth(state: UpdateState, next_step: Step, now_ms: int) -> Stepped:
    """Take a step towards what is desired, or wait for the window to open."""
    opens_ms = _opens_ms(state, next_step, now_ms)
    if opens_ms <= now_ms:
        return _run(state, next_step)
    state = replace(
        state,
        phase=Phase.WAITING,
        running=None,
        cause=None,
        transfer=None,
        retry_at_ms=opens_ms,
    )
    fields: dict[str, Json] = {"release": _release(state), "opens_at_ms": opens_ms}
    return state, (Tell(name="update.window_closed", fields=fields), Report())


def _opens_ms(state: UpdateState, next_step: Step, now_ms: int) -> int:
    """When a step may be taken: now, or when the window opens."""
    want = _want(state)
    if want.window is None:
        return now_ms
    if want.window.allows_download and next_step in _FETCHING:
        return now_ms
    return next_opening(want.window, want.zone or state.policy.zone, now_ms)


def _spread(
    state: UpdateState,
    actions: tuple[Action, ...],
    now_ms: int,
    rng: np.random.Generator,
) -> Stepped:
    """Wait somewhat past the opening, so that a fleet does not come through as one."""
    want, opens_ms = _want(state), state.retry_at_ms or now_ms
    later_ms = opens_ms + round(1000 * rng.uniform(0, SPREAD_S))
    zone = want.zone or state.policy.zone
    is_within = want.window is not None and is_open(want.window, zone, later_ms)
    return replace(state, retry_at_ms=later_ms if is_within else opens_ms), actions


def _run(state: UpdateState, next_step: Step) -> Stepped:
    want = _want(state)
    state = replace(
        state,
        running=next_step,
        serial=state.serial + 1,
        phase=_PHASES[next_step],
        retry_at_ms=None,
        due=None,
    )
    refused = None
    if next_step is Step.ROLL_BACK and state.cause is not None:
        refused = Refused(refusal=state.cause, rollout=want.rollout)
    run = Run(
        step=next_step,
        serial=state.serial,
        want=want,
        transfer=state.transfer,
        refused=refused,
    )
    fields: dict[str, Json] = {"release": _release(state), "step": next_step.value}
    return state, (Tell(name="update.phase", fields=fields), run, Report())


def _refuse(state: UpdateState, refusal: Refusal) -> Stepped:
    refused = Refused(refusal=refusal, rollout=_want(state).rollout)
    fields: dict[str, Json] = {
        "release": refusal.release,
        "reason": refusal.reason.value,
        "what": refusal.what,
        "measured": refusal.measured,
        "allowed": refusal.allowed,
    }
    state = replace(_idle(state), refused=refused)
    return state, (
        Tell(name="release.refused", fields=fields),
        Keep(refused=refused),
        Report(),
    )


def _and_turn(state: UpdateState, first: tuple[Action, ...], now_ms: int) -> Stepped:
    state, actions = _turn(state, now_ms)
    return state, (*first, *actions)


def _idle(state: UpdateState) -> UpdateState:
    return replace(
        state,
        working=None,
        phase=Phase.IDLE,
        running=None,
        attempt=0,
        retry_at_ms=None,
        due=None,
        cause=None,
        transfer=None,
        probation_until_ms=None,
    )


def _on_probation(state: UpdateState, now_ms: int) -> UpdateState:
    return replace(
        state,
        phase=Phase.PROBATION,
        attempt=0,
        retry_at_ms=None,
        cause=None,
        probation_until_ms=now_ms + round(1000 * state.policy.probation_s),
    )


def _want(state: UpdateState) -> Want:
    return state.working or state.desired or Want(version=0, rollout="")


def _release(state: UpdateState) -> str:
    return f"{state.name}/{_want(state).version}"


def _is_of(refused: Refused, want: Want | None, name: str) -> bool:
    return (
        want is not None
        and refused.refusal.release == f"{name}/{want.version}"
        and refused.rollout == want.rollout
    )
