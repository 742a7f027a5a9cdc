"""The hub's tables: what `migrations` builds, step by step, in any database.

Documents are JSON in text columns: they are read and written whole, and no query looks
into them. Times are milliseconds since 1970. Each table but `audit` is a tenant's.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Constraints have names of ours, so that a later migration can change them."""

_NAME = String(63)
_HASH = String(64)
_COUNTER = BigInteger().with_variant(Integer, "sqlite")
"""A key that grows by itself: SQLite counts only in a column of type INTEGER."""


def _of_a_device() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["tenant", "device"], ["devices.tenant", "devices.name"]
    )


devices = Table(
    "devices",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("labels", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("enrolled_at_ms", BigInteger),
    Column("last_seen_ms", BigInteger),
    Column("is_online", Boolean, nullable=False),
    Column("cloned_at_ms", BigInteger),
)
"""The fleet: a row is a `skerry.core.fleet.Device`."""

enrolments = Table(
    "enrolments",
    METADATA,
    Column("secret_sha256", _HASH, primary_key=True),
    Column("tenant", _NAME, nullable=False),
    Column("device", _NAME, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("used_at_ms", BigInteger),
    _of_a_device(),
    Index(None, "tenant", "device"),
)
"""One-time tokens, hashed."""

credentials = Table(
    "credentials",
    METADATA,
    Column("secret_sha256", _HASH, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("device", _NAME),
    Column("created_at_ms", BigInteger, nullable=False),
    _of_a_device(),
    Index(None, "tenant", "device", "kind"),
)
"""Who may come in, hashed: kind `api` or `mqtt`, scope `operator` or `device`."""

shadows = Table(
    "shadows",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("device", _NAME, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("desired", Text, nullable=False),
    Column("reported", Text, nullable=False),
    Column("desired_stamps", Text, nullable=False),
    Column("reported_stamps", Text, nullable=False),
    _of_a_device(),
)
"""A row is a `skerry.core.fleet.Shadow`."""

events = Table(
    "events",
    METADATA,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    Column("tenant", _NAME, nullable=False),
    Column("device", _NAME, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("received_at_ms", BigInteger, nullable=False),
    Column("name", String(255), nullable=False),
    Column("trace", String(255), nullable=False),
    Column("document", Text, nullable=False),
    _of_a_device(),
    Index(None, "tenant", "device", "id"),
)
"""The devices' logs; `at_ms` is by the device's clock."""

inbox = Table(
    "inbox",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("device", _NAME, primary_key=True),
    Column("epoch", String(64), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    _of_a_device(),
)
"""Per outbox of a device: the `seq` up to which nothing is missing."""

releases = Table(
    "releases",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("manifest_sha256", _HASH, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)
"""What was published; the document is the manifest as it was signed."""

rollouts = Table(
    "rollouts",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("id", _NAME, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("document", Text, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False, server_default=text("0")),
    Index(None, "tenant", "state"),
)
"""The document is a `skerry.core.fleet.Rollout`, all but its progress."""

rollout_devices = Table(
    "rollout_devices",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("rollout", _NAME, primary_key=True),
    Column("device", _NAME, primary_key=True),
    Column("document", Text, nullable=False),
    ForeignKeyConstraint(["tenant", "rollout"], ["rollouts.tenant", "rollouts.id"]),
    Index(None, "tenant", "device"),
)
"""The document is a `skerry.core.fleet.DeviceProgress`."""

samples = Table(
    "samples",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("device", _NAME, nullable=False),
    Column("release", String(80), nullable=False),
    Column("epoch", String(64), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("document", Text, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("label", String(255)),
    Column("labelled_at_ms", BigInteger),
    UniqueConstraint("tenant", "device", "epoch", "seq"),
    Index(None, "tenant", "release", "at_ms"),
)
"""Field samples worth a label; `release` is `NAME/VERSION`."""

retrainings = Table(
    "retrainings",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("id", _NAME, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("document", Text, nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Index(None, "tenant", "state"),
)
"""Jobs that make a candidate out of labelled samples."""

audit = Table(
    "audit",
    METADATA,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(255), nullable=False),
    Column("what", String(255), nullable=False),
    Column("document", Text, nullable=False),
)
"""Who changed what; rows are only ever added."""
