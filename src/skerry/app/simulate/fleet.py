"""A whole fleet in one process: a hub, its gateways, and every bad day they may have.

Hub, agents, engines, slots, trust, outboxes and rollouts are the real ones. What is
simulated lies around them: the broker is in memory, time is moved by hand, and the way
from a gateway to the hub's files is a function call that can fail. Nothing listens on a
port, and the same seed gives the same run.

    async def story(folder: Path) -> None:
        async with FleetSimulator(folder) as fleet:
            await fleet.publish(*make_gain_release("meter", 1))
            rollout = await fleet.roll_out("meter/1")
            assert rollout.state is RolloutState.SUCCEEDED

    simulate(story(folder))
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from skerry.app.publish.publisher import Bundle, Publisher
from skerry.app.simulate.faults import DeviceClock, Metadata
from skerry.app.simulate.gateway import TRUST_FOLDER, SimulatedGateway, Surroundings
from skerry.app.simulate.loop import Life, simulated_loop
from skerry.cloud.hub import HUB_USER, Hub, HubSettings
from skerry.cloud.packing import pack_files
from skerry.cloud.retraining import Trainer
from skerry.cloud.rollout_plan import Plan
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import FakeClock
from skerry.core.documents import Json
from skerry.core.durable import make_folder
from skerry.core.errors import LateError, LinkError, StateError
from skerry.core.fleet import DEFAULT_TENANT, Rollout, Shadow
from skerry.core.release import Manifest, ReleaseId
from skerry.core.seams import BlobStore
from skerry.edge.trust import DeviceTrust
from skerry.evolve.update_state import UpdatePolicy

DEVICES = ("gateway-1", "gateway-2", "gateway-3")
PATIENCE_S = 3600.0
"""How long a condition is waited for unless told otherwise, by the fleet's clock."""


Condition = Callable[[], bool | Awaitable[bool]]


class FleetSimulator:
    """One hub and its gateways; a context manager.

    Args:
        folder: Where their disks are; empty.
        devices: The gateways' names.
        seed: Of all chance.
        trainer: What the hub retrains with, or None.
        policy: What the gateways can run, and how patient they are.
        tenant: Whose fleet it is.

    Attributes:
        clock: The fleet's.
        broker: The broker.
        gateways: By name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        devices: Sequence[str] = DEVICES,
        seed: int = 0,
        trainer: Trainer | None = None,
        policy: UpdatePolicy | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        self.clock = FakeClock()
        self.broker = MemoryBroker()
        self.gateways: dict[str, SimulatedGateway] = {}
        self._folder = folder
        self._devices = tuple(devices)
        self._seed = seed
        self._trainer = trainer
        self._policy = policy or UpdatePolicy()
        self._tenant = tenant
        self._cut: set[str] = set()
        self._hub: Hub | None = None
        self._hub_life = Life()
        self._publisher: Publisher | None = None

    async def __aenter__(self) -> Self:
        simulated_loop()
        await self.start_hub()
        self._publisher = Publisher.create(
            self._folder / "publisher",
            tenant=self._tenant,
            hub_key=self.hub.releases.online_key,
            clock=self.clock,
        )
        await self.hub.releases.trust(self._publisher.metadata())
        for number, name in enumerate(self._devices):
            await self.enrol(name, seed=self._seed * 1000 + number)
        await self.settle()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for gateway in self.gateways.values():
            await gateway.kill()
        if self._hub is not None:
            await self.kill_hub()

    @property
    def hub(self) -> Hub:
        """The hub.

        Raises:
            StateError: It is down.
        """
        if self._hub is None:
            raise StateError("the hub is down", hint="Start it.")
        return self._hub

    @property
    def publisher(self) -> Publisher:
        """Who holds the keys.

        Raises:
            StateError: The simulator has not been entered.
        """
        if self._publisher is None:
            raise StateError("there is no fleet yet", hint="Write: async with.")
        return self._publisher

    async def enrol(self, name: str, *, seed: int = 0) -> SimulatedGateway:
        """Add a gateway: its token, its credentials, its pinned root; and start it."""
        root = self.hub.releases.root
        token = await self.hub.devices.create(
            name, root_sha256=hashlib.sha256(root).hexdigest()
        )
        credentials = await self.hub.devices.enrol(token)
        username, password = credentials.username, credentials.password.encode()
        grant = await self.hub.devices.authenticate(username, username, password)
        if grant is None:
            raise StateError(f"{name} was not let in", hint="Report this as a bug.")
        folder = self._folder / "devices" / name
        make_folder(folder)
        DeviceTrust.pin(folder / TRUST_FOLDER, root, token.partition(".")[2])
        gateway = SimulatedGateway(
            folder,
            tenant=self._tenant,
            device=name,
            grant=grant,
            around=Surroundings(
                broker=self.broker,
                reach_blobs=self._reach_blobs,
                fetch_metadata=self._fetch_metadata,
                ask_hub=self._ask_hub,
            ),
            clock=DeviceClock(self.clock),
            policy=self._policy,
            seed=seed,
        )
        self.gateways[name] = gateway
        await gateway.start()
        return gateway

    # What people do.

    async def publish(
        self,
        manifest: Manifest,
        blobs: Mapping[str, bytes],
        *,
        deltas_from: Mapping[str, bytes] | None = None,
    ) -> Bundle:
        """Sign a release and hand it to the hub.

        Raises:
            The errors of `Publisher.release` and `Releases.publish`.
        """
        bundle = self.publisher.release(manifest, blobs, deltas_from=deltas_from)
        await self.hand_in(bundle)
        return bundle

    async def hand_in(self, bundle: Bundle) -> None:
        """Hand a signed release to the hub.

        Raises:
            The errors of `Releases.publish`.
        """
        for sha256, content in bundle.blobs.items():
            await self.hub.blobs.put(sha256, content)
        await self.hub.releases.publish(bundle.metadata, [bundle.manifest_sha256])

    async def begin(self, release: str, **options: Any) -> str:
        """Begin a rollout and return its name; the options are those of a `Plan`.

        Raises:
            The errors of `Rollouts.create`.
        """
        plan = replace(Plan(release=ReleaseId.parse(release)), **options)
        return (await self.hub.rollouts.create(plan)).id

    async def roll_out(self, release: str, **options: Any) -> Rollout:
        """Begin a rollout and wait until it has come to rest.

        Raises:
            LateError: It has not, in a day.
            The errors of `Rollouts.create`.
        """
        return await self.wait_for(await self.begin(release, **options))

    async def wait_for(self, rollout: str, *, timeout_s: float = 86400.0) -> Rollout:
        """Wait until a rollout has come to rest.

        Raises:
            LateError: It has not.
        """

        async def is_at_rest() -> bool:
            return not (await self.hub.rollouts.get(rollout)).state.is_under_way

        await self.run_until(is_at_rest, timeout_s=timeout_s)
        return await self.hub.rollouts.get(rollout)

    async def shadow(self, device: str) -> Shadow:
        """A device's shadow, as the hub has it."""
        return await self.hub.shadows.get(device)

    def versions(self, release: str) -> dict[str, int | None]:
        """Which version of a release serves on each gateway; None: none."""
        return {name: one.version(release) for name, one in self.gateways.items()}

    # Time.

    async def settle(self) -> None:
        """Let everything go on until it waits for time to pass.

        Raises:
            StateError: It never comes to rest.
        """
        await simulated_loop().settle()

    async def run_until(
        self, condition: Condition, *, timeout_s: float = PATIENCE_S
    ) -> None:
        """Let time pass, from one wake-up to the next, until a condition holds.

        Raises:
            LateError: It does not hold within this time, by the fleet's clock.
        """
        until_s = self.clock.wall_s() + timeout_s
        while True:
            await self.settle()
            held = condition()
            if inspect.isawaitable(held):
                held = await held
            if held:
                return
            self._advance(until_s, timeout_s)

    async def catch(
        self, condition: Callable[[], bool], *, timeout_s: float = PATIENCE_S
    ) -> None:
        """Let time pass and stop in the very moment in which a condition holds.

        What goes on at once, such as the steps of an update, is looked at between any
        two steps of any task; `run_until` looks only when everything waits.

        Raises:
            LateError: It never holds within this time, by the fleet's clock.
        """
        until_s = self.clock.wall_s() + timeout_s
        while not await simulated_loop().settle(until=condition):
            self._advance(until_s, timeout_s)

    async def run_for(self, seconds: float) -> None:
        """Let this much time pass."""
        until_s = self.clock.wall_s() + seconds
        await self.settle()
        while (wake_s := self.clock.next_wake_s()) is not None and wake_s <= until_s:
            self.clock.advance(wall_s=wake_s - self.clock.wall_s())
            await self.settle()
        self.clock.advance(wall_s=max(0.0, until_s - self.clock.wall_s()))
        await self.settle()

    async def skip(self, seconds: float) -> None:
        """Let this much time pass at once, as for a machine that was asleep."""
        await self.settle()
        self.clock.advance(wall_s=seconds)
        await self.settle()

    def _advance(self, until_s: float, timeout_s: float) -> None:
        """Let time pass until somebody wakes."""
        wake_s = self.clock.next_wake_s()
        if wake_s is None or wake_s > until_s:
            raise LateError(
                f"it did not come true within {timeout_s:g} s",
                hint="Look at the shadows and at the devices' logs.",
            )
        self.clock.advance(wall_s=wake_s - self.clock.wall_s())

    # Bad days.

    async def kill(self, device: str) -> None:
        """Kill a gateway; its disk stays as it is."""
        await self.gateways[device].kill()

    async def restart(self, device: str) -> None:
        """Kill a gateway if it runs, and start it."""
        await self.gateways[device].kill()
        self._cut.discard(device)
        await self.gateways[device].start()

    def cut(self, device: str) -> None:
        """Take a gateway's network away."""
        self._cut.add(device)
        self.broker.cut(self.gateways[device].username)

    def join(self, device: str) -> None:
        """Give it back."""
        self._cut.discard(device)
        self.broker.join(self.gateways[device].username)

    async def restart_broker(self, *, down_s: float = 1.0) -> None:
        """Have the broker gone for a while; retained messages are lost."""
        self.broker.stop()
        await self.run_for(down_s)
        self.broker.start()

    async def start_hub(self) -> None:
        """Start the hub, on what is on its disk.

        Raises:
            StateError: It runs already.
        """
        if self._hub is not None:
            raise StateError("the hub runs already", hint="Stop it first.")
        hub = Hub(
            HubSettings(folder=self._folder / "hub", tenant=self._tenant),
            clock=self.clock,
            link=self.broker.link(HUB_USER),
            trainer=self._trainer,
            pack=_pack,
        )
        self._hub_life = Life()
        await self._hub_life.start(hub.start())
        self._hub = hub

    async def stop_hub(self) -> None:
        """Stop the hub on purpose."""
        hub, self._hub = self.hub, None
        await hub.stop()
        await hub.link.close()

    async def kill_hub(self) -> None:
        """Kill the hub; what it has not committed is lost."""
        hub, self._hub = self.hub, None
        self._hub_life.end()
        await self._hub_life.ended()
        await hub.stop()
        await hub.link.close()

    def metadata(self) -> Metadata:
        """What the hub would have a gateway fetch now, to be replayed later."""
        folder = self._folder / "hub" / "trust"
        return {path.name: path.read_bytes() for path in folder.glob("*.json")}

    def _reach(self, device: str) -> Hub:
        if self._hub is None or device in self._cut:
            raise LinkError("the hub cannot be reached", hint="It is tried again.")
        return self._hub

    def _reach_blobs(self, device: str) -> BlobStore:
        return self._reach(device).served

    async def _ask_hub(self, device: str, path: str) -> Mapping[str, Json]:
        origin, _, goal = path.removeprefix("/v1/deltas/").partition("/")
        offer = await self._reach(device).deltas.ask(origin, goal)
        answer: Mapping[str, Json] = msgspec.to_builtins(offer)
        return answer

    def _fetch_metadata(self, device: str, name: str) -> bytes | None:
        return self._reach(device).releases.file(name)


async def _pack(old: Path, new: Path) -> bytes:
    """Make a delta in this process, as all is done here."""
    return await asyncio.to_thread(pack_files, old, new)
