from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme

from skerry.comms._mqtt5 import Packet, PacketStream, mqtt5
from skerry.comms.broker import Broker
from skerry.comms.connection import Connection
from skerry.comms.links import ALL_GRANTED, Grant
from skerry.comms.mqtt import MqttSettings, open_mqtt
from skerry.comms.router import Router
from skerry.comms.sessions import Limits
from skerry.core.errors import StateError, UsageError
from tests.links import Inbox, run

QOS1 = mqtt5.QoS.AT_LEAST_ONCE


class Client:
    """Speaks packets, so that a test can say what no proper client says."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer
        self.stream = PacketStream()

    def send(self, packet: Packet | bytes) -> None:
        self.writer.write(packet if isinstance(packet, bytes) else packet.write())

    async def take(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(5):
            while (packet := self.stream.take()) is None:
                chunk = await self.reader.read(65536)
                assert chunk, f"closed; {kind.__name__} expected"
                self.stream.feed(chunk)
        assert isinstance(packet, kind), packet
        return packet

    async def closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return


class Bench:
    """A broker, and clients that are closed at the end."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.clients: list[Client] = []

    async def socket(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.broker.port))
        self.clients.append(client)
        return client

    async def connect(
        self, name: str = "a", *, user: str | None = None, **options: Any
    ) -> Client:
        client, answer = await self.try_connect(name, user=user, **options)
        assert answer.reason_code == mqtt5.ConnAckReasonCode.SUCCESS, answer
        return client

    async def try_connect(
        self, name: str = "a", *, user: str | None = None, **options: Any
    ) -> tuple[Client, mqtt5.ConnAckPacket]:
        client = await self.socket()
        client.send(
            mqtt5.ConnectPacket(name, username=user or name, password=b"p", **options)
        )
        return client, await client.take(mqtt5.ConnAckPacket)


async def subscribe(client: Client, *patterns: str, **options: Any) -> list[Any]:
    """Subscribe with QoS 1 and give the reason codes."""
    options = {"max_qos": QOS1, **options}
    client.send(
        mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(p, **options) for p in patterns])
    )
    codes: list[Any] = (await client.take(mqtt5.SubAckPacket)).reason_codes
    return codes


async def publish(client: Client, topic: str, payload: bytes, **options: Any) -> Any:
    """Publish with QoS 1 and give the reason code."""
    options = {"qos": QOS1, "packet_id": 7, **options}
    client.send(mqtt5.PublishPacket(topic, payload, **options))
    return (await client.take(mqtt5.PubAckPacket)).reason_code


def on_bench(
    case: Callable[[Bench], Awaitable[None]],
    *,
    grant: Grant | None = ALL_GRANTED,
    **limits: Any,
) -> None:
    """Run a case with a broker of these limits."""

    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        async def authenticate(*_: object) -> Grant | None:
            return grant

        made = Bench(Broker(authenticate, limits=replace(Limits(), **limits)))
        await made.broker.start()
        try:
            yield made
        finally:
            for client in made.clients:
                await client.close()
            await made.broker.stop()

    async def whole() -> None:
        async with bench() as made:
            await case(made)

    run(whole())


def test_it_says_what_it_can_do() -> None:
    """QoS 1 at most, packets and receive maximum bounded, an id for who has none."""

    async def case(bench: Bench) -> None:
        _, answer = await bench.try_connect("", user="a", keep_alive=9999)
        assert answer.max_qos == QOS1
        assert answer.max_packet_size == 128 * 1024
        assert answer.receive_max == 256
        assert answer.server_keep_alive == 300
        assert len(answer.assigned_client_id or "") == 32
        assert not answer.shared_subscription_available

    on_bench(case)


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (b"\x00\x00", mqtt5.DisconnectReasonCode.MALFORMED_PACKET),
        (b"\x30\xff\xff\xff\xff\xff", mqtt5.DisconnectReasonCode.MALFORMED_PACKET),
        (b"\x30\x06\x00\x02\xff\xfe\x00x", mqtt5.DisconnectReasonCode.MALFORMED_PACKET),
        (b"\x30\xff\xff\x7f", mqtt5.DisconnectReasonCode.PACKET_TOO_LARGE),
        (
            mqtt5.ConnectPacket("again", username="a"),
            mqtt5.DisconnectReasonCode.PROTOCOL_ERROR,
        ),
        (
            mqtt5.PublishPacket("a", b"", qos=mqtt5.QoS.EXACTLY_ONCE, packet_id=1),
            mqtt5.DisconnectReasonCode.QOS_NOT_SUPPORTED,
        ),
        (
            mqtt5.PublishPacket("a", b"", topic_alias=1),
            mqtt5.DisconnectReasonCode.TOPIC_ALIAS_INVALID,
        ),
        (
            mqtt5.PublishPacket("a", b"", subscription_ids=[1]),
            mqtt5.DisconnectReasonCode.PROTOCOL_ERROR,
        ),
        (mqtt5.AuthPacket(), mqtt5.DisconnectReasonCode.PROTOCOL_ERROR),
    ],
)
def test_who_breaks_the_protocol_is_told_and_closed(
    send: Packet | bytes, reason: mqtt5.DisconnectReasonCode
) -> None:
    """DISCONNECT names the fault; others are served on."""

    async def case(bench: Bench) -> None:
        bad, good = await bench.connect("bad"), await bench.connect("good")
        bad.send(send)
        said = await bad.take(mqtt5.DisconnectPacket)
        assert said.reason_code == reason
        assert await bad.closed()
        assert await publish(good, "a", b"x") is not None

    on_bench(case)


@pytest.mark.parametrize(
    "send",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a",
        mqtt5.PingReqPacket().write(),
        b"",
    ],
)
def test_who_does_not_connect_is_closed(send: bytes) -> None:
    """Another protocol, MQTT 3.1.1, no CONNECT first, or silence."""

    async def case(bench: Bench) -> None:
        client = await bench.socket()
        client.send(send)
        async with asyncio.timeout(5):
            await client.reader.read()
        assert bench.broker.connections == 0

    on_bench(case, connect_timeout_s=0.1)


@pytest.mark.parametrize(
    ("options", "grant", "reason"),
    [
        ({}, None, mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (
            {"will": mqtt5.Will("elsewhere", payload=b"")},
            Grant(publish=("mine",), subscribe=()),
            mqtt5.ConnAckReasonCode.NOT_AUTHORIZED,
        ),
        (
            {"will": mqtt5.Will("a", payload=b"", qos=mqtt5.QoS.EXACTLY_ONCE)},
            ALL_GRANTED,
            mqtt5.ConnAckReasonCode.QUALITY_NOT_SUPPORTED,
        ),
        (
            {"authentication_method": "x"},
            ALL_GRANTED,
            mqtt5.ConnAckReasonCode.BAD_AUTHENTICATION_METHOD,
        ),
    ],
)
def test_who_may_not_connect_is_told_why(
    options: dict[str, Any], grant: Grant | None, reason: mqtt5.ConnAckReasonCode
) -> None:
    """The CONNACK names the reason and the connection is closed."""

    async def case(bench: Bench) -> None:
        client, answer = await bench.try_connect(**options)
        assert answer.reason_code == reason
        assert await client.closed()

    on_bench(case, grant=grant)


def test_a_failing_authentication_refuses() -> None:
    """A fault in the hub lets nobody in, and the broker goes on."""

    async def fail(*_: object) -> Grant | None:
        raise RuntimeError

    async def case() -> None:
        broker = Broker(fail)
        await broker.start()
        bench = Bench(broker)
        _, answer = await bench.try_connect()
        assert answer.reason_code == mqtt5.ConnAckReasonCode.SERVER_UNAVAILABLE
        await bench.clients[0].close()
        await broker.stop()

    run(case())


def test_what_follows_connect_at_once_waits_for_the_authentication() -> None:
    """Packets sent behind CONNECT are taken once the client is known."""

    async def case(bench: Bench) -> None:
        client = await bench.socket()
        client.send(
            mqtt5.ConnectPacket("a", username="a").write()
            + mqtt5.PublishPacket("t", b"x", qos=QOS1, packet_id=5).write()
        )
        await client.take(mqtt5.ConnAckPacket)
        assert (await client.take(mqtt5.PubAckPacket)).packet_id == 5

    on_bench(case)


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


def test_connections_are_bounded() -> None:
    """One too many is closed unheard; one user alone cannot have them all."""

    async def case(bench: Bench) -> None:
        await bench.connect("1", user="a")
        await bench.connect("2", user="a")
        _, answer = await bench.try_connect("3", user="a")
        assert answer.reason_code == mqtt5.ConnAckReasonCode.QUOTA_EXCEEDED
        await bench.connect("4", user="b")
        late = await bench.socket()
        assert await late.closed()

    on_bench(case, connections=3, connections_per_user=2)


def test_a_revoked_user_is_thrown_out() -> None:
    """Its connections end and its sessions are forgotten; others stay."""

    async def case(bench: Bench) -> None:
        bad = await bench.connect("bad", session_expiry_interval=60)
        good = await bench.connect("good")
        await bench.broker.disconnect("bad")
        said = await bad.take(mqtt5.DisconnectPacket)
        assert said.reason_code == mqtt5.DisconnectReasonCode.ADMINISTRATIVE_ACTION
        _, answer = await bench.try_connect("bad", session_expiry_interval=60)
        assert not answer.session_present
        await publish(good, "a", b"x")

    on_bench(case)


def test_a_session_taken_up_loses_what_is_no_longer_granted() -> None:
    """The grant of the new connection counts, not that of the old one."""
    grants = [
        ALL_GRANTED,
        ALL_GRANTED,
        Grant(publish=(), subscribe=("mine",)),
    ]

    async def authenticate(*_: object) -> Grant | None:
        return grants.pop(0)

    async def case() -> None:
        broker = Broker(authenticate)
        await broker.start()
        bench = Bench(broker)
        sender = await bench.connect("s")
        reader = await bench.connect("r", session_expiry_interval=60)
        await subscribe(reader, "mine", "theirs")
        await reader.close()
        await publish(sender, "theirs", b"secret")
        again, answer = await bench.try_connect("r", session_expiry_interval=60)
        assert answer.session_present
        await publish(sender, "theirs", b"secret")
        await publish(sender, "mine", b"ok")
        assert (await again.take(mqtt5.PublishPacket)).payload == b"ok"
        for client in bench.clients:
            await client.close()
        await broker.stop()

    run(case())


def test_stopping_tells_the_clients_and_sends_no_will() -> None:
    """They hear that the server shuts down; the port can be used again at once."""

    async def case(bench: Bench) -> None:
        will = mqtt5.Will("will", payload=b"gone")
        client = await bench.connect("a", will=will)
        await subscribe(client, "will")
        await bench.broker.stop()
        said = await client.take(mqtt5.DisconnectPacket)
        assert said.reason_code == mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN
        assert await client.closed()
        port = bench.broker.port
        await bench.broker.start()
        assert bench.broker.port == port
        await bench.connect("a")

    on_bench(case)


def test_a_port_in_use_is_named() -> None:
    """StateError says which, and what to do."""

    async def case(bench: Bench) -> None:
        second = Broker(lambda *_: asyncio.sleep(0, None), port=bench.broker.port)
        with pytest.raises(StateError, match=f"127.0.0.1:{bench.broker.port} is in us"):
            await second.start()

    on_bench(case)


def test_the_link_can_be_encrypted(tmp_path: Path) -> None:
    """With the right authority it connects; with no file of one it says so."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)

    async def grant_all(*_: object) -> Grant | None:
        return ALL_GRANTED

    async def case() -> None:
        broker = Broker(grant_all, tls=server)
        await broker.start()
        settings = MqttSettings(
            host="127.0.0.1",
            port=broker.port,
            client_id="a",
            username="a",
            password="p",  # noqa: S106
            tls_ca=tmp_path / "ca.pem",
        )
        link, inbox = await open_mqtt(settings), Inbox()
        async with asyncio.timeout(10):
            await link.wait_connected()
        await link.subscribe("t", inbox.receive)
        await link.publish("t", b"x")
        assert await inbox.wait(1) == [b"x"]
        await link.close()
        await broker.stop()
        with pytest.raises(UsageError, match="cannot read the certificates"):
            await open_mqtt(replace(settings, tls_ca=tmp_path / "none.pem"))

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


def test_who_is_not_known_gets_little_room() -> None:
    """A CONNECT has to be small; what comes after it may be large."""

    async def case(bench: Bench) -> None:
        stranger = await bench.socket()
        stranger.send(b"\x10\x80\x80\x04")  # the head of one of 64 KiB
        assert (await stranger.take(mqtt5.ConnAckPacket)).reason_code == (
            mqtt5.ConnAckReasonCode.PACKET_TOO_LARGE
        )
        known = await bench.connect()
        await publish(known, "t", bytes(100_000))

    on_bench(case)
