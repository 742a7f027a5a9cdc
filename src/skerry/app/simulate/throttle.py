"""A process and its children limited to a share of a CPU, by stopping them for a while.

This is how cpulimit works: within each period the processes run for a fraction of it
(SIGCONT) and are stopped for the rest (SIGSTOP). No control group and no privileges are
needed. Each thread gets that fraction of the CPU that it had before: a process with one
busy thread gets the fraction of one core.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Self

from skerry.core.errors import StateError, UsageError


class CpuLimit:
    """Limits another process of this user, from a thread, until it is stopped.

    Its children and theirs are limited with it, those to come included.
    The process is left running whatever happens to the limit, and the limit survives
    the end of the process. Only a SIGKILL of the process that limits could leave the
    other one stopped.

    Args:
        pid: The process.
        fraction: The share of the time in which it runs, above 0 and below 1.
        period_s: How long it runs and is stopped once.

    Raises:
        UsageError: The fraction or the period makes no sense, or the process is this
            one or the system's first.
    """

    def __init__(self, pid: int, fraction: float, period_s: float = 0.1) -> None:
        if not 0 < fraction < 1 or not 0.001 <= period_s <= 10:
            raise UsageError(
                f"got a fraction of {fraction} in periods of {period_s} s, expected "
                "above 0 and below 1, and 0.001 to 10",
                hint="A third of a CPU is 0.33.",
            )
        if pid <= 1 or pid == os.getpid():
            raise UsageError(
                f"process {pid} cannot be limited", hint="Name another process."
            )
        self._pid = pid
        self._running_s = period_s * fraction
        self._stopped_s = period_s - self._running_s
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._pidfd = -1

    def start(self) -> None:
        """Begin; to begin twice changes nothing.

        Raises:
            StateError: There is no such process, or it is another user's.
        """
        if self._thread is not None:
            return
        try:
            # A descriptor, for the number may be another process's by and by.
            self._pidfd = os.pidfd_open(self._pid)
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
        except OSError as error:
            self._forget()
            raise StateError(
                f"process {self._pid} cannot be limited: {error.strerror or error}",
                hint="It must run, and be your own.",
            ) from error
        self._ending.clear()
        self._thread = threading.Thread(
            target=self._run, name=f"cpu-limit-{self._pid}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End it: the process runs on as before; to end twice changes nothing."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join()
            self._thread = None
            self._forget()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            while not self._ending.wait(self._running_s):
                # The parent first: what is stopped has no more children.
                signal.pidfd_send_signal(self._pidfd, signal.SIGSTOP)
                with contextlib.ExitStack() as stopped:
                    _stop_children(self._pid, stopped)
                    is_ending = self._ending.wait(self._stopped_s)
                signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)
                if is_ending:
                    return
        except ProcessLookupError:
            return  # it has ended: there is nothing left to limit

    def _forget(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def _stop_children(pid: int, stopped: contextlib.ExitStack) -> None:
    """Stop all that descends from a process, until the stack is left."""
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it may have ended by now
            for child in map(int, listed.read_text("ascii").split()):
                fd = os.pidfd_open(child)
                stopped.callback(_let_go, fd)
                signal.pidfd_send_signal(fd, signal.SIGSTOP)
                _stop_children(child, stopped)


def _let_go(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
    os.close(pidfd)
