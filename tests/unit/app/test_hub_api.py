from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from skerry.app.hub_api import HubApi
from skerry.cloud.api import make_api
from skerry.cloud.hub import Hub
from skerry.comms.asgi import serve
from skerry.core.clock import SystemClock
from skerry.core.errors import (
    ConflictError,
    DataError,
    LinkError,
    StateError,
    TrustError,
    UsageError,
)
from skerry.core.fleet import Gate, RolloutState
from skerry.core.release import ReleaseId
from tests.hubs import Wire, running_hub
from tests.publishing import make_bundle, make_publisher

FIRST = ReleaseId(name="meter", version=1)


def _with_api(folder: Path, case: Callable[[HubApi, Hub], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_hub(folder / "hub") as (hub, broker):
            token = await hub.devices.make_operator_token()
            async with (
                serve(make_api(hub)) as server,
                HubApi(server.address, token) as api,
            ):
                publisher = make_publisher(folder, hub, clock=SystemClock())
                await api.put_trust({"1.root.json": publisher.root})
                await api.publish(make_bundle(publisher, 1))
                wire = await Wire(broker, "gw-1").join()
                await case(api, hub)
                await wire.link.close()

    asyncio.run(run())


def test_one_method_an_endpoint(tmp_path: Path) -> None:
    """From registering a device to undoing a rollout, all as nouns of ours."""

    async def case(api: HubApi, hub: Hub) -> None:
        assert (await api.health())["status"] == "ok"
        assert await api.online_key() == hub.releases.online_key
        token = await api.create_device("gw-1", labels={"site": "north"})
        enrolled = await api.enrol(token, {"version": "1"})
        assert enrolled["device"] == "gw-1"
        assert [one.name for one in await api.devices()] == ["gw-1"]
        assert (await api.device("gw-1")).labels == {"site": "north"}
        assert (await api.releases())[0].id == FIRST
        assert (await api.release(FIRST)).notes == "version 1"
        made = await api.create_rollout(
            FIRST, devices=["gw-1"], gate=Gate(timeout_s=5), id="r-1"
        )
        assert made.gate.timeout_s == 5
        assert [one.id for one in await api.rollouts()] == ["r-1"]
        shadow = await api.shadow("gw-1")
        changed = await api.set_desired(
            "gw-1", {"collect": {"most": 5}}, version=shadow.version
        )
        assert changed.version == shadow.version + 1
        assert "rollout r-1" in await api.why("gw-1")
        assert await api.logs("gw-1") == ()
        assert (await api.stop_rollout("r-1")).state is RolloutState.STOPPED
        await api.undo_rollout("r-1")
        assert (await api.rollout("r-1")).reason.endswith("; undone by operator")
        assert await api.samples(release=FIRST, labelled=False) == ()
        assert await api.retrainings() == ()

    _with_api(tmp_path, case)


def test_the_hubs_errors_are_ours(tmp_path: Path) -> None:
    """What the hub refuses is raised here as the same kind, with its hint."""

    async def case(api: HubApi, hub: Hub) -> None:
        await api.create_device("gw-1")
        with pytest.raises(UsageError, match="there is no device"):
            await api.device("gw-9")
        with pytest.raises(ConflictError):
            await api.set_desired("gw-1", {"a": 1}, version=77)
        with pytest.raises(TrustError):
            await api.enrol("nonsense", {})
        with pytest.raises(DataError):
            await api.label_sample("s-1", "7")
        with pytest.raises(DataError):
            await api.sample("s-1")
        with pytest.raises(DataError):
            await api.retraining("r-1")
        with pytest.raises(StateError, match="without a trainer"):
            await api.start_retraining(FIRST, replay="0" * 64)
        with pytest.raises(LinkError, match="did not answer"):
            await api.ping("gw-1", timeout_s=0.05)
        token = await hub.devices.make_operator_token()  # the earlier one is void
        with pytest.raises(UsageError, match="not one of this hub's"):
            await api.devices()
        (tmp_path / "hub" / "operator.json").write_text(json.dumps({"token": token}))

    _with_api(tmp_path, case)


def test_a_hub_is_found_by_its_folder(tmp_path: Path) -> None:
    """Its two files say where it is and who may come in."""
    with pytest.raises(UsageError, match="there is no hub"):
        HubApi.of_folder(tmp_path)
    (tmp_path / "hub.json").write_bytes(
        msgspec.json.encode({"address": "http://127.0.0.1:1"})
    )
    (tmp_path / "operator.json").write_bytes(msgspec.json.encode({"token": "t"}))

    async def run() -> None:
        async with HubApi.of_folder(tmp_path) as api:
            with pytest.raises(LinkError):
                await api.health()

    asyncio.run(run())


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"address": 1}', b"[]"])
def test_damaged_files_of_a_hub_say_what_to_do(tmp_path: Path, content: bytes) -> None:
    """Starting the hub again writes both anew."""
    (tmp_path / "hub.json").write_bytes(content)
    (tmp_path / "operator.json").write_bytes(b'{"token": "t"}')
    with pytest.raises(UsageError, match=r"hub\.json is damaged") as raised:
        HubApi.of_folder(tmp_path)
    assert "Start the hub again" in raised.value.hint
