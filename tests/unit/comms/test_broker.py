from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from skerry.comms._mqtt5 import Packet, mqtt5
from skerry.comms.broker import Broker
from skerry.comms.links import ALL_GRANTED, Grant
from skerry.comms.mqtt import MqttSettings, open_mqtt
from skerry.core.errors import StateError, UsageError
from tests.brokers import QOS1, Bench, on_bench, publish, subscribe
from tests.links import Inbox, run


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
