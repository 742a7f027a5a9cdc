"""The hub as a process: its parts, its API, and two files that say how to reach it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from skerry.cloud.api import make_api
from skerry.cloud.hub import Hub, HubSettings
from skerry.cloud.retraining import Trainer
from skerry.comms.asgi import serve
from skerry.core.clock import Clock
from skerry.core.documents import parse_object
from skerry.core.durable import PRIVATE_DISK, storage_errors, write_file
from skerry.core.errors import DataError, StateError
from skerry.core.seams import Link

log = logging.getLogger(__name__)

ADDRESS_FILE = "hub.json"
OPERATOR_FILE = "operator.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """Where a hub is, once it is up.

    Attributes:
        address: The URL of its HTTP API and of the status page.
        mqtt_port: Of its broker, or None where others run one.
        pid: Of its process.
    """

    address: str
    mqtt_port: int | None
    pid: int


async def run_hub(
    settings: HubSettings,
    *,
    ready: Callable[[HubAddress], None] | None = None,
    trainer: Trainer | None = None,
    clock: Clock | None = None,
    link: Link | None = None,
) -> None:
    """Run a hub until it is told to stop (SIGTERM, SIGINT, or a cancellation).

    Once it is up, `hub.json` in its folder says where, and `operator.json`, readable
    by its owner alone, holds the operators' token, which stays the same from start to
    start.

    Args:
        settings: What it is told.
        ready: Called once it is up.
        trainer: What makes a candidate of labelled samples; None where it cannot.
        clock: What it reads time from and waits on.
        link: Its connection to a broker that others run; None starts the embedded
            broker.

    Raises:
        StateError: A port is in use, or a part of the hub failed.
        StorageError: The disk or the database refused.
        NewerSchemaError: A newer Skerry has changed the database.
    """
    hub = Hub(settings, trainer=trainer, clock=clock, link=link)
    await hub.start()
    try:
        await ensure_operator(hub)
        async with serve(
            make_api(hub), host=settings.host, port=settings.port
        ) as server:
            address = HubAddress(
                address=server.address, mqtt_port=hub.mqtt_port, pid=os.getpid()
            )
            path = settings.folder / ADDRESS_FILE
            await asyncio.to_thread(write_file, path, msgspec.json.encode(address))
            log.info("hub.up", extra={"address": address.address})
            if ready is not None:
                ready(address)
            async with _told_to_stop() as told:
                await _wait(hub, told)
        log.info("hub.down")
    finally:
        await hub.stop()


async def ensure_operator(hub: Hub) -> str:
    """See that there is a token for operators, and that `operator.json` holds it.

    Args:
        hub: A started hub.

    Returns:
        The token.

    Raises:
        StorageError: The disk or the database refused.
    """
    path = hub.settings.folder / OPERATOR_FILE
    token = await asyncio.to_thread(_read_token, path)
    scope = await hub.devices.authenticate_token(token) if token else None
    if token and scope is not None and scope.kind == "operator":
        return token
    token = await hub.devices.make_operator_token()
    content = msgspec.json.encode({"token": token})
    await asyncio.to_thread(write_file, path, content, disk=PRIVATE_DISK)
    return token


def _read_token(path: Path) -> str:
    """Read the token that is kept; empty if there is none that makes sense."""
    try:
        with storage_errors(path):
            if not path.exists():
                return ""
            path.chmod(0o600)
            token = parse_object(path.read_bytes(), name=str(path)).get("token")
    except DataError:
        return ""
    return token if isinstance(token, str) else ""


async def _wait(hub: Hub, told: asyncio.Event) -> None:
    """Wait for the word to stop, or for a part of the hub to fail."""
    stopping = asyncio.create_task(told.wait())
    watching = asyncio.create_task(hub.watch())
    try:
        await asyncio.wait({stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done() and not told.is_set():
            raise StateError(
                "a part of the hub failed", hint="Look at its log, and report it."
            ) from watching.exception()
    finally:
        for task in (stopping, watching):
            task.cancel()
        await asyncio.gather(stopping, watching, return_exceptions=True)


@contextlib.asynccontextmanager
async def _told_to_stop() -> AsyncIterator[asyncio.Event]:
    """Give what SIGTERM and SIGINT set; outside the main thread nothing sets it."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    caught = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, told.set)
            caught.append(number)
    try:
        yield told
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
