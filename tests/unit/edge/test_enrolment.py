from __future__ import annotations

import asyncio
import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from skerry.comms.asgi import AsgiReceive, AsgiSend, Scope, serve
from skerry.core.errors import (
    DataError,
    LinkError,
    NewerSchemaError,
    StateError,
    StorageError,
    TrustError,
    UsageError,
)
from skerry.edge.enrolment import Identity, enrol, read_identity
from skerry.edge.trust import DeviceTrust
from tests.trusting import World

WORLD = World()
ROOT = WORLD.root()
TOKEN = f"s3cret.{hashlib.sha256(ROOT).hexdigest()}"
ANSWER: dict[str, Any] = {
    "tenant": "main",
    "device": "gw",
    "api_token": "api-token",
    "mqtt": {"host": "127.0.0.1", "port": 1883, "username": "main/gw", "password": "p"},
    "root": ROOT.decode(),
}


def enrol_at(
    folder: Path, answer: Mapping[str, Any], *, token: str = TOKEN, status: int = 200
) -> tuple[Identity, dict[str, Any]]:
    """Enrol at a hub that gives this answer; also what it was asked."""
    asked: dict[str, Any] = {}

    async def hub(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        asked.update(json.loads(body), path=scope["path"])
        start = {"type": "http.response.start", "status": status, "headers": []}
        await send(start)
        content = json.dumps(answer).encode()
        await send({"type": "http.response.body", "body": content})

    async def run() -> Identity:
        async with serve(hub) as server:
            return await enrol(
                folder, hub=server.address, token=token, version="1", target="any"
            )

    return asyncio.run(run()), asked


def test_a_token_buys_credentials_and_a_root(tmp_path: Path) -> None:
    """They are kept for the owner's eyes only; the second start finds them."""
    identity, asked = enrol_at(tmp_path / "gw", ANSWER)
    assert (asked["path"], asked["token"]) == ("/v1/enrol", TOKEN)
    assert asked["agent"]["target"] == "any"
    assert (identity.tenant, identity.device) == ("main", "gw")
    assert read_identity(tmp_path / "gw") == identity
    path = tmp_path / "gw" / "device.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "api-token" not in repr(identity)
    DeviceTrust(
        tmp_path / "gw" / "trust",
        tenant="main",
        fetch=lambda _: None,
        clock=WORLD.clock,
    )


def test_another_root_than_the_tokens_is_refused(tmp_path: Path) -> None:
    """Nothing is kept: the hub is not the one that was meant."""
    other = World().root().decode()
    with pytest.raises(TrustError, match="root has the hash"):
        enrol_at(tmp_path, {**ANSWER, "root": other})
    assert read_identity(tmp_path) is None


@pytest.mark.parametrize(
    "token",
    ["", "secret", ".", "s.abc", TOKEN[:-1], TOKEN[6:]],
    ids=["empty", "no hash", "a dot", "short", "cut off", "no secret"],
)
def test_what_is_no_token_is_not_sent(tmp_path: Path, token: str) -> None:
    """The hub is not even asked."""
    with pytest.raises(UsageError, match="enrolment token"):
        asyncio.run(
            enrol(tmp_path, hub="http://h", token=token, version="1", target="any")
        )


def test_a_wrong_token_is_the_hubs_to_refuse(tmp_path: Path) -> None:
    """Its error comes through."""
    error = {"code": "TrustError", "what": "no such token", "hint": "Ask for one."}
    with pytest.raises(TrustError, match="no such token"):
        enrol_at(tmp_path, {"error": error}, status=403)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "Not A Name"},
        {"device": "../etc"},
        {"mqtt": {}},
        {"mqtt": {**ANSWER["mqtt"], "port": 0}},
        {"root": 3},
    ],
)
def test_an_answer_that_makes_no_sense(tmp_path: Path, change: dict[str, Any]) -> None:
    """It names what is wrong and keeps nothing."""
    with pytest.raises(StateError, match="makes no sense"):
        enrol_at(tmp_path, {**ANSWER, **change})
    assert read_identity(tmp_path) is None


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    """Later it may be."""
    with pytest.raises(LinkError):
        asyncio.run(
            enrol(
                tmp_path,
                hub="http://127.0.0.1:9",
                token=TOKEN,
                version="1",
                target="any",
            )
        )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", DataError),
        (b'{"schema": "skerry.device/1"}', DataError),
        (b'{"schema": "skerry.device/2"}', NewerSchemaError),
    ],
)
def test_a_damaged_identity_is_refused(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    """It is not taken for none: enrolling again needs a new token."""
    (tmp_path / "device.json").write_bytes(content)
    with pytest.raises(error) as raised:
        read_identity(tmp_path)
    if error is DataError:
        assert "enrol the gateway again" in raised.value.hint


def test_an_identity_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder stands in its place."""
    (tmp_path / "device.json").mkdir()
    with pytest.raises(StorageError):
        read_identity(tmp_path)


GOLDEN = Path(__file__).parents[2] / "golden" / "device-1.json"


def test_the_first_version_is_read_for_ever(tmp_path: Path) -> None:
    """An identity of version 1."""
    (tmp_path / "device.json").write_bytes(GOLDEN.read_bytes())
    identity = read_identity(tmp_path)
    assert identity is not None
    assert (identity.device, identity.mqtt_port) == ("gw", 1883)
