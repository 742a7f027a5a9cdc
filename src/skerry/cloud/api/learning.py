"""Field samples, their labels, and retrainings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from skerry.cloud.api.access import HubOf
from skerry.cloud.api.answers import ERROR_RESPONSES, answer, finding
from skerry.cloud.api.bodies import Labelled, NewRetraining, read_body, takes

router = APIRouter(tags=["learning"], responses=ERROR_RESPONSES)


@router.get("/v1/samples")
async def list_samples(
    hub: HubOf,
    release: Annotated[str | None, Query(max_length=80)] = None,
    labelled: bool | None = None,  # noqa: FBT001 - a query parameter has a name
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """List field samples without their inputs, the oldest first."""
    listed = await hub.samples.ls(release=release, labelled=labelled, limit=limit)
    return answer({"samples": listed})


@router.get("/v1/samples/{sample}")
async def show_sample(sample: str, hub: HubOf) -> Response:
    """Show a field sample with its inputs."""
    with finding():
        found, inputs = await hub.samples.show(sample)
    fields = msgspec.to_builtins(found)
    return answer({**fields, "inputs": inputs})


@router.post("/v1/samples/{sample}/label", openapi_extra=takes(Labelled))
async def label_sample(sample: str, request: Request, hub: HubOf) -> Response:
    """Say what a sample shows; a later label replaces an earlier one."""
    body = await read_body(request, Labelled)
    with finding():
        return answer(await hub.samples.label(sample, body.label))


@router.post("/v1/retrainings", status_code=201, openapi_extra=takes(NewRetraining))
async def start_retraining(request: Request, hub: HubOf) -> Response:
    """Begin to learn from the labelled samples of a release."""
    body = await read_body(request, NewRetraining)
    return answer(
        await hub.retrainings.start(body.release, replay=body.replay), status=201
    )


@router.get("/v1/retrainings")
async def list_retrainings(hub: HubOf) -> Response:
    """List the retrainings, the oldest first."""
    return answer({"retrainings": await hub.retrainings.ls()})


@router.get("/v1/retrainings/{retraining}")
async def show_retraining(retraining: str, hub: HubOf) -> Response:
    """Show where a retraining stands, and what came of it."""
    with finding():
        return answer(await hub.retrainings.show(retraining))
