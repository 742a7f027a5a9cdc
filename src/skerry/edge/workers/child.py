"""The program of the processes that models run in: first a spare, then workers.

`python -m skerry.edge.workers.child RUNTIME PLACE SOCKET LIFELINE`

It imports one runtime, and nothing else happens before a worker is asked for. Then it
forks: the worker has everything imported from its first moment, and the pages of the
libraries in common with the spare, which stays ready for the next one. That is safe for
as long as there is one thread only, which it counts; where importing a runtime begins
more, the spare does not fork but becomes the worker, and the gateway makes another.

It ends with its gateway, whatever native code does: the kernel kills the whole process
group when the last writer of the lifeline, a pipe, is gone.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import cast

from skerry.core.errors import RuntimeFailure, SkerryError, StateError
from skerry.core.plugins import RUNTIMES
from skerry.core.seams import Runtime, Session
from skerry.edge.workers import messages
from skerry.edge.workers.messages import Forked, Load, Loaded, Ready, write_message
from skerry.edge.workers.segments import Segment
from skerry.edge.workers.serving import Serving
from skerry.runtimes import get_runtime

_CHANNEL_FDS = 3
_FIRST_TO_GO = "500"
"""Added to what the kernel counts when memory runs out: workers before the gateway."""


def main() -> None:
    """Be a spare, and in each process forked from it, a worker."""
    name, place, server_fd, lifeline_fd = sys.argv[1:]
    _prepare(lifeline_fd)
    server = socket.socket(fileno=int(server_fd))
    try:
        runtime = _import(name, place)
    except SkerryError as error:
        server.send(write_message(messages.write_error(error, name)))
        return
    gc.collect()
    gc.freeze()  # what is never collected is never written to: its pages stay shared
    server.send(write_message(Ready(version=runtime.version)))
    control = _await_birth(server)
    if control is None:
        return
    try:
        _Worker(runtime, control).run()
    finally:
        # Nothing is worth waiting for: no destructor of native code, no other thread.
        sys.stderr.flush()
        os._exit(0)


def _prepare(lifeline_fd: str) -> None:
    os.dup2(2, 1)  # what native code prints is talk, and no result of a command
    faulthandler.enable()
    # No zombies: the kernel forgets a worker when it ends. Nobody asks how it did.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Opened anew, so that the file has this process group as its owner and no other.
    lifeline = os.open(f"/proc/self/fd/{lifeline_fd}", os.O_RDONLY | os.O_NONBLOCK)
    os.close(int(lifeline_fd))
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def _import(name: str, place: str) -> Runtime:
    if not place:
        return get_runtime(name)
    try:
        part = EntryPoint(name=name, value=place, group=RUNTIMES).load()
    except (ImportError, AttributeError) as error:
        raise StateError(
            f"the runtime {name!r} cannot be imported from {place}: {error}",
            hint="It is package.module:Class, to be found on PYTHONPATH.",
        ) from error
    return cast("Runtime", part())


def _await_birth(server: socket.socket) -> socket.socket | None:
    """Make workers as they are asked for.

    Returns:
        In each worker its control socket; in the spare, None when it is done.
    """
    while True:
        _, fds, _, _ = socket.recv_fds(server, 1, 1)
        if not fds:
            return None
        is_alone = len([*Path("/proc/self/task").iterdir()]) == 1
        pid = os.fork() if is_alone else 0
        if pid:
            os.close(fds[0])
            server.send(write_message(Forked(pid=pid, is_reusable=True)))
            continue
        if not is_alone:
            told = Forked(pid=os.getpid(), is_reusable=False)
            server.send(write_message(told))
        server.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, "ascii")
        return socket.socket(fileno=fds[0])


class _Worker:
    """One model in this process; each channel has a thread, and this one the control.

    Args:
        runtime: What runs the model.
        control: The socket over which it is told what to load and to open.
    """

    def __init__(self, runtime: Runtime, control: socket.socket) -> None:
        self._runtime = runtime
        self._control = control
        self._session: Session | None = None
        self._title = ""

    def run(self) -> None:
        """Do as it is told until the gateway closes the socket."""
        while True:
            content, fds, _, _ = socket.recv_fds(
                self._control, messages.LARGEST_MESSAGE_BYTES, _CHANNEL_FDS
            )
            if not content:
                return
            message = messages.to_worker(content)
            if isinstance(message, Load):
                self._load(message)
            else:
                self._open(fds)

    def _load(self, message: Load) -> None:
        self._title = message.model.path.name
        if message.largest_bytes:
            limit = (message.largest_bytes, message.largest_bytes)
            resource.setrlimit(resource.RLIMIT_DATA, limit)
        try:
            session = self._runtime.load(message.model, message.options)
        except Exception as error:  # noqa: BLE001 (it is raised in the gateway)
            otherwise = f"{self._title} cannot be loaded"
            answer = write_message(messages.write_error(error, otherwise))
        else:
            self._session = session
            answer = write_message(
                Loaded(
                    inputs=session.inputs,
                    outputs=session.outputs,
                    providers=tuple(getattr(session, "providers", ())),
                    fallbacks=tuple(getattr(session, "fallbacks", ())),
                )
            )
        self._control.send(answer)

    def _open(self, fds: list[int]) -> None:
        if self._session is None:
            raise RuntimeFailure("nothing is loaded", hint="Load a model first.")
        serving = Serving(
            self._session,
            socket.socket(fileno=fds[0]),
            Segment(fds[1]),
            Segment(fds[2]),
            title=self._title,
        )
        threading.Thread(target=_serve, args=(serving,), daemon=True).start()


def _serve(serving: Serving) -> None:
    try:
        serving.run()
    except BaseException:  # noqa: BLE001 (it ends the process, whatever it is)
        # Whoever waits at the other end sees it by the sockets that close.
        sys.excepthook(*sys.exc_info())
        os._exit(1)


if __name__ == "__main__":
    main()
