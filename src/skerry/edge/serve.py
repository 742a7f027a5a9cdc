"""The gateway's HTTP service: the Open Inference Protocol, version 2, on bare ASGI.

```
GET  /v2                                     who serves
GET  /v2/health/live                         200 as long as the process answers
GET  /v2/health/ready                        200 when a release is loaded, else 503
GET  /v2/models/NAME[/versions/V]            what it takes and gives
GET  /v2/models/NAME[/versions/V]/ready
POST /v2/models/NAME[/versions/V]/infer      JSON or binary tensors, either way
```

Each answer names the release and the SHA-256 of the model that gave it. A client may
set a deadline with the request parameter `timeout_ms` or the header
`Skerry-Timeout-Ms`; it counts from when the body is whole, with the wait in the queue.

Statuses: 400 a request that is none or does not fit, 401 no or a wrong token, 404 no
such model or version, 405 another method, 408 a body that comes too slowly, 413 one
that is too large, 429 too many requests wait (with `Retry-After`), 500 the model
failed, 503 nothing is loaded, 504 no answer within the deadline; the body is
`{"error", "code", "hint"}`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from skerry import __version__
from skerry.core.errors import (
    BusyError,
    DataError,
    LateError,
    SkerryError,
    UsageError,
)
from skerry.core.release import ReleaseId
from skerry.edge.engine import Engine
from skerry.edge.tensors import decode_request, describe, encode_answer

log = logging.getLogger(__name__)

LARGEST_BODY_BYTES = 16 << 20
"""Most bytes of a request's body, unless told otherwise."""

MOST_BODIES = 4
"""As many of the largest bodies are held at once, or as many bytes of smaller ones."""

TIMEOUT_S = 10.0
"""Until when an answer is of use, unless the request says so; and a body's own time."""

LONGEST_TIMEOUT_MS = 600_000.0
"""Most milliseconds that a request may ask for."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEAD_LENGTH = b"inference-header-content-length"
_TIMEOUT = b"skerry-timeout-ms"
_EXTENSIONS = ("binary_tensor_data", "model_versions")
_STATUSES: tuple[tuple[type[SkerryError], int], ...] = (
    (DataError, 400),
    (UsageError, 404),
    (BusyError, 429),
    (LateError, 504),
)
_encode = msgspec.json.Encoder().encode


def make_app(
    engine: Engine,
    *,
    token: str | None = None,
    facts: Callable[[], Mapping[str, object]] = dict,
    timeout_s: float = TIMEOUT_S,
    largest_body_bytes: int = LARGEST_BODY_BYTES,
) -> App:
    """Make the ASGI application.

    Args:
        engine: What answers.
        token: The bearer token that every request but `/v2/health/live` must carry;
            None: everybody who reaches the port is served.
        facts: What `/v2` tells of this gateway, under `parameters`; JSON values.
        timeout_s: The deadline of a request that names none, and the longest time in
            which a body must have come.
        largest_body_bytes: Most bytes of a body.
    """
    return _Service(
        engine,
        token=token.encode() if token is not None else None,
        facts=facts,
        timeout_s=timeout_s,
        largest_body_bytes=largest_body_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int = 200
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """What a path asks for: `server live ready model model_ready infer`."""

    kind: str
    name: str = ""
    version: int | None = None
    methods: tuple[str, ...] = field(default=("GET", "HEAD"))


class _Service:
    def __init__(
        self,
        engine: Engine,
        *,
        token: bytes | None,
        facts: Callable[[], Mapping[str, object]],
        timeout_s: float,
        largest_body_bytes: int,
    ) -> None:
        self._engine = engine
        self._token = token
        self._facts = facts
        self._timeout_s = timeout_s
        self._largest_body_bytes = largest_body_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
        else:
            try:
                reply = await self._answer(scope, receive)
            except SkerryError as error:
                reply = _failed(error)
            except Exception:
                log.exception("serve.failed")
                reply = _refused(500, "the gateway failed", "Its log says why.")
            if reply is not None:
                await _send(reply, send, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> _Reply | None:
        """Answer a request; None where nobody is there any more to be answered."""
        headers = dict(scope["headers"])
        route = _find_route(scope["path"])
        if not self._may_pass(headers, route):
            return _refused(
                401,
                "the bearer token is missing or wrong",
                "Send the header Authorization: Bearer TOKEN.",
                (b"www-authenticate", b"Bearer"),
            )
        if route is None:
            return _refused(
                404, "there is no such path", "Begin with /v2 or /v2/models/NAME."
            )
        if scope["method"] not in route.methods:
            allowed = ", ".join(route.methods)
            return _refused(
                405,
                f"the method is {scope['method'][:80]}, expected {allowed}",
                "The Open Inference Protocol, version 2, says which.",
                (b"allow", allowed.encode()),
            )
        if route.kind == "infer":
            return await self._infer(route, headers, receive)
        return self._tell(route)

    def _may_pass(self, headers: Mapping[bytes, bytes], route: _Route | None) -> bool:
        if self._token is None or (route is not None and route.kind == "live"):
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        is_right = hmac.compare_digest(given.strip(), self._token)
        return is_right and scheme.lower() == b"bearer"

    def _tell(self, route: _Route) -> _Reply:
        if route.kind == "server":
            told: dict[str, Any] = {
                "name": "skerry",
                "version": __version__,
                "extensions": _EXTENSIONS,
                "parameters": dict(self._facts()),
            }
            return _Reply(body=_encode(told))
        if route.kind == "live":
            return _Reply(body=b'{"live":true}')
        if route.kind == "ready":
            is_ready = bool(self._engine.names())
            return _Reply(
                status=200 if is_ready else 503, body=_encode({"ready": is_ready})
            )
        installed = self._engine.find(route.name, version=route.version)
        if route.kind == "model_ready":
            return _Reply(body=_encode({"name": route.name, "ready": True}))
        told = {
            **_name(installed.id, installed.model.blob.sha256),
            "versions": [str(v) for v in self._engine.versions(route.name)],
            "platform": installed.model.runtime,
            "inputs": describe(installed.model.inputs),
            "outputs": describe(installed.model.outputs),
        }
        told["name"] = told.pop("model_name")
        return _Reply(body=_encode(told))

    async def _infer(
        self, route: _Route, headers: Mapping[bytes, bytes], receive: Receive
    ) -> _Reply | None:
        self._engine.find(route.name, version=route.version)
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.strip().lower() != b"identity":
            raise DataError(
                f"the body's encoding is {encoding[:80]!r}, expected none",
                hint="Send it as it is.",
            )
        body = await self._read(headers, receive)
        if not isinstance(body, bytes):
            return body
        try:
            return await self._ask(route, headers, body)
        finally:
            self._held_bytes -= len(body)

    async def _ask(
        self, route: _Route, headers: Mapping[bytes, bytes], body: bytes
    ) -> _Reply:
        # From here to the engine nothing waits: what is found now is what answers.
        installed = self._engine.find(route.name, version=route.version)
        request = decode_request(
            body,
            head_bytes=_read_head_length(headers.get(_HEAD_LENGTH)),
            inputs=installed.model.inputs,
            outputs=installed.model.outputs,
        )
        answer = await self._engine.infer(
            route.name,
            request.inputs,
            version=route.version,
            deadline_s=self._read_timeout_s(headers, request.timeout_ms),
        )
        head = _name(answer.release, answer.blob)
        if request.id is not None:
            head["id"] = request.id
        written, head_length = encode_answer(head, answer.outputs, request.outputs)
        if head_length is None:
            return _Reply(body=written)
        return _Reply(
            body=written,
            content_type=b"application/octet-stream",
            headers=((_HEAD_LENGTH, b"%d" % head_length),),
        )

    async def _read(
        self, headers: Mapping[bytes, bytes], receive: Receive
    ) -> bytes | _Reply | None:
        """Read a body; in its place a refusal, or None where the client is gone.

        The bytes of one that is given count as held until the caller takes them off.
        """
        largest = self._largest_body_bytes
        promised = headers.get(b"content-length", b"")
        if promised.isdigit() and int(promised[:20]) > largest:
            return _too_large(promised[:20].decode(), largest)
        pieces: list[bytes] = []
        size_bytes, held_bytes = 0, 0
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    pieces.append(message.get("body", b""))
                    size_bytes += len(pieces[-1])
                    if size_bytes > largest:
                        return _too_large(f"at least {size_bytes}", largest)
                    self._hold(len(pieces[-1]))
                    held_bytes = size_bytes
                    if not message.get("more_body", False):
                        held_bytes = 0  # they are the caller's now
                        return b"".join(pieces)  # one piece alone is not copied
        except TimeoutError:
            return _refused(
                408,
                f"the body has not come within {self._timeout_s:g} s",
                "Send it in one go.",
                (b"connection", b"close"),
            )
        finally:
            self._held_bytes -= held_bytes

    def _hold(self, size_bytes: int) -> None:
        """Count bytes of a body, if there is room for them beside those of others."""
        most_bytes = MOST_BODIES * self._largest_body_bytes
        if self._held_bytes + size_bytes > most_bytes:
            raise BusyError(
                f"{self._held_bytes} bytes of requests are being answered, expected "
                f"fewer than {most_bytes}",
                hint="Ask again in a second, or send smaller batches.",
            )
        self._held_bytes += size_bytes

    def _read_timeout_s(
        self, headers: Mapping[bytes, bytes], timeout_ms: float | None
    ) -> float:
        given = headers.get(_TIMEOUT)
        if timeout_ms is None and given is None:
            return self._timeout_s
        if timeout_ms is None and given is not None:
            try:
                timeout_ms = float(given[:80])
            except ValueError:
                timeout_ms = -1.0
        if timeout_ms is None or not 0 < timeout_ms <= LONGEST_TIMEOUT_MS:
            raise DataError(
                f"the timeout is {timeout_ms} ms, expected more than 0 and at most "
                f"{LONGEST_TIMEOUT_MS:g}",
                hint="Give a number of milliseconds.",
            )
        return timeout_ms / 1000


def _name(release: ReleaseId, blob: str) -> dict[str, Any]:
    """What each answer says of the release that gave it."""
    return {
        "model_name": release.name,
        "model_version": str(release.version),
        "parameters": {"release": str(release), "blob": blob},
    }


def _find_route(path: str) -> _Route | None:
    match path.strip("/").split("/"):
        case ["v2"]:
            return _Route(kind="server")
        case ["v2", "health", ("live" | "ready") as kind]:
            return _Route(kind=kind)
        case ["v2", "models", name, "versions", text, *rest] if text:
            is_number = text.isascii() and text.isdigit() and len(text) < 10
            # There is no version 0, as there is none that is not a number.
            return _model_route(name, int(text) if is_number else 0, rest)
        case ["v2", "models", name, *rest]:
            return _model_route(name, None, rest)
    return None


def _model_route(name: str, version: int | None, rest: list[str]) -> _Route | None:
    match rest:
        case []:
            return _Route(kind="model", name=name, version=version)
        case ["ready"]:
            return _Route(kind="model_ready", name=name, version=version)
        case ["infer"]:
            return _Route(kind="infer", name=name, version=version, methods=("POST",))
    return None


def _read_head_length(given: bytes | None) -> int | None:
    if given is None:
        return None
    if not given.isdigit() or len(given) > 19:
        raise DataError(
            f"Inference-Header-Content-Length is {given[:80]!r}, expected a number",
            hint="It is the length of the JSON before the tensors' bytes.",
        )
    return int(given)


def _failed(error: SkerryError) -> _Reply:
    status = next((s for kind, s in _STATUSES if isinstance(error, kind)), 500)
    if status == 500:
        log.error("serve.failed", extra={"what": error.what, "code": error.code})
    body = _encode({"error": error.what, "code": error.code, "hint": error.hint})
    headers = ((b"retry-after", b"1"),) if status == 429 else ()
    return _Reply(status=status, body=body, headers=headers)


def _refused(
    status: int, what: str, hint: str, *headers: tuple[bytes, bytes]
) -> _Reply:
    body = _encode({"error": what, "code": "UsageError", "hint": hint})
    return _Reply(status=status, body=body, headers=headers)


def _too_large(got: str, largest: int) -> _Reply:
    return _refused(
        413,
        f"the body has {got} bytes, expected at most {largest}",
        "Send smaller batches, as binary tensors.",
        (b"connection", b"close"),
    )


async def _send(reply: _Reply, send: Send, *, with_body: bool) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.content_type),
                (b"content-length", b"%d" % len(reply.body)),
                *reply.headers,
            ],
        }
    )
    body = reply.body if with_body else b""
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    """Answer the server's questions at its start and at its end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
