"""A gateway as one process: it serves first, and then looks for its hub."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skerry import __version__
from skerry.comms.codec import encode
from skerry.comms.http import HttpBlobs, HubHttp, fetch_bytes
from skerry.comms.links import Will
from skerry.comms.mqtt import MqttSettings, open_mqtt
from skerry.comms.outbox import Outbox
from skerry.comms.pace import LEAST_BYTES_PER_S
from skerry.comms.topics import Topic, write_topic
from skerry.comms.uplink import Uplink
from skerry.core.clock import SystemClock, local_zone
from skerry.core.documents import to_json
from skerry.core.durable import hold, make_folder, write_file
from skerry.core.errors import SkerryError, TrustError, UsageError
from skerry.core.messages import Direction, Message, Up
from skerry.core.release import ANY_TARGET, Blob, Reason
from skerry.core.schemas import Schemas
from skerry.core.seams import Link, Source
from skerry.edge.agent import Agent, AgentSettings
from skerry.edge.engine import Engine
from skerry.edge.enrolment import (
    IDENTITY_FILE,
    TRUST_FOLDER,
    Identity,
    enrol,
    read_identity,
)
from skerry.edge.faces import (
    Addresses,
    Faces,
    Isolation,
    check_reach,
    open_engine,
    open_faces,
    stop_signals,
    worker_limits,
)
from skerry.edge.neighbours import Neighbours
from skerry.edge.offers import Offers
from skerry.edge.peers import open_peers
from skerry.edge.protocol.regions import Regions
from skerry.edge.protocol.repository import SlotRepository
from skerry.edge.protocol.service import InferenceService
from skerry.edge.sealed_folder import OUTBOX_FILE, GivenKey, open_vault
from skerry.edge.slots import Slots
from skerry.edge.start import start_serving
from skerry.edge.trust import DeviceTrust
from skerry.edge.update_steps import Trust
from skerry.edge.vault import Vault, lending
from skerry.edge.watch import FieldWatch
from skerry.evolve.update_state import UpdatePolicy
from skerry.runtimes.libraries import machine_abi

if TYPE_CHECKING:
    # A gateway without cameras has none of their parts in memory.
    from skerry.edge.streams.sight import OpenSight, Sight

log = logging.getLogger(__name__)

GATEWAY_SCHEMA = "skerry.gateway/1"
LARGEST_METADATA_BYTES = 5_000_000

_PAUSE_S = 0.2
_RESTART_S = 1.0
_LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """How a gateway runs.

    Attributes:
        folder: All that it keeps.
        hub: The hub's URL; empty for the one it enrolled at.
        token: The one-time enrolment token; needed at the first start only.
        target: The device's target.
        host: Where it serves; only this machine unless told otherwise.
        port: The port, or 0 for any free one.
        serve_token: What those who ask must show; needed beyond this machine.
        watched: The release that the frames of its source are for; empty for the first
            that serves.
        threads: How many inferences of one release run at once.
        probation_s: How long a release serves before it is accepted for good.
        grpc_port: The port of the gRPC service, 0 for any free one; None: there is
            none, and grpcio is not needed.
        shared_memory: Whether clients on this machine may register shared memory.
        local: Whether programs of this user are served at `local.sock`, too.
        isolation: Where models run: `process` gives each a process of its own, which
            may crash, hang or grow; `thread` runs all in the gateway's, which takes
            less memory.
        memory_limit_mb: How much memory, in MB of a million bytes, the process of one
            model may hold before it is stopped and started anew; None: half of this
            machine's.
        providers: Execution providers of onnxruntime, in order of wish.
        schemas: What producers here send and consumers read, by release name, where
            that is known; else what the release before spoke.
        peers: Whether it gives blobs to gateways of the same site, and asks them first.
        peers_host: Where it gives them: an address by which they reach it.
        peers_port: The port of that, or 0 for any free one.
        disk_quota_mb: How many MB of a million bytes releases and downloads may take
            on the disk; None: all that is free.
        least_bytes_per_s: What is fetched from the hub slower than this, over a
            minute, is given up and gone on with later.
        accept_unsigned: Whether to obey a hub that does not sign what it tells this
            device to run, until the first time that it does.
        seal_key: The key that seals the folder, or None.
    """

    folder: Path
    hub: str = ""
    token: str | None = field(default=None, repr=False)
    target: str = ANY_TARGET
    host: str = "127.0.0.1"
    port: int = 0
    serve_token: str | None = field(default=None, repr=False)
    watched: str = ""
    threads: int = 1
    probation_s: float = 5.0
    grpc_port: int | None = None
    shared_memory: bool = False
    local: bool = False
    isolation: Isolation = "process"
    memory_limit_mb: float | None = None
    providers: tuple[str, ...] = ()
    schemas: Mapping[str, Schemas] = field(default_factory=dict)
    peers: bool = False
    peers_host: str = "127.0.0.1"
    peers_port: int = 0
    disk_quota_mb: float | None = None
    least_bytes_per_s: float = LEAST_BYTES_PER_S
    accept_unsigned: bool = False
    seal_key: GivenKey | None = None


async def run_gateway(
    settings: GatewaySettings,
    *,
    ready: Callable[[str], None] | None = None,
    source: Source | None = None,
    sight: Sight | None = None,
) -> None:
    """Run a gateway until it is told to stop: by SIGTERM, SIGINT or cancellation.

    Args:
        settings: How it runs.
        ready: Told the address once it serves and the agent runs.
        source: What stands for its sensors, such as a recording, or None.
        sight: Its cameras, or None.

    Raises:
        UsageError: The settings contradict each other, it is not enrolled, or there is
            a key and the folder is not sealed.
        TrustError: The hub does not take the token, or is another one; or the folder
            is sealed, and not with this key.
        LinkError: The hub cannot be reached for the first enrolment.
        StateError: The port is in use, or the folder is another gateway's.
        NewerSchemaError: A newer Skerry has run in this folder.
    """
    _check(settings)
    limits = worker_limits(settings.memory_limit_mb, settings.isolation)
    make_folder(settings.folder)
    stop = asyncio.Event()
    lock = hold(settings.folder / "gateway.lock", who="gateway")
    with lock, stop_signals(stop):
        vault = await asyncio.to_thread(open_vault, settings.folder, settings.seal_key)
        engine = open_engine(
            clock=SystemClock(),
            threads=settings.threads,
            isolation=settings.isolation,
            limits=limits,
            providers=settings.providers,
            lend=lending(vault),
        )
        with engine as opened:
            identity = await _identify(settings, vault)
            gateway = _Gateway(
                settings, identity, opened, vault, source=source, sight=sight
            )
            await gateway.run(stop, ready)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linked:
    """What a gateway has whether the hub can be reached or not."""

    link: Link
    uplink: Uplink
    sight: OpenSight | None


class _Gateway:
    """The parts of a running gateway."""

    def __init__(
        self,
        settings: GatewaySettings,
        identity: Identity,
        engine: Engine,
        vault: Vault,
        *,
        source: Source | None,
        sight: Sight | None,
    ) -> None:
        self._vault = vault
        self._settings = settings
        self._identity = identity
        self._source = source
        self._sight = sight
        self._clock = SystemClock()
        self._rng = np.random.default_rng()
        self._engine = engine
        self._others: Mapping[str, str] = {}

    async def run(
        self, stop: asyncio.Event, ready: Callable[[str], None] | None
    ) -> None:
        settings = self._settings
        slots = await asyncio.to_thread(
            lambda: Slots(
                settings.folder,
                target=settings.target,
                abi=machine_abi(),
                schemas=settings.schemas,
                vault=self._vault,
            )
        )
        troubles = list(slots.troubles)
        troubles += await start_serving(
            self._engine,
            slots,
            now_ms=self._clock.unix_ms(),
            in_thread=asyncio.to_thread,
        )
        async with self._linked() as linked:
            service = self._service(slots, linked.sight)
            front = linked.sight.front if linked.sight else None
            async with (
                open_faces(service, self._faces(), front=front) as addresses,
                self._connected(linked, slots, addresses.http, troubles),
            ):
                self._others = addresses.others
                await asyncio.to_thread(self._write_address, addresses)
                if ready is not None:
                    ready(addresses.http)
                await stop.wait()
                service.stop()

    def _service(self, slots: Slots, sight: OpenSight | None) -> InferenceService:
        settings = self._settings
        return InferenceService(
            self._engine,
            token=settings.serve_token,
            facts=self._facts,
            families=sight.families if sight else tuple,
            repository=SlotRepository(slots),
            regions=Regions() if settings.shared_memory else None,
            probation_s=settings.probation_s,
        )

    def _faces(self) -> Faces:
        settings = self._settings
        return Faces(
            host=settings.host,
            port=settings.port,
            grpc_port=settings.grpc_port,
            local=settings.folder / "local.sock" if settings.local else None,
        )

    @contextlib.asynccontextmanager
    async def _linked(self) -> AsyncIterator[_Linked]:
        """Open the outbox and the link, and put the cameras before them."""
        settings, identity = self._settings, self._identity
        outbox = await asyncio.to_thread(
            lambda: Outbox(settings.folder / OUTBOX_FILE, cipher=self._vault.cipher)
        )
        try:
            link = await open_mqtt(self._mqtt())
            try:
                uplink = Uplink(
                    outbox,
                    link,
                    tenant=identity.tenant,
                    device=identity.device,
                    clock=self._clock,
                )
                yield _Linked(link=link, uplink=uplink, sight=self._see(uplink))
            finally:
                await link.close()
        finally:
            await asyncio.to_thread(outbox.close)

    def _see(self, uplink: Uplink) -> OpenSight | None:
        if self._sight is None:
            return None
        return self._sight.open(
            self._engine,
            put=uplink.put,
            folder=self._settings.folder,
            vault=self._vault,
            token=self._settings.serve_token,
            clock=self._clock,
        )

    @contextlib.asynccontextmanager
    async def _connected(
        self, linked: _Linked, slots: Slots, address: str, troubles: list[str]
    ) -> AsyncIterator[None]:
        """Run the agent and what it needs for as long as the context is open."""
        settings, uplink = self._settings, linked.uplink
        hub = settings.hub or self._identity.hub
        trust = await asyncio.to_thread(self._trust, hub)
        if isinstance(trust, _NoTrust):
            troubles = [*troubles, trust.why]
        async with (
            HttpBlobs(
                hub,
                self._identity.api_token,
                least_bytes_per_s=settings.least_bytes_per_s,
            ) as blobs,
            HubHttp(hub, self._identity.api_token) as http,
            self._neighbours(http, slots) as neighbours,
        ):
            watch = FieldWatch(uplink.put, clock=self._clock, rng=self._rng)
            agent = Agent(
                self._agent_settings(address, neighbours.own if neighbours else ""),
                link=linked.link,
                uplink=uplink,
                blobs=blobs,
                trust=trust,
                engine=self._engine,
                slots=slots,
                clock=self._clock,
                rng=self._rng,
                neighbours=neighbours,
                offers=Offers(http.get, clock=self._clock, rng=self._rng),
                troubles=troubles,
                on_collect=watch.configure,
            )
            sending = asyncio.create_task(_for_ever("uplink", uplink.run))
            running = [asyncio.create_task(_for_ever("agent", agent.run))]
            if self._source is not None:
                look = partial(self._look, watch, self._source)
                running.append(asyncio.create_task(_for_ever("watch", look)))
            if linked.sight is not None:
                see = _for_ever("cameras", linked.sight.run)
                running.append(asyncio.create_task(see))
            try:
                yield
            finally:
                await _cancel(running)
                with contextlib.suppress(SkerryError):
                    await uplink.flush(_LAST_WORDS_S)
                await _cancel([sending])

    @contextlib.asynccontextmanager
    async def _neighbours(
        self, http: HubHttp, slots: Slots
    ) -> AsyncIterator[Neighbours | None]:
        settings = self._settings
        if not settings.peers:
            yield None
            return
        async with open_peers(
            slots.shared,
            partial(http.get, "/v1/neighbours"),
            host=settings.peers_host,
            port=settings.peers_port,
            clock=self._clock,
            rng=self._rng,
            opens=self._vault.open,
        ) as neighbours:
            yield neighbours

    async def _look(self, watch: FieldWatch, source: Source) -> None:
        """Watch what the source shows, as soon as a release serves."""
        name = self._settings.watched
        while not name:
            name = next(iter(self._engine.names()), "")
            await self._clock.sleep(_PAUSE_S)
        await watch.run(source, self._engine, name)

    def _agent_settings(self, address: str, peers: str) -> AgentSettings:
        settings = self._settings
        zone_name, zone = local_zone()
        quota_mb = settings.disk_quota_mb
        return AgentSettings(
            tenant=self._identity.tenant,
            device=self._identity.device,
            folder=settings.folder,
            address=address,
            version=__version__,
            zone=zone_name,
            peers=peers,
            sealed=self._vault.level,
            quota_bytes=None if quota_mb is None else round(quota_mb * 1e6),
            policy=UpdatePolicy(
                target=settings.target,
                abi=machine_abi(),
                probation_s=settings.probation_s,
                zone=zone,
            ),
        )

    def _mqtt(self) -> MqttSettings:
        identity = self._identity
        topic = Topic(
            tenant=identity.tenant,
            device=identity.device,
            direction=Direction.UP,
            kind=Up.STATUS,
        )
        gone = Message(
            kind=Up.STATUS,
            device=identity.device,
            sent_at_ms=self._clock.unix_ms(),
            body={"is_online": False},
        )
        return MqttSettings(
            host=identity.mqtt_host,
            port=identity.mqtt_port,
            client_id=identity.mqtt_username,
            username=identity.mqtt_username,
            password=identity.mqtt_password,
            will=Will(topic=write_topic(topic), payload=encode(gone), retain=True),
        )

    def _trust(self, hub: str) -> Trust:
        identity = self._identity

        def fetch(name: str) -> bytes | None:
            return fetch_bytes(
                f"{hub.rstrip('/')}/v1/trust/{name}",
                identity.api_token,
                largest_bytes=LARGEST_METADATA_BYTES,
                least_bytes_per_s=self._settings.least_bytes_per_s,
            )

        try:
            return DeviceTrust(
                self._settings.folder / TRUST_FOLDER,
                tenant=identity.tenant,
                fetch=fetch,
                clock=self._clock,
                accepts_unsigned=self._settings.accept_unsigned,
                vault=self._vault,
            )
        except TrustError as error:
            log.error("trust.lost", extra={"what": error.what})  # noqa: TRY400
            return _NoTrust(error.what)

    def _facts(self) -> Mapping[str, object]:
        return {
            "tenant": self._identity.tenant,
            "device": self._identity.device,
            "pid": os.getpid(),
            **self._others,
        }

    def _write_address(self, addresses: Addresses) -> None:
        fields = {
            "device": self._identity.device,
            "address": addresses.http,
            "pid": os.getpid(),
            **addresses.others,
        }
        write_file(
            self._settings.folder / "gateway.json",
            to_json(fields, schema=GATEWAY_SCHEMA),
        )


class _NoTrust:
    """Stands for a trust that is damaged: what serves, serves; nothing is updated."""

    def __init__(self, damage: str) -> None:
        self.why = (
            f"{damage}: nothing can be verified until this gateway is enrolled again "
            f"(remove {IDENTITY_FILE}, start it with a new token)"
        )

    def refresh(self) -> None:
        """Refuse."""
        raise self._error()

    def target(self, path: str) -> Blob | None:
        """Refuse."""
        del path
        raise self._error()

    def accept(self, device: str, body: Mapping[str, object]) -> bool:
        """Refuse."""
        del device, body
        raise self._error()

    def _error(self) -> TrustError:
        return TrustError(
            self.why, hint="Enrol it again.", reason=Reason.UNTRUSTED.value
        )


async def _identify(settings: GatewaySettings, vault: Vault) -> Identity:
    identity = await asyncio.to_thread(read_identity, settings.folder, vault)
    if identity is not None:
        return identity
    if not settings.token or not settings.hub:
        raise UsageError(
            f"no gateway has been enrolled in {settings.folder}",
            hint="Give --hub and --token: `skerry device create NAME` prints one.",
        )
    return await enrol(
        settings.folder,
        hub=settings.hub,
        token=settings.token,
        version=__version__,
        target=settings.target,
        vault=vault,
    )


def _check(settings: GatewaySettings) -> None:
    check_reach(settings.host, settings.serve_token)
    if settings.disk_quota_mb is not None and not settings.disk_quota_mb > 0:
        raise UsageError(
            f"the quota of the disk is {settings.disk_quota_mb:g} MB, expected more "
            f"than 0",
            hint="It must hold a release three times: two slots and a download.",
        )
    if settings.threads < 1:
        raise UsageError(
            f"{settings.threads} threads make no gateway", hint="Give at least 1."
        )


async def _for_ever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Begin again whatever ends by an error: serving does not depend on it."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("gateway.task_failed", extra={"task": name})
            await asyncio.sleep(_RESTART_S)
        else:
            return


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
