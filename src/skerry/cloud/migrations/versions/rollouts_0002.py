"""The progress of a rollout: a row a device, no longer a part of one document."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAME = sa.String(63)
_ROLLOUTS = sa.table(
    "rollouts", sa.column("tenant"), sa.column("id"), sa.column("document")
)


def upgrade() -> None:
    """Make the table, and move into it what the documents hold."""
    op.add_column(
        "rollouts",
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
    )
    rows = op.create_table(
        "rollout_devices",
        sa.Column("tenant", _NAME, nullable=False),
        sa.Column("rollout", _NAME, nullable=False),
        sa.Column("device", _NAME, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "rollout", "device", name="pk_rollout_devices"
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "rollout"],
            ["rollouts.tenant", "rollouts.id"],
            name="fk_rollout_devices_rollouts",
        ),
    )
    op.create_index(
        "ix_rollout_devices_tenant_device", "rollout_devices", ["tenant", "device"]
    )
    connection = op.get_bind()
    for tenant, rollout, document in connection.execute(sa.select(_ROLLOUTS)).all():
        progress = msgspec.json.decode(document).get("progress", {})
        if progress:
            op.bulk_insert(
                rows,
                [
                    {
                        "tenant": tenant,
                        "rollout": rollout,
                        "device": device,
                        "document": msgspec.json.encode(one).decode(),
                    }
                    for device, one in progress.items()
                ],
            )


def downgrade() -> None:
    """Put the progress back into the documents, and drop the table."""
    connection = op.get_bind()
    rows = sa.table(
        "rollout_devices",
        *(sa.column(name) for name in ("tenant", "rollout", "device", "document")),
    )
    for tenant, rollout, document in connection.execute(sa.select(_ROLLOUTS)).all():
        of_rollout = sa.select(rows.c.device, rows.c.document).where(
            rows.c.tenant == tenant, rows.c.rollout == rollout
        )
        progress = {
            device: msgspec.json.decode(one)
            for device, one in connection.execute(of_rollout)
        }
        whole = {**msgspec.json.decode(document), "progress": progress}
        # The version before knows neither the schema nor the other states.
        whole["schema"] = "skerry.rollout/1"
        if whole["state"] in {"paused", "awaiting"}:
            whole["state"] = "stopped"
        connection.execute(
            sa.update(_ROLLOUTS)
            .where(_ROLLOUTS.c.tenant == tenant, _ROLLOUTS.c.id == rollout)
            .values(document=msgspec.json.encode(whole).decode())
        )
    op.drop_table("rollout_devices")
    op.drop_column("rollouts", "revision")
