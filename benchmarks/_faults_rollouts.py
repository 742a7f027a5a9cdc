"""Every order of events that two rollouts of one release name can come to.

Two devices, three rollouts that a person begins, one after the other, on shadows as the
hub keeps them; what is desired may arrive twice, late or never, reports come in order.
The hub's part is that of `skerry.cloud.rollouts`: what a rollout wants is written with
its name, and a new one makes those under way give way. In each state it must hold:

- at most one rollout that is under way may still write to a device's shadow;
- nobody's word is changed back: what a rollout writes is its release or, once it is
  undone, what was desired before it;
- when all reports have come and time passes, every rollout comes to rest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks._faults_machine import FAULTS, Explored, way_to
from skerry.core.fleet import Gate, Outcome, Rollout, RolloutState, Shadow, Wave
from skerry.core.release import ReleaseId
from skerry.evolve.rollout import (
    Action,
    DesiredChangedElsewhere,
    DeviceReported,
    Event,
    SetDesired,
    Stop,
    Tick,
    Undo,
    is_changed_elsewhere,
    previous_release,
    start,
    step,
)
from skerry.evolve.shadow import report, set_desired

NAME = "meter"
DEVICES = ("d1", "d2")
GATE = Gate(success_ratio=0.5, timeout_s=60.0)
PLANS = (
    (2, (("d1",), ("d2",)), "undo"),
    (3, (("d2",), ("d1",)), "undo"),
    (4, (("d1", "d2"),), "stop"),
)
"""Version, waves and what happens on failure, in the order of being begun."""

BAD = frozenset({3})
"""Versions that every device refuses."""

LATER_MS = 61_000
ENDED = frozenset({RolloutState.SUCCEEDED, RolloutState.STOPPED, RolloutState.UNDONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The hub's rollouts and shadows, and what the devices run.

    Attributes:
        rollouts: Those that were begun, the first one first.
        shadows: By device.
        runs: What each device runs, by device.
        heard: Which version of its shadow each device heard last.
        due: Devices whose reports the rollouts have not seen.
        written: Devices to whose shadows a rollout has written since all looked at
            them: the hub knows that by itself, whatever becomes of links.
        now_ms: The time.
        faults: How many may still happen.
        people: How many more times a person may stop or undo.
    """

    rollouts: tuple[Rollout, ...] = ()
    shadows: Mapping[str, Shadow]
    runs: Mapping[str, int]
    heard: Mapping[str, int]
    due: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    now_ms: int = 0
    faults: int
    people: int = 1
    wrong: tuple[str, ...] = field(default=())

    @property
    def key(self) -> Hashable:
        """What tells its future from that of others."""
        rollouts = tuple(
            (
                *(one.state, one.wave),
                tuple(
                    (each.outcome, each.previous, self.now_ms - each.since_ms)
                    for each in one.progress.values()
                ),
            )
            for one in self.rollouts
        )
        shadows = tuple(
            (repr(self.shadows[one].desired), repr(self.shadows[one].reported))
            for one in DEVICES
        )
        behind = tuple(self.shadows[one].version - self.heard[one] for one in DEVICES)
        runs = tuple(self.runs.items())
        due = (self.due, self.written)
        return (rollouts, shadows, behind, runs, due, self.faults, self.people)


def explore_rollouts(*, faults: int, most_states: int = 300_000) -> Explored:
    """Look at every state that can be reached.

    Args:
        faults: How many faults may happen on one way.
        most_states: Where to stop.
    """
    found = Explored()
    shadows = {
        one: set_desired(
            Shadow(device=one),
            {"releases": {NAME: {"version": 1, "rollout": "r1"}}},
            version=None,
            now_ms=0,
        )
        for one in DEVICES
    }
    first = World(
        shadows={one: _reported(shadow, 1) for one, shadow in shadows.items()},
        runs=dict.fromkeys(DEVICES, 1),
        heard={one: shadow.version for one, shadow in shadows.items()},
        faults=faults,
    )
    seen: dict[Hashable, tuple[Hashable, str] | None] = {first.key: None}
    waiting = [first]
    while waiting and len(seen) < most_states:
        world = waiting.pop()
        wrong = [*world.wrong, *_check(world)]
        for what, after in _moves(world):
            if what in FAULTS:
                found.cases["rollout", what] += 1
            wrong += after.wrong
            if after.key not in seen:
                seen[after.key] = (world.key, what)
                waiting.append(replace(after, wrong=()))
        found.broken += [f"{one}: {way_to(world.key, seen)}" for one in wrong]
    found.states = len(seen)
    return found


def _check(world: World) -> list[str]:
    wrong = []
    # What was written and not looked at since is looked at before anything is done.
    for device in sorted(set(DEVICES) - world.due - world.written):
        free = {Outcome.SUPERSEDED}
        writers = [
            one.id
            for one in world.rollouts
            if one.state not in ENDED and one.progress[device].outcome not in free
        ]
        if len(writers) > 1:
            wrong.append(f"{' and '.join(writers)} fight for {device}")
    if not _comes_to_rest(world):
        wrong.append("a rollout never ends")
    return wrong


def _comes_to_rest(world: World) -> bool:
    for _ in range(12):
        if all(one.state in ENDED for one in world.rollouts):
            return True
        for device in DEVICES:
            world = _told(world, device)
        world = _looked(replace(world, now_ms=world.now_ms + 1))
        world = _looked(replace(world, now_ms=world.now_ms + LATER_MS))
    # One that undoes waits for its devices for ever: they are told, and say so.
    return all(one.state in ENDED for one in world.rollouts)


def _moves(world: World) -> Iterator[tuple[str, World]]:
    if len(world.rollouts) < len(PLANS):
        yield "begin", _begun(world)
    for device in DEVICES:
        yield f"{device} told", _told(world, device)
        if world.faults:
            less = replace(world, faults=world.faults - 1)
            yield "duplicate", _told(replace(less, due=less.due | {device}), device)
            yield "reordered", replace(less, due=less.due | {device})
            yield "link cut", replace(less, due=less.due - {device})
            yield "power cut", _reset(less, device)
    yield "looked", _looked(world)
    if world.faults:
        less = replace(world, faults=world.faults - 1)
        yield "clock jump", _looked(replace(less, now_ms=less.now_ms + LATER_MS))
        yield "clock jump", _looked(replace(less, now_ms=less.now_ms - LATER_MS))
    if world.people:
        for index, one in enumerate(world.rollouts):
            less = replace(world, people=world.people - 1)
            elsewhere = _elsewhere(less, one, DEVICES)
            yield f"undo {one.id}", _applied(less, index, [*elsewhere, Undo(by="ann")])
            if one.state is RolloutState.RUNNING:
                yield (
                    f"stop {one.id}",
                    _applied(less, index, [*elsewhere, Stop(by="ann")]),
                )


def _begun(world: World) -> World:
    """Begin the next rollout, as `Rollouts.create` with `supersede`."""
    version, waves, on_failure = PLANS[len(world.rollouts)]
    release = ReleaseId(name=NAME, version=version)
    for index, other in enumerate(world.rollouts):
        if other.state not in ENDED:
            events = [DesiredChangedElsewhere(device=one) for one in DEVICES]
            world = _applied(world, index, events)
    rollout, actions = start(
        f"r{version}",
        release,
        [Wave(devices=devices) for devices in waves],
        previous={one: previous_release(world.shadows[one], NAME) for one in DEVICES},
        now_ms=world.now_ms,
        gate=GATE,
        on_failure="undo" if on_failure == "undo" else "stop",
    )
    world = replace(world, rollouts=(*world.rollouts, rollout))
    return _acted(world, rollout, actions)


def _told(world: World, device: str) -> World:
    """A device hears what is desired of it, does it at once, and reports."""
    shadow = world.shadows[device]
    wanted: Any = shadow.desired.get("releases")
    entry = (wanted or {}).get(NAME)
    heard = {**world.heard, device: shadow.version}
    if entry is None:
        return replace(world, heard=heard, due=world.due | {device})
    version, refused = entry["version"], None
    if version in BAD:
        refused = {
            "release": f"{NAME}/{version}",
            "reason": "golden",
            "rollout": entry["rollout"],
        }
        version = world.runs[device]
    new = _reported(shadow, version, refused)
    return replace(
        world,
        shadows={**world.shadows, device: new},
        runs={**world.runs, device: version},
        heard={**heard, device: new.version},
        due=world.due | {device},
    )


def _reset(world: World, device: str) -> World:
    """A device starts anew and says what it runs."""
    new = _reported(world.shadows[device], world.runs[device])
    return replace(
        world,
        shadows={**world.shadows, device: new},
        due=world.due | {device},
    )


def _reported(shadow: Shadow, version: int, refused: Any = None) -> Shadow:
    patch: dict[str, Any] = {
        "releases": {NAME: {"version": version, "probation": False}},
        "refused": {NAME: refused},
    }
    return report(shadow, patch, now_ms=0)


def _looked(world: World) -> World:
    """The hub looks at what is due and at the clock, as `Rollouts` does."""
    due = world.due | world.written
    world = replace(world, due=frozenset(), written=frozenset())
    for index, one in enumerate(world.rollouts):
        if one.state in ENDED:
            continue
        elsewhere = _elsewhere(world, one, sorted(due))
        reports = [
            DeviceReported(device=device, reported=world.shadows[device].reported)
            for device in sorted(due)
        ]
        world = _applied(world, index, [*elsewhere, *reports, Tick()])
    return world


def _elsewhere(
    world: World, rollout: Rollout, devices: Sequence[str]
) -> list[DesiredChangedElsewhere]:
    return [
        DesiredChangedElsewhere(device=device)
        for device in devices
        if is_changed_elsewhere(rollout, world.shadows[device])
    ]


def _applied(world: World, index: int, events: Sequence[Event]) -> World:
    rollout = world.rollouts[index]
    actions: tuple[Action, ...] = ()
    for event in events:
        rollout, more = step(rollout, event, world.now_ms)
        actions += more
    rollouts = (*world.rollouts[:index], rollout, *world.rollouts[index + 1 :])
    return _acted(replace(world, rollouts=rollouts), rollout, actions)


def _acted(world: World, rollout: Rollout, actions: Sequence[Action]) -> World:
    wrong = list(world.wrong)
    for action in actions:
        if not isinstance(action, SetDesired):
            continue
        before = rollout.progress[action.device].previous
        if action.release not in {rollout.release, before}:
            wrong.append(f"{rollout.id} wants {action.release} of {action.device}")
        entry = None
        if action.release is not None:
            entry = {"version": action.release.version, "rollout": rollout.id}
        old = world.shadows[action.device]
        patch: dict[str, Any] = {"releases": {NAME: entry}}
        new = set_desired(old, patch, version=None, now_ms=0)
        world = replace(
            world,
            shadows={**world.shadows, action.device: new},
            written=world.written | {action.device},
        )
    return replace(world, wrong=tuple(wrong))
