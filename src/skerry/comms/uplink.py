"""From the outbox to the hub: a window of messages, and the hub's own ACK.

The broker's acknowledgement only says that the broker has a message. The hub's `ack`
says that all up to a number is in its database: only then an entry leaves the outbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Literal, TypeGuard

from skerry.comms.codec import encode
from skerry.comms.outbox import Outbox, OutboxEntry, write_body
from skerry.comms.topics import Topic, write_topic
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import LinkError, SkerryError
from skerry.core.messages import Direction, Down, Message
from skerry.core.seams import Link

log = logging.getLogger(__name__)

FIRST_PATIENCE_S = 5.0
"""How long the hub may be silent before what it has not acknowledged is sent again."""

LONGEST_PATIENCE_S = 60.0
"""To this the patience doubles while the hub stays silent."""


class Uplink:
    """Sends what is put in an outbox until the hub has acknowledged it.

    Args:
        outbox: Where entries wait.
        link: The way to the broker.
        tenant: Whose device it is.
        device: The device's name.
        clock: Measures the patience, and dates the messages.
        window: Most entries sent and not yet acknowledged.
    """

    def __init__(
        self,
        outbox: Outbox,
        link: Link,
        *,
        tenant: str,
        device: str,
        clock: Clock,
        window: int = 64,
    ) -> None:
        self._outbox = outbox
        self._link = link
        self._tenant = tenant
        self._device = device
        self._clock = clock
        self._window = window
        self._sent = 0
        self._acknowledged = 0
        self._patience_s = FIRST_PATIENCE_S
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._puts: list[tuple[OutboxEntry, asyncio.Future[int]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, kind: str, body: Mapping[str, Json], trace: str = "") -> int:
        """Keep a message; it is safe on the disk when this returns.

        Messages that are put at the same time share one flush of the disk.

        Returns:
            Its number in the outbox.

        Raises:
            DataError: It is larger than a message may be, or of an impossible kind.
            StorageError: The outbox is full, or the disk refused.
        """
        entry = OutboxEntry(
            kind=kind, body=body, trace=trace, sent_at_ms=self._clock.unix_ms()
        )
        # What could never be sent must not get in, nor spoil the batch of others.
        self._topic(kind)
        write_body(entry)
        kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._puts.append((entry, kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await kept

    async def run(self) -> None:
        """Send what waits, for ever; lost links and a silent hub are waited out."""
        self._acknowledged = await asyncio.to_thread(self._outbox.acknowledged)
        self._sent = self._acknowledged
        while True:
            await self._link.wait_connected()
            try:
                await self._send_window()
            except SkerryError as error:
                # A forbidden publish too: what waits is kept until it is allowed.
                log.warning("uplink.broken", extra={"why": str(error)})
                self._sent = self._acknowledged
                await self._clock.sleep(self._grow_patience() / 10)
            else:
                await self._wait()

    async def take(self, message: Message) -> None:
        """Take what the hub says of the messages sent; other kinds are ignored.

        Raises:
            StorageError: The disk refused.
        """
        epoch = message.body.get("epoch")
        if epoch != self._outbox.epoch or not isinstance(epoch, str):
            return
        if message.kind == Down.ACK:
            await self._take_ack(epoch, message.body.get("seq"))
        elif message.kind == Down.RESEND:
            await self._take_resend(message.body.get("after"))
        elif message.kind == Down.REJECTED:
            said = {key: str(message.body.get(key))[:200] for key in ("code", "what")}
            log.warning(
                "uplink.rejected", extra={"seq": message.body.get("seq"), **said}
            )

    async def flush(self, timeout_s: float) -> None:
        """Return once the hub has acknowledged everything that was put.

        Raises:
            LinkError: It has not, in this time.
        """
        timer = asyncio.ensure_future(self._clock.sleep(timeout_s))
        try:
            while self._outbox.depth and not timer.done():
                self._drained.clear()
                drained = asyncio.ensure_future(self._drained.wait())
                await asyncio.wait(
                    {timer, drained}, return_when=asyncio.FIRST_COMPLETED
                )
                drained.cancel()
        finally:
            timer.cancel()
        if self._outbox.depth:
            raise LinkError(
                f"{self._outbox.depth} messages still wait after {timeout_s:g} s",
                hint="They are kept, and sent when the hub can be reached.",
            )

    async def _write(self) -> None:
        while self._puts:
            batch, self._puts = self._puts, []
            try:
                numbers = await asyncio.to_thread(
                    self._outbox.put_many, [entry for entry, _ in batch]
                )
            except SkerryError as error:
                for _, kept in batch:
                    if not kept.done():
                        kept.set_exception(error)
            else:
                for (_, kept), number in zip(batch, numbers, strict=True):
                    if not kept.done():
                        kept.set_result(number)
                self._changed.set()

    async def _send_window(self) -> None:
        room = self._window - (self._sent - self._acknowledged)
        if room <= 0:
            return
        epoch = self._outbox.epoch
        entries = await asyncio.to_thread(self._outbox.after, self._sent, room)
        if not entries:
            return
        self._changed.set()  # there may be more behind them
        before = self._sent
        self._sent = entries[-1].seq
        # All are handed over before the first is acknowledged; the link keeps order.
        outcomes = await asyncio.gather(
            *(self._publish(entry, epoch) for entry in entries), return_exceptions=True
        )
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failed:
            self._sent = min(self._sent, before)
            raise failed[0]

    async def _publish(self, entry: OutboxEntry, epoch: str) -> None:
        message = Message(
            kind=entry.kind,
            device=self._device,
            epoch=epoch,
            seq=entry.seq,
            sent_at_ms=entry.sent_at_ms,
            trace=entry.trace,
            body=entry.body,
        )
        await self._link.publish(self._topic(entry.kind), encode(message))

    def _topic(self, kind: str) -> str:
        return write_topic(
            Topic(
                tenant=self._tenant,
                device=self._device,
                direction=Direction.UP,
                kind=kind,
            )
        )

    async def _wait(self) -> None:
        """Wait for an entry or an answer; send again if the hub is silent too long."""
        if not self._changed.is_set():
            waits = [asyncio.ensure_future(self._changed.wait())]
            if self._sent > self._acknowledged:
                waits.append(asyncio.ensure_future(self._lose_patience()))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        self._changed.clear()

    async def _lose_patience(self) -> Literal[True]:
        await self._clock.sleep(self._patience_s)
        log.info("uplink.resent", extra={"after": self._acknowledged})
        self._sent = self._acknowledged
        self._grow_patience()
        return True

    def _grow_patience(self) -> float:
        patience_s = self._patience_s
        self._patience_s = min(patience_s * 2, LONGEST_PATIENCE_S)
        return patience_s

    async def _take_ack(self, epoch: str, seq: object) -> None:
        if not _is_number(seq):
            return
        if await asyncio.to_thread(self._outbox.acknowledge, epoch, seq):
            self._patience_s = FIRST_PATIENCE_S
        self._acknowledged = await asyncio.to_thread(self._outbox.acknowledged)
        self._sent = max(self._sent, self._acknowledged)
        if not self._outbox.depth:
            self._drained.set()
        self._changed.set()

    async def _take_resend(self, after: object) -> None:
        if not _is_number(after):
            return
        if after < self._acknowledged:
            # The hub lost what it had: it waits for numbers that are gone here.
            await asyncio.to_thread(self._outbox.renew)
            self._acknowledged = self._sent = 0
        else:
            self._sent = min(self._sent, after)
        self._changed.set()


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
