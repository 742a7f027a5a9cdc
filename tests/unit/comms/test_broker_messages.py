from __future__ import annotations

import asyncio
from unittest import mock

from skerry.comms._mqtt5 import mqtt5
from skerry.comms.connection import Connection
from skerry.comms.links import ALL_GRANTED, Grant
from skerry.comms.router import Router
from skerry.comms.sessions import Limits
from tests.brokers import QOS1, Bench, on_bench, publish, subscribe
from tests.links import run


def test_subscriptions_are_answered_one_by_one() -> None:
    """Granted, forbidden, malformed, shared and one too many."""
    codes = mqtt5.SubAckReasonCode

    async def case(bench: Bench) -> None:
        client = await bench.connect()
        got = await subscribe(client, "a/+", "b", "$share/g/a")
        assert got == [
            codes.GRANTED_QOS_AT_LEAST_ONCE,
            codes.NOT_AUTHORIZED,
            codes.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        ]
        client.send(b"\x82\x0a\x00\x01\x00\x00\x04a/#b\x01")
        answer = await client.take(mqtt5.SubAckPacket)
        assert answer.reason_codes == [codes.TOPIC_FILTER_INVALID]
        assert await subscribe(client, "a/1", "a/2") == [
            codes.GRANTED_QOS_AT_LEAST_ONCE,
            codes.QUOTA_EXCEEDED,
        ]

    on_bench(case, grant=Grant(publish=(), subscribe=("a/#",)), subscriptions=2)


def test_unsubscribing_ends_it() -> None:
    """Nothing more comes; what was no subscription is said to be none."""

    async def case(bench: Bench) -> None:
        client = await bench.connect()
        await subscribe(client, "a")
        client.send(mqtt5.UnsubscribePacket(2, ["a", "b"]))
        answer = await client.take(mqtt5.UnsubAckPacket)
        assert answer.reason_codes == [
            mqtt5.UnsubAckReasonCode.SUCCESS,
            mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED,
        ]
        nobody = mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS
        assert await publish(client, "a", b"") == nobody

    on_bench(case)


def test_a_forbidden_publish_reaches_nobody() -> None:
    """QoS 1 is told so; QoS 0 has no answer and is dropped."""

    async def case(bench: Bench) -> None:
        client = await bench.connect()
        await subscribe(client, "#")
        code = await publish(client, "b", b"")
        assert code == mqtt5.PubAckReasonCode.NOT_AUTHORIZED
        client.send(mqtt5.PublishPacket("b", b""))
        client.send(mqtt5.PublishPacket("a", b"x"))
        assert (await client.take(mqtt5.PublishPacket)).topic == "a"

    on_bench(case, grant=Grant(publish=("a",), subscribe=("#",)))


def test_a_message_goes_on_with_what_was_said_of_it() -> None:
    """Properties travel unchanged; the time to live shrinks; QoS is the lower."""

    async def case(bench: Bench) -> None:
        sender, reader = await bench.connect("s"), await bench.connect("r")
        await subscribe(reader, "a", max_qos=mqtt5.QoS.AT_MOST_ONCE)
        await publish(
            sender,
            "a",
            b"x",
            content_type="text",
            user_properties=[("k", "v")],
            message_expiry_interval=60,
        )
        got = await reader.take(mqtt5.PublishPacket)
        assert (got.qos, got.content_type) == (mqtt5.QoS.AT_MOST_ONCE, "text")
        assert got.user_properties == [("k", "v")]
        assert 58 <= got.message_expiry_interval <= 60

    on_bench(case)


def test_overlapping_subscriptions_give_one_copy() -> None:
    """It names each subscription; one with no-local hears nothing of its own."""

    async def case(bench: Bench) -> None:
        client = await bench.connect()
        for number, pattern in ((1, "a/+"), (2, "a/b")):
            options = mqtt5.TopicFilter(pattern, max_qos=QOS1)
            client.send(
                mqtt5.SubscribePacket(number, [options], subscription_id=number)
            )
            await client.take(mqtt5.SubAckPacket)
        await subscribe(client, "c", no_local=True)
        client.send(mqtt5.PublishPacket("a/b", b"x"))
        client.send(mqtt5.PublishPacket("c", b"x"))
        got = await client.take(mqtt5.PublishPacket)
        assert sorted(got.subscription_ids) == [1, 2]
        client.send(mqtt5.PingReqPacket())
        await client.take(mqtt5.PingRespPacket)

    on_bench(case)


def test_no_more_are_on_the_way_than_the_client_takes() -> None:
    """With a receive maximum of 2 the third waits for a PUBACK."""

    async def case(bench: Bench) -> None:
        sender = await bench.connect("s")
        reader = await bench.connect("r", receive_max=2)
        await subscribe(reader, "a")
        for number in range(4):
            await publish(sender, "a", b"%d" % number)
        first = [await reader.take(mqtt5.PublishPacket) for _ in range(2)]
        reader.send(mqtt5.PingReqPacket())
        await reader.take(mqtt5.PingRespPacket)
        reader.send(mqtt5.PubAckPacket(first[0].packet_id))
        assert (await reader.take(mqtt5.PublishPacket)).payload == b"2"

    on_bench(case)


def test_a_persistent_session_keeps_what_comes_meanwhile() -> None:
    """What was not acknowledged comes again, marked so, then what waited, in order."""

    async def case(bench: Bench) -> None:
        sender = await bench.connect("s")
        reader = await bench.connect("r", session_expiry_interval=60)
        await subscribe(reader, "a")
        await publish(sender, "a", b"1")
        await reader.take(mqtt5.PublishPacket)
        await reader.close()
        await publish(sender, "a", b"2")
        again, answer = await bench.try_connect("r", session_expiry_interval=60)
        assert answer.session_present
        got = [await again.take(mqtt5.PublishPacket) for _ in range(2)]
        assert [(one.payload, one.duplicate) for one in got] == [
            (b"1", True),
            (b"2", False),
        ]
        clean, answer = await bench.try_connect("r", clean_start=True)
        assert not answer.session_present
        clean.send(mqtt5.PingReqPacket())
        await clean.take(mqtt5.PingRespPacket)

    on_bench(case)


def test_a_session_ends_when_its_time_is_over() -> None:
    """After the expiry the broker knows nothing of it."""

    async def case(bench: Bench) -> None:
        reader = await bench.connect("r", session_expiry_interval=60)
        await reader.close()
        await asyncio.sleep(0.1)
        _, answer = await bench.try_connect("r")
        assert not answer.session_present

    on_bench(case, session_expiry_s=0)


def test_a_second_connection_takes_the_session_over() -> None:
    """The first is told; another user with the same client id has its own."""

    async def case(bench: Bench) -> None:
        first = await bench.connect("r", session_expiry_interval=60)
        other = await bench.connect("r", user="other")
        _, answer = await bench.try_connect("r")
        assert answer.session_present
        said = await first.take(mqtt5.DisconnectPacket)
        assert said.reason_code == mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
        other.send(mqtt5.PingReqPacket())
        await other.take(mqtt5.PingRespPacket)

    on_bench(case)


def test_a_silent_client_is_dropped_and_its_will_sent() -> None:
    """One and a half times the keep-alive is the longest silence."""

    async def case(bench: Bench) -> None:
        reader = await bench.connect("r")
        await subscribe(reader, "will")
        will = mqtt5.Will("will", payload=b"gone", qos=QOS1)
        silent = await bench.connect("s", keep_alive=1, will=will)
        said = await silent.take(mqtt5.DisconnectPacket)
        assert said.reason_code == mqtt5.DisconnectReasonCode.KEEP_ALIVE_TIMEOUT
        assert (await reader.take(mqtt5.PublishPacket)).payload == b"gone"

    on_bench(case)


def test_a_delayed_will_waits_for_its_client() -> None:
    """It is not sent if the client comes back in time; it is if its session ends."""

    async def case(bench: Bench) -> None:
        reader = await bench.connect("r")
        await subscribe(reader, "will")
        will = mqtt5.Will("will", payload=b"gone", will_delay_interval=30)
        options = {"session_expiry_interval": 60, "will": will}
        first = await bench.connect("s", **options)
        first.writer.transport.abort()
        second = await bench.connect("s", **options)
        second.writer.transport.abort()
        await asyncio.sleep(0.05)
        reader.send(mqtt5.PingReqPacket())
        await reader.take(mqtt5.PingRespPacket)
        await bench.connect("s", clean_start=True)
        assert (await reader.take(mqtt5.PublishPacket)).payload == b"gone"

    on_bench(case)


def test_retained_messages_are_bounded() -> None:
    """In number, in bytes and by grant; one in place of another is no more."""
    full = mqtt5.PubAckReasonCode.QUOTA_EXCEEDED
    grant = Grant(publish=("#",), subscribe=(), retained=2)

    async def case(bench: Bench) -> None:
        client, other = await bench.connect("a"), await bench.connect("b")
        assert await publish(client, "1", b"x" * 10, retain=True) != full
        assert await publish(client, "2", b"x" * 10, retain=True) != full
        assert await publish(client, "3", b"x", retain=True) == full
        assert await publish(client, "2", b"y" * 10, retain=True) != full
        assert await publish(other, "4", b"x" * 11, retain=True) == full
        assert await publish(other, "4", b"x", retain=True) != full
        assert await publish(other, "5", b"x", retain=True) == full
        assert await publish(client, "1", b"", retain=True) != full
        assert await publish(other, "5", b"x", retain=True) != full

    on_bench(case, grant=grant, retained_messages=3, retained_bytes=30)


def test_a_slow_reader_loses_what_does_not_fit() -> None:
    """Its queue is bounded, and who sends is told that it was not taken."""
    full = mqtt5.PubAckReasonCode.QUOTA_EXCEEDED

    async def case(bench: Bench) -> None:
        sender = await bench.connect("s")
        reader = await bench.connect("r", receive_max=1)
        await subscribe(reader, "a")
        codes = [await publish(sender, "a", b"%d" % number) for number in range(9)]
        assert [code == full for code in codes] == [False] * 4 + [True] * 5
        got = []
        for _ in range(4):
            packet = await reader.take(mqtt5.PublishPacket)
            got.append(packet.payload)
            reader.send(mqtt5.PubAckPacket(packet.packet_id))
        assert got == [b"0", b"1", b"2", b"3"]

    on_bench(case, queue_messages=3)


def test_one_that_never_reads_is_not_read_from() -> None:
    """Answers that nobody takes do not pile up; it is read again once it reads."""

    async def grant_all(*_: object) -> Grant | None:
        return ALL_GRANTED

    async def case() -> None:
        router = Router(Limits())
        connection = Connection(
            router, grant_all, admit=lambda _: True, left=lambda _: None
        )
        transport = mock.create_autospec(asyncio.Transport, instance=True)
        transport.is_closing.return_value = False
        connection.connection_made(transport)
        connection.data_received(mqtt5.ConnectPacket("a", username="a").write())
        await asyncio.sleep(0.01)
        options = [mqtt5.TopicFilter("t", max_qos=QOS1)]
        connection.data_received(mqtt5.SubscribePacket(1, options).write())
        transport.reset_mock()
        connection.pause_writing()
        transport.pause_reading.assert_called_once_with()
        # One more is on its way before it knows; all others wait.
        messages = [mqtt5.PublishPacket("t", b"%d" % n).write() for n in range(3)]
        connection.data_received(b"".join(messages))
        assert transport.write.call_count == 1
        connection.resume_writing()
        transport.resume_reading.assert_called_once_with()
        assert transport.write.call_count == 3
        connection.connection_lost(None)
        router.close()

    run(case())


def test_properties_count_as_what_waits() -> None:
    """A message of nothing but properties takes memory, too."""
    properties = [("k" * 500, "v" * 500)] * 100

    async def case(bench: Bench) -> None:
        reader = await bench.connect("reader", session_expiry_interval=60)
        await subscribe(reader, "t")
        await reader.close()
        sender = await bench.connect("sender")
        retain = {"user_properties": properties, "retain": True}
        code = await publish(sender, "kept", b"x", **retain)
        assert code == mqtt5.PubAckReasonCode.QUOTA_EXCEEDED
        for _ in range(3):
            await publish(sender, "t", b"", user_properties=properties)
        back = await bench.connect(
            "reader", clean_start=False, session_expiry_interval=60
        )
        await back.take(mqtt5.PublishPacket)
        await back.take(mqtt5.PublishPacket)
        back.send(mqtt5.PingReqPacket())
        await back.take(mqtt5.PingRespPacket)

    on_bench(case, queue_bytes=250_000, retained_bytes=100_000)
