"""Act 3: a release goes to three gateways, the next is swapped in under load."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.app.demo.fleet import Fleet, HubPlace
from skerry.app.demo.infer import Client
from skerry.app.demo.load import Load, Reply, Scene
from skerry.app.demo.stage import GATEWAYS, Stage
from skerry.app.demo.workshop import INPUT, OUTPUT, Made, Workshop
from skerry.app.hub_api import HubApi
from skerry.core.durable import make_folder, write_file
from skerry.core.fleet import RolloutState
from skerry.core.release import write_manifest

STEADY_S = 1.5
"""How long the load runs before the swap and after it."""

NAIVE_S = 1.2
"""The same for the naive server, which knows nothing of releases."""

NAIVE_RATE_PER_S = 75.0
"""As many requests as go to the three gateways together."""

CAMERA_FRAMES_PER_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipFigures:
    """What came of act 3.

    Attributes:
        first: The release that the gateways began with.
        second: The one swapped in.
        disagreement: Fraction of the load's pictures that the two read differently.
        swap_s: From the start of the rollout to its end.
        swap_requests: Requests in that time and just before and after.
        swap_failed: How many of them failed or were wrong.
        both: Gateways that answered from both releases.
        naive_requests: Requests to the naive server around its swap.
        naive_failed: How many of those failed.
        delta_bytes: The second release as a delta.
        full_bytes: The same whole.
    """

    first: str
    second: str
    disagreement: float
    swap_s: float
    swap_requests: int
    swap_failed: int
    both: tuple[str, ...]
    naive_requests: int
    naive_failed: int
    delta_bytes: int | None
    full_bytes: int


async def start_gateways(
    fleet: Fleet, hub: HubPlace, api: HubApi, camera: Path
) -> dict[str, str]:
    """Register three gateways, and start each with a one-time token of its own."""
    make_folder(camera)

    async def start(name: str) -> tuple[str, str]:
        token = await api.create_device(name, labels={"demo": "yes"})
        recording = camera if name == GATEWAYS[0] else None
        address = await fleet.start_gateway(
            name,
            hub,
            token=token,
            recording=recording,
            frames_per_s=CAMERA_FRAMES_PER_S,
        )
        return name, address

    return dict(await asyncio.gather(*map(start, GATEWAYS)))


async def ship(stage: Stage, first: Made, second: Made, scene: Scene) -> ShipFigures:
    """Release 1 to an idle fleet, then release 2 under load; then the naive way."""
    await stage.publish(first)
    await stage.wait_rollout(await stage.roll_out(first.id), RolloutState.SUCCEEDED)
    stage.say(f"{first.id} runs on {len(GATEWAYS)} gateways, each enrolled by a token")
    begun = len(stage.load.replies)
    for gateway in GATEWAYS:
        stage.load.begin(gateway, stage.client(gateway))
    await stage.clock.sleep(STEADY_S)
    bundle = await stage.publish(second, deltas_from=[first])
    stage.mark("swap", f"rollout of {second.id}, canary first")
    started_s = stage.clock.wall_s()
    await stage.wait_rollout(await stage.roll_out(second.id), RolloutState.SUCCEEDED)
    swap_s = stage.clock.wall_s() - started_s
    stage.mark("swap", f"{second.id} runs on all gateways")
    await stage.clock.sleep(STEADY_S)
    seen = stage.load.replies[begun:]
    naive = await swap_naively(stage, first, second, scene)
    figures = ShipFigures(
        first=str(first.id),
        second=str(second.id),
        disagreement=stage.workshop.expected.disagreement(
            str(first.id), str(second.id), scene.name
        ),
        swap_s=swap_s,
        swap_requests=len(seen),
        swap_failed=sum(reply.outcome != "ok" for reply in seen),
        both=answered_from_both(seen, first, second),
        naive_requests=len(naive),
        naive_failed=sum(reply.outcome == "failed" for reply in naive),
        delta_bytes=bundle.delta_bytes.get(first.blob),
        full_bytes=len(second.content),
    )
    _tell(stage, figures)
    return figures


async def swap_naively(
    stage: Stage, first: Made, second: Made, scene: Scene
) -> list[Reply]:
    """Stop a server, start it with the new file; the same pictures, the same checks."""
    load = Load(
        stage.workshop.expected,
        scene,
        input_name=INPUT,
        rate_per_s=NAIVE_RATE_PER_S,
        clock=stage.clock,
    )
    name, told = "naive", stage.fleet.folder / "naive.json"
    port = 0
    for made in (first, second):
        manifest = stage.fleet.folder / "naive-manifest.json"
        write_file(manifest, write_manifest(made.manifest))
        if port:
            await stage.fleet.end(name)
        words = [str(manifest), str(made.model.path), str(port), str(told)]
        found = await stage.fleet.start_other(
            name, "skerry.app.demo.naive", words, told
        )
        address = str(found["address"])
        if not port:
            port = int(address.rpartition(":")[2])
            load.begin(name, Client(address, model=Workshop.NAME, output=OUTPUT))
        await stage.clock.sleep(NAIVE_S)
    await load.stop()
    await stage.fleet.end(name)
    return load.replies


def answered_from_both(
    replies: Sequence[Reply], first: Made, second: Made
) -> tuple[str, ...]:
    """The gateways that answered from both releases."""
    seen = {(reply.gateway, reply.release) for reply in replies}
    return tuple(
        gateway
        for gateway in GATEWAYS
        if {(gateway, str(first.id)), (gateway, str(second.id))} <= seen
    )


def _tell(stage: Stage, figures: ShipFigures) -> None:
    stage.say(
        f"{figures.second} swapped in under load in {figures.swap_s:.1f} s: "
        f"{figures.swap_requests} requests, {figures.swap_failed} failed or wrong; "
        f"{len(figures.both)} gateways answered from both releases, which disagree on "
        f"{figures.disagreement:.1%} of the pictures"
    )
    if figures.delta_bytes is not None:
        stage.say(
            f"shipped as a delta: {figures.delta_bytes:,} bytes instead of "
            f"{figures.full_bytes:,}"
        )
    stage.say(
        f"the same swap done naively (stop, load, start): {figures.naive_failed} of "
        f"{figures.naive_requests} requests failed"
    )
