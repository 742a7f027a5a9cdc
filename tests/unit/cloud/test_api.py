from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.cloud.api import bodies, make_api
from skerry.cloud.api.answers import status_of
from skerry.cloud.hub import Hub
from skerry.comms.asgi import serve
from skerry.comms.ranges import read_range
from skerry.core.clock import FakeClock
from skerry.core.errors import (
    ConflictError,
    DataError,
    LinkError,
    MissingExtraError,
    NewerSchemaError,
    RefusedError,
    SkerryError,
    StateError,
    StorageError,
    TrustError,
    UsageError,
)
from tests.hubs import running_hub
from tests.publishing import make_bundle, make_publisher, publish

BLOB = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BLOB).hexdigest()


class Api:
    """The API of a hub that runs in this test, and clients of three kinds."""

    def __init__(self, hub: Hub, token: str) -> None:
        self.hub = hub
        self.token = token
        self._transport = httpx.ASGITransport(app=make_api(hub))

    def client(self, token: str | None) -> httpx.AsyncClient:
        """A client that sends this token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(
            transport=self._transport, base_url="http://hub", headers=headers
        )

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask as the operator."""
        async with self.client(self.token) as client:
            return await client.request(method, path, **more)

    async def enrol(self, name: str) -> dict[str, Any]:
        """Register a device, and enrol it as its gateway does."""
        made = await self.ask("POST", "/v1/devices", json={"name": name})
        assert made.status_code == 201, made.text
        async with self.client(None) as stranger:
            body = {"token": made.json()["token"], "agent": {"version": "1"}}
            enrolled = await stranger.post("/v1/enrol", json=body)
        assert enrolled.status_code == 200, enrolled.text
        answer: dict[str, Any] = enrolled.json()
        return answer


def _on_api(folder: Path, case: Callable[[Api], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_hub(folder / "hub", clock=FakeClock()) as (hub, _):
            publisher = make_publisher(folder, hub)
            await publish(hub, make_bundle(publisher, 1))
            await case(Api(hub, await hub.devices.make_operator_token()))

    asyncio.run(run())


def _error(response: httpx.Response) -> dict[str, str]:
    error: dict[str, str] = response.json()["error"]
    assert set(error) == {"code", "what", "hint"}
    assert "Traceback" not in response.text
    return error


def test_a_device_enrols_with_a_one_time_token(tmp_path: Path) -> None:
    """It gets credentials and the root that its token names; the token works once."""

    async def case(api: Api) -> None:
        made = await api.ask("POST", "/v1/devices", json={"name": "gw-1"})
        token = made.json()["token"]
        body = {"token": token, "agent": {}}
        async with api.client(None) as stranger:
            first = (await stranger.post("/v1/enrol", json=body)).json()
            again = await stranger.post("/v1/enrol", json=body)
        assert (first["tenant"], first["device"]) == ("main", "gw-1")
        assert set(first["mqtt"]) == {"host", "port", "username", "password"}
        root = hashlib.sha256(first["root"].encode()).hexdigest()
        assert root == token.partition(".")[2]
        assert again.status_code == 403
        assert _error(again)["code"] == "TrustError"

    _on_api(tmp_path, case)


def test_a_devices_token_opens_only_blobs_and_metadata(tmp_path: Path) -> None:
    """What operators do is closed to it, and so is writing."""

    async def case(api: Api) -> None:
        await api.hub.blobs.put(SHA256, BLOB)
        token = (await api.enrol("gw-1"))["api_token"]
        async with api.client(token) as device:
            assert (await device.get("/v1/trust/1.root.json")).status_code == 200
            assert (await device.get(f"/v1/blobs/{SHA256}")).content == BLOB
            assert (await device.head(f"/v1/blobs/{SHA256}")).status_code == 200
            for method, path in (
                ("PUT", f"/v1/blobs/{SHA256}"),
                ("GET", "/v1/devices"),
                ("GET", "/v1/devices/gw-1/shadow"),
                ("PATCH", "/v1/devices/gw-1/shadow"),
                ("POST", "/v1/releases"),
                ("POST", "/v1/rollouts"),
                ("POST", "/v1/trust"),
                ("GET", "/v1/samples"),
            ):
                refused = await device.request(method, path)
                assert refused.status_code == 401, path
                assert "operators" in _error(refused)["what"]

    _on_api(tmp_path, case)


def test_without_a_token_nothing_is_open_but_health_and_enrolling(
    tmp_path: Path,
) -> None:
    """Each route of the OpenAPI document asks for a token, the page for a password."""

    async def case(api: Api) -> None:
        described = (await api.ask("GET", "/v1/openapi.json")).json()
        schemes = described["components"]["securitySchemes"]
        assert {one["scheme"] for one in schemes.values()} == {"bearer", "basic"}
        for token in (None, "wrong", "x" * 1000):
            async with api.client(token) as stranger:
                for path, methods in described["paths"].items():
                    for method in methods:
                        got = await stranger.request(method.upper(), path)
                        is_open = path in {"/v1/health", "/v1/enrol"}
                        assert (got.status_code != 401) == is_open, (method, path)
                        if not is_open:
                            assert got.headers["WWW-Authenticate"]
        async with api.client(None) as stranger:
            page = await stranger.get("/", auth=("anybody", api.token))
            assert page.status_code == 200
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]

    _on_api(tmp_path, case)


def test_devices_and_shadows(tmp_path: Path) -> None:
    """Listed, shown, changed by merge patch; a stale version is a conflict."""

    async def case(api: Api) -> None:
        device = {"name": "gw-1", "labels": {"site": "north"}}
        assert (await api.ask("POST", "/v1/devices", json=device)).status_code == 201
        listed = (await api.ask("GET", "/v1/devices")).json()["devices"]
        assert listed[0]["labels"] == {"site": "north"}
        assert (await api.ask("GET", "/v1/devices/gw-1")).json()["name"] == "gw-1"
        path = "/v1/devices/gw-1/shadow"
        patch = {"desired": {"collect": {"most": 5}}, "version": 0}
        changed = (await api.ask("PATCH", path, json=patch)).json()
        assert changed["version"] == 1
        assert changed["delta"] == {"collect": {"most": 5}}
        stale = await api.ask("PATCH", path, json=patch)
        assert stale.status_code == 409
        assert _error(stale)["code"] == "ConflictError"
        big = {"desired": {"x": "y" * 40_000}}
        assert (await api.ask("PATCH", path, json=big)).status_code == 422
        huge = b'{"desired": {"x": 1' + b"0" * 400 + b"}}"
        assert (await api.ask("PATCH", path, content=huge)).status_code == 422
        assert (await api.ask("GET", path)).json()["version"] == 1
        logs = (await api.ask("GET", "/v1/devices/gw-1/logs")).json()
        assert logs == {"events": []}
        why = (await api.ask("GET", "/v1/devices/gw-1/why")).json()["why"]
        assert "has not enrolled yet" in why

    _on_api(tmp_path, case)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/devices/gw-9"),
        ("GET", "/v1/devices/gw-9/shadow"),
        ("GET", "/v1/devices/gw-9/logs"),
        ("GET", "/v1/devices/gw-9/why"),
        ("POST", "/v1/devices/gw-9/ping"),
        ("GET", "/v1/trust/9.root.json"),
        ("GET", f"/v1/blobs/{'0' * 64}"),
        ("GET", "/v1/blobs/no-hash"),
        ("GET", "/v1/releases/meter/9"),
        ("GET", "/v1/releases/meter/x"),
        ("GET", "/v1/rollouts/r-9"),
        ("POST", "/v1/rollouts/r-9/stop"),
        ("POST", "/v1/rollouts/r-9/undo"),
        ("GET", "/v1/samples/s-9"),
        ("GET", "/v1/retrainings/r-9"),
        ("GET", "/v1/nothing"),
    ],
)
def test_what_is_not_there_is_404_with_a_hint(
    tmp_path: Path, method: str, path: str
) -> None:
    """It says what is not there, in our form."""

    async def case(api: Api) -> None:
        response = await api.ask(method, path)
        assert response.status_code == 404
        assert _error(response)["hint"]

    _on_api(tmp_path, case)


def test_a_silent_device_is_504(tmp_path: Path) -> None:
    """A ping without an answer says so after its time."""

    async def case(api: Api) -> None:
        await api.enrol("gw-1")
        asked = asyncio.create_task(api.ask("POST", "/v1/devices/gw-1/ping"))
        while not asked.done():
            await asyncio.sleep(0.005)
            clock = api.hub.clock
            assert isinstance(clock, FakeClock)
            clock.advance(wall_s=1)
        response = await asked
        assert response.status_code == 504
        assert _error(response)["code"] == "LinkError"

    _on_api(tmp_path, case)


def test_what_cannot_be_profiled(tmp_path: Path) -> None:
    """A device that is not there, a body without sense."""

    async def case(api: Api) -> None:
        path = "/v1/devices/gw-9/profile"
        response = await api.ask("POST", path, json={"sha256": "0" * 64})
        assert response.status_code == 404
        response = await api.ask("POST", path, json={"sha256": "x", "repeats": 0})
        assert response.status_code == 422

    _on_api(tmp_path, case)


def test_a_blob_goes_up_and_down_by_range(tmp_path: Path) -> None:
    """Streamed, resumed, checked; a range outside is 416, a wrong hash 422."""

    async def case(api: Api) -> None:
        path = f"/v1/blobs/{SHA256}"
        put = await api.ask("PUT", path, content=BLOB)
        assert (put.status_code, put.json()["size_bytes"]) == (201, len(BLOB))
        assert (await api.ask("PUT", path, content=BLOB)).status_code == 201
        wrong = await api.ask("PUT", path, content=b"x")
        assert wrong.status_code == 422
        assert _error(wrong)["code"] == "DataError"
        head = await api.ask("HEAD", path)
        assert head.headers["Content-Length"] == str(len(BLOB))
        for asked, first, last in (
            ("bytes=0-", 0, len(BLOB) - 1),
            ("bytes=1000-", 1000, len(BLOB) - 1),
            ("bytes=10-19", 10, 19),
            ("bytes=-5", len(BLOB) - 5, len(BLOB) - 1),
        ):
            part = await api.ask("GET", path, headers={"Range": asked})
            assert part.status_code == 206
            assert part.content == BLOB[first : last + 1]
            expected = f"bytes {first}-{last}/{len(BLOB)}"
            assert part.headers["Content-Range"] == expected
        outside = await api.ask("GET", path, headers={"Range": "bytes=999999-"})
        assert outside.status_code == 416
        assert outside.headers["Content-Range"] == f"bytes */{len(BLOB)}"
        assert _error(outside)

    _on_api(tmp_path, case)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("items=0-1", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("bytes=5-4", None),
        ("bytes=0-0", (0, 0)),
        ("bytes=3-99", (3, 9)),
        ("bytes=9-", (9, 9)),
        ("bytes=10-", (10, 9)),
        ("bytes=-0", (10, 9)),
        ("bytes=-99", (0, 9)),
    ],
)
def test_ranges_are_those_of_rfc_9110(
    header: str | None, expected: tuple[int, int] | None
) -> None:
    """What makes no sense is as if it were not there; outside is outside."""
    assert read_range(header, 10) == expected


def test_releases_and_rollouts(tmp_path: Path) -> None:
    """Releases are listed; a rollout begins, is looked at, stopped, and undone."""

    async def case(api: Api) -> None:
        releases = (await api.ask("GET", "/v1/releases")).json()["releases"]
        assert releases[0]["name"] == "meter"
        shown = (await api.ask("GET", "/v1/releases/meter/1")).json()
        assert shown["notes"] == "version 1"
        await api.enrol("gw-1")
        body = {"release": "meter/1", "waves": [["gw-1"]], "id": "r-1"}
        made = await api.ask("POST", "/v1/rollouts", json=body)
        assert (made.status_code, made.json()["state"]) == (201, "running")
        listed = (await api.ask("GET", "/v1/rollouts")).json()["rollouts"]
        assert [one["id"] for one in listed] == ["r-1"]
        why = (await api.ask("GET", "/v1/devices/gw-1/why")).json()["why"]
        assert "It should run meter/1, by rollout r-1." in why
        stopped = (await api.ask("POST", "/v1/rollouts/r-1/stop")).json()
        assert stopped["reason"] == "stopped by operator"
        undone = (await api.ask("POST", "/v1/rollouts/r-1/undo")).json()
        assert undone["state"] == "undoing"
        again = await api.ask("POST", "/v1/rollouts/r-1/undo")
        assert again.status_code == 409
        page = await api.ask("GET", "/", auth=("", api.token))
        assert "r-1" in page.text

    _on_api(tmp_path, case)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"name": 5}', 422),
        (b'{"name": "NOT A NAME"}', 400),
        (b'{"name": "\xff"}', 422),
        (b'{"name": "gw", "labels": {"a": 1}}', 422),
        (b'{"name": "' + b"x" * (1 << 20) + b'"}', 422),
        (b"[" * 10_000, 422),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(
    tmp_path: Path, content: bytes, status: int
) -> None:
    """It says what is wrong, in our form, whatever was sent."""

    async def case(api: Api) -> None:
        response = await api.ask("POST", "/v1/devices", content=content)
        assert response.status_code == status
        assert _error(response)["what"]

    _on_api(tmp_path, case)


def test_learning_says_what_it_lacks(tmp_path: Path) -> None:
    """No samples yet, and a hub without a trainer learns nothing."""

    async def case(api: Api) -> None:
        assert (await api.ask("GET", "/v1/samples")).json() == {"samples": []}
        assert (await api.ask("GET", "/v1/retrainings")).json() == {"retrainings": []}
        body = {"release": "meter/1", "replay": SHA256}
        refused = await api.ask("POST", "/v1/retrainings", json=body)
        assert refused.status_code == 503
        assert "without a trainer" in _error(refused)["what"]

    _on_api(tmp_path, case)


def test_a_bug_says_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is 500 in our form, without a traceback."""

    async def case(api: Api) -> None:
        async def fail() -> None:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr(api.hub.devices, "list", fail)
        transport = httpx.ASGITransport(
            app=make_api(api.hub), raise_app_exceptions=False
        )
        headers = {"Authorization": f"Bearer {api.token}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://hub", headers=headers
        ) as client:
            response = await client.get("/v1/devices")
        assert response.status_code == 500
        assert "secret" not in response.text
        assert _error(response)["code"] == "StateError"

    _on_api(tmp_path, case)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("", hint=""), 400),
        (DataError("", hint=""), 422),
        (NewerSchemaError("", hint=""), 422),
        (TrustError("", hint=""), 403),
        (RefusedError("", hint=""), 409),
        (ConflictError("", hint=""), 409),
        (StorageError("", hint=""), 507),
        (StateError("", hint=""), 503),
        (LinkError("", hint=""), 504),
        (MissingExtraError("x", extra="hub"), 501),
        (SkerryError("", hint=""), 500),
    ],
)
def test_each_kind_of_error_has_its_status(error: SkerryError, status: int) -> None:
    """By who must act."""
    assert status_of(error) == status


@pytest.mark.parametrize("limit", ["BODY_TIMEOUT_S", "PIECE_TIMEOUT_S"])
def test_a_body_that_trickles_is_given_up(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may knock must not hold a place for ever."""
    monkeypatch.setattr(bodies, limit, 0.3)

    async def main() -> None:
        async with running_hub(tmp_path) as (hub, _), serve(make_api(hub)) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(
                b"POST /v1/enrol HTTP/1.1\r\nHost: h\r\nContent-Length: 999\r\n\r\n{"
            )
            pause_s = 0.1 if limit == "BODY_TIMEOUT_S" else 5.0

            async def trickle() -> None:
                while True:
                    await asyncio.sleep(pause_s)
                    writer.write(b" ")

            trickling = asyncio.create_task(trickle())
            async with asyncio.timeout(4):
                answer = await reader.readuntil(b"}}")
            trickling.cancel()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 504")
            assert b"did not come in time" in answer

    asyncio.run(main())
