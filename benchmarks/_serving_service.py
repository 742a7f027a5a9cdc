"""Services as processes: ours, and any other program that says where it listens."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from benchmarks._serving_program import Settings
from skerry.core.errors import StateError

START_S = 120.0
STOP_S = 20.0
ROOT = Path(__file__).parents[1]


class Service:
    """Our service in a process of its own, for as long as the context is open.

    Args:
        settings: How it runs.

    Attributes:
        address: Its URL.

    Raises:
        StateError: It did not start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.address = ""
        self._numbers = itertools.count(1)
        self._asked: dict[int, Future[dict[str, Any]]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the context)

    @property
    def pid(self) -> int:
        """Of the process that listens."""
        return self._process.pid if self._process else 0

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="skerry-serving-")
        path = Path(self._folder.name) / "settings.json"
        path.write_bytes(msgspec.json.encode(self._settings))
        command = [sys.executable, "-m", "benchmarks._serving_program", str(path)]
        paths = [str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        guard = threading.Timer(START_S, self._process.kill)
        guard.start()
        try:
            line = self._process.stdout.readline() if self._process.stdout else b""
        finally:
            guard.cancel()
        if not line:
            self.close()
            raise StateError("the service did not start", hint=self._last_words())
        self.address = msgspec.json.decode(line)["address"]
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, by force if it does not end by itself."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()
        if self.address:
            self._said.close()

    def ask(self, verb: str, **more: Any) -> Future[dict[str, Any]]:
        """Have it do something; what it tells of it comes with the future."""
        number = next(self._numbers)
        told: Future[dict[str, Any]] = Future()
        self._asked[number] = told
        line = msgspec.json.encode({"number": number, "verb": verb, **more}) + b"\n"
        if self._process is None or self._process.stdin is None:
            raise StateError("the service does not run", hint="Start it.")
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return told

    def offer(self, folder: Path, **more: Any) -> Future[dict[str, Any]]:
        """Offer it a release."""
        return self.ask("offer", folder=str(folder), **more)

    def _listen(self) -> None:
        for line in (self._process and self._process.stdout) or ():
            told = msgspec.json.decode(line)
            asked = self._asked.pop(told.get("number", 0), None)
            if asked is not None:
                asked.set_result(told)
        for asked in self._asked.values():
            asked.set_exception(StateError("the service has ended", hint=""))

    def _last_words(self) -> str:
        return _read_all(self._said.fileno())[-2000:]


def _read_all(descriptor: int) -> str:
    """Read a file that a child writes to; to seek would move the child's place, too."""
    size_bytes = os.fstat(descriptor).st_size
    return os.pread(descriptor, size_bytes, 0).decode("utf-8", "replace")


class Program:
    """Another's service in a process group of its own.

    Args:
        command: Its command line.
        environment: Its environment.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started; the others descend from it."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env=self._environment,
            start_new_session=True,
        )

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process is None or self._process.poll() is not None

    def last_words(self) -> str:
        """The end of what it said."""
        return _read_all(self._said.fileno())[-9000:]

    def stop(self) -> None:
        """End it with all that it started."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5 if number == signal.SIGTERM else 20)
                if number == signal.SIGTERM:
                    continue
        self._said.close()
