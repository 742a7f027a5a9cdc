"""`skerry hub up|status`: run a hub, and see how long what is signed holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.connection import HUB_FOLDER, ask
from skerry.app.logs import LogFormat, set_up
from skerry.app.output import Output
from skerry.app.tables import plain_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStopped:
    """A hub that ran and was stopped in good order."""

    folder: Path


def up(
    *,
    folder: Path = Path(HUB_FOLDER),
    database: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8750,
    mqtt_port: int = 1883,
    blobs: str | None = None,
    site_bandwidth_mb_s: float | None = None,
    log: LogFormat = LogFormat.TEXT,
    output: Annotated[Output, Parameter(parse=False)],
) -> HubStopped:
    """Run a hub, with its broker, until it is stopped (Ctrl-C, SIGTERM).

    Args:
        folder: Where it keeps its database, its blobs and its credentials.
        database: An SQLAlchemy URL; a SQLite file in the folder by default.
        host: The address to listen on; this machine alone by default.
        port: The port of the HTTP API; 0 takes a free one.
        mqtt_port: The port of the MQTT broker; 0 takes a free one.
        blobs: An S3-compatible store, s3://BUCKET/PREFIX?endpoint=URL, in place of a
            folder; needs the extra `s3`, and credentials in AWS_ACCESS_KEY_ID and
            AWS_SECRET_ACCESS_KEY.
        site_bandwidth_mb_s: How many MB of releases a second are sent to all devices
            with the same label `site` together; no limit by default.
        log: How its events are logged on standard error.
        output: Where to say that it is up.
    """
    from skerry.app.pipelines.heal import make_trainer
    from skerry.cloud.hub import HubSettings
    from skerry.cloud.serve import OPERATOR_FILE, HubAddress, run_hub

    set_up(log)
    settings = HubSettings(
        folder=folder,
        database=database,
        host=host,
        port=port,
        mqtt_port=mqtt_port,
        blobs=blobs,
        site_bytes_per_s=None
        if site_bandwidth_mb_s is None
        else site_bandwidth_mb_s * 1e6,
    )

    def tell(at: HubAddress) -> None:
        output.talk(
            f"The hub is up at {at.address}, its broker on port {at.mqtt_port}."
        )
        output.talk(f"The operator's token is in {folder / OPERATOR_FILE}.")

    asyncio.run(run_hub(settings, trainer=make_trainer(), ready=tell))
    return HubStopped(folder=folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatus:
    """A hub that answers.

    Attributes:
        tenant: Whose fleet it is.
        version: Of Skerry.
        roles: How long each role's signed file holds.
        warnings: What somebody must see to before it expires, a sentence each.
    """

    tenant: str
    version: str
    roles: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]


def status(*, hub: str | None = None) -> HubStatus:
    """Say whether a hub is up, and how long what is signed there holds.

    Args:
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """

    async def look(api: HubApi) -> HubStatus:
        health, roles = await api.health(), await api.trust()
        return HubStatus(
            tenant=str(health.get("tenant")),
            version=str(health.get("version")),
            roles=roles,
            warnings=tuple(filter(None, map(_warning, roles))),
        )

    return ask(hub, look)


def _warning(role: dict[str, Any]) -> str:
    """What to do about a file that grows old; empty where nothing is."""
    if not role["is_due"]:
        return ""
    when = figures.show_time(role["expires_at_ms"])
    says = "expired on" if role["is_expired"] else "expires on"
    online = role["role"] in {"snapshot", "timestamp"}
    if online and not role["is_expired"]:
        return ""  # The hub signs it anew by itself.
    remedy = "look at the hub's log" if online else "run skerry key publish"
    return f"{role['role']} {says} {when}: {remedy}"


def render_status(found: HubStatus) -> RenderableType:
    """Render as a table with one row a role, and the warnings below."""
    from rich.console import Group

    table = plain_table("role", "#version", "expires")
    for role in found.roles:
        until = figures.show_time(role["expires_at_ms"])
        table.add_row(role["role"], str(role["version"]), until)
    return Group(table, *found.warnings)


def render_up(stopped: HubStopped) -> str:
    """Say that it has stopped."""
    return f"The hub has stopped. Its state is in {stopped.folder}."
