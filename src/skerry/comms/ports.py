"""Listening on a port, with an error that names it."""

from __future__ import annotations

import errno
import os
import socket

from skerry.core.errors import StateError

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Open a TCP socket that listens, for an event loop.

    Args:
        host: The address; a name is looked up.
        port: The port, or 0 for any free one.

    Raises:
        StateError: It is in use, not permitted, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: only then does asyncio send answers at once (TCP_NODELAY)
    # instead of after the other side's delayed acknowledgement, 40 ms later.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.settimeout(0)
    except (OSError, OverflowError) as error:
        listener.close()
        raise _cannot_listen(host, port, error) from error
    return listener


def _cannot_listen(host: str, port: int, error: Exception) -> StateError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return StateError(
            f"{host}:{port} is in use",
            hint="Stop what uses it, or choose another port; 0 is any free one.",
        )
    reason = os.strerror(number) if number and number > 0 else str(error)
    return StateError(
        f"{host}:{port} cannot be listened on: {reason}",
        hint="Choose another host or port.",
    )
