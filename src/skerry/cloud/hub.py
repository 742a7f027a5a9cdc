"""The hub: its parts, in the order in which they start and stop."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.cloud.bandwidth import SiteBandwidth
from skerry.cloud.blobs import Blobs
from skerry.cloud.database import Database, sqlite_url
from skerry.cloud.deltas import Deltas, Pack
from skerry.cloud.devices import Devices
from skerry.cloud.events import Events
from skerry.cloud.ingest import Ingest
from skerry.cloud.neighbours import Neighbours
from skerry.cloud.packing import pack as pack_in_child
from skerry.cloud.presence import PING_TIMEOUT_S, Presence
from skerry.cloud.releases import Releases
from skerry.cloud.retraining import Retrainings, Trainer
from skerry.cloud.rollouts import Rollouts
from skerry.cloud.samples import Samples
from skerry.cloud.shadows import Shadows
from skerry.comms.links import ALL_GRANTED, Grant
from skerry.core.clock import Clock, SystemClock
from skerry.core.documents import Json
from skerry.core.durable import hold, make_folder, storage_errors
from skerry.core.errors import StateError
from skerry.core.fleet import DEFAULT_TENANT
from skerry.core.messages import Up
from skerry.core.names import check_name
from skerry.core.seams import Link

if TYPE_CHECKING:
    from skerry.comms.broker import Broker

log = logging.getLogger(__name__)

DATABASE_FILE = "hub.sqlite"
LOCK_FILE = "hub.lock"
HUB_USER = "hub"
"""The hub's own name at its broker; a device's has a slash in it."""

LINK_TIMEOUT_S = 10.0
"""How long the hub may take to reach its own broker, in real time."""

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a look-up


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """What a hub is told at its start.

    Attributes:
        folder: Where it keeps what it must not lose.
        database: The database's URL, or None for a SQLite file in `folder`.
        host: The address that its listeners bind.
        port: Of the HTTP API; 0 takes a free one.
        mqtt_port: Of the embedded broker; 0 takes a free one.
        tenant: Whose fleet it is.
        site_bytes_per_s: Most bytes of blobs a second to all devices of one site
            together; None: there is no limit.
        blobs: The URL of an S3-compatible store, or None for a folder in `folder`.
    """

    folder: Path
    database: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    mqtt_port: int = 0
    tenant: str = DEFAULT_TENANT
    site_bytes_per_s: float | None = None
    blobs: str | None = None


class Hub:
    """The hub without its HTTP API.

    Args:
        settings: What it is told.
        clock: What it reads time from and waits on.
        link: Its connection to a broker that others run; None starts the embedded
            broker.
        trainer: What makes a candidate of labelled samples; None where it cannot.
        pack: What makes deltas.

    Attributes:
        settings: What it was told.
        clock: Its clock.
        counts: What it has seen, by name.
        database: Its database.
        devices: The registry.
        shadows: What devices should be, and say that they are.
        events: The devices' logs.
        presence: Who is online.
        ingest: What comes up from the fleet.
        blobs: Bytes by their hash.
        releases: What was published.
        deltas: Ways from one model to another.
        served: What devices may fetch.
        rollouts: What is being delivered to whom.
        neighbours: Who can give blobs to whom.
        bandwidth: What downloads take of each site's line.
        samples: What gateways found worth a label.
        retrainings: Jobs that learn from them.

    Raises:
        UsageError: The tenant's name, the database's or the blobs' URL, or the rate
            cannot be one.
    """

    def __init__(
        self,
        settings: HubSettings,
        *,
        clock: Clock | None = None,
        link: Link | None = None,
        trainer: Trainer | None = None,
        pack: Pack = pack_in_child,
    ) -> None:
        tenant = check_name(settings.tenant, kind="tenant")
        self.settings = settings
        self.clock = clock or SystemClock()
        self.counts: Counter[str] = Counter()
        self.database = Database(
            settings.database or sqlite_url(settings.folder / DATABASE_FILE)
        )
        store, clock = self.database, self.clock
        self.devices = Devices(store, tenant=tenant, clock=clock)
        self.blobs = _open_blobs(settings)
        self.releases = Releases(
            store, self.blobs, settings.folder, tenant=tenant, clock=clock
        )
        self.shadows = Shadows(
            store, tenant=tenant, clock=clock, sign=self.releases.instruct
        )
        self.deltas = self._make_deltas(pack)
        self.served = self.deltas.served
        self.events = Events(store, tenant=tenant, clock=clock)
        self.presence = Presence(
            store, tenant=tenant, clock=clock, note=self.events.add
        )
        self.ingest = Ingest(
            store,
            events=self.events,
            presence=self.presence,
            tenant=tenant,
            clock=clock,
            counts=self.counts,
        )
        self.rollouts = Rollouts(
            store,
            self.shadows,
            self.devices,
            self.releases,
            tenant=tenant,
            clock=clock,
        )
        self.neighbours = Neighbours(
            self.devices, self.shadows, secret=self.releases.site_secret, clock=clock
        )
        self.bandwidth = SiteBandwidth(clock, settings.site_bytes_per_s)
        self.samples = Samples(store, tenant=tenant, clock=clock)
        self.retrainings = Retrainings(
            store,
            samples=self.samples,
            blobs=self.blobs,
            trainer=trainer,
            tenant=tenant,
            clock=clock,
        )
        self._join()
        self._link = link
        self._broker: Broker | None = None
        self._password = secrets.token_urlsafe(32)
        self._running: list[asyncio.Task[None]] = []
        self._started = AsyncExitStack()

    def _make_deltas(self, pack: Pack) -> Deltas:
        return Deltas(
            self.releases,
            self.blobs,
            self.shadows,
            self.settings.folder,
            tenant=self.settings.tenant,
            clock=self.clock,
            pack=pack,
        )

    def _join(self) -> None:
        self.ingest.take(Up.REPORTED, self.shadows.take)
        self.ingest.take(Up.EVENT, self.events.take)
        self.ingest.take(Up.SAMPLE, self.samples.take)
        self.ingest.take(Up.STATUS, self.presence.take_status, is_sequenced=False)
        self.presence.on_online(lambda device: self.shadows.tell_again([device]))
        self.releases.on_new_key(self.shadows.tell_all)

    @property
    def link(self) -> Link:
        """Its connection to the broker.

        Raises:
            StateError: The hub is not started.
        """
        if self._link is None:
            raise StateError("the hub has no link", hint="Start it first.")
        return self._link

    @property
    def mqtt_port(self) -> int | None:
        """Where the embedded broker listens; None where others run the broker."""
        return self._broker.port if self._broker else None

    async def start(self) -> None:
        """Bring the database up to date and start the parts.

        Raises:
            StorageError: The disk or the database refused.
            NewerSchemaError: A newer Skerry has changed the database.
            StateError: The broker's port is in use.
            ConflictError: Another hub runs in the folder.
        """
        try:
            make_folder(self.settings.folder)
            lock = hold(self.settings.folder / LOCK_FILE, who="hub")
            self._started.enter_context(lock)
            self._started.push_async_callback(self.database.close)
            if self.settings.database is None:
                _make_private(self.settings.folder / DATABASE_FILE)
            await self.database.migrate()
            await self.blobs.start()
            await self.releases.start()
            await self.deltas.start()
            await self.retrainings.recover()
            self._started.push_async_callback(self.retrainings.close)
            await self.devices.set_all_offline()
            if self._link is None:
                await self._start_broker()
            await self.ingest.subscribe(self.link)
            self._run_parts()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the parts, the last started first."""
        await self._started.aclose()

    async def watch(self) -> None:
        """Wait for as long as all is well.

        Raises:
            Exception: What made a part of the hub fail, which is a bug of ours.
        """
        await asyncio.gather(*self._running)

    async def ping(self, device: str, *, timeout_s: float = PING_TIMEOUT_S) -> float:
        """Ask a device for a sign of life; see `Presence.ping`."""
        return await self.presence.ping(self.link, device, timeout_s=timeout_s)

    async def profile(self, device: str, job: Mapping[str, Json]) -> Mapping[str, Json]:
        """Have a device profile what is installed there; see `Presence.profile`."""
        return await self.presence.profile(self.link, device, job)

    async def _start_broker(self) -> None:
        # A hub on a link of others needs no broker and no client.
        from skerry.comms.broker import Broker
        from skerry.comms.mqtt import MqttSettings, open_mqtt

        settings = self.settings
        broker = Broker(self._authenticate, host=settings.host, port=settings.mqtt_port)
        await broker.start()
        self._broker = broker
        self._started.push_async_callback(broker.stop)
        self.devices.on_revoke(broker.disconnect)
        link = await open_mqtt(
            MqttSettings(
                host=_ANY_ADDRESS.get(settings.host, settings.host),
                port=broker.port,
                client_id=HUB_USER,
                username=HUB_USER,
                password=self._password,
            ),
            clock=self.clock,
        )
        self._started.push_async_callback(link.close)
        try:
            await asyncio.wait_for(link.wait_connected(), LINK_TIMEOUT_S)
        except TimeoutError as error:
            raise StateError(
                f"the hub cannot reach its own broker at {settings.host}:{broker.port}",
                hint="Does a firewall forbid it?",
            ) from error
        self._link = link

    def _run_parts(self) -> None:
        self._running = [
            asyncio.create_task(part, name=name)
            for name, part in (
                ("ingest", self.ingest.run(self.link)),
                ("shadows", self.shadows.run(self.link)),
                ("releases", self.releases.run()),
                ("rollouts", self.rollouts.run()),
                ("deltas", self.deltas.run()),
            )
        ]
        self._started.push_async_callback(_cancel, self._running)

    async def _authenticate(
        self, client_id: str, username: str, password: bytes
    ) -> Grant | None:
        if username == HUB_USER:
            is_hub = hmac.compare_digest(password, self._password.encode())
            return ALL_GRANTED if is_hub else None
        return await self.devices.authenticate(client_id, username, password)


def _open_blobs(settings: HubSettings) -> Blobs:
    if settings.blobs is None:
        return Blobs(settings.folder)
    # Who keeps blobs in a folder needs no client of a store.
    from skerry.cloud.s3 import S3Blobs

    return S3Blobs(settings.folder, settings.blobs)


def _make_private(path: Path) -> None:
    """See that a database is its owner's alone: it holds what cameras saw."""
    with storage_errors(path):
        # SQLite gives its other files the permissions of this one.
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            os.fchmod(file, 0o600)
        finally:
            os.close(file)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            log.error("hub.part_failed", exc_info=ended)
