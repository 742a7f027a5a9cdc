"""Every state that the update machine and the record of its slots can come to.

From each one every step of the machine is done, and done with each fault; states that
are alike are looked at once (explicit-state model checking with hashed states, as in
G. J. Holzmann, "The Model Checker SPIN", IEEE TSE 23(5), 1997). In each it must hold:

- after a restart something whole serves, unless the disk has spoilt every copy of it;
- nothing answers that is not the bytes of a release;
- the counter never falls, and nothing older than it begins to serve that has not
  served here before;
- what is said twice changes nothing;
- if all goes well from here on, what is desired serves or is refused with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from benchmarks._faults_device import (
    NAN,
    SPOILT,
    YEARS_MS,
    Device,
    put,
)
from skerry.core.release import Reason
from skerry.evolve.probation import Figures
from skerry.evolve.update_state import (
    Desired,
    Done,
    Failed,
    Phase,
    Run,
    Step,
    Want,
)

STORY = (
    Want(version=2, rollout="r2"),
    Want(version=1, rollout="r2"),  # undone
    Want(version=4, rollout="r4"),  # a bad one
    Want(version=3, rollout="r3"),  # older than what was accepted
)
"""What is desired, one after the other."""

BAD = frozenset({4})
"""Releases that answer with NaN."""

FAULTS = (
    "power cut",
    "link cut",
    "flipped byte",
    "disk full",
    "clock jump",
    "duplicate",
    "reordered",
)
REMOTE = frozenset({Step.REFRESH, Step.MANIFEST, Step.BLOBS})
WRITING = REMOTE | {Step.INSTALL, Step.SWITCH, Step.SETTLE, Step.ROLL_BACK}
_GOOD = Figures()
MOST_MOVES = 80
"""More than a device ever needs to come to rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A device and what the hub has said.

    Attributes:
        device: The device.
        issued: How many of the story's documents there are.
        faults: How many faults may still happen.
        spoilt: How often the disk has spoilt a slot.
    """

    device: Device
    issued: int = 0
    faults: int = 0
    spoilt: int = 0

    @property
    def key(self) -> Hashable:
        """What tells its future from that of others."""
        return (self.device.key, self.issued, self.faults, self.spoilt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Something that may happen.

    Attributes:
        step: The step under way, or `idle`, `waiting` or `probation`.
        fault: What goes wrong, or empty.
        world: What it leads to.
    """

    step: str
    fault: str
    world: World


class _Mover(Protocol):
    """Makes a move of what it leads to."""

    def __call__(self, after: Device, fault: str = "", **more: int) -> Move: ...


@dataclass(slots=True, kw_only=True)
class Explored:
    """What was found.

    Attributes:
        states: Different ones.
        cases: Faults by step and kind.
        broken: What did not hold, with the way there.
    """

    states: int = 0
    cases: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def explore(
    *, faults: int, story: Sequence[Want] = STORY, most_states: int = 2_000_000
) -> Explored:
    """Look at every state that can be reached.

    Args:
        faults: How many faults may happen on one way.
        story: What is desired, one after the other.
        most_states: Where to stop.
    """
    found = Explored()
    first = World(device=Device().restarted(), faults=faults)
    seen: dict[Hashable, tuple[Hashable, str] | None] = {first.key: None}
    ends: dict[Hashable, bool] = {}
    waiting = [first]
    while waiting and len(seen) < most_states:
        world = waiting.pop()
        wrong = _check(world, story, ends)
        for move in _moves(world, story):
            if move.fault:
                found.cases[move.step, move.fault] += 1
            wrong += _check_move(world, move)
            key = move.world.key
            if key not in seen:
                seen[key] = (world.key, f"{move.step} {move.fault}".strip())
                waiting.append(move.world)
        found.broken += [f"{what}: {way_to(world.key, seen)}" for what in wrong]
    found.states = len(seen)
    return found


def way_to(key: Hashable, seen: dict[Hashable, tuple[Hashable, str] | None]) -> str:
    """Say by which moves a state was come to."""
    way = []
    while (came := seen[key]) is not None:
        key, what = came
        way.append(what)
    return ", ".join(reversed(way))


def _check(
    world: World, story: Sequence[Want], ends: dict[Hashable, bool]
) -> list[str]:
    device, wrong = world.device, []
    booted = device.restarted()
    whole = [
        kept
        for kept, held in zip(device.record.slots, device.content, strict=True)
        if kept is not None and kept == held
    ]
    if booted.latest is None and (whole or not world.spoilt):
        wrong.append("nothing would serve after a restart")
    if device.latest is None and not world.spoilt:
        wrong.append("nothing serves")
    if SPOILT in {device.latest, booted.latest}:
        wrong.append("spoilt bytes answer")
    if device.record.counter < max(device.accepted):
        wrong.append("the counter has fallen")
    wrong += _check_twice(device)
    if not _converges(world, story, ends):
        wrong.append("it does not come to what is desired")
    return wrong


def _check_move(before: World, move: Move) -> list[str]:
    old, new = before.device, move.world.device
    fresh = new.latest not in {*old.accepted, None}
    if fresh and new.latest is not None and new.latest < max(old.accepted):
        return [f"{new.latest} serves, older than what was accepted"]
    return []


def _check_twice(device: Device) -> list[str]:
    """What is said twice, or comes late, changes nothing."""
    state, serial = device.state, device.state.serial - 1
    refusal = device.failed(Reason.LOAD).state.cause
    events = [Desired(want=state.desired), Done(serial=serial, facts=device.facts)]
    if refusal is not None:
        late = Failed(serial=serial, facts=device.facts, refusal=refusal)
        return [
            f"{type(event).__name__} twice changes something"
            for event in (*events, late)
            if device.feed(event).state != state
        ]
    return [
        f"{type(event).__name__} twice changes something"
        for event in events
        if device.feed(event).state != state
    ]


def _converges(world: World, story: Sequence[Want], ends: dict[Hashable, bool]) -> bool:
    """Whether it comes to what is desired if all goes well from here on."""
    last, way = len(story), []
    device = world.device
    verdict: bool | None = None
    for _ in range(MOST_MOVES):
        key = device.key
        verdict = ends.get(key)
        if verdict is not None:
            break
        way.append(key)
        if device.seen < last:
            device = device.hear(last, story[-1])
        elif device.run is not None:
            device = carried_out(device)
        elif device.state.phase is Phase.IDLE:
            verdict = _is_settled(device, story[-1])
            break
        else:
            device = device.tick(NAN if device.latest in BAD else _GOOD)
    ends.update(dict.fromkeys(way, bool(verdict)))
    return bool(verdict)


def _is_settled(device: Device, want: Want) -> bool:
    is_there = device.latest == want.version and device.record.trial is None
    why = device.state.refused
    is_refused = why is not None and why.rollout == want.rollout
    agrees = device.latest == device.record.serves
    return (is_there or is_refused) and agrees


def _moves(world: World, story: Sequence[Want]) -> Iterator[Move]:
    device = world.device
    run = device.run
    step = run.step.value if run else device.state.phase.value

    def move(after: Device, fault: str = "", **more: int) -> Move:
        left = world.faults - (1 if fault else 0)
        changed = replace(world, device=after, faults=left, **more)
        return Move(step=step, fault=fault, world=changed)

    if world.issued < len(story):
        number = world.issued + 1
        heard = device.hear(number, story[number - 1])
        yield move(heard, issued=number)
        yield move(device, issued=number)
    if 0 < world.issued != device.seen:
        yield move(device.hear(world.issued, story[world.issued - 1]))
    if run is not None:
        yield move(carried_out(device))
    if run is None and device.state.phase is not Phase.IDLE:
        yield move(device.tick())
        if device.latest in BAD:
            yield move(device.tick(NAN, ms=100))
    if world.faults:
        yield from _faults(world, story, move)


def _faults(world: World, story: Sequence[Want], move: _Mover) -> Iterator[Move]:
    device, run = world.device, world.device.run
    for cut in (device, *_halfway(device)):
        yield move(cut.restarted(), "power cut")
        yield move(cut.restarted(is_full=True), "disk full")
    for number in range(max(1, device.seen + 1), world.issued):
        yield move(device.hear(number, story[number - 1]), "reordered")
    if device.seen > 0:
        want = story[device.seen - 1]
        yield move(device.feed(Desired(want=want)), "duplicate")
    yield move(device.tick(ms=YEARS_MS), "clock jump")
    if run is not None and run.step in REMOTE:
        yield move(device.failed(Reason.UNREACHABLE), "link cut")
        yield move(device.failed(Reason.CORRUPT), "flipped byte")
        yield move(device.failed(Reason.CORRUPT, is_full=True), "disk full")
    if run is not None and run.step in {Step.REFRESH, Step.MANIFEST}:
        yield move(device.failed(Reason.EXPIRED), "clock jump")
    if run is not None and run.step in WRITING:
        for refused in _refused(device, run):
            yield move(refused.failed(Reason.STORAGE, is_full=True), "disk full")
    if device.got is not None:
        yield move(replace(device, got=SPOILT), "flipped byte")
    for place, held in enumerate(device.content):
        if held != SPOILT:
            spoilt = replace(device, content=put(device.content, place, SPOILT))
            yield move(spoilt, "flipped byte", spoilt=world.spoilt + 1)
    # A spoilt record is read from its copy, and the other way round.
    yield move(device.restarted(), "flipped byte")


def carried_out(device: Device) -> Device:
    """The device after its step, which goes as well as it can."""
    run = device.run
    if run is None:
        return device
    version, spoilt = run.want.version, None
    match run.step:
        case Step.BLOBS:
            device = replace(device, got=version)
        case Step.REBUILD if device.got != version:
            device, spoilt = replace(device, got=None), Reason.CORRUPT
        case Step.INSTALL:
            device = _installed(device, version)
        case Step.LOAD if device.content[device.record.standby] != version:
            spoilt = Reason.CORRUPT if run.transfer is None else Reason.STORAGE
        case Step.LOAD:
            device = replace(device, prepared=version)
        case Step.SWITCH:
            device = _switched(device, run)
        case Step.SETTLE:
            record = replace(device.record, trial=None, strikes=0)
            device = replace(device, record=record, fallback=None)
        case Step.ROLL_BACK:
            device = _recorded_back(_rolled_back(device, run), run)
        case _:
            pass
    return device.done() if spoilt is None else device.failed(spoilt)


def _installed(device: Device, held: int) -> Device:
    place = device.record.standby
    staged = held if held != SPOILT else None
    return replace(
        device,
        record=device.record.kept(place, None),
        content=put(device.content, place, held),
        staged=staged,
        got=None,
    )


def _switched(device: Device, run: Run) -> Device:
    record = device.record.switched(device.record.standby, run.want)
    return replace(
        device,
        record=record,
        latest=device.prepared,
        fallback=device.latest,
        prepared=None,
        staged=None,
        accepted=device.accepted | {run.want.version},
    )


def _rolled_back(device: Device, run: Run) -> Device:
    """The engine first."""
    if device.latest != run.want.version:
        return device
    place = device.record.standby
    back = device.fallback
    if back is None and device.record.slots[place] is not None:
        back = device.content[place]
    return device if back is None else replace(device, latest=back, fallback=None)


def _recorded_back(device: Device, run: Run) -> Device:
    keep = run.refused is None
    record = device.record.rolled_back(keep=keep, refused=run.refused)
    return replace(device, record=record)


def _halfway(device: Device) -> Iterator[Device]:
    """What may be on the disk when a step is cut off in the middle."""
    run = device.run
    place = device.record.standby
    match run and run.step:
        case Step.INSTALL if run:
            yield replace(device, record=device.record.kept(place, None))
            yield _installed(device, SPOILT)
            yield _installed(device, run.want.version)
        case Step.SWITCH if run:
            yield _switched(device, run)
        case Step.SETTLE:
            yield replace(device, record=replace(device.record, trial=None, strikes=0))
        case Step.ROLL_BACK if run:
            yield _recorded_back(device, run)
        case _:
            return


def _refused(device: Device, run: Run) -> Iterator[Device]:
    """What a step has done when the disk refuses in its middle."""
    match run.step:
        case Step.INSTALL:
            yield device
            yield replace(_installed(device, SPOILT), staged=None)
        case Step.ROLL_BACK:
            yield _rolled_back(device, run)
        case _:
            yield device
