"""`skerry gateway run`: run a gateway; `skerry gateway seal`: encrypt its folder."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from skerry.app.logs import LogFormat, set_up
from skerry.app.output import Output
from skerry.core.errors import UsageError
from skerry.core.names import check_name
from skerry.core.release import ANY_TARGET
from skerry.core.schemas import Schemas


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStopped:
    """A gateway that ran and was stopped in good order."""

    folder: Path


def run(
    *,
    folder: Path = Path("skerry-gateway"),
    hub: str = "",
    token: str | None = None,
    target: str = ANY_TARGET,
    host: str = "127.0.0.1",
    port: int = 0,
    serve_token: str | None = None,
    recording: Path | None = None,
    frames_per_s: float = 20.0,
    watched: str = "",
    cameras: Path | None = None,
    threads: int = 1,
    probation_s: float = 5.0,
    grpc_port: int | None = None,
    shared_memory: bool = False,
    local: bool = False,
    isolation: Literal["process", "thread"] = "process",
    memory_limit_mb: float | None = None,
    provider: tuple[str, ...] = (),
    schemas: tuple[str, ...] = (),
    peers: bool = False,
    peers_host: str = "127.0.0.1",
    peers_port: int = 0,
    disk_quota_mb: float | None = None,
    least_speed: float = 100.0,
    accept_unsigned: bool = False,
    seal_key: Path | None = None,
    log: LogFormat = LogFormat.TEXT,
    output: Annotated[Output, Parameter(parse=False)],
) -> GatewayStopped:
    """Run a gateway until it is stopped (Ctrl-C, SIGTERM); enrol it first if need be.

    Args:
        folder: Where it keeps its releases, its outbox and its credentials.
        hub: The hub's URL; the one it enrolled at by default.
        token: The one-time token of `skerry device create`; at the first start only.
        target: Which of a release's models are for it.
        host: The address to serve at; this machine alone by default.
        port: The port to serve at; 0 takes a free one.
        serve_token: What those who ask must show; needed beyond this machine.
        recording: A folder of recordings (.npz) that stands for a camera.
        frames_per_s: How fast recordings are played.
        watched: The release that they are for; the first that serves by default.
        cameras: A file of cameras (schema skerry.cameras/1); the releases named like
            its models look at them. Needs the extra `streams`.
        threads: How many inferences of one release run at once.
        probation_s: How long a new release serves before it is accepted for good.
        grpc_port: The port to serve at over gRPC, too (0 takes a free one); needs the
            extra `grpc`.
        shared_memory: Let clients on this machine name shared memory of their own.
        local: Serve programs of the same user through shared memory, at local.sock in
            the folder.
        isolation: Where models run: each in a process of its own, which may crash or
            hang, or as threads of the gateway's, which takes less memory.
        memory_limit_mb: How many MB the process of one model may hold; one that holds
            more is stopped, and another takes its place. Half of this machine's memory
            by default.
        provider: An execution provider of onnxruntime, such as cuda; repeat it for
            several, in order of wish.
        schemas: The schemas that producers here send and consumers read, as
            NAME=INPUT/OUTPUT; repeat it for several releases. What was spoken before is
            spoken on by default.
        peers: Give releases to gateways with the same label `site`, and ask them
            before the hub; what they give is checked chunk by chunk.
        peers_host: The address at which it gives them, by which they reach it.
        peers_port: The port of that; 0 takes a free one.
        disk_quota_mb: How many MB releases and downloads may take on the disk.
        least_speed: Bytes a second: what the hub sends slower, over a minute, is given
            up and gone on with later.
        accept_unsigned: Obey a hub of an older version, which does not sign what it
            tells this device to run, until the first time that it does.
        seal_key: The file of the key that its folder is sealed with; SKERRY_SEAL_KEY,
            else systemd's credential `skerry-key`, by default. A new folder is sealed
            from the start.
        log: How its events are logged on standard error.
        output: Where to say that it is up.
    """
    from skerry.core.clock import SystemClock
    from skerry.edge.gateway import GatewaySettings, run_gateway
    from skerry.edge.sealed_folder import find_key

    set_up(log)
    settings = GatewaySettings(
        folder=folder,
        hub=hub,
        token=token,
        target=target,
        host=host,
        port=port,
        serve_token=serve_token,
        watched=watched,
        threads=threads,
        probation_s=probation_s,
        grpc_port=grpc_port,
        shared_memory=shared_memory,
        local=local,
        isolation=isolation,
        memory_limit_mb=memory_limit_mb,
        providers=provider,
        schemas=dict(map(read_spoken, schemas)),
        peers=peers,
        peers_host=peers_host,
        peers_port=peers_port,
        disk_quota_mb=disk_quota_mb,
        least_bytes_per_s=least_speed,
        accept_unsigned=accept_unsigned,
        seal_key=find_key(seal_key, os.environ, folder=folder),
    )
    sight = None
    if cameras is not None:
        from skerry.app.streams.sight import read_sight

        sight = read_sight(cameras, clock=SystemClock())
    source = None
    if recording is not None:
        from skerry.device.replay import ReplaySource

        source = ReplaySource(recording, frames_per_s=frames_per_s, clock=SystemClock())

    def tell(address: str) -> None:
        output.talk(f"The gateway serves at {address}.")

    asyncio.run(run_gateway(settings, ready=tell, source=source, sight=sight))
    return GatewayStopped(folder=folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSealed:
    """A gateway's folder whose models and secrets are encrypted."""

    folder: Path
    files: int
    level: str
    made_key: Path | None


def seal(
    *, folder: Path = Path("skerry-gateway"), seal_key: Path | None = None
) -> FolderSealed:
    """Encrypt what a gateway keeps; its key is made where the file is not there yet.

    The gateway must be stopped. Cut off, the same command goes on.

    Args:
        folder: The gateway's folder; it may be empty.
        seal_key: The file of the key, outside the folder; SKERRY_SEAL_KEY, else
            systemd's credential `skerry-key`, by default.
    """
    from skerry.core.durable import hold, make_folder
    from skerry.edge.sealed_folder import find_key, make_key, named_key, seal_folder

    make_folder(folder)
    with hold(folder / "gateway.lock", who="gateway"):
        named = named_key(seal_key, os.environ)
        is_made = named is not None and make_key(named, folder=folder)
        given = find_key(seal_key, os.environ, folder=folder)
        if given is None:
            raise UsageError(
                "there is no key to seal with",
                hint="Name a file, on another disk if you can: --seal-key FILE.",
            )
        files = seal_folder(folder, given)
    return FolderSealed(
        folder=folder,
        files=files,
        level=given.level,
        made_key=named if is_made else None,
    )


def render_seal(sealed: FolderSealed) -> str:
    """Say what was sealed, and what to look after from now on."""
    lines = [f"{sealed.folder} is sealed; {sealed.files} files were in the clear."]
    if sealed.made_key is not None:
        lines.append(
            f"The key is {sealed.made_key}: without it nothing in the folder can be "
            "read again."
        )
    return "\n".join(lines)


def read_spoken(text: str) -> tuple[str, Schemas]:
    """Read `NAME=INPUT/OUTPUT`.

    Raises:
        UsageError: It is something else.
    """
    name, _, versions = text.partition("=")
    sent, _, read = versions.partition("/")
    if not (name and sent and read):
        raise UsageError(
            f"{text[:80]!r} does not say which schemas are spoken",
            hint="Write NAME=INPUT/OUTPUT: meter=1/1.",
        )
    return check_name(name, kind="release"), Schemas(input=sent, output=read)


def render_run(stopped: GatewayStopped) -> str:
    """Say that it has stopped."""
    return f"The gateway has stopped. Its state is in {stopped.folder}."
