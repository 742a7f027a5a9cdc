from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import Connection, select

from skerry.cloud import tables
from skerry.cloud.database import Database
from skerry.cloud.devices import MOST_LABELS, Credentials, Devices, Scope
from skerry.core.clock import FakeClock
from skerry.core.errors import TrustError, UsageError
from tests.hubs import ROOT_SHA256

Use = Callable[[Devices, FakeClock], Coroutine[Any, Any, None]]


def _with_devices(use: Use) -> None:
    async def main() -> None:
        database, clock = Database("sqlite://"), FakeClock()
        try:
            await database.migrate()
            await use(Devices(database, tenant="main", clock=clock), clock)
        finally:
            await database.close()

    asyncio.run(main())


async def _enrolled(devices: Devices, name: str = "gate-1") -> Credentials:
    return await devices.enrol(await devices.create(name, root_sha256=ROOT_SHA256))


async def _may_enter(devices: Devices, credentials: Credentials) -> bool:
    grant = await devices.authenticate(
        credentials.username, credentials.username, credentials.password.encode()
    )
    return grant is not None


def test_a_device_is_registered() -> None:
    """It has its labels and is not enrolled; its token can be typed after a flag."""

    async def use(devices: Devices, clock: FakeClock) -> None:
        token = await devices.create(
            "gate-1", labels={"site": "north"}, root_sha256=ROOT_SHA256
        )
        assert re.fullmatch(rf"[0-9a-f]{{64}}\.{ROOT_SHA256}", token)
        device = await devices.get("gate-1")
        assert device.labels == {"site": "north"}
        assert device.created_at_ms == clock.unix_ms()
        assert (device.enrolled_at_ms, device.is_online) == (None, False)
        assert await devices.list() == (device,)

    _with_devices(use)


def test_a_token_is_traded_for_credentials() -> None:
    """They let the device in, on its own topics only, and name it at the API."""

    async def use(devices: Devices, clock: FakeClock) -> None:
        mine = await _enrolled(devices)
        assert (mine.tenant, mine.device, mine.username) == (
            "main",
            "gate-1",
            "main/gate-1",
        )
        grant = await devices.authenticate(
            mine.username, mine.username, mine.password.encode()
        )
        assert grant is not None
        assert grant.publish == ("skerry/1/main/gate-1/up/+",)
        assert grant.subscribe == ("skerry/1/main/gate-1/down/+",)
        scope = await devices.authenticate_token(mine.api_token)
        assert scope == Scope(kind="device", tenant="main", device="gate-1")
        assert (await devices.get("gate-1")).enrolled_at_ms == clock.unix_ms()

    _with_devices(use)


def test_secrets_are_not_kept() -> None:
    """No table holds a token or a password, and no text shows one."""

    async def use(devices: Devices, _: FakeClock) -> None:
        token = await devices.create("gate-1", root_sha256=ROOT_SHA256)
        mine = await devices.enrol(token)
        operator = await devices.make_operator_token()

        def everything(connection: Connection) -> str:
            return "".join(
                str(connection.execute(select(table)).all())
                for table in tables.METADATA.sorted_tables
            )

        kept = await devices._database.run(everything)
        for secret in (token.split(".")[0], mine.api_token, mine.password, operator):
            assert secret not in kept
            assert secret not in repr(mine)

    _with_devices(use)


def test_a_wrong_token_is_refused() -> None:
    """What the hub never gave, an empty one and an altered one."""

    async def use(devices: Devices, _: FakeClock) -> None:
        token = await devices.create("gate-1", root_sha256=ROOT_SHA256)
        for wrong in ("", ".", "x", f"x{token}", token[:-70], "é" * 100_000):
            with pytest.raises(TrustError, match="not one of this hub's") as caught:
                await devices.enrol(wrong)
            assert caught.value.reason == "untrusted"
        await devices.enrol(token)

    _with_devices(use)


def test_a_token_works_once() -> None:
    """The second time it is refused, and the first one's credentials hold on."""

    async def use(devices: Devices, _: FakeClock) -> None:
        token = await devices.create("gate-1", root_sha256=ROOT_SHA256)
        mine = await devices.enrol(token)
        with pytest.raises(TrustError, match="gate-1 has been used") as caught:
            await devices.enrol(token)
        assert caught.value.reason == "replayed"
        assert await _may_enter(devices, mine)

    _with_devices(use)


def test_a_token_expires() -> None:
    """Seven days after it was made it is refused, and not a second earlier."""

    async def use(devices: Devices, clock: FakeClock) -> None:
        early = await devices.create("gate-1", root_sha256=ROOT_SHA256)
        late = await devices.create("gate-2", root_sha256=ROOT_SHA256)
        clock.advance(wall_s=7 * 24 * 3600 - 1)
        await devices.enrol(early)
        clock.advance(wall_s=1)
        with pytest.raises(TrustError, match="older than 7 days") as caught:
            await devices.enrol(late)
        assert caught.value.reason == "expired"

    _with_devices(use)


def test_a_later_token_replaces_an_earlier_one() -> None:
    """Creating a device again keeps its labels and makes the first token worthless."""

    async def use(devices: Devices, _: FakeClock) -> None:
        first = await devices.create(
            "gate-1", labels={"a": "b"}, root_sha256=ROOT_SHA256
        )
        second = await devices.create("gate-1", root_sha256=ROOT_SHA256)
        with pytest.raises(TrustError):
            await devices.enrol(first)
        await devices.enrol(second)
        assert (await devices.get("gate-1")).labels == {"a": "b"}

    _with_devices(use)


def test_enrolling_again_revokes() -> None:
    """Old credentials hold until the new token is used, then end; the link is cut."""

    async def use(devices: Devices, _: FakeClock) -> None:
        cut: list[str] = []

        async def disconnect(username: str) -> None:
            cut.append(username)

        old = await _enrolled(devices)
        devices.on_revoke(disconnect)
        token = await devices.create("gate-1", root_sha256=ROOT_SHA256)
        assert await _may_enter(devices, old)
        new = await devices.enrol(token)
        assert cut == ["main/gate-1"]
        assert not await _may_enter(devices, old)
        assert await devices.authenticate_token(old.api_token) is None
        assert await _may_enter(devices, new)

    _with_devices(use)


def test_the_broker_lets_nobody_else_in() -> None:
    """Another's name, the API token, nothing at all."""

    async def use(devices: Devices, _: FakeClock) -> None:
        mine, other = await _enrolled(devices), await _enrolled(devices, "gate-2")
        for client_id, username, password in (
            (other.username, other.username, mine.password),
            (mine.username, mine.username, mine.api_token),
            (mine.username, mine.username, ""),
            ("main/none", "main/none", ""),
            ("main/#", "main/#", mine.password),
            ("", "", ""),
            ("other/gate-1", "other/gate-1", mine.password),
        ):
            given = password.encode()
            assert await devices.authenticate(client_id, username, given) is None

    _with_devices(use)


def test_tokens_of_the_api() -> None:
    """An operator's holds until the next is made; a password is no token."""

    async def use(devices: Devices, _: FakeClock) -> None:
        mine = await _enrolled(devices)
        first = await devices.make_operator_token()
        operator = Scope(kind="operator", tenant="main")
        assert await devices.authenticate_token(first) == operator
        second = await devices.make_operator_token()
        assert await devices.authenticate_token(second) == operator
        for wrong in (first, "", mine.password, "é"):
            assert await devices.authenticate_token(wrong) is None
        assert await devices.authenticate_token(mine.api_token) is not None

    _with_devices(use)


@pytest.mark.parametrize(
    ("name", "labels", "root_sha256"),
    [
        ("", {}, ROOT_SHA256),
        ("Gate/1", {}, ROOT_SHA256),
        ("gate", {"a": "x" * 256}, ROOT_SHA256),
        ("gate", {str(n): "" for n in range(MOST_LABELS + 1)}, ROOT_SHA256),
        ("gate", {"a": 1}, ROOT_SHA256),
        ("gate", {}, "abc"),
    ],
)
def test_what_cannot_be_is_not_registered(
    name: str, labels: dict[str, str], root_sha256: str
) -> None:
    """Bad names, labels and hashes are refused, and nothing is kept."""

    async def use(devices: Devices, _: FakeClock) -> None:
        with pytest.raises(UsageError):
            await devices.create(name, labels=labels, root_sha256=root_sha256)
        assert await devices.list() == ()

    _with_devices(use)


def test_a_device_that_is_not_there() -> None:
    """The error names the nearest one that is."""

    async def use(devices: Devices, _: FakeClock) -> None:
        await devices.create("gate-1", root_sha256=ROOT_SHA256)
        with pytest.raises(UsageError, match="no device 'gate-2'") as caught:
            await devices.get("gate-2")
        assert "gate-1" in caught.value.hint

    _with_devices(use)
