"""Inferences that an event loop waits for, rather than a thread."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakKeyDictionary

from skerry.core.seams import Array
from skerry.edge.workers.channel import Channel


class Replies:
    """Tells one event loop of what comes on channels, for as long as the loop lives.

    It is an epoll of its own within that of the loop, for any thread may close a
    channel: the kernel forgets one that was closed, where `asyncio` would take the next
    of the same number for it. Edges alone are told of, so that what nobody waits for
    (a reply to a thread, the end of a worker) wakes the loop once at most.

    Args:
        loop: The event loop, which runs in this thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._tell)

    @classmethod
    def of_this_loop(cls) -> Replies:
        """Those of the event loop that runs in this thread.

        Raises:
            OSError: There is no descriptor left for its first.
        """
        loop = asyncio.get_running_loop()
        replies = _all.get(loop)
        if replies is None:
            replies = _all[loop] = cls(loop)
        return replies

    def expect(self, channel: Channel, heard: Callable[[], None]) -> None:
        """Have something called whenever a reply may have come, until `forget`."""
        fd = channel.fileno()
        if channel.told is not self:
            with suppress(FileExistsError):  # another loop was told in between
                self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
            channel.told = self
        self._waiting[fd] = heard

    def forget(self, channel: Channel) -> None:
        """Wait no more for one that was expected; it is still open."""
        self._waiting.pop(channel.fileno(), None)

    def _tell(self) -> None:
        for fd, _ in self._epoll.poll(0):
            heard = self._waiting.get(fd)
            if heard is not None:
                heard()


_all: WeakKeyDictionary[asyncio.AbstractEventLoop, Replies] = WeakKeyDictionary()


class StartedRun:
    """An inference that a worker is at (`skerry.edge.queueing.Started`).

    Args:
        channel: What it was started on.
        finish: Takes the outputs, and gives the channel back.
        done: Told, on the event loop, whether they can be had without waiting.
        replies: Those of the event loop.

    Raises:
        OSError: The kernel watches no more descriptors.
    """

    __slots__ = ("_channel", "_done", "_replies", "finish")

    def __init__(
        self,
        channel: Channel,
        finish: Callable[[], dict[str, Array]],
        done: Callable[[bool], None],
        *,
        replies: Replies,
    ) -> None:
        self.finish = finish
        self._channel = channel
        self._done = done
        self._replies = replies
        self._replies.expect(channel, self._heard)

    def leave(self) -> None:
        """Leave the waiting to a thread, in `finish`."""
        self._replies.forget(self._channel)

    def _heard(self) -> None:
        is_ready = self._channel.hear()
        if is_ready is not None:
            self._replies.forget(self._channel)
            self._done(is_ready)
