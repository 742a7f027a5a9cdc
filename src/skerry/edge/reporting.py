"""What a gateway says of itself: lines of its log, and changes of its shadow."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import SkerryError, StorageError
from skerry.core.messages import Message, Up
from skerry.evolve.update_state import Phase, Refused, UpdateState

log = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Most lines that wait for the outbox; the oldest are dropped."""

LONGEST_TEXT = 500
"""Most characters of a text in a line."""

_RETRY_S = 5.0


class Outgoing(Protocol):
    """Messages that reach the hub at last, as `skerry.comms.uplink` sends them."""

    async def put(self, kind: str, body: Mapping[str, Json], trace: str = "") -> int:
        """Keep a message until the hub has it.

        Raises:
            StorageError: It could not be kept.
            DataError: It is larger than a message may be.
        """
        ...

    async def take(self, message: Message) -> None:
        """Take what the hub answers."""
        ...


class Reporter:
    """Puts events, and changes of the reported state, into the outbox.

    Only what changed is sent, as a merge patch (RFC 7396) in which a missing value is
    null. What the outbox cannot take is tried again.

    Args:
        uplink: Where they go.
        clock: What it waits by.
        now_ms: Dates the events.
    """

    def __init__(
        self, uplink: Outgoing, *, clock: Clock, now_ms: Callable[[], int]
    ) -> None:
        self._uplink = uplink
        self._clock = clock
        self._now_ms = now_ms
        self._events: deque[dict[str, Json]] = deque(maxlen=MOST_WAITING)
        self._state: dict[str, dict[str, Json]] = {}
        self._sent: dict[str, dict[str, Json]] = {}
        self._leaving: set[str] = set()
        self._changed = asyncio.Event()

    def tell(self, name: str, fields: Mapping[str, Json] | None = None) -> None:
        """Write a line into the device's log."""
        line = {key: _short(value) for key, value in (fields or {}).items()}
        self._events.append({**line, "name": name, "at_ms": self._now_ms()})
        log.info(name, extra={"fields": line})
        self._changed.set()

    def note(self, section: str, key: str, value: Json) -> None:
        """Set one value of the reported state; None removes it.

        Args:
            section: The top-level key, such as `releases`.
            key: The key in it.
            value: What stands there.
        """
        self._state.setdefault(section, {})[key] = value
        self._changed.set()

    def forget(self, key: str) -> None:
        """Remove a key everywhere, and remember nothing of it once that is told."""
        for section, values in self._state.items():
            if key in values:
                self.note(section, key, None)
        self._leaving.add(key)

    async def run(self) -> None:
        """Send what is told and noted, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._send()
            except StorageError as error:
                log.warning("report.kept", extra={"why": error.what})
                await self._clock.sleep(_RETRY_S)
                self._changed.set()

    async def _send(self) -> None:
        while self._events:
            line = self._events.popleft()
            try:
                await self._put(Up.EVENT, line)
            except StorageError:
                self._events.appendleft(line)
                raise
        patch = self._patch()
        if patch:
            await self._put(Up.REPORTED, {"patch": patch})
            for section, values in patch.items():
                self._sent.setdefault(section, {}).update(values)
        for values in (*self._state.values(), *self._sent.values()):
            for key in self._leaving:
                values.pop(key, None)
        self._leaving.clear()

    async def _put(self, kind: str, body: Mapping[str, Json]) -> None:
        try:
            await self._uplink.put(kind, body)
        except StorageError:
            raise
        except SkerryError as error:  # Too large: it would be so for ever.
            log.warning("report.dropped", extra={"kind": kind, "why": error.what})

    def _patch(self) -> dict[str, Any]:
        missing = object()
        patch: dict[str, Any] = {}
        for section, values in self._state.items():
            sent = self._sent.get(section, {})
            changed = {
                key: value
                for key, value in values.items()
                if sent.get(key, missing) != value
            }
            if changed:
                patch[section] = changed
        return patch


def update_under_way(state: UpdateState) -> Json:
    """What is reported of an update; None where none is under way."""
    want = state.working or state.desired
    if state.phase is Phase.IDLE or want is None:
        return None
    return {
        "version": want.version,
        "phase": state.phase.value,
        "attempt": state.attempt + 1,
        "retry_at_ms": state.retry_at_ms,
        "awaits_window": state.awaits_window,
    }


def why_refused(refused: Refused | None) -> Json:
    """What is reported of a refusal; None where nothing is refused."""
    if refused is None:
        return None
    fields: dict[str, Json] = msgspec.to_builtins(refused.refusal)
    return {**fields, "rollout": refused.rollout}


def _short(value: Json) -> Json:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value
