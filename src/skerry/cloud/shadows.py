"""The fleet's shadows: kept in the database, told to the devices and to listeners.

A change is committed first and told afterwards. What must be told is the newest desired
side, so a device that is told twice, or late, misses nothing: a name in `_untold` is
published as soon as the link stands, again after each failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.engine import RowMapping

from skerry.cloud import tables
from skerry.cloud.audit import write_audit, write_audits
from skerry.cloud.database import Database, to_text
from skerry.comms.codec import encode
from skerry.comms.topics import Topic, write_topic
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import (
    ConflictError,
    DataError,
    SkerryError,
    UsageError,
)
from skerry.core.fleet import Shadow, Stamp
from skerry.core.messages import Direction, Down, Message
from skerry.core.seams import Link
from skerry.evolve.shadow import report, set_desired

log = logging.getLogger(__name__)

Listener = Callable[[str, Shadow, Shadow], Awaitable[None]]
"""Takes the device and its shadow before and after a change."""

Changes = list[tuple[Shadow, Shadow]]
"""Shadows before and after, to be told once the transaction is committed."""
Sign = Callable[[Shadow], Json]
"""Signs what a device should be; gives what stands beside it, or None."""

PAUSE_S = 1.0
"""How long to wait after a failure before telling again."""

TOLD_AT_ONCE = 100
READ_AT_ONCE = 500
"""How many shadows one statement asks for: databases limit its parameters."""

_ATTEMPTS = 5


class Shadows:
    """The shadows of a tenant's devices.

    Args:
        database: Where they are.
        tenant: Whose devices.
        clock: Stamps the changes.
        sign: Signs what devices are told; None leaves it unsigned.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        clock: Clock,
        sign: Sign | None = None,
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._clock = clock
        self._sign = sign
        self._listeners: list[Listener] = []
        self._untold: dict[str, None] = {}
        self._has_untold = asyncio.Event()

    def on_change(self, listener: Listener) -> None:
        """Have a function called after each change of either side."""
        self._listeners.append(listener)

    async def get(self, device: str) -> Shadow:
        """A device's shadow.

        Raises:
            UsageError: There is no such device.
        """
        return await self._database.run(
            lambda connection: read_shadow(connection, self._tenant, device)
        )

    async def list(self) -> tuple[Shadow, ...]:
        """The shadows of all devices, by name."""
        return await self._database.run(
            lambda connection: _read_shadows(connection, self._tenant)
        )

    async def set_desired(
        self,
        device: str,
        patch: Mapping[str, Json],
        *,
        version: int | None = None,
        who: str = "hub",
    ) -> Shadow:
        """Change what a device should be, and tell it.

        Args:
            device: Which.
            patch: A merge patch of the desired side.
            version: The version that the writer has read, or None.
            who: For the audit log.

        Returns:
            The shadow after the change, which is safely kept.

        Raises:
            UsageError: There is no such device.
            ConflictError: The shadow is not at `version`.
            DataError: The side would be too large, or is not JSON.
            StorageError: The database refused; nothing was changed.
        """
        for attempt in range(_ATTEMPTS):
            try:
                old, new = await self._database.run(
                    lambda connection: self.change_desired(
                        connection, device, patch, version=version, who=who
                    )
                )
            except ConflictError:
                # Without a version the writer does not mind who else wrote.
                if version is not None or attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        await self.tell([(old, new)])
        return new

    def change_desired(
        self,
        connection: Connection,
        device: str,
        patch: Mapping[str, Json],
        *,
        version: int | None = None,
        who: str = "hub",
    ) -> tuple[Shadow, Shadow]:
        """Do what `set_desired` does within a transaction of the caller's.

        After its commit the caller hands the result to `tell`.

        Returns:
            The shadow before and after.
        """
        old = read_shadow(connection, self._tenant, device)
        now_ms = self._clock.unix_ms()
        new = set_desired(old, patch, version=version, now_ms=now_ms)
        if new is not old:
            _write_shadow(connection, old, new)
            write_audit(
                connection,
                at_ms=now_ms,
                who=who,
                what="shadow.desired",
                document={
                    "device": device,
                    "version": new.version,
                    "patch": dict(patch),
                },
            )
        return old, new

    def change_many(
        self,
        connection: Connection,
        patches: Mapping[str, Mapping[str, Json]],
        *,
        who: str,
    ) -> Changes:
        """Do what `change_desired` does for many devices: a few statements for all.

        Args:
            connection: Of the caller's transaction.
            patches: By device.
            who: For the audit log.

        Returns:
            The shadows before and after, in the order of the patches.
        """
        now_ms = self._clock.unix_ms()
        olds = read_shadows(connection, self._tenant, list(patches))
        changes = [
            (olds[device], set_desired(olds[device], patch, now_ms=now_ms))
            for device, patch in patches.items()
        ]
        changed = [(old, new) for old, new in changes if new is not old]
        write_shadows(connection, self._tenant, [new for _, new in changed])
        write_audits(
            connection,
            at_ms=now_ms,
            who=who,
            what="shadow.desired",
            documents=[
                {
                    "device": new.device,
                    "version": new.version,
                    "patch": dict(patches[new.device]),
                }
                for _, new in changed
            ],
        )
        return changes

    def take(
        self, connection: Connection, tenant: str, device: str, message: Message
    ) -> Callable[[], Awaitable[None]]:
        """Take a `reported` message; a function for `Ingest.take`.

        Raises:
            DataError: It has no patch, or the side would be too large.
        """
        patch = message.body.get("patch")
        if not isinstance(patch, Mapping):
            raise DataError(
                f"a reported message has the patch {patch!r:.80}, an object was"
                " expected",
                hint='Send {"patch": {…}}.',
            )
        old = read_shadow(connection, tenant, device)
        new = report(old, patch, now_ms=self._clock.unix_ms())
        if new is not old:
            _write_shadow(connection, old, new)
        return lambda: self.tell([(old, new)])

    async def tell(self, changes: Iterable[tuple[Shadow, Shadow]]) -> None:
        """After a commit: tell devices and listeners what has changed."""
        for old, new in changes:
            if new is old:
                continue
            if new.desired_stamps != old.desired_stamps:
                self.tell_again([new.device])
            for listener in self._listeners:
                try:
                    await listener(new.device, old, new)
                except Exception:  # the fault of one must not stop the hub
                    log.exception(
                        "shadow.listener_failed", extra={"device": new.device}
                    )

    def tell_again(self, devices: Iterable[str]) -> None:
        """Have what these devices should be published once more, soon."""
        self._untold.update(dict.fromkeys(devices))
        if self._untold:
            self._has_untold.set()

    async def tell_all(self) -> None:
        """Have what all devices should be published once more."""
        self.tell_again(shadow.device for shadow in await self.list())

    async def run(self, link: Link) -> None:
        """Publish for ever what has not been told; all of it, to begin with."""
        await self.tell_all()
        while True:
            await self._has_untold.wait()
            await link.wait_connected()
            devices = list(self._untold)[:TOLD_AT_ONCE]
            for device in devices:
                del self._untold[device]
            if not self._untold:
                self._has_untold.clear()
            try:
                await self._publish(link, devices)
            except SkerryError as error:
                log.warning("shadow.untold", extra={"what": error.what})
                self.tell_again(devices)
                await self._clock.sleep(PAUSE_S)

    async def _publish(self, link: Link, devices: Sequence[str]) -> None:
        shadows = await self._database.run(
            lambda connection: _read_shadows(connection, self._tenant, devices)
        )
        await asyncio.gather(
            *(
                link.publish(
                    write_topic(
                        Topic(
                            tenant=self._tenant,
                            device=shadow.device,
                            direction=Direction.DOWN,
                            kind=Down.DESIRED,
                        )
                    ),
                    encode(self._desired_message(shadow)),
                    retain=True,
                )
                for shadow in shadows
            )
        )

    def _desired_message(self, shadow: Shadow) -> Message:
        body: dict[str, Json] = {
            "version": shadow.version,
            "desired": dict(shadow.desired),
        }
        if self._sign is not None:
            body["signed"] = self._sign(shadow)
        return Message(
            kind=Down.DESIRED,
            device=shadow.device,
            sent_at_ms=self._clock.unix_ms(),
            body=body,
        )


def read_shadow(connection: Connection, tenant: str, device: str) -> Shadow:
    """Read a shadow, to change it in the same transaction.

    Raises:
        UsageError: There is no such device.
    """
    table = tables.shadows
    one = (
        select(table)
        .where(table.c.tenant == tenant, table.c.device == device)
        .with_for_update()
    )
    row = connection.execute(one).mappings().first()
    if row is None:
        raise UsageError(
            f"there is no device {device!r:.80}", hint="See: skerry device ls."
        )
    return _to_shadow(row)


def read_shadows(
    connection: Connection, tenant: str, devices: Sequence[str]
) -> dict[str, Shadow]:
    """Read shadows, to change them in the same transaction.

    Raises:
        UsageError: There is no such device.
    """
    found: dict[str, Shadow] = {}
    for at in range(0, len(devices), READ_AT_ONCE):
        some = devices[at : at + READ_AT_ONCE]
        shadows = _read_shadows(connection, tenant, some, for_update=True)
        found |= {shadow.device: shadow for shadow in shadows}
    for device in devices:
        if device not in found:
            raise UsageError(
                f"there is no device {device!r:.80}", hint="See: skerry device ls."
            )
    return found


def add_shadow(connection: Connection, tenant: str, device: str) -> None:
    """Add the empty shadow of a new device."""
    shadow = Shadow(device=device, tenant=tenant)
    connection.execute(
        insert(tables.shadows).values(tenant=tenant, device=device, **_row(shadow))
    )


def _read_shadows(
    connection: Connection,
    tenant: str,
    devices: Sequence[str] | None = None,
    *,
    for_update: bool = False,
) -> tuple[Shadow, ...]:
    table = tables.shadows
    wanted = select(table).where(table.c.tenant == tenant).order_by(table.c.device)
    if for_update:
        wanted = wanted.with_for_update()
    if devices is not None:
        wanted = wanted.where(table.c.device.in_(devices))
    return tuple(_to_shadow(row) for row in connection.execute(wanted).mappings())


def _write_shadow(connection: Connection, old: Shadow, new: Shadow) -> None:
    table = tables.shadows
    written = connection.execute(
        update(table)
        .where(table.c.tenant == old.tenant, table.c.device == old.device)
        .where(table.c.version == old.version)
        .values(**_row(new))
    )
    if written.rowcount != 1:
        raise ConflictError(
            f"the shadow of {old.device} has changed since version {old.version}",
            hint="Read the shadow again, then change it.",
        )


def write_shadows(
    connection: Connection, tenant: str, shadows: Sequence[Shadow]
) -> None:
    """Write shadows that were read for update in this transaction."""
    table = tables.shadows
    if shadows:
        connection.execute(
            update(table)
            .where(table.c.tenant == tenant, table.c.device == bindparam("its_device"))
            .values({key: bindparam(f"its_{key}") for key in _row(shadows[0])}),
            [
                {f"its_{key}": value for key, value in _row(shadow).items()}
                | {"its_device": shadow.device}
                for shadow in shadows
            ],
        )


def _row(shadow: Shadow) -> dict[str, int | str]:
    return {
        "version": shadow.version,
        "desired": to_text(shadow.desired),
        "reported": to_text(shadow.reported),
        "desired_stamps": to_text(shadow.desired_stamps),
        "reported_stamps": to_text(shadow.reported_stamps),
    }


def _to_shadow(row: RowMapping) -> Shadow:
    stamps = dict[str, Stamp]
    return Shadow(
        device=row["device"],
        tenant=row["tenant"],
        version=row["version"],
        desired=msgspec.json.decode(row["desired"]),
        reported=msgspec.json.decode(row["reported"]),
        desired_stamps=msgspec.json.decode(row["desired_stamps"], type=stamps),
        reported_stamps=msgspec.json.decode(row["reported_stamps"], type=stamps),
    )
