"""Blobs: streamed up with their hash checked, and down by range (RFC 9110, 14)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from skerry.cloud.api.access import HubOf
from skerry.cloud.api.answers import ERROR_RESPONSES, absent, answer
from skerry.cloud.api.bodies import pieces
from skerry.cloud.hub import Hub
from skerry.core.errors import DataError, UsageError
from skerry.core.release import is_sha256

readers = APIRouter(tags=["blobs"], responses=ERROR_RESPONSES)
writers = APIRouter(tags=["blobs"], responses=ERROR_RESPONSES)

LARGEST_BLOB_BYTES = 1 << 30
MEDIA_TYPE = "application/octet-stream"

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
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
async def get_blob(sha256: str, request: Request, hub: HubOf) -> Response:
    """Give a blob, or one range of it."""
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
    return StreamingResponse(
        _part(hub.blobs.open(sha256, offset=first), last - first + 1),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def read_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """Read a Range header.

    Args:
        header: Its value, or None.
        size_bytes: How many bytes there are.

    Returns:
        The first and the last byte; the first after the last where the range lies
        outside; None where all is to be sent, as for several ranges or a unit that
        nobody knows.

    Example:
        >>> read_range("bytes=2-", 10), read_range("bytes=-3", 10)
        ((2, 9), (7, 9))
    """
    match = _RANGE.fullmatch(header or "")
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        return size_bytes - min(int(match[2]), size_bytes), size_bytes - 1
    first, last = int(match[1]), min(int(match[2] or size_bytes), size_bytes - 1)
    if match[2] and int(match[2]) < first:
        return None
    return first, last


async def _size(hub: Hub, sha256: str) -> int:
    size_bytes = await hub.blobs.stat(sha256) if is_sha256(sha256) else None
    if size_bytes is None:
        raise absent(
            UsageError(
                f"there is no blob {sha256[:64]!r}",
                hint="Publish the release that it belongs to again.",
            )
        )
    return size_bytes


async def _part(content: AsyncIterator[bytes], left: int) -> AsyncIterator[bytes]:
    async for piece in content:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


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
