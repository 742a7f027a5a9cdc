"""One thread that watches all processes of a pool: whether they live, how they grow."""

from __future__ import annotations

import logging
import os
import select
import threading
from typing import Protocol

log = logging.getLogger(__name__)

PERIOD_S = 0.25
"""How often a worker's memory is looked at."""

_LAST_LOOKS = 20


class Watched(Protocol):
    """A process that is watched; its methods must return soon."""

    @property
    def pidfd(self) -> int:
        """Becomes readable when the process ends."""
        ...

    def look(self) -> None:
        """Called about every quarter of a second."""
        ...

    def ended(self) -> None:
        """Called once, when the process has ended."""
        ...


class Supervisor:
    """Watches processes until it is closed; it sleeps while there are none."""

    def __init__(self) -> None:
        self._watched: dict[int, Watched] = {}
        self._lock = threading.Lock()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._run, name="skerry-workers", daemon=True
        )
        self._thread.start()

    def watch(self, watched: Watched) -> None:
        """Watch one more."""
        with self._lock:
            self._watched[watched.pidfd] = watched
            self._epoll.register(watched.pidfd, select.EPOLLIN)
        os.eventfd_write(self._wake, 1)

    def forget(self, watched: Watched) -> None:
        """Watch it no more; its `pidfd` may be closed after."""
        with self._lock:
            if self._watched.pop(watched.pidfd, None) is not None:
                self._epoll.unregister(watched.pidfd)

    def close(self) -> None:
        """Wait for the end of all that is watched, a few seconds at most; then stop."""
        self._is_closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        with self._lock:
            self._watched.clear()
            self._epoll.close()
            os.close(self._wake)

    def _run(self) -> None:
        patience = _LAST_LOOKS
        while patience and not (self._is_closed and not self._watched):
            patience -= self._is_closed
            ready = self._epoll.poll(PERIOD_S if self._watched else None)
            for fd, _ in ready:
                if fd == self._wake:
                    os.eventfd_read(fd)
                else:
                    self._end(fd)
            if not ready:
                self._look()

    def _end(self, fd: int) -> None:
        with self._lock:
            watched = self._watched.get(fd)
            # Since it was seen ready, it may have been closed, and be another's by now.
            if watched is None or not _is_ready(fd):
                return
            del self._watched[fd]
            self._epoll.unregister(fd)
        try:
            watched.ended()
        except Exception:  # The watch goes on, whatever one of them makes of its end.
            log.exception("workers.end_failed")

    def _look(self) -> None:
        with self._lock:
            all_watched = list(self._watched.values())
        for watched in all_watched:
            try:
                watched.look()
            except Exception:
                log.exception("workers.look_failed")


def _is_ready(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
