"""Just enough of a hub for a gateway in a test: enrolment, blobs, a broker."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from skerry.app.publish.publisher import Publisher
from skerry.comms.asgi import AsgiReceive, AsgiSend, Scope, serve
from skerry.comms.broker import Broker
from skerry.comms.codec import decode, encode
from skerry.comms.links import Grant
from skerry.comms.mqtt import MqttSettings, open_mqtt
from skerry.core.clock import SystemClock
from skerry.core.messages import Message
from skerry.core.release import Manifest
from skerry.core.seams import Link
from skerry.evolve.trust import Repository, make_key, public_key
from tests.releases import NAME, small_release

DOWN, UP = "skerry/1/main/gw/down", "skerry/1/main/gw/up"


class MiniHub:
    """Just enough of a hub: enrolment, signed metadata, blobs, a broker."""

    def __init__(self, folder: Path) -> None:
        self.key = make_key()
        hub_key = public_key(self.key)
        self.publisher = Publisher.create(folder, hub_key=hub_key)
        self.repository = Repository()
        self.repository.bootstrap(self.publisher.root, now_ms=self.now_ms)
        self.blobs: dict[str, bytes] = {}
        self.broker = Broker(self.authenticate)
        self.link: Link
        self.events: list[dict[str, Any]] = []
        self.reported: dict[str, dict[str, Any]] = {}
        self.status: bool | None = None
        self.version = 0
        self.wanted: dict[str, dict[str, Any]] = {}
        self.address = ""

    @property
    def now_ms(self) -> int:
        return SystemClock().unix_ms()

    @property
    def token(self) -> str:
        """A one-time token that holds for ever."""
        return f"s3cret.{hashlib.sha256(self.publisher.root).hexdigest()}"

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Serve."""
        await self.broker.start()

        async def app(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
            if scope["type"] == "http":
                await self.respond(scope, receive, send)

        async with serve(app) as server:
            self.address = server.address
            self.link = await open_mqtt(
                MqttSettings(
                    host="127.0.0.1",
                    port=self.broker.port,
                    client_id="hub",
                    username="hub",
                    password="p",  # noqa: S106 - of a test
                )
            )
            await self.link.subscribe("skerry/1/+/+/up/+", self.receive)
            try:
                yield
            finally:
                await self.link.close()
                await self.broker.stop()

    async def authenticate(
        self, client_id: str, username: str, password: bytes
    ) -> Grant | None:
        """Let the hub and the one gateway in."""
        if password != b"p":
            return None
        assert client_id == username
        if username == "hub":
            return Grant(publish=("#",), subscribe=("#",))
        return Grant(publish=(f"{UP}/+",), subscribe=(f"{DOWN}/+",))

    async def respond(self, scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Answer over HTTP."""
        await receive()
        status, content = self.answer(scope["path"])
        offset = 0
        for name, value in scope["headers"]:
            if name == b"range" and status == 200:
                offset = int(value.removeprefix(b"bytes=").removesuffix(b"-"))
        headers = []
        if offset:
            status = 206
            size = len(content)
            span = f"bytes {offset}-{size - 1}/{size}".encode()
            headers = [(b"content-range", span)]
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": content[offset:]})

    def answer(self, path: str) -> tuple[int, bytes]:
        """What stands under a path."""
        name = path.rpartition("/")[2]
        if path == "/v1/enrol":
            fields = {
                "tenant": "main",
                "device": "gw",
                "api_token": "t",
                "mqtt": {
                    "host": "127.0.0.1",
                    "port": self.broker.port,
                    "username": "main/gw",
                    "password": "p",
                },
                "root": self.publisher.root.decode(),
            }
            return 200, json.dumps(fields).encode()
        kept = self.blobs if "/blobs/" in path else self.repository.files()
        return (200, kept[name]) if name in kept else (404, b"")

    async def receive(self, _: str, payload: bytes) -> None:
        """Take what the gateway says, and acknowledge it."""
        message = decode(payload)
        body: Any = message.body
        if message.kind == "status":
            self.status = body["is_online"]
        if message.kind == "event":
            self.events.append(body)
        if message.kind == "reported":
            for section, values in body["patch"].items():
                self.reported.setdefault(section, {}).update(values)
        if message.seq:
            await self.send("ack", {"epoch": message.epoch, "seq": message.seq})

    async def send(self, kind: str, body: Any) -> None:
        """Publish to the gateway."""
        message = Message(kind=kind, device="gw", sent_at_ms=0, body=body)
        is_kept = kind == "desired"
        await self.link.publish(f"{DOWN}/{kind}", encode(message), retain=is_kept)

    async def desire(self, version: int) -> None:
        """Publish a small release and ask for it."""
        release = small_release(version)
        blobs = {
            hashlib.sha256(content).hexdigest(): content
            for content in release.contents.values()
        }
        await self.desire_release(release.manifest, blobs)

    async def desire_release(
        self, manifest: Manifest, blobs: Mapping[str, bytes]
    ) -> None:
        """Publish a release and ask for it."""
        bundle = self.publisher.release(manifest, blobs)
        self.blobs.update(bundle.blobs)
        self.repository.accept(bundle.metadata, now_ms=self.now_ms)
        self.repository.sign_online(self.key, now_ms=self.now_ms)
        self.version += 1
        version = manifest.version
        self.wanted[manifest.name] = {"version": version, "rollout": f"r{version}"}
        body = {"version": self.version, "desired": {"releases": self.wanted}}
        await self.send("desired", body)

    def runs(self, version: int, *, name: str = NAME, probation: bool = False) -> bool:
        """Whether the shadow says so."""
        running = self.reported.get("releases", {}).get(name) or {}
        said = (running.get("version"), running.get("probation"))
        return said == (version, probation)


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - of many kinds of things
            await asyncio.sleep(0.02)
