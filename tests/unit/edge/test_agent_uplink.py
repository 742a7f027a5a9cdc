from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from skerry.comms.codec import decode, encode
from skerry.comms.links import Will
from skerry.comms.memory import MemoryBroker
from skerry.comms.outbox import Outbox
from skerry.comms.uplink import Uplink
from skerry.core.clock import SystemClock
from skerry.core.messages import Message
from skerry.edge.agent import Agent, AgentSettings
from skerry.edge.engine import Engine
from skerry.edge.slots import Slots
from skerry.evolve.shadow import merge_patch
from skerry.runtimes.null import NullRuntime
from tests.agents import DOWN, POLICY, UP, X, zeros
from tests.releases import NAME, MemoryHub, small_release


class Hub:
    """Acknowledges what it hears, and merges what is reported."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.reported: Any = {}
        self.events: list[str] = []
        self.status: Any = None
        self.seen = 0

    async def receive(self, _: str, payload: bytes) -> None:
        """Take one message, as the ingest does."""
        message = decode(payload)
        if message.kind == "status":
            self.status = message.body["is_online"]
        elif message.seq == self.seen + 1:
            self.seen = message.seq
            body: Any = message.body
            if message.kind == "event":
                self.events.append(body["name"])
            else:
                self.reported = merge_patch(self.reported, body["patch"])
        if message.seq:
            self.send("ack", {"epoch": message.epoch, "seq": self.seen})

    def send(self, kind: str, body: Any) -> None:
        """Publish a message to the gateway."""
        message = Message(kind=kind, device="gw", sent_at_ms=0, body=body)
        is_kept = kind == "desired"
        self.broker.route(f"{DOWN}/{kind}", encode(message), retain=is_kept)

    def desire(self, version: int) -> None:
        """Ask for a version."""
        wanted = {NAME: {"version": version, "rollout": "r"}}
        self.send("desired", {"version": version, "desired": {"releases": wanted}})

    def is_settled(self, version: int) -> bool:
        """Whether the shadow says that this version runs."""
        running = self.reported.get("releases", {}).get(NAME, {})
        return running.get("version") == version and not running["probation"]


def test_a_gateway_and_its_hub_through_an_outage(tmp_path: Path) -> None:
    """It serves on while the link is cut; the outbox fills, and drains after."""

    async def until(holds: Any) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - of many kinds of things
                await asyncio.sleep(0.005)

    async def run() -> None:
        clock, broker, store = SystemClock(), MemoryBroker(), MemoryHub()
        engine = Engine(clock=clock, runtimes=lambda _: NullRuntime(zeros))
        gone = Message(
            kind="status", device="gw", sent_at_ms=0, body={"is_online": False}
        )
        will = Will(topic=f"{UP}/status", payload=encode(gone), retain=True)
        link = broker.link("gw", will=will)
        outbox = Outbox(tmp_path / "outbox.db")
        uplink = Uplink(outbox, link, tenant="main", device="gw", clock=clock)
        hub, hub_link = Hub(broker), broker.link("hub")
        await hub_link.subscribe("skerry/1/+/+/up/+", hub.receive)
        settings = AgentSettings(
            device="gw", folder=tmp_path, policy=POLICY, tick_s=0.01, heartbeat_s=0.05
        )
        agent = Agent(
            settings,
            link=link,
            uplink=uplink,
            blobs=store,
            trust=store,
            engine=engine,
            slots=Slots(tmp_path, target="any"),
            clock=clock,
            rng=np.random.default_rng(0),
        )
        tasks = [asyncio.create_task(agent.run()), asyncio.create_task(uplink.run())]
        for version in (1, 2):
            store.publish(small_release(version))
        hub.desire(1)
        await until(lambda: hub.is_settled(1))
        await until(lambda: outbox.depth == 0)
        assert hub.status is True

        broker.cut("gw")
        await until(lambda: hub.status is False)
        for minute in range(60):
            agent.reporter.tell("minute", {"n": minute})
            answer = await engine.infer(NAME, X)
            assert answer.release.version == 1
        await until(lambda: outbox.depth >= 60)
        hub.desire(2)
        broker.join("gw")
        await until(lambda: hub.is_settled(2))
        await until(lambda: outbox.depth == 0)
        await until(lambda: hub.status is True)
        assert hub.events.count("minute") == 60
        assert hub.events.count("release.accepted") == 2

        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert hub.status is False
        with contextlib.suppress(asyncio.CancelledError):
            await link.close()
            await hub_link.close()
        outbox.close()
        engine.close()

    asyncio.run(run())
