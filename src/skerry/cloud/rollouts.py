"""Rollouts on the shadows: the machine of `evolve.rollout`, kept in the database.

Each step of a rollout and the shadows that it changes are one transaction, so a hub
that dies in between resumes where it was. What devices report only marks them as due;
one task looks at them, and at the clock each second.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection, insert, select, update

from skerry.cloud import tables
from skerry.cloud.audit import write_audit
from skerry.cloud.database import Database
from skerry.cloud.devices import Devices
from skerry.cloud.releases import Releases
from skerry.cloud.shadows import Shadows, read_shadow
from skerry.core.clock import Clock
from skerry.core.documents import Json, from_json, to_json
from skerry.core.errors import ConflictError, DataError, SkerryError, UsageError
from skerry.core.fleet import Gate, Rollout, RolloutState, Shadow, Wave
from skerry.core.names import did_you_mean
from skerry.core.release import ReleaseId
from skerry.evolve.rollout import (
    Action,
    DesiredChangedElsewhere,
    DeviceReported,
    Event,
    Finish,
    SetDesired,
    Stop,
    Tick,
    Undo,
    canary_waves,
    is_changed_elsewhere,
    previous_release,
    start,
    step,
)

log = logging.getLogger(__name__)

ROLLOUT_SCHEMA = "skerry.rollout/1"
LARGEST_ROLLOUT_BYTES = 64 << 20
TICK_S = 1.0
_ACTIVE = (RolloutState.RUNNING, RolloutState.UNDOING)

Change = tuple[Shadow, Shadow]
Changes = list[Change]
"""Shadows before and after, to be told once the transaction is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a person asks for.

    Attributes:
        release: What is to be delivered.
        waves: To whom, in this order; empty means `devices`, a canary first.
        devices: To whom, where there are no waves; empty means all that have
            enrolled.
        gate: What must hold after each wave.
        on_failure: What happens to the updated devices when a gate does not hold.
        id: The rollout's name, or None to have one made.
        supersede: Whether rollouts of the same release name that are under way on
            these devices give way.
    """

    release: ReleaseId
    waves: Sequence[Wave] = ()
    devices: Sequence[str] = ()
    gate: Gate = field(default_factory=Gate)
    on_failure: Literal["stop", "undo"] = "undo"
    id: str | None = None
    supersede: bool = False


class Rollouts:
    """The rollouts of a tenant.

    Args:
        database: Where they are.
        shadows: What they change.
        devices: Who there is.
        releases: What there is.
        tenant: Whose rollouts.
        clock: Says what is late, and waits.
    """

    def __init__(
        self,
        database: Database,
        shadows: Shadows,
        devices: Devices,
        releases: Releases,
        *,
        tenant: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._shadows = shadows
        self._devices = devices
        self._releases = releases
        self._tenant = tenant
        self._clock = clock
        self._due: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._lock = asyncio.Lock()
        shadows.on_change(self._notice)

    async def run(self) -> None:
        """Bring the rollouts on for ever, from where they stand."""
        for rollout in await self._read_active():
            self._mark(rollout.progress)
        ticking = asyncio.create_task(self._tick())
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                await self._bring_on()
        finally:
            ticking.cancel()

    async def create(self, plan: Plan, *, who: str = "hub") -> Rollout:
        """Begin a rollout.

        Args:
            plan: What is asked for.
            who: For the audit log.

        Raises:
            UsageError: The release or a device is not known, or the waves or the gate
                make no sense.
            ConflictError: There is a rollout of that name, or one that is under way
                on one of these devices and is not to give way.
        """
        await self._releases.get(plan.release)
        waves = await self._waves(plan)
        async with self._lock:
            rollout, changes = await self._database.run(
                lambda connection: self._create(connection, plan, waves, who)
            )
        await self._told(rollout, changes)
        log.info("rollout.started", extra={"rollout": rollout.id})
        return rollout

    async def get(self, rollout_id: str) -> Rollout:
        """One rollout.

        Raises:
            UsageError: There is no such rollout.
        """
        return await self._database.run(
            lambda connection: self._get(connection, rollout_id)
        )

    async def list(self, *, limit: int = 100) -> tuple[Rollout, ...]:
        """The rollouts, the last started first.

        Args:
            limit: How many at most.
        """
        return await self._database.run(
            lambda connection: self._read(connection, limit=limit)
        )

    async def of_device(self, device: str) -> tuple[Rollout, ...]:
        """The rollouts that have a device in a wave, the last started first."""
        return tuple(one for one in await self.list() if device in one.progress)

    async def stop(self, rollout_id: str, *, who: str = "hub") -> Rollout:
        """Update no more devices.

        Raises:
            UsageError: There is no such rollout.
            ConflictError: It does not run.
        """
        return await self._ask(rollout_id, Stop(by=who), who)

    async def undo(self, rollout_id: str, *, who: str = "hub") -> Rollout:
        """Take each device that was told to update back to what it ran before.

        Raises:
            UsageError: There is no such rollout.
            ConflictError: There is nothing to undo.
        """
        return await self._ask(rollout_id, Undo(by=who), who)

    async def _notice(self, device: str, _: Shadow, __: Shadow) -> None:
        self._mark([device])

    def _mark(self, devices: Sequence[str] | Mapping[str, object]) -> None:
        self._due.update(dict.fromkeys(devices))
        if self._due:
            self._woken.set()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_S)
            self._woken.set()

    async def _bring_on(self) -> None:
        """Look at the devices that are due, and at the clock."""
        due, self._due = self._due, {}
        async with self._lock:
            for rollout in await self._read_active():
                try:
                    await self._bring_one_on(rollout.id, due)
                except SkerryError as error:
                    # What is due is looked at again with the next tick.
                    self._due.update(due)
                    log.exception(
                        "rollout.stuck",
                        extra={"rollout": rollout.id, "what": error.what},
                    )

    async def _bring_one_on(self, rollout_id: str, due: Mapping[str, None]) -> None:
        def look(connection: Connection) -> tuple[Rollout, Changes]:
            rollout = self._get(connection, rollout_id)
            events = self._events(connection, rollout, due)
            return self._apply(connection, rollout, [*events, Tick()])

        def give_up(connection: Connection) -> tuple[Rollout, Changes]:
            rollout = self._get(connection, rollout_id)
            return self._apply(connection, rollout, [Stop(by="the hub")])

        try:
            rollout, changes = await self._database.run(look)
        except DataError:
            # A shadow has no room for the release: trying each second will not help.
            log.exception("rollout.given_up", extra={"rollout": rollout_id})
            rollout, changes = await self._database.run(give_up)
        await self._told(rollout, changes)

    async def _told(self, rollout: Rollout, changes: Sequence[Change]) -> None:
        await self._shadows.tell(changes)
        # A device may run the release already: then it has nothing new to report.
        self._mark([new.device for _, new in changes])
        if rollout.state not in _ACTIVE:
            log.info(
                "rollout.ended",
                extra={"rollout": rollout.id, "state": rollout.state.value},
            )

    async def _ask(self, rollout_id: str, event: Stop | Undo, who: str) -> Rollout:
        verb = type(event).__name__.lower()

        def work(connection: Connection) -> tuple[Rollout, Changes]:
            before = self._get(connection, rollout_id)
            elsewhere = self._changed_elsewhere(connection, before, before.progress)
            after, changes = self._apply(connection, before, [*elsewhere, event])
            if after.state is before.state:
                raise ConflictError(
                    f"rollout {rollout_id} is {before.state.value}: there is nothing "
                    f"to {verb}",
                    hint="See: skerry rollout show.",
                )
            self._audit(connection, who, f"rollout.{verb}", {"rollout": rollout_id})
            return after, changes

        async with self._lock:
            rollout, changes = await self._database.run(work)
        await self._told(rollout, changes)
        return rollout

    async def _waves(self, plan: Plan) -> tuple[Wave, ...]:
        devices = await self._devices.list()
        known = [device.name for device in devices]
        # Who has not enrolled yet cannot answer, and would only keep the rollout open.
        enrolled = [one.name for one in devices if one.enrolled_at_ms is not None]
        waves = tuple(plan.waves) or canary_waves(plan.devices or enrolled)
        if plan.waves and plan.devices:
            raise UsageError(
                "a rollout has waves or devices, both were given",
                hint="Give waves to choose the order, devices for a canary first.",
            )
        names = {device for wave in waves for device in wave.devices}
        unknown = sorted(names - set(known))
        if unknown:
            raise UsageError(
                f"there is no device {unknown[0]!r:.80}",
                hint=did_you_mean(unknown[0], known),
            )
        return waves

    def _create(
        self,
        connection: Connection,
        plan: Plan,
        waves: Sequence[Wave],
        who: str,
    ) -> tuple[Rollout, Changes]:
        name = plan.release.name
        devices = [device for wave in waves for device in wave.devices]
        changes = self._give_way(connection, plan, devices)
        shadows = {
            device: read_shadow(connection, self._tenant, device) for device in devices
        }
        rollout, actions = start(
            plan.id or f"{name[:40].rstrip('-')}-{plan.release.version}-{_suffix()}",
            plan.release,
            waves,
            previous={
                device: previous_release(shadow, name)
                for device, shadow in shadows.items()
            },
            now_ms=self._clock.unix_ms(),
            gate=plan.gate,
            on_failure=plan.on_failure,
            tenant=self._tenant,
        )
        if self._find(connection, rollout.id) is not None:
            raise ConflictError(
                f"there is a rollout {rollout.id} already",
                hint="Choose another id, or leave it out.",
            )
        connection.execute(
            insert(tables.rollouts).values(
                tenant=self._tenant, id=rollout.id, **_row(rollout)
            )
        )
        changes += self._act(connection, rollout, actions)
        fields = {"rollout": rollout.id, "release": str(plan.release)}
        self._audit(connection, who, "rollout.created", fields)
        return rollout, changes

    def _give_way(
        self, connection: Connection, plan: Plan, devices: Sequence[str]
    ) -> Changes:
        changes: Changes = []
        for other in self._read(connection, states=_ACTIVE):
            shared = [device for device in devices if device in other.progress]
            if other.release.name != plan.release.name or not shared:
                continue
            if other.state is RolloutState.RUNNING and not plan.supersede:
                raise ConflictError(
                    f"rollout {other.id} of {other.release} is under way on "
                    f"{shared[0]}",
                    hint=f"Stop {other.id} first, or let the new one supersede it.",
                )
            events = [DesiredChangedElsewhere(device=device) for device in shared]
            changes += self._apply(connection, other, events)[1]
        return changes

    def _events(
        self, connection: Connection, rollout: Rollout, due: Mapping[str, None]
    ) -> Sequence[Event]:
        concerned = [device for device in due if device in rollout.progress]
        elsewhere = self._changed_elsewhere(connection, rollout, concerned)
        reports = [
            DeviceReported(
                device=device,
                reported=read_shadow(connection, self._tenant, device).reported,
            )
            for device in concerned
        ]
        return [*elsewhere, *reports]

    def _changed_elsewhere(
        self,
        connection: Connection,
        rollout: Rollout,
        devices: Sequence[str] | Mapping[str, object],
    ) -> Sequence[DesiredChangedElsewhere]:
        return [
            DesiredChangedElsewhere(device=device)
            for device in devices
            if is_changed_elsewhere(
                rollout, read_shadow(connection, self._tenant, device)
            )
        ]

    def _apply(
        self, connection: Connection, before: Rollout, events: Sequence[Event]
    ) -> tuple[Rollout, Changes]:
        """Let the machine take events, do what it says, and keep where it stands."""
        rollout = before
        actions: Sequence[Action] = ()
        for event in events:
            rollout, more = step(rollout, event, self._clock.unix_ms())
            actions = (*actions, *more)
        if rollout is not before:
            table = tables.rollouts
            connection.execute(
                update(table)
                .where(table.c.tenant == self._tenant, table.c.id == rollout.id)
                .values(**_row(rollout))
            )
        return rollout, self._act(connection, rollout, actions)

    def _act(
        self, connection: Connection, rollout: Rollout, actions: Sequence[Action]
    ) -> Changes:
        changes: Changes = []
        for action in actions:
            if isinstance(action, Finish):
                fields = {"rollout": rollout.id, "state": action.state.value}
                self._audit(connection, "hub", "rollout.ended", fields)
            else:
                changes.append(self._set_desired(connection, rollout, action))
        return changes

    def _set_desired(
        self, connection: Connection, rollout: Rollout, action: SetDesired
    ) -> Change:
        entry: Json = None
        if action.release is not None:
            entry = {"version": action.release.version, "rollout": rollout.id}
        return self._shadows.change_desired(
            connection,
            action.device,
            {"releases": {rollout.release.name: entry}},
            who=f"rollout {rollout.id}",
        )

    def _audit(
        self, connection: Connection, who: str, what: str, fields: Mapping[str, Json]
    ) -> None:
        write_audit(
            connection,
            at_ms=self._clock.unix_ms(),
            who=who,
            what=what,
            document=fields,
        )

    async def _read_active(self) -> tuple[Rollout, ...]:
        return await self._database.run(
            lambda connection: self._read(connection, states=_ACTIVE)
        )

    def _read(
        self,
        connection: Connection,
        *,
        states: Sequence[RolloutState] = tuple(RolloutState),
        limit: int = 1000,
    ) -> tuple[Rollout, ...]:
        table = tables.rollouts
        wanted = (
            select(table.c.document)
            .where(table.c.tenant == self._tenant)
            .where(table.c.state.in_([state.value for state in states]))
            .order_by(table.c.started_at_ms.desc(), table.c.id.desc())
            .limit(limit)
        )
        documents = connection.execute(wanted).scalars()
        return tuple(read_rollout(document.encode()) for document in documents)

    def _find(self, connection: Connection, rollout_id: str) -> Rollout | None:
        table = tables.rollouts
        document = connection.execute(
            select(table.c.document).where(
                table.c.tenant == self._tenant, table.c.id == rollout_id
            )
        ).scalar()
        return None if document is None else read_rollout(document.encode())

    def _get(self, connection: Connection, rollout_id: str) -> Rollout:
        rollout = self._find(connection, rollout_id)
        if rollout is None:
            known = [one.id for one in self._read(connection)]
            raise UsageError(
                f"there is no rollout {rollout_id!r:.80}",
                hint=did_you_mean(rollout_id[:80], known),
            )
        return rollout


def write_rollout(rollout: Rollout) -> bytes:
    """Write a rollout as canonical JSON."""
    return to_json(rollout, schema=ROLLOUT_SCHEMA)


def read_rollout(content: bytes) -> Rollout:
    """Read a rollout that was kept.

    Raises:
        NewerSchemaError: A newer hub wrote it.
        DataError: It is damaged.
    """
    return from_json(
        Rollout,
        content,
        schema=ROLLOUT_SCHEMA,
        name="a rollout",
        largest_bytes=LARGEST_ROLLOUT_BYTES,
    )


def _row(rollout: Rollout) -> dict[str, str | int]:
    return {
        "state": rollout.state.value,
        "document": write_rollout(rollout).decode(),
        "started_at_ms": rollout.started_at_ms,
    }


def _suffix() -> str:
    return secrets.token_hex(3)
