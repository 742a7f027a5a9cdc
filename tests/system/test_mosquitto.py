"""Our MQTT link against Mosquitto, a broker that others wrote."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.links import GRANTS, MqttSuite, MqttWorld, Open

pytestmark = pytest.mark.system

PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


class MosquittoWorld(MqttWorld):
    """A Mosquitto process on a free port of this machine."""

    def __init__(self, folder: Path, program: str) -> None:
        super().__init__()
        self.folder = folder
        self.program = program
        self.process: asyncio.subprocess.Process | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.write_files()

    def write_files(self) -> None:
        """Write users, grants and settings."""
        passwords, grants = self.folder / "passwords", []
        passwords.touch(mode=0o600)
        for name, grant in GRANTS.items():
            tool = [shutil.which("mosquitto_passwd", path=PATHS) or "", "-b"]
            subprocess.run([*tool, passwords, name, f"{name}-password"], check=True)
            grants.append(f"user {name}")
            grants += [f"topic write {pattern}" for pattern in grant.publish]
            grants += [f"topic read {pattern}" for pattern in grant.subscribe]
        (self.folder / "grants").write_text("\n".join(grants) + "\n")
        settings = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {passwords}",
            f"acl_file {self.folder / 'grants'}",
            "persistence false",
        ]
        if os.geteuid() == 0:
            settings.append("user root")
        (self.folder / "settings").write_text("\n".join(settings) + "\n")

    async def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = await asyncio.create_subprocess_exec(
            self.program,
            "-c",
            str(self.folder / "settings"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End it."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            await process.wait()


class TestMosquitto(MqttSuite):
    """The suite over MQTT, on Mosquitto."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> Open:
        program = shutil.which("mosquitto", path=PATHS)
        if program is None:
            pytest.skip("needs mosquitto")
        return lambda: MosquittoWorld(tmp_path, program).running()
