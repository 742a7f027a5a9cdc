"""The registry: who is in the fleet, how a device gets in, and who may come in.

A device is created with a one-time token, `SECRET.SHA256`: the secret lets it enrol
once within a week, and the hash is that of the root of trust that it must pin, so that
one copied line carries both ways of the first trust. Enrolling gives it credentials of
its own. The hub keeps only hashes: all its secrets are 256 random bits, for which one
round of SHA-256 is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from skerry.cloud import tables
from skerry.cloud.audit import write_audit
from skerry.cloud.database import Database, to_text
from skerry.cloud.shadows import add_shadow
from skerry.comms.links import Grant
from skerry.comms.topics import device_pattern
from skerry.core.clock import Clock
from skerry.core.errors import DataError, TrustError, UsageError
from skerry.core.fleet import Device
from skerry.core.messages import Direction
from skerry.core.names import check_name, did_you_mean
from skerry.core.release import is_sha256

ENROLMENT_DAYS = 7
"""How long a one-time token can be used."""

MOST_LABELS = 32
LONGEST_LABEL = 255

_DAY_MS = 24 * 3600 * 1000

Revoked = Callable[[str], Awaitable[None]]
"""Takes the MQTT user name whose credentials no longer hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a device gets when it enrols; shown once.

    Attributes:
        tenant: Its tenant.
        device: Its name.
        api_token: For the HTTP API.
        username: For the broker: `TENANT/DEVICE`.
        password: For the broker.
    """

    tenant: str
    device: str
    api_token: str = field(repr=False)
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the holder of an API token may do.

    Attributes:
        kind: `operator` may do everything in its tenant, `device` only what is its own.
        tenant: Whose.
        device: Which device, or None for an operator.
    """

    kind: Literal["operator", "device"]
    tenant: str
    device: str | None = None


class Devices:
    """The devices of a tenant and their credentials.

    Args:
        database: Where they are.
        tenant: Whose devices.
        clock: Says what has expired.
    """

    def __init__(self, database: Database, *, tenant: str, clock: Clock) -> None:
        self._database = database
        self._tenant = tenant
        self._clock = clock
        self._revoked: list[Revoked] = []

    def on_revoke(self, listener: Revoked) -> None:
        """Have a function called after credentials have ceased to hold."""
        self._revoked.append(listener)

    async def create(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        root_sha256: str,
        who: str = "hub",
    ) -> str:
        """Register a device, or let one that is there enrol anew.

        The credentials of a device that is there hold until it enrols again; its
        earlier tokens do not.

        Args:
            name: Its name.
            labels: What rollouts choose by; None leaves them as they are.
            root_sha256: The hash of the root of trust that it must pin.
            who: For the audit log.

        Returns:
            The one-time token; it is kept nowhere.

        Raises:
            UsageError: The name cannot be one.
            DataError: The labels or the hash make no sense.
            StorageError: The database refused.
        """
        check_name(name, kind="device")
        _check_labels(labels or {})
        if not is_sha256(root_sha256):
            raise DataError(
                f"{root_sha256!r:.80} is not a SHA-256",
                hint="Give the hash of the root of trust, 64 hexadecimal digits.",
            )
        # Hexadecimal: it is typed after --token, and must not begin with a hyphen.
        secret = secrets.token_hex(32)
        await self._database.run(
            lambda connection: self._create(connection, name, labels, secret, who)
        )
        return f"{secret}.{root_sha256}"

    async def get(self, name: str) -> Device:
        """A device.

        Raises:
            UsageError: There is no such device.
        """
        table = tables.devices
        of_tenant = table.c.tenant == self._tenant

        def work(connection: Connection) -> Device:
            one = select(table).where(of_tenant, table.c.name == name)
            row = connection.execute(one).mappings().first()
            if row is None:
                known = connection.execute(select(table.c.name).where(of_tenant))
                raise UsageError(
                    f"there is no device {name!r:.80}",
                    hint=did_you_mean(name[:80], known.scalars()),
                )
            return _to_device(row)

        return await self._database.run(work)

    async def list(self) -> tuple[Device, ...]:
        """All devices, by name."""
        table = tables.devices
        of_tenant = (
            select(table).where(table.c.tenant == self._tenant).order_by(table.c.name)
        )
        return await self._database.run(
            lambda connection: tuple(
                _to_device(row) for row in connection.execute(of_tenant).mappings()
            )
        )

    def offline(self, connection: Connection) -> set[str]:
        """The devices whose link does not stand, within a caller's transaction."""
        table = tables.devices
        wanted = select(table.c.name).where(
            table.c.tenant == self._tenant, table.c.is_online.is_(False)
        )
        return set(connection.execute(wanted).scalars())

    async def enrol(self, token: str) -> Credentials:
        """Trade a one-time token for credentials; earlier ones cease to hold.

        Args:
            token: As `create` gave it; what follows its dot is for the device.

        Raises:
            TrustError: It is not one of ours (`untrusted`), was used (`replayed`), or
                is too old (`expired`).
            StorageError: The database refused; the token can be used again.
        """
        credentials = await self._database.run(
            lambda connection: self._enrol(connection, token.partition(".")[0])
        )
        for listener in self._revoked:
            await listener(credentials.username)
        return credentials

    async def authenticate(
        self,
        client_id: str,  # noqa: ARG002 - what a broker tells
        username: str,
        password: bytes,
    ) -> Grant | None:
        """Let a device in to the broker, or not.

        Args:
            client_id: Any; our broker keeps each user's client ids apart.
            username: `TENANT/DEVICE`.
            password: As it was given when the device enrolled.

        Returns:
            What it may publish and subscribe to, or None.
        """
        tenant, _, device = username.partition("/")
        if tenant != self._tenant:
            return None
        table = tables.credentials
        kept = select(table.c.secret_sha256).where(
            table.c.tenant == tenant, table.c.device == device, table.c.kind == "mqtt"
        )
        hashes = await self._database.run(
            lambda connection: list(connection.execute(kept).scalars())
        )
        if not any(hmac.compare_digest(_hash(password), known) for known in hashes):
            return None
        return Grant(
            publish=(device_pattern(tenant, device, Direction.UP),),
            subscribe=(device_pattern(tenant, device, Direction.DOWN),),
            retained=1,
        )

    async def authenticate_token(self, token: str) -> Scope | None:
        """Say what the holder of an API token may do; None if it is not one of ours."""
        # A look-up by the hash of 256 random bits tells no timing of any use.
        table = tables.credentials
        kept = select(table).where(
            table.c.secret_sha256 == _hash(token.encode()), table.c.kind == "api"
        )
        row = await self._database.run(
            lambda connection: connection.execute(kept).mappings().first()
        )
        if row is None or row["tenant"] != self._tenant:
            return None
        return Scope(kind=row["scope"], tenant=row["tenant"], device=row["device"])

    async def make_operator_token(self) -> str:
        """Make an operator's API token; earlier ones cease to hold.

        Returns:
            The token; the hub keeps only its hash.

        Raises:
            StorageError: The database refused.
        """
        token = secrets.token_urlsafe(32)

        def work(connection: Connection) -> None:
            table = tables.credentials
            connection.execute(
                delete(table).where(
                    table.c.tenant == self._tenant, table.c.scope == "operator"
                )
            )
            self._add_credential(connection, "api", "operator", None, token)

        await self._database.run(work)
        return token

    async def set_all_offline(self) -> None:
        """Forget who was online: after a start nobody is until it says so."""
        table = tables.devices
        offline = update(table).where(table.c.is_online).values(is_online=False)
        await self._database.run(lambda connection: connection.execute(offline))

    def _create(
        self,
        connection: Connection,
        name: str,
        labels: Mapping[str, str] | None,
        secret: str,
        who: str,
    ) -> None:
        table, now_ms = tables.devices, self._clock.unix_ms()
        this = (table.c.tenant == self._tenant) & (table.c.name == name)
        is_known = connection.execute(select(table.c.name).where(this)).first()
        if not is_known:
            connection.execute(
                insert(table).values(
                    tenant=self._tenant,
                    name=name,
                    labels=to_text(labels or {}),
                    created_at_ms=now_ms,
                    is_online=False,
                )
            )
            add_shadow(connection, self._tenant, name)
        elif labels is not None:
            connection.execute(update(table).where(this).values(labels=to_text(labels)))
        tokens = tables.enrolments
        of_device = (tokens.c.tenant == self._tenant) & (tokens.c.device == name)
        connection.execute(delete(tokens).where(of_device))
        connection.execute(
            insert(tokens).values(
                secret_sha256=_hash(secret.encode()),
                tenant=self._tenant,
                device=name,
                created_at_ms=now_ms,
                expires_at_ms=now_ms + ENROLMENT_DAYS * _DAY_MS,
            )
        )
        write_audit(
            connection,
            at_ms=now_ms,
            who=who,
            what="device.created",
            document={"device": name, "labels": dict(labels or {})},
        )

    def _enrol(self, connection: Connection, secret: str) -> Credentials:
        now_ms = self._clock.unix_ms()
        device = self._use_token(connection, _hash(secret.encode()), now_ms)
        credentials = Credentials(
            tenant=self._tenant,
            device=device,
            api_token=secrets.token_urlsafe(32),
            username=f"{self._tenant}/{device}",
            password=secrets.token_urlsafe(32),
        )
        table = tables.credentials
        connection.execute(
            delete(table).where(
                table.c.tenant == self._tenant, table.c.device == device
            )
        )
        for kind, given in (
            ("api", credentials.api_token),
            ("mqtt", credentials.password),
        ):
            self._add_credential(connection, kind, "device", device, given)
        registry = tables.devices
        connection.execute(
            update(registry)
            .where(registry.c.tenant == self._tenant, registry.c.name == device)
            .values(enrolled_at_ms=now_ms, cloned_at_ms=None)
        )
        write_audit(
            connection,
            at_ms=now_ms,
            who=credentials.username,
            what="device.enrolled",
            document={"device": device},
        )
        return credentials

    def _use_token(self, connection: Connection, hashed: str, now_ms: int) -> str:
        """Mark a token as used and say whose it was; two cannot use it at once."""
        table = tables.enrolments
        this = (table.c.secret_sha256 == hashed) & (table.c.tenant == self._tenant)
        row = connection.execute(select(table).where(this)).mappings().first()
        if row is None:
            raise TrustError(
                "the enrolment token is not one of this hub's",
                hint="Was it copied whole? A later token replaces an earlier one.",
            )
        used = connection.execute(
            update(table)
            .where(this, table.c.used_at_ms.is_(None))
            .values(used_at_ms=now_ms)
        )
        if used.rowcount != 1:
            raise TrustError(
                f"the enrolment token of {row['device']} has been used",
                hint="A token works once: skerry device create gives a new one.",
                reason="replayed",
            )
        if now_ms >= row["expires_at_ms"]:
            raise TrustError(
                f"the enrolment token of {row['device']} is older than"
                f" {ENROLMENT_DAYS} days",
                hint="skerry device create gives a new one.",
                reason="expired",
            )
        return str(row["device"])

    def _add_credential(
        self,
        connection: Connection,
        kind: str,
        scope: str,
        device: str | None,
        secret: str,
    ) -> None:
        connection.execute(
            insert(tables.credentials).values(
                secret_sha256=_hash(secret.encode()),
                kind=kind,
                scope=scope,
                tenant=self._tenant,
                device=device,
                created_at_ms=self._clock.unix_ms(),
            )
        )


def _check_labels(labels: Mapping[str, str]) -> None:
    texts = [*labels, *labels.values()]
    is_text = all(isinstance(text, str) for text in texts)
    if (
        len(labels) > MOST_LABELS
        or not is_text
        or any(len(text) > LONGEST_LABEL for text in texts)
    ):
        raise DataError(
            f"{len(labels)} labels, of which one may be no text or too long",
            hint=f"At most {MOST_LABELS}, of at most {LONGEST_LABEL} letters each.",
        )


def _hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _to_device(row: RowMapping) -> Device:
    return Device(
        name=row["name"],
        tenant=row["tenant"],
        labels=msgspec.json.decode(row["labels"], type=dict[str, str]),
        created_at_ms=row["created_at_ms"],
        enrolled_at_ms=row["enrolled_at_ms"],
        last_seen_ms=row["last_seen_ms"],
        is_online=row["is_online"],
        cloned_at_ms=row["cloned_at_ms"],
    )
