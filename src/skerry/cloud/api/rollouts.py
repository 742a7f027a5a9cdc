"""Rollouts: foretell, begin, look, pause, resume, approve, stop, undo."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from skerry.cloud.api.access import HubOf
from skerry.cloud.api.answers import ERROR_RESPONSES, answer, finding
from skerry.cloud.api.bodies import NewRollout, read_body, takes
from skerry.cloud.rollout_plan import Plan
from skerry.core.fleet import Wave
from skerry.core.release import ReleaseId

router = APIRouter(tags=["rollouts"], responses=ERROR_RESPONSES)


@router.post("/v1/rollouts", status_code=201, openapi_extra=takes(NewRollout))
async def create_rollout(request: Request, hub: HubOf) -> Response:
    """Begin a rollout."""
    plan = _plan(await read_body(request, NewRollout))
    return answer(await hub.rollouts.create(plan, who="operator"), status=201)


@router.post("/v1/rollouts/preview", openapi_extra=takes(NewRollout))
async def preview_rollout(request: Request, hub: HubOf) -> Response:
    """Say who would be in which wave, and who would be left out and why."""
    plan = _plan(await read_body(request, NewRollout))
    return answer(await hub.rollouts.preview(plan))


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


@router.get("/v1/rollouts/{rollout}/acts")
async def list_acts(rollout: str, hub: HubOf) -> Response:
    """List who did what to a rollout, the oldest first."""
    with finding():
        return answer({"acts": await hub.rollouts.acts(rollout)})


@router.post("/v1/rollouts/{rollout}/{order}")
async def order_rollout(
    rollout: str,
    order: Literal["pause", "resume", "approve", "stop", "undo"],
    hub: HubOf,
) -> Response:
    """Have a rollout paused, resumed, its next wave approved, stopped or undone."""
    rollouts = hub.rollouts
    orders = {
        "pause": rollouts.pause,
        "resume": rollouts.resume,
        "approve": rollouts.approve,
        "stop": rollouts.stop,
        "undo": rollouts.undo,
    }
    with finding():
        return answer(await orders[order](rollout, who="operator"))


def _plan(body: NewRollout) -> Plan:
    return Plan(
        release=ReleaseId.parse(body.release),
        waves=tuple(Wave(devices=tuple(wave)) for wave in body.waves),
        devices=tuple(body.devices),
        query=body.query,
        stages=body.stages,
        gate=body.gate,
        on_failure=body.on_failure,
        approval=body.approval,
        window=body.window,
        is_dynamic=body.is_dynamic,
        id=body.id,
        supersede=body.supersede,
    )
