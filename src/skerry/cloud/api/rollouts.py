"""Rollouts: begin, look, stop, undo."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from skerry.cloud.api.access import HubOf
from skerry.cloud.api.answers import ERROR_RESPONSES, answer, finding
from skerry.cloud.api.bodies import NewRollout, read_body, takes
from skerry.cloud.rollouts import Plan
from skerry.core.fleet import Wave
from skerry.core.release import ReleaseId

router = APIRouter(tags=["rollouts"], responses=ERROR_RESPONSES)


@router.post("/v1/rollouts", status_code=201, openapi_extra=takes(NewRollout))
async def create_rollout(request: Request, hub: HubOf) -> Response:
    """Begin a rollout."""
    body = await read_body(request, NewRollout)
    plan = Plan(
        release=ReleaseId.parse(body.release),
        waves=tuple(Wave(devices=tuple(wave)) for wave in body.waves),
        devices=tuple(body.devices),
        gate=body.gate,
        on_failure=body.on_failure,
        id=body.id,
        supersede=body.supersede,
    )
    return answer(await hub.rollouts.create(plan, who="operator"), status=201)


@router.get("/v1/rollouts")
async def list_rollouts(
    hub: HubOf, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Response:
    """List the rollouts, the last started first."""
    return answer({"rollouts": await hub.rollouts.list(limit=limit)})


@router.get("/v1/rollouts/{rollout}")
async def show_rollout(rollout: str, hub: HubOf) -> Response:
    """Show where a rollout stands."""
    with finding():
        return answer(await hub.rollouts.get(rollout))


@router.post("/v1/rollouts/{rollout}/stop")
async def stop_rollout(rollout: str, hub: HubOf) -> Response:
    """Update no more devices."""
    with finding():
        return answer(await hub.rollouts.stop(rollout, who="operator"))


@router.post("/v1/rollouts/{rollout}/undo")
async def undo_rollout(rollout: str, hub: HubOf) -> Response:
    """Take each device that was told to update back to what it ran before."""
    with finding():
        return answer(await hub.rollouts.undo(rollout, who="operator"))
