"""Rollouts on the shadows: the machine of `evolve.rollout`, kept in the database.

Each step of a rollout and the shadows that it changes are one transaction, so a hub
that dies in between resumes where it was. What devices report only marks them as due;
one task looks at them, all that are due at once, and at the clock each second.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection

from skerry.cloud.audit import Act, read_acts, write_audit
from skerry.cloud.database import Database
from skerry.cloud.devices import Devices
from skerry.cloud.releases import Releases
from skerry.cloud.rollout_events import RolloutEvents, changed_elsewhere
from skerry.cloud.rollout_plan import (
    Chosen,
    Plan,
    Preview,
    check_somebody,
    choose,
    preview,
)
from skerry.cloud.rollout_store import UNDER_WAY, RolloutStore
from skerry.cloud.shadows import Changes, Shadows, read_shadows
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import ConflictError, DataError, SkerryError, UsageError
from skerry.core.fleet import Device, Rollout, RolloutState, Shadow
from skerry.core.names import did_you_mean
from skerry.core.release import Manifest
from skerry.evolve.rollout import (
    Action,
    Approve,
    DesiredChangedElsewhere,
    Event,
    Finish,
    Order,
    Pause,
    Resume,
    SetDesired,
    Stop,
    Undo,
    previous_release,
    start,
    steps,
)

log = logging.getLogger(__name__)

TICK_S = 1.0
JOIN_S = 10.0
"""How often a dynamic rollout looks for devices that have come."""

Come = tuple[Sequence[Device], Manifest]
"""Devices that are in no rollout of a release's name, and the release's manifest."""


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
        self._store = RolloutStore(tenant)
        self._events = RolloutEvents(tenant, devices, clock)
        self._due: dict[str, None] = {}
        self._join_s: dict[str, float] = {}
        self._woken = asyncio.Event()
        self._lock = asyncio.Lock()
        shadows.on_change(self._notice)

    async def run(self) -> None:
        """Bring the rollouts on for ever, from where they stand."""
        for rollout in await self._database.run(
            lambda connection: self._store.read(connection, states=UNDER_WAY)
        ):
            self._mark(rollout.progress)
        ticking = asyncio.create_task(self._tick())
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                await self._bring_on()
        finally:
            ticking.cancel()

    async def preview(self, plan: Plan) -> Preview:
        """Say what a rollout would be, were it started now; nothing is changed.

        Raises:
            UsageError: The release or a device is not known, or the plan makes no
                sense.
        """
        manifest, devices = await self._fleet(plan)

        def look(connection: Connection) -> Preview:
            shadows = self._shadows_for(connection, plan, devices)
            chosen = choose(plan, devices, shadows, manifest)
            return preview(plan, chosen, devices, shadows, manifest)

        return await self._database.run(look)

    async def create(self, plan: Plan, *, who: str = "hub") -> Rollout:
        """Begin a rollout.

        Args:
            plan: What is asked for.
            who: For the audit log.

        Raises:
            UsageError: The release or a device is not known, nobody is left, or the
                waves or the gate make no sense.
            ConflictError: There is a rollout of that name, or one that is under way
                on one of these devices and is not to give way.
        """
        manifest, devices = await self._fleet(plan)

        def work(connection: Connection) -> tuple[Sequence[Rollout], Changes]:
            shadows = self._shadows_for(connection, plan, devices)
            chosen = choose(plan, devices, shadows, manifest)
            check_somebody(plan, chosen)
            return self._create(connection, plan, chosen, shadows, who)

        async with self._lock:
            rollouts, changes = await self._database.run(work)
            await self._told(rollouts, changes)
        log.info("rollout.started", extra={"rollout": rollouts[-1].id})
        return rollouts[-1]

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
            lambda connection: self._store.read(connection, limit=limit)
        )

    async def of_device(self, device: str) -> tuple[Rollout, ...]:
        """The rollouts that have a device in a wave, the last started first."""
        return await self._database.run(
            lambda connection: self._store.of_device(connection, device)
        )

    async def acts(self, rollout_id: str) -> tuple[Act, ...]:
        """Who did what to a rollout, the oldest first; from the audit log.

        Raises:
            UsageError: There is no such rollout.
        """

        def work(connection: Connection) -> tuple[Act, ...]:
            self._get(connection, rollout_id)
            return read_acts(connection, kind="rollout", key="rollout", name=rollout_id)

        return await self._database.run(work)

    async def pause(self, rollout_id: str, *, who: str = "hub") -> Rollout:
        """Send nothing until it is resumed.

        Raises:
            UsageError: There is no such rollout.
            ConflictError: It does not run.
        """
        return await self._ask(rollout_id, Pause(by=who))

    async def resume(self, rollout_id: str, *, who: str = "hub") -> Rollout:
        """Go on with a paused rollout.

        Raises:
            UsageError: There is no such rollout.
            ConflictError: It is not paused.
        """
        return await self._ask(rollout_id, Resume(by=who))

    async def approve(self, rollout_id: str, *, who: str = "hub") -> Rollout:
        """Let the next wave begin.

        Raises:
            UsageError: There is no such rollout.
            ConflictError: None of its waves waits for approval.
        """
        return await self._ask(rollout_id, Approve(by=who))

    async def stop(self, rollout_id: str, *, who: str = "hub") -> Rollout:
        """Update no more devices.

        Raises:
            UsageError: There is no such rollout.
            ConflictError: It does not run.
        """
        return await self._ask(rollout_id, Stop(by=who))

    async def undo(self, rollout_id: str, *, who: str = "hub") -> Rollout:
        """Take each device that was told to update back to what it ran before.

        Raises:
            UsageError: There is no such rollout.
            ConflictError: There is nothing to undo.
        """
        return await self._ask(rollout_id, Undo(by=who))

    async def _notice(self, device: str, _: Shadow, __: Shadow) -> None:
        self._mark([device])

    def _mark(self, devices: Iterable[str]) -> None:
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
            for name in await self._database.run(self._store.under_way):
                try:
                    await self._bring_one_on(name, due)
                except SkerryError as error:
                    # What is due is looked at again with the next tick.
                    self._due.update(due)
                    log.exception(
                        "rollout.stuck", extra={"rollout": name, "what": error.what}
                    )

    async def _bring_one_on(self, rollout_id: str, due: Mapping[str, None]) -> None:
        come = await self._come(rollout_id)

        def look(connection: Connection) -> tuple[Rollout, Changes]:
            rollout = self._get(connection, rollout_id)
            events = self._events.gather(connection, rollout, due)
            if come is not None:
                events += self._events.joined(connection, rollout, *come)
            return self._apply(connection, rollout, events)

        def give_up(connection: Connection) -> tuple[Rollout, Changes]:
            rollout = self._get(connection, rollout_id)
            return self._apply(connection, rollout, [Stop(by="the hub")])

        try:
            rollout, changes = await self._database.run(look)
        except DataError:
            # A shadow has no room for the release: trying each second will not help.
            log.exception("rollout.given_up", extra={"rollout": rollout_id})
            rollout, changes = await self._database.run(give_up)
        await self._told([rollout], changes)

    async def _told(self, rollouts: Sequence[Rollout], changes: Changes) -> None:
        """After a commit: remember, and tell whom it concerns."""
        for rollout in rollouts:
            self._store.keep(rollout)
            if not rollout.state.is_under_way:
                log.info(
                    "rollout.ended",
                    extra={"rollout": rollout.id, "state": rollout.state.value},
                )
        await self._shadows.tell(changes)
        # A device may run the release already: then it has nothing new to report.
        self._mark([new.device for _, new in changes])

    async def _ask(self, rollout_id: str, order: Order) -> Rollout:
        verb = type(order).__name__.lower()

        def work(connection: Connection) -> tuple[Rollout, Changes]:
            before = self._get(connection, rollout_id)
            shadows = read_shadows(connection, self._tenant, list(before.progress))
            elsewhere = changed_elsewhere(before, shadows.values())
            self._audit(connection, order.by, f"rollout.{verb}", rollout_id)
            after, changes = self._apply(connection, before, [*elsewhere, order])
            if after.state is before.state:
                raise ConflictError(
                    f"rollout {rollout_id} is {before.state.value}: there is nothing "
                    f"to {verb}",
                    hint="See: skerry rollout show.",
                )
            return after, changes

        async with self._lock:
            rollout, changes = await self._database.run(work)
            await self._told([rollout], changes)
        return rollout

    async def _fleet(self, plan: Plan) -> tuple[Manifest, tuple[Device, ...]]:
        """The release's manifest, and all devices."""
        manifest = await self._releases.get(plan.release)
        return manifest, await self._devices.list()

    def _shadows_for(
        self, connection: Connection, plan: Plan, devices: Sequence[Device]
    ) -> Mapping[str, Shadow]:
        named = {*plan.devices, *(name for one in plan.waves for name in one.devices)}
        known = [device.name for device in devices]
        names = [name for name in known if name in named or not named]
        return read_shadows(connection, self._tenant, names)

    async def _come(self, rollout_id: str) -> Come | None:
        """Look, now and then, who has come that a dynamic rollout may be for."""
        rollout = await self.get(rollout_id)
        now_s = self._clock.wall_s()
        if not rollout.is_dynamic or now_s < self._join_s.get(rollout_id, now_s):
            return None
        self._join_s[rollout_id] = now_s + JOIN_S
        devices = await self._devices.list()
        taken = await self._database.run(
            lambda connection: self._store.taken(connection, rollout.release.name)
        )
        come = [device for device in devices if device.name not in taken]
        return come, await self._releases.get(rollout.release)

    def _create(
        self,
        connection: Connection,
        plan: Plan,
        chosen: Chosen,
        shadows: Mapping[str, Shadow],
        who: str,
    ) -> tuple[Sequence[Rollout], Changes]:
        name = plan.release.name
        devices = [device for wave in chosen.waves for device in wave.devices]
        given_way, changes = self._give_way(connection, plan, devices)
        rollout, actions = start(
            plan.id or f"{name[:40].rstrip('-')}-{plan.release.version}-{_suffix()}",
            plan.release,
            chosen.waves,
            previous={
                device: previous_release(shadows[device], name) for device in devices
            },
            now_ms=self._clock.unix_ms(),
            gate=plan.gate,
            zones=chosen.zones,
            on_failure=plan.on_failure,
            approval=plan.approval,
            window=plan.window,
            query=plan.query,
            is_dynamic=plan.is_dynamic,
            excluded=chosen.excluded,
            tenant=self._tenant,
        )
        if self._store.find(connection, rollout.id) is not None:
            raise ConflictError(
                f"there is a rollout {rollout.id} already",
                hint="Choose another id, or leave it out.",
            )
        self._store.add(connection, rollout)
        fields: dict[str, Json] = {
            "release": str(plan.release),
            "devices": len(devices),
        }
        self._audit(connection, who, "rollout.created", rollout.id, fields)
        changes += self._act(connection, rollout, actions)
        return [*given_way, rollout], changes

    def _give_way(
        self, connection: Connection, plan: Plan, devices: Sequence[str]
    ) -> tuple[Sequence[Rollout], Changes]:
        changes: Changes = []
        given_way = []
        for other in self._store.read(connection, states=UNDER_WAY):
            shared = [device for device in devices if device in other.progress]
            if other.release.name != plan.release.name or not shared:
                continue
            if other.state.is_going_on and not plan.supersede:
                raise ConflictError(
                    f"rollout {other.id} of {other.release} is under way on "
                    f"{shared[0]}",
                    hint=f"Stop {other.id} first, or let the new one supersede it.",
                )
            events = [DesiredChangedElsewhere(device=device) for device in shared]
            after, more = self._apply(connection, other, events)
            given_way.append(after)
            changes += more
        return given_way, changes

    def _apply(
        self, connection: Connection, before: Rollout, events: Sequence[Event]
    ) -> tuple[Rollout, Changes]:
        """Let the machine take events, do what it says, and keep where it stands."""
        rollout, actions = steps(before, events, self._clock.unix_ms())
        if rollout is not before:
            rollout = self._store.write(connection, before, rollout)
        if rollout.wave > before.wave:
            number = {"wave": rollout.wave + 1}
            self._audit(connection, "hub", "rollout.wave", rollout.id, number)
        is_new = rollout.state is not before.state
        if is_new and rollout.state is RolloutState.AWAITING:
            self._audit(connection, "hub", "rollout.awaits_approval", rollout.id)
        return rollout, self._act(connection, rollout, actions)

    def _act(
        self, connection: Connection, rollout: Rollout, actions: Sequence[Action]
    ) -> Changes:
        patches: dict[str, Mapping[str, Json]] = {}
        for action in actions:
            if isinstance(action, Finish):
                fields = {"state": action.state.value, "reason": rollout.reason}
                self._audit(connection, "hub", "rollout.ended", rollout.id, fields)
            else:
                patches[action.device] = _patch(rollout, action)
        return self._shadows.change_many(
            connection, patches, who=f"rollout {rollout.id}"
        )

    def _audit(
        self,
        connection: Connection,
        who: str,
        what: str,
        rollout_id: str,
        fields: Mapping[str, Json] | None = None,
    ) -> None:
        write_audit(
            connection,
            at_ms=self._clock.unix_ms(),
            who=who,
            what=what,
            document={"rollout": rollout_id, **(fields or {})},
        )

    def _get(self, connection: Connection, rollout_id: str) -> Rollout:
        rollout = self._store.find(connection, rollout_id)
        if rollout is None:
            known = [one.id for one in self._store.read(connection, limit=100)]
            raise UsageError(
                f"there is no rollout {rollout_id!r:.80}",
                hint=did_you_mean(rollout_id[:80], known),
            )
        return rollout


def _patch(rollout: Rollout, action: SetDesired) -> Mapping[str, Json]:
    """The merge patch of a desired side; null takes a key of an earlier one away."""
    entry: Json = None
    if action.release is not None:
        is_forth = action.release == rollout.release
        window: Json = None
        if rollout.window is not None and is_forth:
            zone = rollout.progress[action.device].zone or rollout.window.zone
            window = {**msgspec.to_builtins(rollout.window), "zone": zone}
        entry = {
            "version": action.release.version,
            "rollout": rollout.id,
            "attempt": action.attempt if action.attempt > 1 else None,
            "window": window,
        }
    return {"releases": {rollout.release.name: entry}}


def _suffix() -> str:
    return secrets.token_hex(3)
