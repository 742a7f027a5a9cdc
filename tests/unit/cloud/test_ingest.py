from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import DatabaseError

from skerry.cloud import ingest as ingest_module
from skerry.cloud import tables
from skerry.cloud.database import Database
from skerry.cloud.hub import HUB_USER, Hub
from skerry.comms.codec import encode
from skerry.comms.outbox import Outbox
from skerry.comms.uplink import Uplink
from skerry.core.clock import SystemClock
from skerry.core.errors import DataError, StorageError
from skerry.core.messages import LARGEST_MESSAGE_BYTES, Message
from tests.hubs import Wire, running_hub, wait_until

ResultT = TypeVar("ResultT")


def _event(number: int = 0) -> dict[str, str | int]:
    return {"name": "tick", "at_ms": 1, "n": number}


async def _numbers(hub: Hub, device: str = "gate-1") -> list[object]:
    return [line.fields.get("n") for line in await hub.events.read(device, limit=9999)]


def test_what_is_acknowledged_is_kept(tmp_path: Path) -> None:
    """An acknowledgement says all up to its number, and a restart changes nothing."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            for seq in range(1, 8):
                await wire.send("event", _event(seq), seq=seq)
            await wire.wait_for("ack", epoch="e", seq=7)
            assert await _numbers(hub) == [1, 2, 3, 4, 5, 6, 7]
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send("event", _event(7), seq=7)
            await wire.wait_for("ack", epoch="e", seq=7)
            assert len(await _numbers(hub)) == 7

    asyncio.run(main())


def test_duplicates_are_dropped_and_acknowledged_again(tmp_path: Path) -> None:
    """The device may not have heard the first time."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            for seq in (1, 1, 2, 1, 2):
                await wire.send("event", _event(seq), seq=seq)
            await wire.wait_for("ack", seq=2)
            wire.got.clear()
            await wire.send("event", _event(1), seq=1)
            await wire.wait_for("ack", seq=2)
            assert await _numbers(hub) == [1, 2]
            assert hub.counts["duplicate"] == 4

    asyncio.run(main())


def test_each_outbox_counts_for_itself(tmp_path: Path) -> None:
    """Two devices with the same epoch, and two epochs of one device."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1", "gate-2") as (hub, broker):
            one = await Wire(broker, "gate-1").join()
            two = await Wire(broker, "gate-2").join()
            await one.send("event", _event(1), seq=1)
            await two.send("event", _event(2), seq=1)
            await one.send("event", _event(3), seq=1, epoch="f")
            await one.wait_for("ack", epoch="e", seq=1)
            await one.wait_for("ack", epoch="f", seq=1)
            await two.wait_for("ack", epoch="e", seq=1)
            assert await _numbers(hub) == [1, 3]
            assert await _numbers(hub, "gate-2") == [2]

    asyncio.run(main())


def test_a_gap_is_asked_for_once(tmp_path: Path) -> None:
    """What lies beyond it is not taken before what is missing."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            for seq in (1, 3, 4):
                await wire.send("event", _event(seq), seq=seq)
            await wire.wait_for("resend", epoch="e", after=1)
            await wire.send("event", _event(5), seq=5)
            await wait_until(lambda: hub.counts["beyond-a-gap"] == 3)
            for seq in (2, 3, 4, 5):
                await wire.send("event", _event(seq), seq=seq)
            await wire.wait_for("ack", seq=5)
            assert len(wire.bodies("resend")) == 1
            assert await _numbers(hub) == [1, 2, 3, 4, 5]
            await wire.send("event", _event(7), seq=7)
            await wire.wait_for("resend", after=5)

    asyncio.run(main())


def test_a_gap_that_stays_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not before the device has had its time."""
    monkeypatch.setattr(ingest_module, "RESEND_PAUSE_S", 0.2)

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (_, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send("event", _event(), seq=9)
            await wire.wait_for("resend", after=0)
            await asyncio.sleep(0.2)
            await wire.send("event", _event(), seq=9)
            await wait_until(lambda: len(wire.bodies("resend")) == 2)

    asyncio.run(main())


def test_unknown_kinds_are_counted_and_acknowledged(tmp_path: Path) -> None:
    """A newer device's kinds do not stop its queue, with or without a number."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send("hologram", {}, seq=1)
            await wire.send("hologram", {})
            await wire.send("event", _event(2), seq=2)
            await wire.wait_for("ack", seq=2)
            assert hub.counts["unknown-kind"] == 2
            assert wire.bodies("rejected") == []
            assert await _numbers(hub) == [2]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schema": "skerry.message/2"}, "NewerSchemaError"),
        ({"schema": "other/1"}, "DataError"),
        ({"sent_at_ms": "now"}, "DataError"),
        ({"device": "gate-2"}, "DataError"),
        ({"kind": "sample"}, "DataError"),
        ({"body": [1]}, "DataError"),
        ({"body": {"x": "y" * LARGEST_MESSAGE_BYTES}}, "DataError"),
    ],
)
def test_what_cannot_be_taken_is_rejected(
    tmp_path: Path, change: dict[str, object], code: str
) -> None:
    """The device hears why, the log says so, and its next message is taken."""
    message = Message(
        kind="event", device="gate-1", epoch="e", seq=1, sent_at_ms=1, body=_event()
    )
    payload = msgspec.json.encode({**msgspec.json.decode(encode(message)), **change})

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1", "gate-2") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            # The broker bounds what it carries; here the hub itself is to be tested.
            await hub.ingest.receive("skerry/1/main/gate-1/up/event", payload)
            rejected = await wire.wait_for("rejected", epoch="e", seq=1)
            assert rejected["code"] == code
            await wire.wait_for("ack", seq=1)
            [line] = await hub.events.read("gate-1")
            assert line.name == "message.rejected"
            assert line.fields["code"] == code
            await wire.send("event", _event(2), seq=2)
            await wire.wait_for("ack", seq=2)
            assert await hub.events.read("gate-2") == ()

    asyncio.run(main())


def test_what_has_no_place_is_counted(tmp_path: Path) -> None:
    """Noise, topics of others, devices that are not there, kinds without a number."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send_bytes("event", b"\xff\x00")
            await wire.send_bytes("event", b"{}")
            await wire.send("event", _event())
            await Wire(broker, "none").send("event", _event(), seq=1)
            await Wire(broker, "gate-1", tenant="x").send("event", _event(), seq=1)
            await hub.ingest.receive("skerry/1/main/gate-1/down/ack", b"{}")
            await hub.ingest.receive("weather", b"")
            await wait_until(lambda: hub.counts["of-no-device"] == 1)
            assert hub.counts["unreadable"] == 2
            assert hub.counts["without-seq"] == 1
            assert hub.counts["bad-topic"] == 3
            assert wire.bodies("ack") == []
            assert await hub.events.read("gate-1") == ()

    asyncio.run(main())


def test_a_taker_of_another_room(tmp_path: Path) -> None:
    """It writes in the batch's transaction, is called after it, and may reject."""
    called: list[int] = []

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):

            def take(
                connection: Connection, tenant: str, device: str, message: Message
            ) -> Callable[[], object]:
                values = dict.fromkeys(("document", "release", "kind"), "")
                connection.execute(
                    insert(tables.samples).values(
                        tenant=tenant,
                        id=f"{device}-{message.seq}",
                        device=device,
                        epoch=message.epoch,
                        seq=message.seq,
                        at_ms=1,
                        input=b"",
                        **values,
                    )
                )
                if message.body.get("is_bad"):
                    raise DataError("no sample", hint="")

                async def call() -> None:
                    called.append(message.seq)
                    raise ZeroDivisionError

                return call

            hub.ingest.take("sample", take)  # type: ignore[arg-type]
            wire = await Wire(broker, "gate-1").join()
            await wire.send("sample", {}, seq=1)
            await wire.send("sample", {"is_bad": True}, seq=2)
            await wire.send("sample", {}, seq=3)
            await wire.wait_for("ack", seq=3)
            await wire.wait_for("rejected", seq=2, code="DataError")
            ids = select(tables.samples.c.id)
            kept = await hub.database.run(lambda c: list(c.execute(ids).scalars()))
            assert kept == ["gate-1-1", "gate-1-3"]
            await wait_until(lambda: called == [1, 3])

    asyncio.run(main())


def test_a_bug_does_not_block_a_queue(tmp_path: Path) -> None:
    """A message that a taker stumbles over is rejected; nothing of it is kept."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):

            def stumble(connection: Connection, *_: object) -> None:
                connection.execute(tables.audit.delete())
                connection.execute(tables.enrolments.delete())
                raise KeyError

            hub.ingest.take("sample", stumble)
            wire = await Wire(broker, "gate-1").join()
            await wire.send("sample", {}, seq=1)
            await wire.wait_for("rejected", seq=1)
            await wire.wait_for("ack", seq=1)
            assert hub.counts["failed"] == 1
            count = select(func.count()).select_from(tables.enrolments)
            assert await hub.database.run(lambda c: c.execute(count).scalar()) == 1

    asyncio.run(main())


def test_a_database_that_breaks_rejects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails while a message is taken, but not because of it, is tried again."""
    monkeypatch.setattr(ingest_module, "FIRST_PAUSE_S", 0.01)
    fails = iter([True, True])

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):

            def take(connection: Connection, *_: object) -> None:
                if next(fails, False):
                    raise DatabaseError("malformed", None, Exception())
                connection.execute(tables.audit.delete())

            hub.ingest.take("sample", take)
            wire = await Wire(broker, "gate-1").join()
            await wire.send("sample", {}, seq=1)
            await wire.wait_for("ack", seq=1)
            assert hub.counts["storage-refused"] == 2
            assert wire.bodies("rejected") == []

    asyncio.run(main())


def test_a_database_that_refuses_gets_no_acknowledgement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is locked or full nothing is acknowledged; then all of it is taken."""
    monkeypatch.setattr(ingest_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(ingest_module, "LARGEST_BATCH", 2)
    run, is_refusing = Database.run, True

    async def refuse(self: Database, work: Callable[[Connection], ResultT]) -> ResultT:
        if is_refusing and "Ingest" in work.__qualname__:
            raise StorageError("database or disk is full", hint="")
        return await run(self, work)

    async def main() -> None:
        nonlocal is_refusing
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            monkeypatch.setattr(Database, "run", refuse)
            wire = await Wire(broker, "gate-1").join()
            for seq in (1, 2, 3):
                await wire.send("event", _event(seq), seq=seq)
            await wait_until(lambda: hub.counts["storage-refused"] > 1)
            assert wire.bodies("ack") == []
            is_refusing = False
            await wire.wait_for("ack", seq=3)
            assert await _numbers(hub) == [1, 2, 3]

    asyncio.run(main())


def test_a_queue_that_is_full_drops_and_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded; what was dropped is a gap like any other."""
    monkeypatch.setattr(ingest_module, "LARGEST_QUEUE", 2)

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            payload = [
                encode(
                    Message(
                        kind="event",
                        device="gate-1",
                        epoch="e",
                        seq=seq,
                        sent_at_ms=1,
                        body=_event(seq),
                    )
                )
                for seq in range(1, 6)
            ]
            for one in payload:
                await hub.ingest.receive("skerry/1/main/gate-1/up/event", one)
            assert hub.counts["overrun"] == 3
            await wire.wait_for("ack", seq=2)
            await wire.send("event", _event(5), seq=5)
            await wire.wait_for("resend", after=2)

    asyncio.run(main())


def test_an_answer_that_cannot_be_sent_is_no_fault(tmp_path: Path) -> None:
    """The device sends again when the link is back, and is answered then."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            await wire.send("event", _event(1), seq=1)
            await wait_until(lambda: hub.ingest._queue.qsize() == 0)
            broker.cut(HUB_USER)
            await wait_until(lambda: hub.counts["unanswered"] == 1)
            broker.join(HUB_USER)
            await wire.send("event", _event(1), seq=1)
            await wire.wait_for("ack", seq=1)
            assert await _numbers(hub) == [1]

    asyncio.run(main())


def test_old_outboxes_are_forgotten(tmp_path: Path) -> None:
    """A device that makes ever new ones does not fill the database."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            for number in range(20):
                await wire.send("event", _event(), seq=1, epoch=f"e{number}")
            await wire.wait_for("ack", epoch="e19")
            count = select(func.count()).select_from(tables.inbox)
            assert await hub.database.run(lambda c: c.execute(count).scalar()) == 16

    asyncio.run(main())


def test_an_outbox_drains_through_a_broken_link(tmp_path: Path) -> None:
    """With the gateway's own sender: all is taken once, whatever the link did."""
    total = 150

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            outbox = Outbox(tmp_path / "outbox.sqlite")
            wire = Wire(broker, "gate-1")
            uplink = Uplink(
                outbox, wire.link, tenant="main", device="gate-1", clock=SystemClock()
            )

            async def receive(_: str, payload: bytes) -> None:
                await uplink.take(ingest_module.decode(payload))

            await wire.link.subscribe("skerry/1/main/gate-1/down/+", receive)
            sending = asyncio.create_task(uplink.run())
            for number in range(total):
                await uplink.put("event", _event(number))
                if number == 50:
                    broker.stop()
                if number == 100:
                    broker.start()
            await uplink.flush(10)
            assert await _numbers(hub) == list(range(total))
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            outbox.close()

    asyncio.run(main())


def test_one_device_cannot_take_all_the_room(tmp_path: Path) -> None:
    """While one floods the hub, what the others say is taken all the same."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1", "gate-2") as (hub, _):
            ingest = hub.ingest
            loud = [_payload("gate-1", seq) for seq in range(1, 12_001)]
            for payload in loud:
                await ingest.receive("skerry/1/main/gate-1/up/event", payload)
            await ingest.receive("skerry/1/main/gate-2/up/event", _payload("gate-2", 1))
            assert hub.counts["overrun"] == len(loud) - ingest_module.LARGEST_SHARE
            await wait_until(lambda: hub.counts["taken-event"] == 257)
            assert await _numbers(hub, "gate-2") == [1]

    asyncio.run(main())


@pytest.mark.parametrize("limit", ["LARGEST_SHARE_BYTES", "LARGEST_QUEUE_BYTES"])
def test_what_waits_is_bounded_in_bytes(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large messages use up the room sooner; what was taken makes room again."""
    payload = _payload("gate-1", 1)
    monkeypatch.setattr(ingest_module, limit, 2 * len(payload))

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, _):
            for turn in (1, 2):
                for _ in range(3):
                    topic = "skerry/1/main/gate-1/up/event"
                    await hub.ingest.receive(topic, payload)
                assert hub.counts["overrun"] == turn
                taken = 2 * turn - 1
                await wait_until(lambda n=taken: hub.counts["duplicate"] == n)  # type: ignore[misc]

    asyncio.run(main())


def test_ever_new_outboxes_leave_nothing_behind(tmp_path: Path) -> None:
    """A device that names a new outbox with each gap does not fill the memory."""

    async def main() -> None:
        async with running_hub(tmp_path, "gate-1") as (hub, broker):
            wire = await Wire(broker, "gate-1").join()
            for number in range(50):
                await wire.send("event", _event(), seq=9, epoch=f"e{number}")
            await wire.wait_for("resend", epoch="e49", after=0)
            assert len(hub.ingest._gaps) == 1

    asyncio.run(main())


def _payload(device: str, seq: int) -> bytes:
    return encode(
        Message(
            kind="event",
            device=device,
            epoch="e",
            seq=seq,
            sent_at_ms=1,
            body=_event(seq),
        )
    )
