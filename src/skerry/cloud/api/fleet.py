"""Devices: registering, enrolling, shadows, logs, and why one runs what it runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

import skerry
from skerry.cloud.api.access import HubOf
from skerry.cloud.api.answers import ERROR_RESPONSES, answer, finding
from skerry.cloud.api.bodies import (
    Enrolment,
    NewDevice,
    ProfileRequest,
    ShadowPatch,
    read_body,
    takes,
)
from skerry.cloud.hub import Hub
from skerry.cloud.why import why
from skerry.core.fleet import Rollout, Shadow
from skerry.core.release import Manifest, ReleaseId
from skerry.evolve.rollout import release_in
from skerry.evolve.shadow import delta

public = APIRouter(tags=["devices"], responses=ERROR_RESPONSES)
router = APIRouter(tags=["devices"], responses=ERROR_RESPONSES)

LARGEST_NUMBER = 1 << 53
LONGEST_PING_S = 30.0


@public.get("/v1/health", tags=["hub"])
async def show_health(hub: HubOf) -> Response:
    """Say that the hub is up; no token is needed."""
    return answer(
        {
            "status": "ok",
            "version": skerry.__version__,
            "tenant": hub.settings.tenant,
            "at_ms": hub.clock.unix_ms(),
        }
    )


@public.post("/v1/enrol", openapi_extra=takes(Enrolment))
async def enrol(request: Request, hub: HubOf) -> Response:
    """Trade a one-time token for credentials; the token is all that is needed."""
    body = await read_body(request, Enrolment)
    credentials = await hub.devices.enrol(body.token)
    root = hub.releases.root_of(body.token.partition(".")[2])
    return answer(
        {
            "tenant": credentials.tenant,
            "device": credentials.device,
            "api_token": credentials.api_token,
            "mqtt": {
                "host": request.url.hostname or hub.settings.host,
                "port": hub.mqtt_port,
                "username": credentials.username,
                "password": credentials.password,
            },
            "root": root.decode(),
        }
    )


@router.post("/v1/devices", status_code=201, openapi_extra=takes(NewDevice))
async def create_device(request: Request, hub: HubOf) -> Response:
    """Register a device, or let one enrol anew; the token is shown only here."""
    body = await read_body(request, NewDevice)
    token = await hub.devices.create(
        body.name,
        labels=body.labels,
        root_sha256=hub.releases.root_sha256,
        who="operator",
    )
    return answer({"name": body.name, "token": token}, status=201)


@router.get("/v1/devices")
async def list_devices(hub: HubOf) -> Response:
    """List the devices."""
    return answer({"devices": await hub.devices.list()})


@router.get("/v1/devices/{device}")
async def show_device(device: str, hub: HubOf) -> Response:
    """Show a device."""
    with finding():
        return answer(await hub.devices.get(device))


@router.get("/v1/devices/{device}/shadow")
async def show_shadow(device: str, hub: HubOf) -> Response:
    """Show what a device should be, what it said it is, and the difference."""
    with finding():
        return answer(_with_delta(await hub.shadows.get(device)))


@router.patch("/v1/devices/{device}/shadow", openapi_extra=takes(ShadowPatch))
async def change_shadow(device: str, request: Request, hub: HubOf) -> Response:
    """Change what a device should be; with a version, only if it is still that."""
    body = await read_body(request, ShadowPatch)
    with finding():
        await hub.devices.get(device)
    shadow = await hub.shadows.set_desired(
        device, body.desired, version=body.version, who="operator"
    )
    return answer(_with_delta(shadow))


@router.get("/v1/devices/{device}/logs")
async def show_logs(
    device: str,
    hub: HubOf,
    after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Show the newest lines of a device's log, oldest first."""
    with finding():
        await hub.devices.get(device)
    return answer({"events": await hub.events.read(device, after=after, limit=limit)})


@router.get("/v1/devices/{device}/why")
async def explain_device(device: str, hub: HubOf) -> Response:
    """Say in a paragraph what it runs, what it should, and what happens next."""
    with finding():
        found, shadow = await asyncio.gather(
            hub.devices.get(device), hub.shadows.get(device)
        )
    rollouts = await hub.rollouts.of_device(device)
    text = why(
        found,
        shadow,
        rollouts,
        manifests=await _manifests(hub, shadow, rollouts),
        now_ms=hub.clock.unix_ms(),
    )
    return answer({"device": device, "why": text})


@router.post("/v1/devices/{device}/ping")
async def ping_device(
    device: str,
    hub: HubOf,
    timeout_s: Annotated[float, Query(gt=0, le=LONGEST_PING_S)] = 5.0,
) -> Response:
    """Ask a device for a sign of life."""
    with finding():
        return answer({"round_trip_ms": await hub.ping(device, timeout_s=timeout_s)})


@router.post("/v1/devices/{device}/profile", openapi_extra=takes(ProfileRequest))
async def profile_on_device(device: str, hub: HubOf, request: Request) -> Response:
    """Have an idle device profile a model that is installed there."""
    job = await read_body(request, ProfileRequest)
    with finding():
        return answer(await hub.profile(device, msgspec.to_builtins(job)))


async def _manifests(
    hub: Hub, shadow: Shadow, rollouts: tuple[Rollout, ...]
) -> dict[ReleaseId, Manifest]:
    names = {rollout.release.name for rollout in rollouts}
    wanted = {release_in(shadow.desired, name) for name in names}
    return {one.id: one for one in await hub.releases.list() if one.id in wanted}


def _with_delta(shadow: Shadow) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(shadow)
    return {**fields, "delta": delta(shadow)}
