from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from skerry.comms.codec import decode
from skerry.comms.memory import MemoryBroker
from skerry.comms.outbox import Outbox
from skerry.comms.uplink import FIRST_PATIENCE_S, Uplink
from skerry.core.clock import FakeClock
from skerry.core.documents import Json
from skerry.core.errors import DataError, LinkError, StorageError
from skerry.core.messages import Down, Message
from tests.links import GRANTS, run


class Hub:
    """Takes what comes, in order, and answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.uplink: Uplink | None = None
        self.is_deaf = False
        self.loses: set[int] = set()

    @property
    def numbers(self) -> list[int]:
        return [message.seq for message in self.got]

    async def receive(self, topic: str, payload: bytes) -> None:
        message = decode(payload)
        assert topic == f"skerry/1/main/a/up/{message.kind}"
        if message.seq in self.loses:
            self.loses.discard(message.seq)
            return
        self.got.append(message)

    async def say(self, kind: str, body: dict[str, Json]) -> None:
        assert self.uplink is not None
        await self.uplink.take(Message(kind=kind, device="a", sent_at_ms=0, body=body))


class Bench:
    """A device's outbox and uplink, a hub, and a broker in memory."""

    def __init__(self, outbox: Outbox, *, window: int) -> None:
        self.outbox = outbox
        self.clock = FakeClock()
        self.broker = MemoryBroker()
        self.hub = Hub()
        self.hub_link = self.broker.link("hub", grant=GRANTS["hub"])
        self.link = self.broker.link("a", grant=GRANTS["a"])
        self.uplink = Uplink(
            outbox,
            self.link,
            tenant="main",
            device="a",
            clock=self.clock,
            window=window,
        )
        self.hub.uplink = self.uplink

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.002)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass once somebody sleeps."""
        await self.until(lambda: self.clock.next_wake_s() is not None)
        self.clock.advance(wall_s=seconds)

    async def ack(self, seq: int) -> None:
        await self.hub.say(Down.ACK, {"epoch": self.outbox.epoch, "seq": seq})


def on_bench(
    path: Path, case: Callable[[Bench], Awaitable[None]], *, window: int = 64
) -> None:
    """Run a case with an uplink that sends."""

    async def whole() -> None:
        with closing(Outbox(path / "outbox", limit_bytes=100_000)) as outbox:
            bench = Bench(outbox, window=window)
            await bench.hub_link.subscribe("skerry/1/+/+/up/+", bench.hub.receive)
            running = asyncio.create_task(bench.uplink.run())
            try:
                await case(bench)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                await bench.link.close()
                await bench.hub_link.close()

    run(whole())


def test_what_is_put_arrives_and_leaves_with_the_ack(tmp_path: Path) -> None:
    """In order, with epoch, number and date; it waits on disk until then."""

    async def case(bench: Bench) -> None:
        numbers = [
            await bench.uplink.put("event", {"name": name}, trace="t") for name in "abc"
        ]
        await bench.until(lambda: bench.hub.numbers == numbers == [1, 2, 3])
        first = bench.hub.got[0]
        assert (first.epoch, first.trace) == (bench.outbox.epoch, "t")
        assert first.sent_at_ms == bench.clock.unix_ms()
        assert bench.outbox.depth == 3
        await bench.ack(2)
        assert bench.outbox.depth == 1
        await bench.ack(3)
        await bench.uplink.flush(1)

    on_bench(tmp_path, case)


def test_no_more_than_the_window_is_on_its_way(tmp_path: Path) -> None:
    """An ACK lets the next ones go."""

    async def case(bench: Bench) -> None:
        await asyncio.gather(*(bench.uplink.put("event", {"n": n}) for n in range(10)))
        await bench.until(lambda: len(bench.hub.got) >= 4)
        await asyncio.sleep(0.02)
        assert bench.hub.numbers == [1, 2, 3, 4]
        await bench.ack(3)
        await bench.until(lambda: len(bench.hub.got) >= 7)
        await asyncio.sleep(0.02)
        assert bench.hub.numbers == [1, 2, 3, 4, 5, 6, 7]

    on_bench(tmp_path, case, window=4)


def test_a_silent_hub_is_sent_to_again(tmp_path: Path) -> None:
    """After a patience that doubles; an ACK makes it short again."""

    async def case(bench: Bench) -> None:
        await bench.uplink.put("event", {})
        await bench.until(lambda: bench.hub.numbers == [1])
        await bench.pass_time(FIRST_PATIENCE_S)
        await bench.until(lambda: bench.hub.numbers == [1, 1])
        await bench.pass_time(FIRST_PATIENCE_S)
        await asyncio.sleep(0.02)
        assert bench.hub.numbers == [1, 1]
        await bench.pass_time(FIRST_PATIENCE_S)
        await bench.until(lambda: bench.hub.numbers == [1, 1, 1])
        await bench.ack(1)
        await bench.uplink.put("event", {})
        await bench.until(lambda: bench.hub.numbers[-1] == 2)
        await bench.pass_time(FIRST_PATIENCE_S)
        await bench.until(lambda: bench.hub.numbers[-2:] == [2, 2])

    on_bench(tmp_path, case)


def test_the_hub_can_ask_for_what_is_missing(tmp_path: Path) -> None:
    """RESEND brings all that comes after a number."""

    async def case(bench: Bench) -> None:
        bench.hub.loses = {2}
        for _ in range(3):
            await bench.uplink.put("event", {})
        await bench.until(lambda: bench.hub.numbers == [1, 3])
        epoch = bench.outbox.epoch
        await bench.hub.say(Down.RESEND, {"epoch": epoch, "after": 1})
        await bench.until(lambda: bench.hub.numbers == [1, 3, 2, 3])

    on_bench(tmp_path, case)


def test_a_hub_that_lost_its_memory_gets_a_new_epoch(tmp_path: Path) -> None:
    """It asks for numbers that are gone here: what is left counts from 1 again."""

    async def case(bench: Bench) -> None:
        for _ in range(2):
            await bench.uplink.put("event", {})
        await bench.until(lambda: len(bench.hub.got) == 2)
        await bench.ack(2)
        await bench.uplink.put("event", {"name": "third"})
        await bench.until(lambda: len(bench.hub.got) == 3)
        epoch = bench.outbox.epoch
        await bench.hub.say(Down.RESEND, {"epoch": epoch, "after": 0})
        await bench.until(lambda: len(bench.hub.got) == 4)
        again = bench.hub.got[-1]
        assert (again.seq, again.body) == (1, {"name": "third"})
        assert again.epoch == bench.outbox.epoch != epoch

    on_bench(tmp_path, case)


def test_a_broker_that_was_away_loses_nothing(tmp_path: Path) -> None:
    """What was put meanwhile is sent when it is back."""

    async def case(bench: Bench) -> None:
        bench.broker.stop()
        for _ in range(5):
            await bench.uplink.put("event", {})
        await asyncio.sleep(0.02)
        assert bench.outbox.depth == 5
        bench.broker.start()
        await bench.until(lambda: bench.hub.numbers == [1, 2, 3, 4, 5])

    on_bench(tmp_path, case)


def test_a_forbidden_message_is_kept_and_tried_again(tmp_path: Path) -> None:
    """A revoked grant is no reason to lose what was measured."""

    async def case(bench: Bench) -> None:
        forbidding = bench.broker.link("b", grant=GRANTS["b"])
        bench.uplink._link, allowed = forbidding, bench.uplink._link
        await bench.uplink.put("event", {})
        await bench.until(lambda: bench.clock.next_wake_s() is not None)
        assert bench.outbox.depth == 1
        bench.uplink._link = allowed
        await bench.pass_time(60)
        await bench.until(lambda: bench.hub.numbers == [1])
        await forbidding.close()

    on_bench(tmp_path, case)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Down.ACK, {"seq": 9}),
        (Down.ACK, {"epoch": "another", "seq": 9}),
        (Down.ACK, {"epoch": "OURS", "seq": "9"}),
        (Down.ACK, {"epoch": "OURS", "seq": True}),
        (Down.ACK, {"epoch": "OURS", "seq": -1}),
        (Down.ACK, {"epoch": "OURS"}),
        (Down.RESEND, {"epoch": "OURS", "after": None}),
        (Down.RESEND, {"epoch": "OURS", "after": 10**6}),
        (Down.REJECTED, {"epoch": "OURS", "seq": 1, "code": 5, "what": ["odd"]}),
        ("another", {"epoch": "OURS", "seq": 9}),
    ],
)
def test_nonsense_from_the_hub_changes_nothing(
    tmp_path: Path, kind: str, body: dict[str, Json]
) -> None:
    """Nothing leaves the outbox, nothing is sent twice."""

    async def case(bench: Bench) -> None:
        await bench.uplink.put("event", {})
        await bench.until(lambda: bench.hub.numbers == [1])
        ours = {"OURS": bench.outbox.epoch}
        said = {k: ours.get(v, v) if isinstance(v, str) else v for k, v in body.items()}
        await bench.hub.say(kind, said)
        await asyncio.sleep(0.02)
        assert bench.outbox.depth == 1
        assert bench.hub.numbers == [1]

    on_bench(tmp_path, case)


def test_what_cannot_be_sent_does_not_get_in(tmp_path: Path) -> None:
    """It is refused at once, and those put at the same time are not."""

    async def case(bench: Bench) -> None:
        outcomes = await asyncio.gather(
            bench.uplink.put("event", {}),
            bench.uplink.put("event", {"x": "y" * 70_000}),
            bench.uplink.put("no/kind", {}),
            bench.uplink.put("event", {}),
            return_exceptions=True,
        )
        assert outcomes[0] == 1
        assert outcomes[3] == 2
        assert isinstance(outcomes[1], DataError)
        assert isinstance(outcomes[2], DataError)

    on_bench(tmp_path, case)


def test_a_full_outbox_is_told_to_who_puts(tmp_path: Path) -> None:
    """StorageError; and there is room again after an ACK."""

    async def case(bench: Bench) -> None:
        body: dict[str, Json] = {"x": "y" * 30_000}
        for _ in range(3):
            await bench.uplink.put("event", body)
        with pytest.raises(StorageError, match="full"):
            await bench.uplink.put("event", body)
        await bench.ack(1)
        await bench.uplink.put("event", body)

    on_bench(tmp_path, case)


def test_flush_gives_up_in_time(tmp_path: Path) -> None:
    """LinkError says how many still wait."""

    async def case(bench: Bench) -> None:
        await bench.uplink.put("event", {})
        flushing = asyncio.create_task(bench.uplink.flush(3))
        await bench.until(lambda: bench.hub.numbers == [1])
        await bench.pass_time(3)
        with pytest.raises(LinkError, match="1 messages still wait after 3 s"):
            await flushing

    on_bench(tmp_path, case)


def test_a_restarted_device_goes_on(tmp_path: Path) -> None:
    """What the hub acknowledged is not sent again, the rest is."""

    async def first(bench: Bench) -> None:
        for _ in range(3):
            await bench.uplink.put("event", {})
        await bench.until(lambda: len(bench.hub.got) == 3)
        await bench.ack(1)

    async def second(bench: Bench) -> None:
        await bench.until(lambda: bench.hub.numbers == [2, 3])
        await bench.ack(3)
        await bench.uplink.put("event", {})
        await bench.until(lambda: bench.hub.numbers == [2, 3, 4])

    on_bench(tmp_path, first)
    on_bench(tmp_path, second)
