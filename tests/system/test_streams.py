"""Cameras in real processes: over HTTP, with models, and on the wall in a browser."""

from __future__ import annotations

import asyncio
import http.server
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skerry.core.clock import SystemClock
from skerry.core.video import CameraState, Shot
from skerry.device.cameras import CameraSettings, VideoCamera
from tests.detectors import write_model
from tests.videos import COLUMNS, ROWS, walk, write_video

pytestmark = pytest.mark.system


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    """A file of two cameras, one of them no video, and both models."""
    write_model(tmp_path, "person", (30, 20, 60, 80))
    write_model(tmp_path, "face", (38, 22, 50, 36))
    write_video(tmp_path / "yard.mkv", walk(40))
    (tmp_path / "broken.avi").write_bytes(b"no video")
    path = tmp_path / "cameras.toml"
    path.write_text(
        """
schema = "skerry.cameras/1"
[models.people]
path = "person.onnx"
task = "person.toml"
[models.faces]
path = "face.onnx"
task = "face.toml"
finds = "faces"
[[cameras]]
name = "yard"
url = "yard.mkv"
[[cameras]]
name = "broken"
url = "broken.avi"
"""
    )
    return path


@pytest.fixture
def running(
    cameras: Path, tmp_path: Path
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`skerry stream run`, and the address of its wall."""
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "skerry.app.main", "stream", "run", str(cameras)),
            *("--folder", str(tmp_path / "out"), "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stderr is not None
    address = ""
    for line in program.stderr:
        found = re.search(r"http://[\d.:]+", line)
        if found:
            address = found.group()
            break
    drain = threading.Thread(target=program.stderr.read)
    drain.start()
    yield address, program
    program.kill()
    program.wait()
    drain.join()
    program.stderr.close()
    assert program.stdout is not None
    program.stdout.close()


def fetch(address: str) -> bytes:
    """Get a path of the wall."""
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - ours
        return bytes(answer.read())


def wait_for_event(address: str) -> None:
    """Until somebody was told of."""
    for _ in range(200):
        told = json.loads(fetch(f"{address}/v1/streams"))
        if told["cameras"][0]["counts"].get("appeared"):
            return
        time.sleep(0.1)
    pytest.fail(f"nobody appeared: {told}")


def test_cameras_are_watched_in_a_process_of_their_own(
    running: tuple[str, subprocess.Popen[str]],
) -> None:
    """Events, a veiled picture, a reason for the broken one, and a good end."""
    address, program = running
    wait_for_event(address)
    shown = np.array(Image.open(io.BytesIO(fetch(f"{address}/v1/streams/yard.jpg"))))
    assert shown.shape == (ROWS, COLUMNS, 3)
    face = shown[44:72, 76:100].astype(int)
    assert face.std(axis=(0, 1)).mean() < 30
    told = json.loads(fetch(f"{address}/v1/streams"))
    assert told["cameras"][1]["state"] == "waiting"
    assert "broken.avi" in told["cameras"][1]["reason"]
    program.send_signal(signal.SIGTERM)
    out, _ = program.communicate(timeout=60)
    result = json.loads(out)
    assert result["ok"]
    assert result["result"]["cameras"][0]["looks"]["people"] > 0


def test_the_wall_in_a_browser(
    running: tuple[str, subprocess.Popen[str]], chromium: str, tmp_path: Path
) -> None:
    """It shows both cameras, one with its picture and one with its reason."""
    address, _ = running
    wait_for_event(address)
    seen = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--enable-logging=stderr", "--log-level=0"),
            *("--virtual-time-budget=4000", "--dump-dom"),
            *(f"--user-data-dir={tmp_path / 'profile'}", address),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "1 of 2 live, given up: nothing" in seen.stdout
    for name in ("camera-yard", "camera-broken"):
        assert f'id="{name}"' in seen.stdout
    assert "is no video that can be decoded" in seen.stdout
    errors = [line for line in seen.stderr.splitlines() if "CONSOLE" in line]
    # The broken camera has no picture: its 404 is all that may be said.
    assert all("404" in line for line in errors), errors


class MjpegSite(http.server.BaseHTTPRequestHandler):
    """A camera over HTTP that breaks its first connection, and then stalls."""

    connections = 0

    def do_GET(self) -> None:
        """Send pictures as `multipart/x-mixed-replace`."""
        type(self).connections += 1
        self.send_response(200)
        kind = "multipart/x-mixed-replace; boundary=picture"
        self.send_header("Content-Type", kind)
        self.end_headers()
        for picture in walk(12):
            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, "JPEG")
            content = stream.getvalue()
            head = "--picture\r\nContent-Type: image/jpeg\r\n"
            head += f"Content-Length: {len(content)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + content + b"\r\n")
            except OSError:
                return
            time.sleep(0.02)
        if self.connections > 1:
            time.sleep(4)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_camera_over_http_is_opened_again_when_it_breaks_or_stalls() -> None:
    """Its pictures go on; the reasons are told."""
    MjpegSite.connections = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), MjpegSite)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://u:secret@127.0.0.1:{server.server_port}/video"
    camera = VideoCamera(
        CameraSettings(name="gate", url=url, frames_per_s=50, timeout_s=1.5),
        clock=SystemClock(),
    )

    async def main() -> list[Shot]:
        found: list[Shot] = []
        shots = camera.shots()
        async with asyncio.timeout(60):
            async for shot in shots:
                found.append(shot)
                if MjpegSite.connections >= 3:
                    break
        await shots.aclose()
        return found

    try:
        found = asyncio.run(main())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert found[0].luma.shape == (ROWS, COLUMNS)
    assert camera.health.state is CameraState.LIVE
    assert camera.health.reconnects == 2
    assert "secret" not in camera.health.reason
    times = [shot.captured_s for shot in found]
    assert times == sorted(times)
