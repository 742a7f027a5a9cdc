from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skerry.app.hub_api import HubApi
from skerry.app.publish.publisher import Publisher
from skerry.core.fleet import RolloutState
from skerry.core.release import ReleaseId
from tests.publishing import make_bundle

pytestmark = pytest.mark.system

RUN = """
import asyncio, sys
from pathlib import Path
from skerry.cloud.hub import HubSettings
from skerry.cloud.serve import run_hub
asyncio.run(run_hub(HubSettings(folder=Path(sys.argv[1]))))
"""
START_S = 30.0


@contextmanager
def _hub(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A hub in a process of its own, with its own broker, once it is up."""
    process = subprocess.Popen([sys.executable, "-c", RUN, str(folder)])
    try:
        deadline_s = time.monotonic() + START_S
        while _pid(folder) != process.pid:
            assert process.poll() is None, "the hub did not start"
            assert time.monotonic() < deadline_s, "the hub is not up"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def _pid(folder: Path) -> int | None:
    try:
        place = json.loads((folder / "hub.json").read_bytes())
    except OSError:
        return None
    assert place["mqtt_port"] > 0
    return int(place["pid"])


async def _begin(folder: Path) -> str:
    """Publish a release, register a device, enrol it, begin a rollout."""
    async with HubApi.of_folder(folder / "hub") as api:
        publisher = Publisher.create(
            folder / "publisher", hub_key=await api.online_key()
        )
        release = await api.publish(make_bundle(publisher, 1))
        token = await api.create_device("gw-1")
        enrolled = await api.enrol(token, {})
        mqtt = enrolled["mqtt"]
        assert isinstance(mqtt, dict)
        assert mqtt["host"] == "127.0.0.1"
        made = await api.create_rollout(release, devices=["gw-1"])
        return made.id


async def _resume(folder: Path, rollout: str) -> None:
    """Find all of it again, with the token that was there before."""
    async with HubApi.of_folder(folder / "hub") as api:
        assert (await api.rollout(rollout)).state is RolloutState.RUNNING
        assert (await api.releases())[0].id == ReleaseId(name="meter", version=1)
        assert rollout in await api.why("gw-1")
        await api.undo_rollout(rollout)
        while (await api.rollout(rollout)).state is RolloutState.UNDOING:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert (await api.shadow("gw-1")).desired == {"releases": {}}


def test_a_hub_that_is_killed_comes_back_with_all_it_knew(tmp_path: Path) -> None:
    """Releases, devices and rollouts survive SIGKILL; SIGTERM ends it quietly."""
    with _hub(tmp_path / "hub") as process:
        token = (tmp_path / "hub" / "operator.json").read_bytes()
        rollout = asyncio.run(_begin(tmp_path))
        process.kill()
        process.wait()
    with _hub(tmp_path / "hub") as process:
        assert (tmp_path / "hub" / "operator.json").read_bytes() == token
        asyncio.run(_resume(tmp_path, rollout))
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
