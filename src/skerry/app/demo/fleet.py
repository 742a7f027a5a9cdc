"""The demo's fleet: a hub and gateways, each a process with a log of its own."""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from skerry.core.clock import Clock, SystemClock
from skerry.core.documents import Json, parse_object
from skerry.core.durable import make_folder, write_file
from skerry.core.errors import DataError, StateError

HUB = "hub"
START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 6.0
PROBATION_S = 0.6
"""How long a new release serves on probation: the demo has no patience."""

POLL_S = 0.05
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Four processes on two cores: numpy's own threads would wait for each other."""

KEPT = "pids"
"""The file in the fleet's folder that lists its processes, one a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """Where the hub answers.

    Attributes:
        address: Its URL.
        token: The operator's token.
        credentials: The file that holds the token.
    """

    address: str
    token: str
    credentials: Path


class Fleet:
    """Starts, kills and stops the processes; none outlives the demo unless kept.

    Args:
        folder: Where each has a folder and a log; what an earlier demo left is removed.
        clock: What waits are measured by.

    Raises:
        StateError: Processes that an earlier demo kept are still running there.
        StorageError: The folder cannot be written.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self.folder = folder
        self._clock = clock or SystemClock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        _make_empty(folder)
        atexit.register(self.stop)

    def log(self, name: str) -> Path:
        """Where a process writes what it says."""
        return self.folder / f"{name}.log"

    def pids(self) -> dict[str, int]:
        """The processes that were started and not killed, by name."""
        return {name: child.pid for name, child in self._children.items()}

    async def start_hub(self) -> HubPlace:
        """Start the hub, for the first time or again, and wait until it answers.

        Once it has ports it keeps them.

        Raises:
            StateError: It ended, or did not come up in time; the hint names its log.
        """
        folder = self.folder / HUB
        make_folder(folder)
        words = ["hub", "up", "--folder", str(folder)]
        for flag in ("--port", "--mqtt-port"):
            words += [flag, str(self._ports.get(flag, 0))]
        self._start(HUB, words)
        told = await self._wait(HUB, folder / "hub.json")
        self._ports["--port"] = urlsplit(str(told["address"])).port or 0
        self._ports["--mqtt-port"] = int(str(told["mqtt_port"]))
        credentials = folder / "operator.json"
        token = _read(credentials).get("token")
        return HubPlace(
            address=str(told["address"]), token=str(token), credentials=credentials
        )

    async def start_gateway(
        self,
        name: str,
        hub: HubPlace,
        *,
        token: str = "",
        recording: Path | None = None,
        frames_per_s: float = 20.0,
    ) -> str:
        """Start a gateway, for the first time or again, and wait until it answers.

        Args:
            name: Its name; its folder keeps what it was.
            hub: Where its hub is.
            token: The one-time token that it enrols with, the first time.
            recording: A folder that stands for its camera, or None.
            frames_per_s: How fast the camera is.

        Returns:
            The URL at which it answers, the same after a restart.

        Raises:
            StateError: It ended, or did not come up in time; the hint names its log.
        """
        folder = self.folder / name
        make_folder(folder)
        words = ["gateway", "run", "--folder", str(folder), "--hub", hub.address]
        words += ["--port", str(self._ports.get(name, 0))]
        words += ["--probation-s", str(PROBATION_S)]
        # The model takes a tenth of a millisecond, and its latency is on show. To wake
        # another process on a busy machine may take longer.
        words += ["--isolation", "thread"]
        words += ["--token", token] if token else []
        if recording is not None:
            words += ["--recording", str(recording)]
            words += ["--frames-per-s", str(frames_per_s)]
        self._start(name, words)
        address = str((await self._wait(name, folder / "gateway.json"))["address"])
        self._ports[name] = urlsplit(address).port or 0
        return address

    async def start_other(
        self, name: str, module: str, words: Sequence[str], told: Path
    ) -> Mapping[str, Json]:
        """Start a module of Python's and wait for the file in which it says where.

        Raises:
            StateError: It ended, or did not come up in time.
        """
        self._start(name, words, module=module)
        return await self._wait(name, told)

    def ended(self) -> dict[str, int]:
        """The exit codes of those that ended by themselves, by name."""
        codes = {name: child.poll() for name, child in self._children.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def kill(self, name: str) -> None:
        """Cut its power: SIGKILL, no farewell."""
        child = self._children.pop(name)
        child.kill()
        child.wait()
        self._write_pids()

    async def end(self, name: str) -> None:
        """Ask one process to stop, and wait until it has."""
        child = self._children.pop(name)
        child.terminate()
        await asyncio.to_thread(_wait_or_kill, child)
        self._write_pids()

    def keep(self) -> dict[str, int]:
        """Let the processes live on after the demo."""
        atexit.unregister(self.stop)
        return self.pids()

    def stop(self) -> None:
        """Stop every process; one that does not listen is killed. May be repeated."""
        children = list(self._children.values())
        for child in reversed(children):
            child.terminate()
        for child in children:
            _wait_or_kill(child)
        self._children.clear()
        self._write_pids()
        atexit.unregister(self.stop)

    def _start(
        self, name: str, words: Sequence[str], *, module: str = "skerry.app.main"
    ) -> None:
        with self.log(name).open("ab") as log:
            # A session of its own: Ctrl-C on the terminal is for the demo alone, which
            # then stops them in order.
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._write_pids()

    async def _wait(self, name: str, told: Path) -> Mapping[str, Json]:
        """Wait until the process says in a file where it answers."""
        child = self._children[name]
        until_s = self._clock.wall_s() + START_TIMEOUT_S
        while self._clock.wall_s() < until_s:
            found = _read(told)
            if found.get("pid") == child.pid:
                return found
            if child.poll() is not None:
                raise StateError(
                    f"{name} ended with exit code {child.returncode}: "
                    f"{_last_line(self.log(name))}",
                    hint=f"Look at {self.log(name)}.",
                )
            await self._clock.sleep(POLL_S)
        raise StateError(
            f"{name} did not answer within {START_TIMEOUT_S:.0f} s",
            hint=f"Look at {self.log(name)}.",
        )

    def _write_pids(self) -> None:
        lines = "".join(f"{pid}\n" for pid in self.pids().values())
        if self.folder.is_dir():
            write_file(self.folder / KEPT, lines.encode())


def _make_empty(folder: Path) -> None:
    kept = folder / KEPT
    if kept.is_file():
        running = [pid for pid in kept.read_text().split() if _is_fleet(pid)]
        if running:
            raise StateError(
                f"the fleet of an earlier demo still runs: {len(running)} processes",
                hint=f"Stop it: kill $(cat {kept})",
            )
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise StateError(
            f"{folder} is not empty, and no demo made it",
            hint="Choose another folder: skerry demo --out FOLDER.",
        )
    make_folder(folder)


def _is_fleet(pid: str) -> bool:
    """Whether a process of this number still runs Skerry, as far as we may know."""
    try:
        words = Path(f"/proc/{int(pid)}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return b"skerry.app" in words


def _wait_or_kill(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # Its whole group: a child of its own must not stay behind either.
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _read(path: Path) -> dict[str, Json]:
    try:
        return parse_object(path.read_bytes(), name=path.name)
    except (OSError, DataError):
        return {}


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
