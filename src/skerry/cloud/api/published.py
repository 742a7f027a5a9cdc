"""Releases and the signed metadata that proves them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from skerry.cloud.api.access import HubOf
from skerry.cloud.api.answers import ERROR_RESPONSES, absent, answer, finding
from skerry.cloud.api.bodies import (
    LARGEST_METADATA_BYTES,
    Metadata,
    Publication,
    as_files,
    read_body,
    takes,
)
from skerry.cloud.delta_costs import costs_of
from skerry.core.errors import UsageError
from skerry.core.release import ReleaseId

router = APIRouter(tags=["releases"], responses=ERROR_RESPONSES)
readers = APIRouter(tags=["releases"], responses=ERROR_RESPONSES)


@readers.get("/v1/trust/{file}")
async def get_trust(file: str, hub: HubOf) -> Response:
    """Give a file of signed metadata as it was signed."""
    content = hub.releases.file(file)
    if content is None:
        raise absent(
            UsageError(
                f"there is no metadata {file[:80]!r}",
                hint="A device asks for the next root until there is none.",
            )
        )
    return Response(
        content, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


@router.get("/v1/trust-keys")
async def show_keys(hub: HubOf) -> Response:
    """Show the public half of the hub's online key, which a root must name."""
    return answer({"online": hub.releases.online_key.decode()})


@router.post("/v1/trust-keys/next")
async def make_next_key(hub: HubOf) -> Response:
    """Show the public half of the hub's next online key, made where there is none."""
    return answer({"online": (await hub.releases.next_online_key()).decode()})


@router.get("/v1/trust")
async def show_trust(hub: HubOf) -> Response:
    """Show how long what is signed holds, role by role."""
    return answer({"roles": hub.releases.standings()})


@router.post("/v1/trust", openapi_extra=takes(Metadata))
async def put_trust(request: Request, hub: HubOf) -> Response:
    """Take metadata without a release: the first root, a new key."""
    body = await read_body(request, Metadata, largest_bytes=LARGEST_METADATA_BYTES)
    take = hub.releases.replace if body.replace else hub.releases.trust
    await take(as_files(body.metadata), who="operator")
    return answer({"root_sha256": hub.releases.root_sha256})


@router.post("/v1/releases", status_code=201, openapi_extra=takes(Publication))
async def publish(request: Request, hub: HubOf) -> Response:
    """Publish releases, all of them or none."""
    body = await read_body(request, Publication, largest_bytes=LARGEST_METADATA_BYTES)
    published = await hub.releases.publish(
        as_files(body.metadata), body.manifests, who="operator"
    )
    return answer({"releases": [str(one.id) for one in published]}, status=201)


@router.get("/v1/releases")
async def list_releases(hub: HubOf) -> Response:
    """List the releases, the last published first."""
    return answer({"releases": await hub.releases.list()})


@router.get("/v1/releases/{name}/{version}")
async def show_release(name: str, version: str, hub: HubOf) -> Response:
    """Show a release: its manifest."""
    with finding():
        release = ReleaseId.parse(f"{name}/{version}")
        return answer(await hub.releases.get(release))


@router.get("/v1/releases/{name}/{version}/deltas")
async def show_costs(name: str, version: str, hub: HubOf) -> Response:
    """Show what it costs to bring each version's devices to a release."""
    with finding():
        release = ReleaseId.parse(f"{name}/{version}")
        return answer({"costs": await costs_of(release, hub.deltas)})


@router.post("/v1/releases/{name}/{version}/deltas")
async def make_deltas(name: str, version: str, hub: HubOf) -> Response:
    """Have the deltas made that there are not yet, and show what is known."""
    with finding():
        release = ReleaseId.parse(f"{name}/{version}")
        return answer({"costs": await costs_of(release, hub.deltas, make=True)})
