"""One worker process, as the gateway sees it."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skerry.core.errors import (
    DataError,
    LateError,
    RuntimeFailure,
    SkerryError,
    WorkerLostError,
)
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.edge.workers import messages
from skerry.edge.workers.channel import Channel
from skerry.edge.workers.frames import DTYPES
from skerry.edge.workers.limits import Limits
from skerry.edge.workers.messages import Failed, Load, Loaded, Open, write_message
from skerry.edge.workers.spare import Birth
from skerry.edge.workers.supervisor import Supervisor

log = logging.getLogger(__name__)

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DTYPE_NAMES = {dtype.name for dtype in DTYPES}
_AGAIN = "Ask again: another takes its place."


class Worker:
    """A process with one model in it; it is watched from its birth to its end.

    Any thread may run it: each that runs at the same time has a channel of its own, and
    with it a thread in the worker.

    Args:
        birth: The process.
        limits: What it may take.
        supervisor: What watches it.
        on_end: Called once, on the supervisor's thread, when the process has ended.

    Attributes:
        pid: Of the process.
        pidfd: Stands for this process even when its number is another's by now.
        why: Why it was killed; empty where it was not.
        has_ended: Whether the process has ended.
    """

    def __init__(
        self,
        birth: Birth,
        *,
        limits: Limits,
        supervisor: Supervisor,
        on_end: Callable[[Worker], None],
    ) -> None:
        self.pid = birth.pid
        self.why = ""
        self._control = birth.control
        self._limits = limits
        self._supervisor = supervisor
        self._on_end = on_end
        self._lock = threading.Lock()
        self._idle: list[Channel] = []
        self._loaded = Loaded(inputs=(), outputs=())
        self._is_closed = False
        self.has_ended = False
        try:
            self.pidfd = os.pidfd_open(birth.pid)
        except OSError as error:
            self._control.close()
            raise WorkerLostError("a worker died at once", hint=_AGAIN) from error
        supervisor.watch(self)

    def load(self, model: Model, options: LoadOptions) -> Loaded:
        """Load the model.

        Raises:
            WorkerLostError: The process died of it, or did not end within the limit.
            SkerryError: As the runtime said.
        """
        told = Load(
            model=model, options=options, largest_bytes=self._limits.reserved_bytes
        )
        title = model.path.name
        self._control.settimeout(self._limits.load_s)
        try:
            self._control.send(write_message(told))
            content = self._control.recv(messages.LARGEST_MESSAGE_BYTES)
        except TimeoutError as error:
            self.kill(f"it did not load {title} within {self._limits.load_s:g} s")
            raise self._lost(title) from error
        except OSError as error:
            raise self._lost(title) from error
        if not content:
            raise self._lost(title)
        try:
            answer = messages.from_worker(content)
        except DataError as error:
            self.kill("it answered nonsense")
            raise self._lost(title) from error
        if isinstance(answer, Failed):
            raise messages.read_error(answer)
        _check(answer, title)
        self._loaded = answer
        return answer

    def run(self, inputs: Tensors, *, times: int = 1) -> dict[str, Array]:
        """Run one inference on inputs that fit the signature, or it so many times.

        Raises:
            WorkerLostError: The process died, or was killed.
            LateError: It was killed, for it took longer than the limit.
            SkerryError: As the runtime said.
        """
        with self._lock:
            channel = self._idle.pop() if self._idle else None
        if channel is None:
            channel = self._open()
        with self._lend(channel):
            return channel.run(inputs, times=times)

    def start(self, inputs: Tensors) -> Channel | None:
        """Start an inference without waiting for the process.

        Returns:
            What it was started on, for `finish`; None where no channel is open that
            nobody uses, or it cannot be: then `run` tells why.
        """
        with self._lock:
            channel = self._idle.pop() if self._idle else None
        if channel is None:
            return None
        try:
            channel.start(inputs)
        except WorkerLostError as error:
            channel.close()
            self.kill(error.what)
            return None
        except SkerryError:
            self._keep(channel)
            return None
        except BaseException:
            channel.close()
            raise
        return channel

    def finish(self, channel: Channel) -> dict[str, Array]:
        """Wait for the outputs of what was started.

        Raises:
            SkerryError: As `run`.
        """
        with self._lend(channel):
            return channel.finish()

    def kill(self, why: str) -> None:
        """End the process at once; the first reason given stays."""
        with self._lock:
            if self._is_closed:
                return
            self.why = self.why or why
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """End the process and give back all that belongs to it."""
        self.kill("")
        self._supervisor.forget(self)
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            idle, self._idle = self._idle, []
            os.close(self.pidfd)
            self._control.close()
        for channel in idle:
            channel.close()

    def rss_bytes(self) -> int:
        """Its resident memory; 0 when it is gone."""
        return self._resident_bytes()[0]

    def memory_bytes(self) -> int:
        """Memory that it alone has written to; 0 when it is gone.

        What it has from the spare does not count: this is what its model takes.
        """
        try:
            text = Path(f"/proc/{self.pid}/smaps_rollup").read_text("ascii")
        except OSError:
            return 0
        found = re.search(r"^Private_Dirty:\s+(\d+) kB", text, re.MULTILINE)
        return int(found.group(1)) * 1024 if found else 0

    def look(self) -> None:
        """Kill it if it holds more memory than it may."""
        held_bytes = self._resident_bytes()[1]
        allowed = self._limits.memory_bytes
        if held_bytes > allowed:
            self.kill(f"it held {held_bytes} bytes, its limit is {allowed}")

    def ended(self) -> None:
        """Tell that the process has ended."""
        self.has_ended = True
        self._on_end(self)

    def _resident_bytes(self) -> tuple[int, int]:
        """Its resident memory, and how much of it belongs to no file."""
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text("ascii")
        except OSError:
            return 0, 0
        resident, shared = (int(pages) * _PAGE_BYTES for pages in text.split()[1:3])
        return resident, resident - shared

    def _open(self) -> Channel:
        """Open one more channel; the process answers it with a thread of its own."""
        try:
            channel = Channel(self._loaded, limit_s=self._limits.run_s)
        except OSError as error:
            raise RuntimeFailure(
                f"no memory can be shared with a worker: {error.strerror}",
                hint="Allow the gateway more open files, or more memory.",
            ) from error
        try:
            with self._lock:
                message = write_message(Open())
                socket.send_fds(self._control, [message], channel.descriptors())
        except OSError as error:
            channel.close()
            raise WorkerLostError("the worker died", hint=_AGAIN) from error
        channel.theirs.close()
        return channel

    @contextmanager
    def _lend(self, channel: Channel) -> Iterator[None]:
        """Take a channel back after use, unless it is of no more use."""
        try:
            yield
        except WorkerLostError as error:
            channel.close()
            self.kill(error.what)  # dead, or not to be believed any more
            raise
        except LateError:
            channel.close()
            self.kill(f"it did not answer within {self._limits.run_s:g} s")
            raise
        except SkerryError:
            self._keep(channel)
            raise
        except BaseException:
            channel.close()
            raise
        self._keep(channel)

    def _keep(self, channel: Channel) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(channel)
                return
        channel.close()

    def _lost(self, title: str) -> WorkerLostError:
        why = f": {self.why}" if self.why else ""
        return WorkerLostError(
            f"the worker died while it loaded {title}{why}",
            hint="The model, or its runtime, is broken or too large for this machine.",
        )


def _check(loaded: Loaded, title: str) -> None:
    """Refuse a model whose tensors cannot lie in shared memory."""
    for spec in (*loaded.inputs, *loaded.outputs):
        if spec.dtype not in _DTYPE_NAMES:
            raise RuntimeFailure(
                f"{title} has the tensor {spec}, which cannot be shared with a worker",
                hint="Serve it with --isolation thread.",
            )
