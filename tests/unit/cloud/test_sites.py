from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from skerry.cloud.api import make_api
from skerry.cloud.bandwidth import LONGEST_TURN_S, SiteBandwidth
from skerry.cloud.hub import HUB_USER, Hub, HubSettings
from skerry.comms.memory import MemoryBroker
from skerry.comms.shaping import SHAPED_BYTES
from skerry.core.clock import FakeClock
from skerry.core.errors import BusyError, UsageError
from skerry.core.messages import Up
from skerry.core.release import Blob
from tests.hubs import ROOT_SHA256, Wire, running_hub

RATE = 1e6


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """As a store gives them."""
    for start in range(0, len(content), 1 << 18):
        yield content[start : start + (1 << 18)]


async def let_pass(clock: FakeClock, *tasks: asyncio.Task[float]) -> list[float]:
    """Let time pass until all are done."""
    while not all(task.done() for task in tasks):
        for _ in range(10):
            await asyncio.sleep(0)
        if (wake_s := clock.next_wake_s()) is not None:
            clock.advance(wall_s=wake_s - clock.wall_s())
    return [task.result() for task in tasks]


def test_the_devices_of_a_site_share_its_line() -> None:
    """Together no faster than the rate; the short one does not wait for the long."""
    clock = FakeClock()

    async def story() -> list[float]:
        bandwidth = SiteBandwidth(clock, RATE)

        async def fetch(site: str, size: int) -> float:
            got = [piece async for piece in bandwidth.shape(site, pieces(bytes(size)))]
            assert sum(map(len, got)) == size
            return clock.wall_s()

        sizes = (("a", 4_000_000), ("a", 500_000), ("b", 500_000), ("", 9_000_000))
        tasks = [asyncio.create_task(fetch(*one)) for one in sizes]
        ended = await let_pass(clock, *tasks)
        assert bandwidth.sent_bytes == {"a": 4_500_000, "b": 500_000, "": 9_000_000}
        return ended

    long, short, other, free = asyncio.run(story())
    assert long == pytest.approx(4.25, abs=0.05)
    assert short == pytest.approx(1.0, abs=0.1)  # half of the line is its own
    assert other == pytest.approx(0.25, abs=0.05)
    assert free == 0.0


def test_too_many_are_asked_to_come_later() -> None:
    """Each would wait so long for its turn that it took the hub for gone."""
    clock = FakeClock()
    bandwidth = SiteBandwidth(clock, 10 * SHAPED_BYTES / LONGEST_TURN_S)

    async def story() -> None:
        streams = [bandwidth.shape("a", pieces(bytes(10**6))) for _ in range(10)]
        for stream in streams:
            bandwidth.admit("a")
            begun = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            clock.advance(wall_s=10)
            await begun
        with pytest.raises(BusyError, match="10 downloads of site a"):
            bandwidth.admit("a")
        bandwidth.admit("b")
        bandwidth.admit("")
        await streams[0].aclose()
        bandwidth.admit("a")
        for stream in streams:
            await stream.aclose()

    asyncio.run(story())
    assert bandwidth.refused == {"a": 1}


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_rate_is_refused(rate: float) -> None:
    """Before anything is served."""
    with pytest.raises(UsageError, match="bytes a second"):
        SiteBandwidth(FakeClock(), rate)


def test_a_blob_goes_out_as_fast_as_the_site_may_have_it(tmp_path: Path) -> None:
    """Through the API, by the label of the device that asks; operators do not wait."""
    clock, content = FakeClock(), bytes(range(256)) * 2000
    blob = Blob.of(content)

    async def story() -> None:
        settings = HubSettings(folder=tmp_path, site_bytes_per_s=RATE)
        hub = Hub(settings, clock=clock, link=MemoryBroker().link(HUB_USER))
        await hub.start()
        try:
            await hub.blobs.put(blob.sha256, content)
            made = await hub.devices.create(
                "gw", labels={"site": "lab"}, root_sha256=ROOT_SHA256
            )
            device = (await hub.devices.enrol(made)).api_token
            operator = await hub.devices.make_operator_token()
            for token, waits in ((operator, False), (device, True)):
                started_s = clock.wall_s()
                got = asyncio.create_task(_get(hub, token, f"/v1/blobs/{blob.sha256}"))
                while not got.done():
                    await asyncio.sleep(0.001)
                    sent = hub.bandwidth.sent_bytes["lab"]
                    if sent:
                        clock.advance(wall_s=0.05)
                assert got.result().content == content
                assert (clock.wall_s() > started_s) is waits
            assert hub.bandwidth.sent_bytes == {"lab": len(content), "": len(content)}
        finally:
            await hub.stop()
            await hub.link.close()

    asyncio.run(story())


def test_neighbours_are_those_of_the_same_site(tmp_path: Path) -> None:
    """Online, at a private address; with keys of two days, others for each site."""
    clock = FakeClock()
    sites = {"one": "lab", "two": "lab", "three": "lab", "far": "hall", "none": ""}

    async def story() -> None:
        async with running_hub(tmp_path, clock=clock) as (hub, broker):
            tokens = {}
            for name, site in sites.items():
                labels = {"site": site} if site else {}
                made = await hub.devices.create(
                    name, labels=labels, root_sha256=ROOT_SHA256
                )
                tokens[name] = (await hub.devices.enrol(made)).api_token
                url = "http://8.8.8.8:1" if name == "three" else "http://10.0.0.1:1"
                wire = await Wire(broker, name).join()
                await wire.send(Up.STATUS, {"is_online": True})
                patch = {"agent": {"peers": url}}
                await wire.send(Up.REPORTED, {"patch": patch}, seq=1)
                while not wire.bodies("ack"):
                    clock.advance(wall_s=0.1)
                    await asyncio.sleep(0.002)
            said = {
                name: (await _get(hub, token, "/v1/neighbours")).json()
                for name, token in tokens.items()
            }
            assert said["one"]["peers"] == ["http://10.0.0.1:1"]
            assert said["two"] == said["one"]
            assert said["three"]["peers"] == ["http://10.0.0.1:1"] * 2
            assert said["far"]["peers"] == []
            assert said["none"] == {"keys": [], "peers": []}
            assert not set(said["far"]["keys"]) & set(said["one"]["keys"])
            clock.advance(wall_s=24 * 3600)
            later = (await _get(hub, tokens["one"], "/v1/neighbours")).json()
            assert later["keys"][1] == said["one"]["keys"][0]
            operator = await hub.devices.make_operator_token()
            refused = await _get(hub, operator, "/v1/neighbours")
            assert refused.status_code == 422
            assert "operator" in refused.json()["error"]["what"]

    asyncio.run(story())


async def _get(hub: Hub, token: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=make_api(hub))
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://hub", headers=headers
    ) as client:
        return await client.get(path)
