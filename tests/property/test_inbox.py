from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert
from sqlalchemy.pool import StaticPool

from skerry.cloud import tables
from skerry.cloud.inbox import Arrival, Inbox, Outcome
from skerry.core.errors import DataError
from skerry.core.messages import Message

TOTAL = 5
SENT = st.lists(st.lists(st.integers(1, TOTAL), max_size=6), max_size=6)


@contextmanager
def _connected() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    tables.METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            insert(tables.devices).values(
                tenant="main", name="a", labels="{}", created_at_ms=1, is_online=False
            )
        )
        yield connection
    engine.dispose()


def _take(connection: Connection, taken: list[int], seqs: list[int]) -> Outcome:
    def take(_: Connection, __: str, ___: str, message: Message) -> None:
        taken.append(message.seq)
        if message.seq % 2:
            raise DataError("odd", hint="")

    inbox = Inbox(
        connection,
        tenant="main",
        takers={"event": (take, True)},
        note=lambda *_: None,
        now_ms=1,
    )
    return inbox.take(
        Arrival(
            device="a",
            message=Message(kind="event", device="a", epoch="e", seq=seq, sent_at_ms=1),
        )
        for seq in seqs
    )


@given(sent=SENT)
def test_each_is_taken_once_and_in_order(sent: list[list[int]]) -> None:
    """However messages are repeated, lost and mixed, and wherever batches end."""
    with _connected() as connection:
        taken: list[int] = []
        for seqs in sent:
            outcome = _take(connection, taken, seqs)
            assert taken == list(range(1, len(taken) + 1))
            # An acknowledgement is never of what was not taken, rejected or not.
            assert set(outcome.acknowledged.values()) <= {len(taken)}
            gaps = set(outcome.gaps.values())
            assert all(gap <= len(taken) for gap in gaps)
            assert bool(gaps) == (outcome.counts.get("beyond-a-gap", 0) > 0)
        _take(connection, taken, list(range(1, TOTAL + 1)))
        assert taken == list(range(1, TOTAL + 1))
