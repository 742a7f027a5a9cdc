from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest

from skerry.cloud.hub import HubSettings
from skerry.cloud.serve import HubAddress, run_hub
from skerry.comms.memory import MemoryBroker
from skerry.core.errors import StateError


async def _run(folder: Path, *, port: int = 0) -> tuple[HubAddress, int, str]:
    """Start a hub, ask for its devices, stop it by SIGTERM."""
    seen: list[HubAddress] = []
    up = asyncio.Event()

    def ready(address: HubAddress) -> None:
        seen.append(address)
        up.set()

    link = MemoryBroker().link("hub")
    settings = HubSettings(folder=folder, port=port)
    running = asyncio.create_task(run_hub(settings, ready=ready, link=link))
    waiting = asyncio.create_task(up.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        await running
    token = json.loads((folder / "operator.json").read_text())["token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        response = await client.get(f"{seen[0].address}/v1/devices")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 10)
    await link.close()
    return seen[0], response.status_code, token


def test_a_hub_says_where_it_is_and_stops_when_told(tmp_path: Path) -> None:
    """`hub.json` has its address; `operator.json` is its owner's alone and stays."""
    address, status, token = asyncio.run(_run(tmp_path))
    assert status == 200
    written = json.loads((tmp_path / "hub.json").read_text())
    assert written == {
        "address": address.address,
        "mqtt_port": None,
        "pid": os.getpid(),
    }
    for name in ("operator.json", "hub.sqlite", "online-key.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    again = asyncio.run(_run(tmp_path))
    assert again[1:] == (200, token)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"token": 5}', b'{"token": "x"}'])
def test_a_token_that_makes_no_sense_is_replaced(
    tmp_path: Path, content: bytes
) -> None:
    """A damaged file, or a token of another hub, locks nobody out."""
    (tmp_path / "operator.json").write_bytes(content)
    (tmp_path / "operator.json").chmod(0o644)
    _, status, token = asyncio.run(_run(tmp_path))
    assert (status, len(token) > 20) == (200, True)
    assert (tmp_path / "operator.json").stat().st_mode & 0o777 == 0o600


def test_a_port_in_use_says_which(tmp_path: Path) -> None:
    """The hub does not start, and names host and port."""

    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(StateError, match=f"127.0.0.1:{port}"):
                await _run(tmp_path, port=port)

    asyncio.run(run())
