"""What comes up from the fleet: read, batched, committed, and only then acknowledged.

A message waits a moment for others, a batch is one transaction, and its
acknowledgement is sent after the commit: what a device deletes from its outbox is on
the hub's disk. While the database refuses, the batch waits and nothing is acknowledged;
what does not fit in the queue meanwhile is dropped, and the devices send it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from skerry.cloud.database import Database
from skerry.cloud.events import Events
from skerry.cloud.inbox import (
    LARGEST_SEQ,
    Arrival,
    Inbox,
    OutboxId,
    Outcome,
    Take,
)
from skerry.cloud.presence import Presence
from skerry.comms.codec import decode, encode, is_epoch
from skerry.comms.topics import Topic, fleet_pattern, read_topic, write_topic
from skerry.core.clock import Clock
from skerry.core.documents import Json, parse_object
from skerry.core.errors import DataError, SkerryError, StorageError
from skerry.core.messages import Direction, Down, Message, Up
from skerry.core.seams import Link

log = logging.getLogger(__name__)

LARGEST_BATCH = 200
GATHER_S = 0.05
"""How long the first message of a batch waits for others."""

LARGEST_QUEUE = 10_000
LARGEST_QUEUE_BYTES = 64 << 20
LARGEST_SHARE = 256
LARGEST_SHARE_BYTES = 4 << 20
"""Most that waits of one device: one that floods the hub must not silence the others.
A gateway of ours sends 64 messages and waits for their acknowledgement."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
"""How long to wait after the database refused: doubled each time, up to this."""

RESEND_PAUSE_S = 5.0
"""How long a device has to fill a gap before it is asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    outbox: OutboxId
    after: int
    asked_at_s: float


class Ingest:
    """Takes the messages of a tenant's devices.

    Args:
        database: Where they go.
        events: The devices' logs, for rejections.
        presence: Gets the answers to pings.
        tenant: Whose devices.
        clock: What it waits on.
        counts: What was seen, by name; shared with the hub.
    """

    def __init__(
        self,
        database: Database,
        *,
        events: Events,
        presence: Presence,
        tenant: str,
        clock: Clock,
        counts: Counter[str],
    ) -> None:
        self._database = database
        self._events = events
        self._presence = presence
        self._tenant = tenant
        self._clock = clock
        self._counts = counts
        self._takers: dict[str, tuple[Take, bool]] = {}
        self._queue: asyncio.Queue[tuple[Arrival, int]] = asyncio.Queue(LARGEST_QUEUE)
        self._queue_bytes = 0
        self._waiting: Counter[str] = Counter()
        self._waiting_bytes: Counter[str] = Counter()
        # By device: one that names ever new outboxes must not fill the memory.
        self._gaps: dict[str, _Gap] = {}

    def take(self, kind: str, function: Take, *, is_sequenced: bool = True) -> None:
        """Say what takes the messages of a kind.

        Args:
            kind: Such as `sample`.
            function: Called within the transaction of the batch.
            is_sequenced: Whether the kind must come through the device's outbox.
        """
        self._takers[kind] = (function, is_sequenced)

    async def subscribe(self, link: Link) -> None:
        """Have all that comes up from the fleet put in the queue."""
        await link.subscribe(fleet_pattern(Direction.UP), self.receive)

    async def run(self, link: Link) -> None:
        """Take what is in the queue, for ever, and answer over the link."""
        while True:
            batch = [self._let_out(*await self._queue.get())]
            if self._queue.qsize() < LARGEST_BATCH:
                await self._clock.sleep(GATHER_S)
            while len(batch) < LARGEST_BATCH and not self._queue.empty():
                batch.append(self._let_out(*self._queue.get_nowait()))
            outcome = await self._commit(batch)
            self._counts.update(outcome.counts)
            await self._answer(link, outcome)
            for call in outcome.calls:
                try:
                    await call()
                except Exception:  # the batch is kept; the next one must be, too
                    log.exception("ingest.call_failed")

    async def receive(self, topic: str, payload: bytes) -> None:
        """Take one message from the link; never raises on account of it."""
        try:
            place = read_topic(topic)
        except SkerryError:
            self._counts["bad-topic"] += 1
            return
        if place.tenant != self._tenant or place.direction is not Direction.UP:
            self._counts["bad-topic"] += 1
            return
        arrival = _read(place, payload)
        if arrival is None:
            self._counts["unreadable"] += 1
        elif arrival.error is None and arrival.message.kind in (Up.PONG, Up.PROFILED):
            kind = arrival.message.kind
            is_awaited = self._presence.take_answer(place.device, arrival.message)
            self._counts[kind if is_awaited else f"late-{kind}"] += 1
        elif not self._let_in(arrival, len(payload)):
            self._counts["overrun"] += 1

    def _let_in(self, arrival: Arrival, size_bytes: int) -> bool:
        """Queue a message if there is room for it and its device has some left."""
        device, waiting = arrival.device, self._waiting
        waiting_bytes = self._waiting_bytes
        if (
            self._queue.full()
            or self._queue_bytes + size_bytes > LARGEST_QUEUE_BYTES
            or waiting[device] >= LARGEST_SHARE
            or waiting_bytes[device] + size_bytes > LARGEST_SHARE_BYTES
        ):
            return False
        waiting[device] += 1
        waiting_bytes[device] += size_bytes
        self._queue_bytes += size_bytes
        self._queue.put_nowait((arrival, size_bytes))
        return True

    def _let_out(self, arrival: Arrival, size_bytes: int) -> Arrival:
        device = arrival.device
        self._waiting[device] -= 1
        self._waiting_bytes[device] -= size_bytes
        self._queue_bytes -= size_bytes
        if not self._waiting[device]:
            del self._waiting[device], self._waiting_bytes[device]
        return arrival

    async def _commit(self, batch: list[Arrival]) -> Outcome:
        def work(connection: Connection) -> Outcome:
            return Inbox(
                connection,
                tenant=self._tenant,
                takers=self._takers,
                note=self._events.add,
                now_ms=self._clock.unix_ms(),
            ).take(batch)

        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._database.run(work)
            except StorageError as error:
                log.error("ingest.refused", extra={"what": error.what})  # noqa: TRY400
                self._counts["storage-refused"] += 1
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _answer(self, link: Link, outcome: Outcome) -> None:
        answers = [
            self._message(outbox, Down.ACK, {"seq": seq})
            for outbox, seq in outcome.acknowledged.items()
        ]
        answers += [
            self._message(
                rejection.outbox,
                Down.REJECTED,
                {"seq": rejection.seq, "code": rejection.code, "what": rejection.what},
            )
            for rejection in outcome.rejections
        ]
        for outbox, seq in outcome.acknowledged.items():
            gap = self._gaps.get(outbox.device)
            if gap and gap.outbox == outbox and seq > gap.after:
                del self._gaps[outbox.device]
        answers += [
            self._message(outbox, Down.RESEND, {"after": after})
            for outbox, after in outcome.gaps.items()
            if self._ask(outbox, after)
        ]
        sent = await asyncio.gather(
            *(link.publish(topic, payload) for topic, payload in answers),
            return_exceptions=True,
        )
        for failure in sent:
            if isinstance(failure, SkerryError):
                # Nothing is lost: the device sends again, and is answered again.
                self._counts["unanswered"] += 1
            elif isinstance(failure, BaseException):
                raise failure

    def _ask(self, outbox: OutboxId, after: int) -> bool:
        """Whether to ask for what is missing: once a gap, again if nothing comes."""
        now_s, gap = self._clock.wall_s(), self._gaps.get(outbox.device)
        is_asked = gap is not None and (gap.outbox, gap.after) == (outbox, after)
        if is_asked and gap and now_s - gap.asked_at_s < RESEND_PAUSE_S:
            return False
        self._gaps[outbox.device] = _Gap(outbox=outbox, after=after, asked_at_s=now_s)
        return True

    def _message(
        self, outbox: OutboxId, kind: Down, body: Mapping[str, Json]
    ) -> tuple[str, bytes]:
        topic = Topic(
            tenant=self._tenant,
            device=outbox.device,
            direction=Direction.DOWN,
            kind=kind,
        )
        message = Message(
            kind=kind,
            device=outbox.device,
            sent_at_ms=self._clock.unix_ms(),
            body={"epoch": outbox.epoch, **body},
        )
        return write_topic(topic), encode(message)


def _read(place: Topic, payload: bytes) -> Arrival | None:
    """Read a message, or at least where it is counted; None if not even that."""
    try:
        message = decode(payload)
        _check_place(message, place)
    except DataError as error:
        counted = _read_count(place, payload)
        if counted is None:
            return None
        return Arrival(device=place.device, message=counted, error=error)
    return Arrival(device=place.device, message=message)


def _check_place(message: Message, place: Topic) -> None:
    if message.device != place.device or message.kind != place.kind:
        raise DataError(
            f"a message of {message.device!r:.80} of the kind {message.kind!r:.80}"
            f" came as {place.kind!r:.80} of {place.device}",
            hint="Send as yourself, on the topic of the kind.",
        )


def _read_count(place: Topic, payload: bytes) -> Message | None:
    try:
        fields = parse_object(payload, name="a message", largest_bytes=1 << 20)
    except DataError:
        return None
    epoch, seq = fields.get("epoch"), fields.get("seq")
    is_seq = isinstance(seq, int) and not isinstance(seq, bool)
    if not isinstance(epoch, str) or not isinstance(seq, int) or not is_seq:
        return None
    if not epoch or not is_epoch(epoch) or not 0 < seq <= LARGEST_SEQ:
        return None
    return Message(
        kind=place.kind, device=place.device, epoch=epoch, seq=seq, sent_at_ms=0
    )
