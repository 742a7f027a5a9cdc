"""Where rollouts are kept: a document each, and a row for each device's progress.

What changes all the time, the devices' progress, is written row by row. A rollout that
is under way is kept in memory as well: a batch of reports then costs what has changed
and not the whole fleet, while its revision tells whether another hub has changed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update

from skerry.cloud import tables
from skerry.cloud.database import to_text
from skerry.core.documents import from_json, to_json
from skerry.core.errors import ConflictError
from skerry.core.fleet import DeviceProgress, Rollout, RolloutState

ROLLOUT_SCHEMA = "skerry.rollout/2"
LARGEST_ROLLOUT_BYTES = 64 << 20
UNDER_WAY = tuple(state for state in RolloutState if state.is_under_way)


class RolloutStore:
    """The rollouts of a tenant.

    Args:
        tenant: Whose.
    """

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._kept: dict[str, Rollout] = {}

    def keep(self, rollout: Rollout) -> None:
        """Remember a rollout as it was committed; forget it once it is at rest."""
        if rollout.state.is_under_way:
            self._kept[rollout.id] = rollout
        else:
            self._kept.pop(rollout.id, None)

    def find(self, connection: Connection, rollout_id: str) -> Rollout | None:
        """Read a rollout; None if there is none of that name."""
        table = tables.rollouts
        this = (table.c.tenant == self._tenant) & (table.c.id == rollout_id)
        revision = connection.execute(select(table.c.revision).where(this)).scalar()
        if revision is None:
            return None
        kept = self._kept.get(rollout_id)
        if kept is not None and kept.revision == revision:
            return kept
        document = connection.execute(select(table.c.document).where(this)).scalar_one()
        return self._whole(connection, document, revision)

    def read(
        self,
        connection: Connection,
        *,
        states: Sequence[RolloutState] = tuple(RolloutState),
        limit: int = 1000,
    ) -> tuple[Rollout, ...]:
        """Read rollouts in some states, the last started first."""
        table = tables.rollouts
        wanted = (
            select(table.c.document, table.c.revision)
            .where(table.c.tenant == self._tenant)
            .where(table.c.state.in_([state.value for state in states]))
            .order_by(table.c.started_at_ms.desc(), table.c.id.desc())
            .limit(limit)
        )
        rows = connection.execute(wanted).all()
        return tuple(self._whole(connection, *row) for row in rows)

    def under_way(self, connection: Connection) -> Sequence[str]:
        """The names of the rollouts that are under way, the last started first."""
        table = tables.rollouts
        wanted = (
            select(table.c.id)
            .where(table.c.tenant == self._tenant)
            .where(table.c.state.in_([state.value for state in UNDER_WAY]))
            .order_by(table.c.started_at_ms.desc(), table.c.id.desc())
        )
        return connection.execute(wanted).scalars().all()

    def of_device(self, connection: Connection, device: str) -> tuple[Rollout, ...]:
        """The rollouts that have a device in a wave, the last started first."""
        rows, table = tables.rollout_devices, tables.rollouts
        wanted = (
            select(table.c.id)
            .join(
                rows, (rows.c.tenant == table.c.tenant) & (rows.c.rollout == table.c.id)
            )
            .where(rows.c.tenant == self._tenant, rows.c.device == device)
            .order_by(table.c.started_at_ms.desc(), table.c.id.desc())
            .limit(100)
        )
        found = [
            self.find(connection, name)
            for name in connection.execute(wanted).scalars().all()
        ]
        return tuple(one for one in found if one is not None)

    def taken(self, connection: Connection, name: str) -> frozenset[str]:
        """Devices that a rollout of a release name is under way on."""
        found = (self.find(connection, one) for one in self.under_way(connection))
        return frozenset(
            device
            for one in found
            if one is not None and one.release.name == name
            for device in one.progress
        )

    def add(self, connection: Connection, rollout: Rollout) -> None:
        """Add a new rollout."""
        named = {"tenant": self._tenant, "id": rollout.id}
        connection.execute(insert(tables.rollouts).values(**named, **_row(rollout)))
        self._write_rows(connection, rollout, {})

    def write(self, connection: Connection, before: Rollout, after: Rollout) -> Rollout:
        """Write what has changed of a rollout.

        Returns:
            The rollout with its new revision; after the commit it may be kept.

        Raises:
            ConflictError: It has changed since `before` was read.
        """
        table = tables.rollouts
        after = replace(after, revision=before.revision + 1)
        written = connection.execute(
            update(table)
            .where(table.c.tenant == self._tenant, table.c.id == after.id)
            .where(table.c.revision == before.revision)
            .values(**_row(after, but=before))
        )
        if written.rowcount != 1:
            raise ConflictError(
                f"the rollout {after.id} has changed since it was read",
                hint="Read it again.",
            )
        self._write_rows(connection, after, before.progress)
        return after

    def _write_rows(
        self,
        connection: Connection,
        rollout: Rollout,
        before: Mapping[str, DeviceProgress],
    ) -> None:
        table = tables.rollout_devices
        named = {"tenant": self._tenant, "rollout": rollout.id}
        added, changed = [], []
        for device, one in rollout.progress.items():
            old = before.get(device)
            if old is None:
                added.append({**named, "device": device, "document": to_text(one)})
            elif old is not one:
                changed.append({"its_device": device, "its_document": to_text(one)})
        if added:
            connection.execute(insert(table), added)
        if changed:
            connection.execute(
                update(table)
                .where(table.c.tenant == self._tenant, table.c.rollout == rollout.id)
                .where(table.c.device == bindparam("its_device"))
                .values(document=bindparam("its_document")),
                changed,
            )

    def _whole(self, connection: Connection, document: str, revision: int) -> Rollout:
        rollout = read_rollout(document.encode())
        table = tables.rollout_devices
        rows = connection.execute(
            select(table.c.device, table.c.document).where(
                table.c.tenant == self._tenant, table.c.rollout == rollout.id
            )
        )
        progress = {device: _read_progress(one) for device, one in rows}
        # The document is not written anew where only progress has changed.
        return replace(rollout, progress=progress, revision=revision)


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


_read_progress = msgspec.json.Decoder(DeviceProgress).decode


def _row(rollout: Rollout, *, but: Rollout | None = None) -> dict[str, str | int]:
    """The row of a rollout; without its document where only progress has changed."""
    bare = replace(rollout, progress={})
    row: dict[str, str | int] = {"revision": rollout.revision}
    if but is None or replace(but, progress={}, revision=rollout.revision) != bare:
        row |= {
            "state": rollout.state.value,
            "document": write_rollout(bare).decode(),
            "started_at_ms": rollout.started_at_ms,
        }
    return row
