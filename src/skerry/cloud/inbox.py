"""What happens to a batch of messages within its transaction.

Each outbox of a device counts its messages from 1 up. The inbox remembers up to where
nothing is missing: what lies below is a duplicate, the next one is taken, and whatever
lies beyond a gap is left for later, since the device sends again from the gap on. So a
device's messages are taken in their order, each exactly once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, delete, exc, insert, select, update

from skerry.cloud import tables
from skerry.core.errors import StorageError, UsageError
from skerry.core.messages import Message

log = logging.getLogger(__name__)

AfterCommit = Callable[[], Awaitable[None]]
Take = Callable[[Connection, str, str, Message], AfterCommit | None]
"""Takes connection, tenant, device and message within the batch's transaction; returns
what is to be called after its commit. It raises a UsageError to reject the message."""

KEPT_EPOCHS = 16
"""How many outboxes of a device are remembered, the last used."""

_REFUSED_ROW = (exc.IntegrityError, exc.DataError, exc.ProgrammingError)
"""What a database raises at one row; all else says that the database itself fails."""

LARGEST_SEQ = 1 << 53


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxId:
    """One outbox of one device.

    Attributes:
        device: The device's name.
        epoch: The outbox's.
    """

    device: str
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message as it came, or what is left of one that cannot be read.

    Attributes:
        device: By the topic.
        message: Its envelope; of one that cannot be read only epoch and seq count.
        error: Why it cannot be read, or None.
    """

    device: str
    message: Message
    error: UsageError | None = None

    @property
    def outbox(self) -> OutboxId:
        """Where it is counted."""
        return OutboxId(device=self.device, epoch=self.message.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a message was counted but not taken.

    Attributes:
        outbox: Where it is counted.
        seq: Its number there.
        code: The kind of error.
        what: One sentence for people.
    """

    outbox: OutboxId
    seq: int
    code: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is to be done after the commit of a batch.

    Attributes:
        acknowledged: Up to where nothing is missing, where that must be said.
        gaps: After which `seq` one is missing.
        rejections: What must be answered with the reason.
        calls: What the takers want called, in order.
        counts: What was seen, by name.
    """

    acknowledged: Mapping[OutboxId, int] = field(default_factory=dict)
    gaps: Mapping[OutboxId, int] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()
    calls: tuple[AfterCommit, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


class Inbox:
    """One batch in one transaction.

    Args:
        connection: Of the transaction.
        tenant: Whose devices.
        takers: What takes each kind; True beside it if the kind is sequenced.
        note: Adds a line to a device's log: (connection, device, name, fields).
        now_ms: The time, milliseconds since 1970.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        tenant: str,
        takers: Mapping[str, tuple[Take, bool]],
        note: Callable[[Connection, str, str, dict[str, int | str]], None],
        now_ms: int,
    ) -> None:
        self._connection = connection
        self._tenant = tenant
        self._takers = takers
        self._note = note
        self._now_ms = now_ms
        self._before: dict[OutboxId, int | None] = {}
        self._seqs: dict[OutboxId, int] = {}
        self._gaps: dict[OutboxId, int] = {}
        self._rejections: list[Rejection] = []
        self._calls: list[AfterCommit] = []
        self._counts: Counter[str] = Counter()

    def take(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Take a batch, in its order.

        Raises:
            StorageError: The database refused; nothing of the batch is taken.
        """
        batch = list(arrivals)
        known = self._mark_seen({arrival.device for arrival in batch})
        for arrival in batch:
            if arrival.device not in known:
                self._counts["of-no-device"] += 1
            elif arrival.message.seq > 0 and arrival.message.epoch:
                self._take_sequenced(arrival)
            else:
                self._take_one(arrival, is_sequenced=False)
        for outbox, seq in self._seqs.items():
            self._keep_seq(outbox, seq)
        return Outcome(
            acknowledged={outbox: seq for outbox, seq in self._seqs.items() if seq},
            gaps=self._gaps,
            rejections=tuple(self._rejections),
            calls=tuple(self._calls),
            counts=self._counts,
        )

    def _take_sequenced(self, arrival: Arrival) -> None:
        outbox, seq = arrival.outbox, arrival.message.seq
        if outbox not in self._seqs:
            self._before[outbox] = self._read_seq(outbox)
            self._seqs[outbox] = self._before[outbox] or 0
        last = self._seqs[outbox]
        if seq <= last:
            self._counts["duplicate"] += 1
        elif seq > last + 1:
            self._counts["beyond-a-gap"] += 1
            self._gaps.setdefault(outbox, last)
        else:
            self._take_one(arrival, is_sequenced=True)
            self._seqs[outbox] = seq

    def _take_one(self, arrival: Arrival, *, is_sequenced: bool) -> None:
        message = arrival.message
        taker, is_of_sequence = self._takers.get(message.kind, (None, is_sequenced))
        error = arrival.error
        if error is None and taker is None:
            self._counts["unknown-kind"] += 1
        elif error is None and is_of_sequence and not is_sequenced:
            self._counts["without-seq"] += 1
        elif error is None and taker is not None:
            error = self._call(taker, arrival)
        if error is not None:
            self._counts["rejected"] += 1
        if error is not None and is_sequenced:
            self._reject(arrival, error)

    def _call(self, taker: Take, arrival: Arrival) -> UsageError | None:
        message = arrival.message
        try:
            with self._connection.begin_nested():
                call = taker(self._connection, self._tenant, arrival.device, message)
        except UsageError as error:
            return error
        except StorageError:
            raise
        except Exception as error:  # a bug must not block a device's queue for ever
            if isinstance(error, exc.DBAPIError) and not isinstance(
                error, _REFUSED_ROW
            ):
                raise
            log.exception("message.failed", extra={"kind": message.kind})
            self._counts["failed"] += 1
            return UsageError("the hub failed to take it", hint="See the hub's log.")
        self._counts[f"taken-{message.kind}"] += 1
        if call is not None:
            self._calls.append(call)
        return None

    def _reject(self, arrival: Arrival, error: UsageError) -> None:
        rejection = Rejection(
            outbox=arrival.outbox,
            seq=arrival.message.seq,
            code=error.code,
            what=error.what[:1000],
        )
        self._rejections.append(rejection)
        self._note(
            self._connection,
            arrival.device,
            "message.rejected",
            {
                "kind": arrival.message.kind[:80],
                "epoch": rejection.outbox.epoch,
                "seq": rejection.seq,
                "code": rejection.code,
                "what": rejection.what,
            },
        )

    def _mark_seen(self, names: set[str]) -> set[str]:
        table = tables.devices
        these = (table.c.tenant == self._tenant) & table.c.name.in_(names)
        self._connection.execute(
            update(table).where(these).values(last_seen_ms=self._now_ms)
        )
        return set(
            self._connection.execute(select(table.c.name).where(these)).scalars()
        )

    def _read_seq(self, outbox: OutboxId) -> int | None:
        table = tables.inbox
        return self._connection.execute(
            select(table.c.seq).where(self._is(outbox)).with_for_update()
        ).scalar()

    def _keep_seq(self, outbox: OutboxId, seq: int) -> None:
        table, before = tables.inbox, self._before[outbox]
        if before is None:
            self._connection.execute(
                insert(table).values(
                    tenant=self._tenant,
                    device=outbox.device,
                    epoch=outbox.epoch,
                    seq=seq,
                    updated_at_ms=self._now_ms,
                )
            )
            self._forget_epochs(outbox.device)
        elif seq != before:
            self._connection.execute(
                update(table)
                .where(self._is(outbox))
                .values(seq=seq, updated_at_ms=self._now_ms)
            )

    def _forget_epochs(self, device: str) -> None:
        table = tables.inbox
        of_device = (table.c.tenant == self._tenant) & (table.c.device == device)
        oldest = (
            select(table.c.epoch)
            .where(of_device)
            .order_by(table.c.updated_at_ms.desc())
            .offset(KEPT_EPOCHS)
        )
        epochs = list(self._connection.execute(oldest).scalars())
        if epochs:
            self._connection.execute(
                delete(table).where(of_device, table.c.epoch.in_(epochs))
            )

    def _is(self, outbox: OutboxId) -> ColumnElement[bool]:
        table = tables.inbox
        return (
            (table.c.tenant == self._tenant)
            & (table.c.device == outbox.device)
            & (table.c.epoch == outbox.epoch)
        )
