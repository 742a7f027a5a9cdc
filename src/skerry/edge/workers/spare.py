"""The spare: a process that has a runtime imported and makes workers at once."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass

from skerry.core.clock import Clock
from skerry.core.errors import DataError, SkerryError, StateError, WorkerLostError
from skerry.edge.workers import messages
from skerry.edge.workers.crashes import CrashLoop
from skerry.edge.workers.messages import Failed, Forked, Ready
from skerry.edge.workers.supervisor import Supervisor

log = logging.getLogger(__name__)

START_LIMIT_S = 120.0
FORK_LIMIT_S = 10.0

_KEPT = {
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "PYTHONPATH"),
}
_KEPT_FAMILIES = ("CUDA_", "KMP_", "MALLOC_", "NVIDIA_", "OMP_", "OPENVINO_", "ORT_")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Birth:
    """A worker that has just been made.

    Attributes:
        pid: Of the worker.
        control: Our end of its control socket.
    """

    pid: int
    control: socket.socket


class Spare:
    """Makes workers of one runtime; begins itself anew when it dies or is used up.

    Args:
        runtime: The runtime's name.
        place: `package.module:Class` where it is not registered under the name.
        lifeline: The reading end of a pipe whose writing end is the gateway's alone.
        supervisor: What watches it.
        clock: What measures time.
    """

    def __init__(
        self,
        runtime: str,
        place: str,
        *,
        lifeline: int,
        supervisor: Supervisor,
        clock: Clock,
    ) -> None:
        self.runtime = runtime
        self._place = place
        self._lifeline = lifeline
        self._supervisor = supervisor
        self._clock = clock
        self._crashes = CrashLoop()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that stands ready now, or None."""
        server = self._server
        return server.running.pid if server else None

    def version(self) -> str:
        """The version of the runtime's library; the first call waits for its import.

        Raises:
            MissingExtraError: The library is not installed.
            StateError: The process cannot be started.
        """
        with self._lock:
            return self._ready().version

    def fork(self) -> Birth:
        """Make a worker.

        Raises:
            MissingExtraError: The runtime's library is not installed.
            StateError: The process cannot be started.
            WorkerLostError: It died, and so did the one in its place.
        """
        with self._lock:
            for _ in range(2):
                server = self._ready()
                try:
                    birth, is_reusable = server.fork()
                except (OSError, DataError) as error:
                    log.warning("spare.lost", extra={"why": str(error)})
                    self._drop(server)
                    continue
                self._crashes.answered()
                if not is_reusable:
                    self._server = None
                    self._begin_in_background()
                return birth
        raise WorkerLostError(
            f"no worker process of {self.runtime} can be made",
            hint="The log says why; the machine may be out of memory.",
        )

    def close(self) -> None:
        """End the process that stands ready."""
        with self._lock:
            self._is_closed = True
            if self._server is not None:
                self._drop(self._server)

    def ended(self, server: _Server) -> None:
        """Have another one ready; this one has ended."""
        threading.Thread(target=self._replace, args=(server,), daemon=True).start()

    def _ready(self) -> _Server:
        """The process that stands ready, started if need be."""
        if self._is_closed:
            raise StateError("the pool is closed", hint="Make another.")
        if self._server is None:
            pause_s = self._crashes.pause_s(self._clock.wall_s())
            if pause_s:
                raise WorkerLostError(
                    f"processes of {self.runtime} die again and again",
                    hint=f"The next try is in {pause_s:.0f} s.",
                )
            server = _Server(self)
            self._supervisor.watch(server)
            self._server = server
        return self._server

    def _drop(self, server: _Server) -> None:
        self._server = None
        self._crashes.died(self._clock.wall_s())
        server.stop()

    def _replace(self, server: _Server) -> None:
        with self._lock:
            if self._server is server:
                self._drop(server)
                self._begin_in_background()

    def _begin_in_background(self) -> None:
        if not self._is_closed:
            threading.Thread(target=self._begin, daemon=True).start()

    def _begin(self) -> None:
        try:
            self.version()
        except SkerryError as error:
            log.warning("spare.failed", extra={"what": error.what})

    def start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start a process; it does not stand ready yet.

        Raises:
            StateError: It cannot be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(START_LIMIT_S)
        command = [
            *(sys.executable, "-P", "-m", "skerry.edge.workers.child"),
            *(self.runtime, self._place, str(theirs.fileno()), str(self._lifeline)),
        ]
        try:
            started = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._lifeline),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise StateError(
                f"a worker process cannot be started: {error}",
                hint="The machine may be out of memory or of processes.",
            ) from error
        finally:
            theirs.close()
        return started, ours


class _Server:
    """The process of a spare, which stands ready once this is made."""

    def __init__(self, spare: Spare) -> None:
        self._spare = spare
        self.running, self._socket = spare.start()
        try:
            self.pidfd = os.pidfd_open(self.running.pid)
            try:
                self.version = self._greet().version
            except BaseException:
                os.close(self.pidfd)
                raise
        except BaseException:
            self._socket.close()
            self.running.kill()
            self.running.wait()
            raise
        self._socket.settimeout(FORK_LIMIT_S)

    def _greet(self) -> Ready:
        try:
            answer = messages.from_spare(
                self._socket.recv(messages.LARGEST_MESSAGE_BYTES)
            )
        except (OSError, DataError) as error:
            raise StateError(
                f"a process with {self._spare.runtime} ended before it was ready",
                hint="The log says why, where the runtime says it.",
            ) from error
        if isinstance(answer, Failed):
            raise messages.read_error(answer)
        if not isinstance(answer, Ready):
            raise StateError("a spare spoke out of turn", hint="Report it.")
        return answer

    def fork(self) -> tuple[Birth, bool]:
        """Make a worker; tells whether another can be made."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            socket.send_fds(self._socket, [b"."], [theirs.fileno()])
            answer = _forked(self._socket.recv(messages.LARGEST_MESSAGE_BYTES))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Birth(pid=answer.pid, control=ours), answer.is_reusable

    def stop(self) -> None:
        """End the process, but not the workers that it has made."""
        self._socket.close()
        self.running.send_signal(signal.SIGKILL)

    def look(self) -> None:
        """It does not grow."""

    def ended(self) -> None:
        """Bury the process."""
        self.running.wait()
        os.close(self.pidfd)
        self._socket.close()
        self._spare.ended(self)


def _forked(content: bytes) -> Forked:
    answer = messages.from_spare(content)
    if not isinstance(answer, Forked):
        raise DataError("a spare spoke out of turn", hint="Report it.")
    return answer


def environment() -> dict[str, str]:
    """What a worker gets to see of the gateway's environment: no secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_FAMILIES)
    }
    # A library that starts threads when it is imported could not be forked.
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **kept}
