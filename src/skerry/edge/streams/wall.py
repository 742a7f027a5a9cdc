"""The live wall, the figures of each camera, and metrics, over HTTP.

| path | what |
| --- | --- |
| `/` | the wall: a page of veiled pictures |
| `/v1/streams` | how each camera does, as JSON |
| `/v1/streams/NAME.jpg` | the newest veiled picture of a camera |
| `/v1/streams/clips/SHA256.mp4` | a clip that an event tells of |
| `/metrics` | the same for Prometheus |
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from skerry.core.errors import DataError
from skerry.edge.exposition import CONTENT_TYPE, write_metrics
from skerry.edge.streams.clips import SUFFIX
from skerry.edge.streams.figures import families_of
from skerry.edge.streams.leaving import to_jpeg
from skerry.edge.streams.runner import Streams

if TYPE_CHECKING:
    from skerry.comms.asgi import AsgiApp, AsgiReceive, AsgiSend, Scope

PICTURES = "/v1/streams/"
CLIPS = "/v1/streams/clips/"
_SUFFIX = ".jpg"
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    ),
]

_Answer = tuple[int, str, bytes]


def make_wall(streams: Streams, *, token: str | None = None) -> AsgiApp:
    """Make the application.

    Args:
        streams: What is shown.
        token: What those who ask must show, as `Authorization: Bearer …` or as the
            page's parameter `token`; None: nothing.
    """
    page = files(__package__).joinpath("wall.html").read_bytes()

    async def app(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        del receive
        if scope["type"] != "http":
            return
        status, kind, body = await _answer(streams, page, scope, token)
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
            *_HEADERS,
        ]
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})

    return app


def before(app: AsgiApp, wall: AsgiApp) -> AsgiApp:
    """Have the wall answer its paths, but for the metrics, and another all others."""

    async def both(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        path = scope.get("path", "")
        is_walls = path in {"/", "/v1/streams"} or path.startswith(PICTURES)
        chosen = wall if is_walls and scope["type"] == "http" else app
        await chosen(scope, receive, send)

    return both


async def _answer(
    streams: Streams, page: bytes, scope: Scope, token: str | None
) -> _Answer:
    if scope["method"] not in {"GET", "HEAD"}:
        return _error(405, "only GET is answered here")
    if token is not None and not _may_ask(scope, token):
        return _error(401, "a token is needed")
    match scope["path"]:
        case "/":
            return 200, "text/html; charset=utf-8", page
        case "/v1/streams":
            return 200, "application/json", msgspec.json.encode(streams.figures())
        case "/metrics":
            families = families_of(streams.figures(), streams.latencies())
            return 200, CONTENT_TYPE, write_metrics(families)
    return await asyncio.to_thread(_find, streams, scope["path"])


def _find(streams: Streams, path: str) -> _Answer:
    """A picture or a clip."""
    name = path.removeprefix(CLIPS)
    if name == path:
        return _picture(streams, path)
    content = streams.clip(name.removesuffix(SUFFIX))
    if content is None or not name.endswith(SUFFIX):
        return _error(404, "there is no such clip, or no longer")
    return 200, "video/mp4", content


def _picture(streams: Streams, path: str) -> _Answer:
    if path.startswith(PICTURES) and path.endswith(_SUFFIX):
        with contextlib.suppress(DataError):
            shown = streams.shown(path[len(PICTURES) : -len(_SUFFIX)])
            if shown is not None:
                return 200, "image/jpeg", to_jpeg(shown)
    return _error(404, "there is nothing here, or no picture that may leave yet")


def _may_ask(scope: Scope, token: str) -> bool:
    shown = [
        value.decode("latin-1").partition(" ")[2]
        for key, value in scope["headers"]
        if key == b"authorization"
    ]
    shown += parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
    return any(hmac.compare_digest(one.encode(), token.encode()) for one in shown)


def _error(status: int, what: str) -> _Answer:
    return status, "application/json", msgspec.json.encode({"error": what})
