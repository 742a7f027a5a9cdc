"""A device around the update machine, as data: its disk, its memory, its agent.

It does what `skerry.edge` does with files and engines, on version numbers instead of
bytes: `slots.json` is a `Record`, what lies in the two slots is a version or `SPOILT`.
A `Device` is never changed, so that every state that can be reached is kept and gone
on from.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from skerry.core.model import TensorSpec
from skerry.core.release import Blob, Manifest, Reason, Refusal, ReleaseModel
from skerry.edge.slots import MOST_STRIKES
from skerry.evolve.probation import Figures
from skerry.evolve.update import step
from skerry.evolve.update_state import (
    Desired,
    Done,
    Event,
    Facts,
    Failed,
    Found,
    Keep,
    Phase,
    Refused,
    Restarted,
    Run,
    Step,
    Tick,
    UpdatePolicy,
    UpdateState,
    Want,
)
from skerry.evolve.ways import Hop

ValueT = TypeVar("ValueT")

NAME = "meter"
SPOILT = -1
"""What lies in a slot whose bytes are not those of a release."""

LATER_MS = 400_000
"""Longer than any wait of the machine."""

YEARS_MS = 10 * 365 * 24 * 3_600_000
NAN = Figures(requests=9, not_finite=9)
POLICY = UpdatePolicy()
_SPEC = (TensorSpec(name="x", dtype="float32", shape=(1,)),)
_RNG = np.random.default_rng(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What `slots.json` says: see `skerry.edge.slots.NameRecord`."""

    slots: tuple[int | None, int | None] = (1, None)
    active: int | None = 0
    trial: Want | None = None
    strikes: int = 0
    counter: int = 1
    refused: Refused | None = None

    @property
    def standby(self) -> int:
        """The slot that does not serve."""
        return 1 if self.active == 0 else 0

    @property
    def serves(self) -> int | None:
        """The version in the active slot."""
        return None if self.active is None else self.slots[self.active]

    def kept(self, place: int, version: int | None) -> Record:
        """The same with another content of one slot."""
        return replace(self, slots=put(self.slots, place, version))

    def switched(self, place: int, want: Want) -> Record:
        """As `Slots.switch` leaves it."""
        return replace(
            self.kept(place, want.version),
            active=place,
            trial=want,
            strikes=0,
            counter=max(self.counter, want.version),
            refused=None,
        )

    def rolled_back(self, *, keep: bool, refused: Refused | None) -> Record:
        """As `Slots.roll_back` leaves it."""
        back = self.standby if self.slots[self.standby] is not None else None
        changed = replace(self, active=back, trial=None, strikes=0, refused=refused)
        if self.active is not None and not keep:
            changed = changed.kept(self.active, None)
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """All that a device is at one moment.

    Attributes:
        record: What `slots.json` says.
        content: What really lies in the two slots.
        latest: What the engine answers with, or None.
        fallback: What it has loaded behind it, or None.
        got: What was downloaded and not installed, or None.
        staged: What was installed and not switched to, or None.
        prepared: What was loaded beside, or None.
        state: The update machine's.
        run: What it asked for that is under way, or None.
        now_ms: The agent's clock.
        seen: The version of the desired document that it heard last in this life.
        accepted: All that ever served.
    """

    record: Record = Record()
    content: tuple[int, int] = (1, SPOILT)
    latest: int | None = 1
    fallback: int | None = None
    got: int | None = None
    staged: int | None = None
    prepared: int | None = None
    state: UpdateState = field(default_factory=lambda: UpdateState(name=NAME))
    run: Run | None = None
    now_ms: int = 0
    seen: int = -1
    accepted: frozenset[int] = frozenset({1})

    @property
    def key(self) -> Hashable:
        """What tells this device's future from that of others: no dates, no numbers."""
        state, run = self.state, self.run
        record = replace(self.record, refused=None)
        memory = (self.latest, self.fallback, self.got, self.staged, self.prepared)
        machine = (
            *(state.facts.active, state.facts.standby, state.facts.counter),
            *(state.facts.trial, _refused(state.facts.refused)),
            *(state.desired, state.working, state.phase, state.running),
            *(state.due, state.attempt, state.retry_at_ms is None),
            *(state.probation_until_ms is None, _refused(state.refused)),
            *(state.cause and state.cause.reason, _transfer(state)),
        )
        refused = None if run is None else _refused(run.refused)
        under_way = None if run is None else (run.step, run.want, refused)
        disk = (record, _refused(self.record.refused), self.content)
        return (disk, memory, machine, under_way, self.seen, self.accepted)

    @property
    def facts(self) -> Facts:
        """What the agent tells the machine."""
        record = self.record
        trial = record.trial
        if trial is not None and record.serves is not None:
            trial = replace(trial, version=record.serves)
        return Facts(
            active=self.latest,
            standby=record.slots[record.standby],
            counter=record.counter,
            trial=None if self.latest is None else trial,
            refused=record.refused,
        )

    def feed(self, event: Event, *, is_full: bool = False) -> Device:
        """Give the machine an event, and do what it answers but for steps.

        Args:
            event: What happened.
            is_full: Whether the disk refuses to keep what it answers.
        """
        state, actions = step(self.state, event, now_ms=self.now_ms, rng=_RNG)
        device = replace(self, state=state)
        for action in actions:
            if isinstance(action, Run):
                loaded = device.prepared if action.step is Step.SWITCH else None
                device = replace(device, run=action, prepared=loaded)
            elif isinstance(action, Keep) and not is_full:
                record = replace(device.record, refused=action.refused)
                device = replace(device, record=record)
        return device

    def hear(self, number: int, want: Want, *, is_full: bool = False) -> Device:
        """A desired document comes; one that is not newer is dropped."""
        if number <= self.seen:
            return self
        heard = replace(self, seen=number)
        return heard.feed(Desired(want=want), is_full=is_full)

    def tick(self, figures: Figures = Figures(), *, ms: int = LATER_MS) -> Device:  # noqa: B008
        """Let time pass."""
        return replace(self, now_ms=self.now_ms + ms).feed(Tick(figures=figures))

    def done(self) -> Device:
        """Tell the machine that what it asked for is done."""
        run = self.run
        if run is None:
            return self
        found = None
        if run.step is Step.MANIFEST:
            found = FOUND[run.want.version]
        rest = replace(self, run=None)
        return rest.feed(Done(serial=run.serial, facts=rest.facts, found=found))

    def failed(self, reason: Reason, *, is_full: bool = False) -> Device:
        """Tell the machine that what it asked for has failed."""
        run = self.run
        if run is None:
            return self
        refusal = Refusal(
            release=f"{NAME}/{run.want.version}", reason=reason, what="", at_ms=0
        )
        rest = replace(self, run=None)
        event = Failed(serial=run.serial, facts=rest.facts, refusal=refusal)
        return rest.feed(event, is_full=is_full)

    def restarted(self, *, is_full: bool = False) -> Device:
        """Lose all but the disk, and start as `skerry.edge.start` does."""
        record = _verified(self.record, self.content)
        strikes = record.strikes + (1 if record.trial and not is_full else 0)
        record = replace(record, strikes=strikes)
        standby = record.slots[record.standby]
        is_given_up = strikes >= MOST_STRIKES and standby is not None
        if record.trial is not None and is_given_up:
            refusal = Refusal(
                release=f"{NAME}/{record.serves}",
                reason=Reason.PROBATION,
                what="",
                at_ms=0,
            )
            refused = Refused(refusal=refusal, rollout=record.trial.rollout)
            record = record.rolled_back(keep=False, refused=refused)
            standby = None
        fallback = standby if record.trial else None
        device = replace(
            self,
            record=record,
            latest=record.serves,
            fallback=fallback,
            got=None,
            staged=None,
            prepared=None,
            run=None,
            now_ms=0,
            seen=-1,
            accepted=self.accepted | ({record.serves} - {None}),
            state=UpdateState(name=NAME, policy=POLICY),
        )
        device = device.feed(Restarted(facts=device.facts))
        return device.feed(Desired(want=None))

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is under way."""
        return self.run is None and self.state.phase is Phase.IDLE


def put(
    pair: tuple[ValueT, ValueT], place: int, value: ValueT
) -> tuple[ValueT, ValueT]:
    """The pair with another value in one place."""
    return (value, pair[1]) if place == 0 else (pair[0], value)


def _verified(record: Record, content: tuple[int, int]) -> Record:
    """As `Slots` begins: what is damaged is not there."""
    slots = tuple(
        kept if kept == held else None
        for kept, held in zip(record.slots, content, strict=True)
    )
    checked = replace(record, slots=(slots[0], slots[1]))
    if record.active is not None and checked.serves is None:
        other = record.standby
        back = other if checked.slots[other] is not None else None
        checked = replace(checked, active=back, trial=None, strikes=0)
    return checked


def _refused(refused: Refused | None) -> Hashable:
    if refused is None:
        return None
    return (refused.refusal.release, refused.refusal.reason, refused.rollout)


def _transfer(state: UpdateState) -> Hashable:
    transfer = state.transfer
    return transfer and (transfer.manifest.version, bool(transfer.way))


def _found(version: int) -> Found:
    model, rest = (Blob(sha256=letter * 64, size_bytes=9) for letter in "ab")
    manifest = Manifest(
        name=NAME,
        version=version,
        created_at_ms=0,
        models=(
            ReleaseModel(
                target="any", runtime="null", blob=model, inputs=_SPEC, outputs=_SPEC
            ),
        ),
        golden=rest,
        task=rest,
        requires=1,
    )
    delta = Blob(sha256="d" * 64, size_bytes=1)
    hop = Hop(origin="e" * 64, result=model, delta=delta)
    return Found(manifest=manifest, ways=((hop,),))


FOUND = {version: _found(version) for version in range(1, 6)}
"""What is signed, by version; each can be had as a delta."""
