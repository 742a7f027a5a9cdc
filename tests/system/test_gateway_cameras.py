"""A gateway that serves its models and looks at its cameras with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from skerry.app.publish.build import make_release
from skerry.app.streams.sight import read_sight
from skerry.core.clock import SystemClock
from skerry.edge.gateway import GatewaySettings, run_gateway
from skerry.graph import open_model
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.task import load_task
from tests.detectors import write_model
from tests.mini_hub import MiniHub, until
from tests.videos import walk, write_video

pytestmark = pytest.mark.system

TOKEN = "s"  # noqa: S105 - of a test
CAMERAS = """
schema = "skerry.cameras/1"
clip_s = 0.0
[models.people]
[models.faces]
finds = "faces"
[[cameras]]
name = "yard"
url = "yard.mkv"
frames_per_s = 10.0
least_rate = 10.0
[[cameras]]
name = "gate"
url = "yard.mkv"
frames_per_s = 10.0
least_rate = 10.0
"""


async def desire(
    hub: MiniHub,
    folder: Path,
    name: str,
    version: int,
    box: tuple[float, ...],
    *,
    rows: int = 90,
    columns: int = 160,
) -> None:
    """Publish a detector that finds the same in every picture, and ask for it."""
    write_model(folder, name, box, rows=rows, columns=columns)
    model = open_model(folder / f"{name}.onnx")
    inputs = {"x": np.zeros((1, 3, rows, columns), np.float32)}
    release = make_release(
        name,
        version,
        model,
        load_task(folder / f"{name}.toml"),
        MemorySource(samples=(Sample(inputs=inputs, label=0, name="s"),)),
        golden_from=model,
    )
    await hub.desire_release(*release)


@contextlib.asynccontextmanager
async def running(hub: MiniHub, folder: Path, cameras: Path) -> AsyncIterator[str]:
    """A gateway with cameras, and where it serves."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = GatewaySettings(
        folder=folder,
        hub=hub.address,
        token=hub.token,
        serve_token=TOKEN,
        probation_s=0.2,
        isolation="thread",
        accept_unsigned=True,
    )
    sight = read_sight(cameras, clock=SystemClock())
    gateway = asyncio.create_task(
        run_gateway(settings, ready=address.set_result, sight=sight)
    )
    try:
        async with asyncio.timeout(30):
            yield await address
    finally:
        gateway.cancel()
        await asyncio.gather(gateway, return_exceptions=True)


async def look(client: httpx.AsyncClient, holds: Callable[[Any], bool]) -> Any:
    """What the gateway tells of its cameras, once something holds for each of them."""
    while True:
        told = (await client.get("/v1/streams")).json()["cameras"]
        if all(map(holds, told)):
            return told
        await asyncio.sleep(0.02)


def test_a_model_is_swapped_under_the_cameras(tmp_path: Path) -> None:
    """No look is lost or mixed, events reach the hub, and both say how they do."""
    write_video(tmp_path / "yard.mkv", walk(30), frames_per_s=10)
    (tmp_path / "cameras.toml").write_text(CAMERAS)

    async def run() -> None:
        hub, folder = MiniHub(tmp_path / "publisher"), tmp_path / "gw"
        async with (
            hub.up(),
            running(hub, folder, tmp_path / "cameras.toml") as address,
            httpx.AsyncClient(
                base_url=address,
                trust_env=False,
                headers={"Authorization": f"Bearer {TOKEN}"},
            ) as client,
        ):
            await look(client, lambda one: "nothing is served" in one["reason"])
            await desire(hub, tmp_path, "faces", 1, (38, 22, 50, 36))
            await desire(hub, tmp_path, "people", 1, (30, 20, 60, 80))
            await until(lambda: hub.runs(1, name="people"))
            before = await look(client, lambda one: "appeared" in one["counts"])
            # The next one takes pictures of another size.
            await desire(
                hub, tmp_path, "people", 2, (60, 5, 75, 40), rows=45, columns=80
            )
            await until(lambda: hub.runs(2, name="people"))
            was = {one["name"]: one["looks"]["people"] for one in before}
            after = await look(
                client, lambda one: one["looks"]["people"] >= was[one["name"]] + 5
            )
            assert [one["failures"] for one in after] == [
                one["failures"] for one in before
            ]
            assert not any("people" in one["reason"] for one in after)
            picture = await client.get("/v1/streams/gate.jpg")
            assert picture.headers["content-type"] == "image/jpeg"
            metrics = (await client.get("/metrics")).text
            assert 'skerry_stream_looks_total{camera="gate",model="people"}' in metrics
            assert 'skerry_release_requests{model="people",version="2"}' in metrics
            for path in ("/", "/v1/streams", "/v1/streams/gate.jpg", "/metrics"):
                bare = await client.get(path, headers={"Authorization": ""})
                assert bare.status_code == 401
            model = (await client.get("/v2/models/people")).json()
            assert model["versions"] == ["2"]
            seen = [event for event in hub.events if "camera" in event]
            assert {event["camera"] for event in seen} == {"yard", "gate"}
            for event in seen:
                # Of version 1 or of 2; the outputs of one read as the other's are none.
                assert event["box"][0] in {0.1875, 0.75}

    asyncio.run(run())
