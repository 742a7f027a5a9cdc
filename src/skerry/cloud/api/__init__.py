"""The hub's HTTP API: bare functions on FastAPI, described by OpenAPI."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi

import skerry
from skerry.cloud.api import (
    answers,
    blobs,
    fleet,
    learning,
    published,
    rollouts,
    status,
)
from skerry.cloud.api.access import device_or_operator, operator
from skerry.cloud.api.bodies import schemas
from skerry.cloud.hub import Hub

_FOR_OPERATORS = (fleet, published, rollouts, learning)
_FOR_DEVICES = (blobs, published)


def make_api(hub: Hub) -> FastAPI:
    """Make the API of a hub; starting and stopping the hub is the caller's.

    Args:
        hub: A hub that is started before the first request comes.

    Returns:
        An ASGI application. Its OpenAPI document is at `/v1/openapi.json`.
    """
    api = FastAPI(
        title="Skerry hub",
        version=skerry.__version__,
        summary="Devices, releases and rollouts of a fleet.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    api.state.hub = hub
    answers.add_to(api)
    api.include_router(fleet.public)
    api.include_router(status.router)
    for room in _FOR_OPERATORS:
        api.include_router(room.router, dependencies=[Depends(operator)])
    for reading in _FOR_DEVICES:
        api.include_router(reading.readers, dependencies=[Depends(device_or_operator)])
    api.include_router(blobs.writers, dependencies=[Depends(operator)])
    api.openapi = lambda: _describe(api)  # type: ignore[method-assign]
    return api


def _describe(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that FastAPI does not see."""
    if api.openapi_schema is None:
        described = get_openapi(
            title=api.title,
            version=api.version,
            summary=api.summary,
            routes=api.routes,
        )
        components = described.setdefault("components", {})
        components.setdefault("schemas", {}).update(schemas())
        api.openapi_schema = described
    return api.openapi_schema
