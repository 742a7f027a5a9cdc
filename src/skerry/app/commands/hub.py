"""`skerry hub up`: run a hub."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from skerry.app.connection import HUB_FOLDER
from skerry.app.logs import LogFormat, set_up
from skerry.app.output import Output


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


def render_up(stopped: HubStopped) -> str:
    """Say that it has stopped."""
    return f"The hub has stopped. Its state is in {stopped.folder}."
