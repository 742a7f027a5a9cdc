"""How a gateway becomes a member of a fleet: once, by a token that holds once.

The token `SECRET.ROOTSHA256` is what a person carries from the hub to the device. The
secret buys credentials of the device's own; the hash says which root of trust the hub
must answer with, so that a hub that is not the one that was meant can neither become
nor choose whom the device believes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from skerry.comms.http import HubHttp
from skerry.core.documents import Json, from_json, to_json
from skerry.core.durable import PRIVATE_DISK, make_folder
from skerry.core.errors import (
    DataError,
    NewerSchemaError,
    StateError,
    StorageError,
    UsageError,
)
from skerry.core.names import check_name
from skerry.core.release import AGENT_LEVEL, is_sha256
from skerry.edge.trust import DeviceTrust
from skerry.edge.vault import CLEAR, Vault

DEVICE_SCHEMA = "skerry.device/1"
IDENTITY_FILE = "device.json"
TRUST_FOLDER = "trust"

_LARGEST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a gateway is, and how it proves that.

    Attributes:
        tenant: Whose device it is.
        device: Its name.
        hub: The URL of its hub.
        api_token: What it shows the hub's HTTP API.
        mqtt_host: Where the broker is.
        mqtt_port: The broker's port.
        mqtt_username: What it shows the broker, with a password.
        mqtt_password: The password.
    """

    tenant: str
    device: str
    hub: str
    api_token: str = field(repr=False)
    mqtt_host: str
    mqtt_port: int
    mqtt_username: str
    mqtt_password: str = field(repr=False)


class _Mqtt(msgspec.Struct, frozen=True):
    host: str
    port: int
    username: str
    password: str


class _Answer(msgspec.Struct, frozen=True):
    tenant: str
    device: str
    api_token: str
    mqtt: _Mqtt
    root: str


async def enrol(
    folder: Path,
    *,
    hub: str,
    token: str,
    version: str,
    target: str,
    vault: Vault = CLEAR,
) -> Identity:
    """Trade a token for credentials, and pin the root of trust that it names.

    Args:
        folder: The gateway's folder.
        hub: The hub's URL.
        token: `SECRET.ROOTSHA256`.
        version: The version of Skerry, for the registry.
        target: The device's target, for the registry.
        vault: Keeps the files.

    Returns:
        Who the device is; it stands in `device.json` too.

    Raises:
        UsageError: The token is none.
        TrustError: The hub does not take the token, or answers with another root.
        LinkError: The hub cannot be reached.
        StateError: The hub's answer makes no sense.
        StorageError: The disk refused.
    """
    secret, _, root_sha256 = token.partition(".")
    if not secret or not is_sha256(root_sha256):
        raise UsageError(
            "the enrolment token is not SECRET.ROOTSHA256",
            hint="Copy all of what `skerry device create` printed.",
        )
    agent: dict[str, Json] = {
        "version": version,
        "level": AGENT_LEVEL,
        "target": target,
    }
    async with HubHttp(hub, None) as http:
        answer = await http.post("/v1/enrol", {"token": token, "agent": agent})
    identity, root = read_answer(answer, hub=hub)
    make_folder(folder)
    DeviceTrust.pin(folder / TRUST_FOLDER, root, root_sha256, vault=vault)
    content = to_json(identity, schema=DEVICE_SCHEMA)
    vault.write_file(folder / IDENTITY_FILE, content, disk=PRIVATE_DISK)
    return identity


def read_answer(answer: dict[str, Json], *, hub: str) -> tuple[Identity, bytes]:
    """Read what the hub answers to an enrolment.

    Returns:
        Who the device is, and the root of trust, not yet believed.

    Raises:
        StateError: It makes no sense.
    """
    try:
        read = msgspec.convert(answer, _Answer)
        identity = Identity(
            tenant=check_name(read.tenant, kind="tenant"),
            device=check_name(read.device, kind="device"),
            hub=hub,
            api_token=read.api_token,
            mqtt_host=read.mqtt.host,
            mqtt_port=_check_port(read.mqtt.port),
            mqtt_username=read.mqtt.username,
            mqtt_password=read.mqtt.password,
        )
        return identity, read.root.encode()
    except (msgspec.ValidationError, UnicodeEncodeError, UsageError) as error:
        raise StateError(
            f"the hub's answer to the enrolment makes no sense: {error}",
            hint="Is this a hub of Skerry?",
        ) from error


def read_identity(folder: Path, vault: Vault = CLEAR) -> Identity | None:
    """Read who this gateway is; None where it has not been enrolled.

    Raises:
        NewerSchemaError: `device.json` was written by a newer Skerry.
        DataError: It is damaged.
        TrustError: It is sealed, and there is no key.
        StorageError: It cannot be read.
    """
    path = folder / IDENTITY_FILE
    try:
        content = vault.read(path)
        identity = from_json(Identity, content, schema=DEVICE_SCHEMA, name=str(path))
        check_name(identity.tenant, kind="tenant")
        check_name(identity.device, kind="device")
        _check_port(identity.mqtt_port)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror or error}",
            hint="Run the gateway as the user that enrolled it.",
        ) from error
    except NewerSchemaError:
        raise
    except (DataError, UsageError) as error:
        raise DataError(
            error.what,
            hint=f"Remove {path}, and enrol the gateway again with --hub and --token: "
            "what it has installed stays.",
        ) from error
    return identity


def _check_port(port: int) -> int:
    if not 0 < port <= _LARGEST_PORT:
        raise UsageError(f"{port} is no port", hint="A port is 1–65535.")
    return port
