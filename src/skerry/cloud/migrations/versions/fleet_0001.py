"""The first tables: one fleet."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.String(63)
_HASH = sa.String(64)
_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _make_registry()
    _make_logs()
    _make_releases()
    _make_learning()
    op.create_table(
        "audit",
        sa.Column("id", _COUNTER, autoincrement=True),
        _number("at_ms"),
        _required("who", sa.String(255)),
        _required("what", sa.String(255)),
        _required("document", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in (
        *("audit", "retrainings", "samples", "rollouts", "releases"),
        *("inbox", "events", "shadows", "credentials", "enrolments", "devices"),
    ):
        op.drop_table(table)


def _make_registry() -> None:
    op.create_table(
        "devices",
        *_names("tenant", "name"),
        _required("labels", sa.Text),
        _number("created_at_ms"),
        _number("enrolled_at_ms", nullable=True),
        _number("last_seen_ms", nullable=True),
        _required("is_online", sa.Boolean),
        sa.PrimaryKeyConstraint("tenant", "name", name="pk_devices"),
    )
    op.create_table(
        "enrolments",
        _required("secret_sha256", _HASH),
        *_names("tenant", "device"),
        _number("created_at_ms"),
        _number("expires_at_ms"),
        _number("used_at_ms", nullable=True),
        sa.PrimaryKeyConstraint("secret_sha256", name="pk_enrolments"),
        _of_a_device("enrolments"),
    )
    _index("enrolments", "tenant", "device")
    op.create_table(
        "credentials",
        _required("secret_sha256", _HASH),
        _required("kind", sa.String(16)),
        _required("scope", sa.String(16)),
        *_names("tenant"),
        sa.Column("device", _NAME),
        _number("created_at_ms"),
        sa.PrimaryKeyConstraint("secret_sha256", name="pk_credentials"),
        _of_a_device("credentials"),
    )
    _index("credentials", "tenant", "device", "kind")
    op.create_table(
        "shadows",
        *_names("tenant", "device"),
        _number("version"),
        _required("desired", sa.Text),
        _required("reported", sa.Text),
        _required("desired_stamps", sa.Text),
        _required("reported_stamps", sa.Text),
        sa.PrimaryKeyConstraint("tenant", "device", name="pk_shadows"),
        _of_a_device("shadows"),
    )


def _make_logs() -> None:
    op.create_table(
        "events",
        sa.Column("id", _COUNTER, autoincrement=True),
        *_names("tenant", "device"),
        _number("at_ms"),
        _number("received_at_ms"),
        _required("name", sa.String(255)),
        _required("trace", sa.String(255)),
        _required("document", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        _of_a_device("events"),
    )
    _index("events", "tenant", "device", "id")
    op.create_table(
        "inbox",
        *_names("tenant", "device"),
        _required("epoch", sa.String(64)),
        _number("seq"),
        _number("updated_at_ms"),
        sa.PrimaryKeyConstraint("tenant", "device", "epoch", name="pk_inbox"),
        _of_a_device("inbox"),
    )


def _make_releases() -> None:
    op.create_table(
        "releases",
        *_names("tenant", "name"),
        sa.Column("version", sa.BigInteger, nullable=False, autoincrement=False),
        _required("manifest_sha256", _HASH),
        _required("document", sa.Text),
        _number("created_at_ms"),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name="pk_releases"),
    )
    _make_jobs("rollouts")


def _make_learning() -> None:
    op.create_table(
        "samples",
        *_names("tenant"),
        _required("id", sa.String(64)),
        *_names("device"),
        _required("release", sa.String(80)),
        _required("epoch", sa.String(64)),
        _number("seq"),
        _number("at_ms"),
        _required("kind", sa.String(16)),
        _required("document", sa.Text),
        _required("input", sa.LargeBinary),
        sa.Column("label", sa.String(255)),
        _number("labelled_at_ms", nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id", name="pk_samples"),
        sa.UniqueConstraint(
            *("tenant", "device", "epoch", "seq"),
            name="uq_samples_tenant_device_epoch_seq",
        ),
    )
    _index("samples", "tenant", "release", "at_ms")
    _make_jobs("retrainings")


def _make_jobs(table: str) -> None:
    op.create_table(
        table,
        *_names("tenant", "id"),
        _required("state", sa.String(16)),
        _required("document", sa.Text),
        _number("started_at_ms"),
        sa.PrimaryKeyConstraint("tenant", "id", name=f"pk_{table}"),
    )
    _index(table, "tenant", "state")


def _names(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _NAME, nullable=False) for name in names]


def _required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _of_a_device(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant", "device"],
        ["devices.tenant", "devices.name"],
        name=f"fk_{table}_devices",
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
