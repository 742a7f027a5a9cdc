"""A camera of this machine: the kernel's virtual one, unplugged and plugged in again.

It takes root and a kernel with the module (`modprobe vivid n_devs=1 node_types=0x1`),
which CI's machines have not: so it is run by `make soak`, where there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from skerry.core.clock import SystemClock
from skerry.core.video import CameraHealth, CameraState
from skerry.device.cameras import CameraSettings, VideoCamera

DRIVER = Path("/sys/bus/platform/drivers/vivid")
DEVICE = "vivid.0"

pytestmark = [
    pytest.mark.system,
    pytest.mark.soak,
    pytest.mark.skipif(
        os.geteuid() != 0 or not (DRIVER / DEVICE).exists(),
        reason="no virtual camera: as root, modprobe vivid n_devs=1 node_types=0x1",
    ),
]


def _node() -> str:
    (video,) = (DRIVER / DEVICE / "video4linux").iterdir()
    return f"/dev/{video.name}"


async def _watch() -> tuple[list[tuple[int, ...]], CameraHealth]:
    settings = CameraSettings(name="desk", url=_node(), frames_per_s=30, timeout_s=3)
    camera = VideoCamera(settings, clock=SystemClock())
    sizes: list[tuple[int, ...]] = []
    async with asyncio.timeout(60), contextlib.aclosing(camera.shots()) as shots:
        async for shot in shots:
            sizes.append(shot.luma.shape)
            assert shot.to_rgb().shape == (*shot.luma.shape, 3)
            if len(sizes) == 5:
                await asyncio.to_thread((DRIVER / "unbind").write_text, DEVICE)
                plugging = asyncio.create_task(_plug_in_later())
            if len(sizes) == 12:
                await plugging
                break
    return sizes, camera.health


async def _plug_in_later() -> None:
    await asyncio.sleep(4)
    await asyncio.to_thread((DRIVER / "bind").write_text, DEVICE)


def test_a_camera_is_unplugged_and_plugged_in_again() -> None:
    """Its pictures come, stop with a reason, and come again."""
    sizes, health = asyncio.run(_watch())
    assert len(set(sizes)) == 1
    assert health.state is CameraState.LIVE
    assert health.reconnects >= 1
    assert "No such" in health.reason
