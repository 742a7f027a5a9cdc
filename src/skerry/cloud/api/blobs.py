"""Blobs: streamed up with their hash checked, and down by range (RFC 9110, 14)."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from skerry.cloud.api.access import Caller, HubOf
from skerry.cloud.api.answers import ERROR_RESPONSES, absent, answer, finding
from skerry.cloud.api.bodies import pieces
from skerry.cloud.hub import Hub
from skerry.comms.ranges import read_range
from skerry.core.errors import DataError, UsageError
from skerry.core.release import is_sha256

readers = APIRouter(tags=["blobs"], responses=ERROR_RESPONSES)
writers = APIRouter(tags=["blobs"], responses=ERROR_RESPONSES)

LARGEST_BLOB_BYTES = 1 << 30
MEDIA_TYPE = "application/octet-stream"

_CONTENT = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}


@writers.put(
    "/v1/blobs/{sha256}",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, **_CONTENT}},
)
async def put_blob(sha256: str, request: Request, hub: HubOf) -> Response:
    """Keep a blob; keeping it twice is no fault."""
    size_bytes = await hub.blobs.put_stream(
        sha256, pieces(request), largest_bytes=LARGEST_BLOB_BYTES
    )
    return answer({"sha256": sha256, "size_bytes": size_bytes}, status=201)


@readers.head("/v1/blobs/{sha256}")
async def stat_blob(sha256: str, hub: HubOf) -> Response:
    """Say how large a blob is."""
    size_bytes = await _size(hub, sha256)
    return Response(headers={**_headers(sha256), "Content-Length": str(size_bytes)})


@readers.get(
    "/v1/blobs/{sha256}",
    responses={
        200: {"description": "All of it.", **_CONTENT},
        206: {"description": "The range that was asked for.", **_CONTENT},
        416: {"description": "The range lies outside it."},
    },
)
async def get_blob(
    sha256: str, request: Request, hub: HubOf, caller: Caller
) -> Response:
    """Give a blob, or one range of it, as fast as the device's site may have it."""
    site = await hub.neighbours.site(caller.device) if caller.device else ""
    hub.bandwidth.admit(site)
    size_bytes = await _size(hub, sha256)
    wanted = read_range(request.headers.get("range"), size_bytes)
    if wanted is None:
        first, last, status = 0, size_bytes - 1, 200
    elif wanted[0] > wanted[1]:
        return _outside(size_bytes)
    else:
        (first, last), status = wanted, 206
    headers = {**_headers(sha256), "Content-Length": str(last - first + 1)}
    if status == 206:
        headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    pieces_of_it = hub.served.open(sha256, offset=first, end=last + 1)
    return StreamingResponse(
        hub.bandwidth.shape(site, pieces_of_it),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


@readers.get("/v1/neighbours")
async def show_neighbours(hub: HubOf, caller: Caller) -> Response:
    """Tell a device who of its site gives blobs, and by what keys."""
    if caller.device is None:
        raise DataError(
            "only a device has neighbours, the token is an operator's",
            hint="`skerry device ls` shows the labels of all.",
        )
    return answer(await hub.neighbours.of(caller.device))


@readers.get("/v1/deltas/{origin}/{goal}")
async def offer_way(origin: str, goal: str, hub: HubOf) -> Response:
    """Tell a device which deltas lead from one model to another.

    What they name is fetched as any blob is. Where `wait_s` is not null, a better way
    may be there in so many seconds.
    """
    with finding():
        return answer(await hub.deltas.ask(origin, goal))


async def _size(hub: Hub, sha256: str) -> int:
    size_bytes = await hub.served.stat(sha256) if is_sha256(sha256) else None
    if size_bytes is None:
        raise absent(
            UsageError(
                f"there is no blob {sha256[:64]!r}",
                hint="Publish the release that it belongs to again.",
            )
        )
    return size_bytes


def _headers(sha256: str) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, immutable, max-age=31536000",
        "ETag": f'"{sha256}"',
    }


def _outside(size_bytes: int) -> Response:
    error = DataError(
        f"the range lies outside the {size_bytes} bytes", hint="Ask for less."
    )
    fields = {"code": error.code, "what": error.what, "hint": error.hint}
    made = answer({"error": fields}, status=416)
    made.headers["Content-Range"] = f"bytes */{size_bytes}"
    return made
