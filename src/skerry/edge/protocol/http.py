"""The gateway's HTTP service: the Open Inference Protocol, version 2, on bare ASGI.

```
GET  /v2                                     who serves
GET  /v2/health/live                         200 as long as the process answers
GET  /v2/health/ready                        200 when a release is loaded, else 503
GET  /v2/models/NAME[/versions/V]            what it takes and gives
GET  /v2/models/NAME[/versions/V]/ready
GET  /v2/models/NAME[/versions/V]/config     the same as a model configuration
GET  /v2/models[/NAME[/versions/V]]/stats    what was counted
POST /v2/models/NAME[/versions/V]/infer      JSON or binary tensors, either way
POST /v2/models/NAME[/versions/V]/predict    a picture, a recording, a window
POST /v2/repository/index                    which releases lie here
POST /v2/repository/models/NAME/load|unload
GET  /v2/systemsharedmemory[/region/NAME]/status
POST /v2/systemsharedmemory[/region/NAME]/register|unregister
GET  /metrics                                for Prometheus
```

Each answer names the release and the SHA-256 of the model that gave it. A client may
set a deadline with the request parameter `timeout_ms` (or Triton's `timeout`, in
microseconds) or the header `Skerry-Timeout-Ms`; it counts from when the body is whole,
with the wait in the queue. The header `Skerry-Priority` is a whole number, higher goes
first; Triton's parameter `priority` goes before it. A body may be packed (`gzip`,
`deflate`), and the answer is where `Accept-Encoding` names one of them and no other.

Statuses: 400 a request that is none or does not fit, 401 no or a wrong token, 404 no
such model or version, 405 another method, 408 a body that comes too slowly, 409 the
model is being loaded already, 413 a body that is too large, 422 a release that does not
hold here what it promises, 429 too many requests wait (with `Retry-After`), 500 the
model failed, 503 nothing is loaded or the gateway stops, 504 no answer within the
deadline; the body is `{"error", "code", "hint"}`.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from skerry.comms.asgi import BODY_EXTENSION
from skerry.core.errors import DataError, SkerryError
from skerry.edge.engine import Answer, Engine
from skerry.edge.exposition import CONTENT_TYPE
from skerry.edge.installed import Installed
from skerry.edge.protocol.bodies import (
    Body,
    Fault,
    Headers,
    ReadInto,
    Receive,
    pack,
    read_body,
    read_encoding,
    unpack,
    wanted_encoding,
)
from skerry.edge.protocol.regions import Region, Regions
from skerry.edge.protocol.routes import Route, find_route
from skerry.edge.protocol.service import (
    Call,
    InferenceService,
    name_release,
    retry_after_s,
    status_of,
)
from skerry.edge.protocol.tensors import InferRequest, decode_request, write_answer

log = logging.getLogger(__name__)

AT_ONCE_BYTES = 128 << 10
"""Tensors of at most so many bytes are sent with the JSON before them; of larger ones
a copy would cost more than a call of the system."""

LARGEST_COMMAND_BYTES = 64 << 10
"""Most bytes of the body of a request that asks for no inference."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_Written = tuple[bytes, list[memoryview]]

_HEAD_LENGTH = b"inference-header-content-length"
_TIMEOUT = b"skerry-timeout-ms"
_PRIORITY = b"skerry-priority"
_MOST_PRIORITY = 100
_encode = msgspec.json.Encoder().encode


class _Size(msgspec.Struct, frozen=True):
    key: str
    offset: int = 0
    size_bytes: int = msgspec.field(default=0, name="byte_size")


class _Command(msgspec.Struct, frozen=True):
    parameters: dict[str, Any] = {}
    is_ready: bool = msgspec.field(default=False, name="ready")


def make_app(engine: Engine, **settings: Any) -> App:
    """Make the ASGI application.

    Args:
        engine: What answers.
        settings: Those of `InferenceService`.
    """
    return make_http(InferenceService(engine, **settings))


def make_http(service: InferenceService) -> App:
    """Make the ASGI application of a service that may have other faces, too."""
    return _Http(service)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int = 200
    body: bytes = b""
    tail: tuple[memoryview, ...] = ()
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all that is sent."""
        return len(self.body) + sum(piece.nbytes for piece in self.tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request that may pass, before its body is read."""

    route: Route
    headers: Headers
    is_local: bool
    receive: Receive = field(repr=False)
    read_into: ReadInto | None = field(repr=False)


class _Http:
    def __init__(self, service: InferenceService) -> None:
        self._service = service

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
        route = find_route(scope["path"])
        is_open = route is not None and route.kind == "live"
        authorization = headers.get(b"authorization", b"")
        if not is_open and not self._service.may_pass(authorization):
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
        if route.methods != ("POST",):
            return self._tell(route, is_local=_is_local(scope))
        asked = _Asked(
            route=route,
            headers=headers,
            is_local=_is_local(scope),
            receive=receive,
            read_into=scope.get("extensions", {}).get(BODY_EXTENSION),
        )
        if route.kind in {"infer", "predict"}:
            return await self._infer(asked)
        return await self._command(asked)

    def _tell(self, route: Route, *, is_local: bool) -> _Reply:
        service, name, version = self._service, route.name, route.version
        told: Any
        match route.kind:
            case "live":
                return _Reply(body=b'{"live":true}')
            case "ready":
                is_ready = service.is_ready
                body = _encode({"ready": is_ready})
                return _Reply(status=200 if is_ready else 503, body=body)
            case "metrics":
                kind = CONTENT_TYPE.encode()
                return _Reply(body=service.write_metrics(), content_type=kind)
            case "server":
                told = service.describe_server()
            case "model":
                told = service.describe_model(name, version)
            case "model_ready":
                service.find(name, version)
                told = {"name": name, "ready": True}
            case "model_config":
                told = service.configure_model(name, version)
            case "statistics":
                told = service.count_model(name, version)
            case "region_status":
                regions = service.regions_of(is_local=is_local)
                told = [_show(region) for region in regions.status(name)]
            case _:  # cuda_region_status: there is none, so none is registered
                told = []
        return _Reply(body=_encode(told))

    # ---------------------------------------------------------------- inference

    async def _infer(self, asked: _Asked) -> _Reply | None:
        service, route, headers = self._service, asked.route, asked.headers
        service.find(route.name, route.version)
        head_bytes = _read_head_length(headers.get(_HEAD_LENGTH))
        encoding = read_encoding(headers)
        largest = service.largest_body_bytes
        body = await self._read(asked, largest, head_bytes or 0)
        if not isinstance(body, Body):
            return _turned_away(body)
        held_bytes = len(body)
        try:
            if encoding is not None:
                body = await unpack(body, encoding, largest)
                service.hold(len(body))
                held_bytes += len(body)
            call = Call(
                name=route.name,
                version=route.version,
                size_bytes=len(body),
                timeout_ms=_read_timeout_ms(headers),
                priority=_read_priority(headers),
                is_local=asked.is_local,
            )
            if route.kind == "infer":
                return await _packed(await self._ask(call, body, head_bytes), headers)
            kind = headers.get(b"content-type", b"").decode("latin-1")
            told = await service.predict(call, bytes(body), kind)
            return await _packed(_Reply(body=_encode(told)), headers)
        finally:
            service.release(held_bytes)

    async def _ask(self, call: Call, body: Body, head_bytes: int | None) -> _Reply:
        regions = self._service.regions_for(call)

        def read(installed: Installed, regions: Regions | None) -> InferRequest:
            return decode_request(
                body,
                head_bytes=head_bytes,
                inputs=installed.inputs,
                outputs=installed.outputs,
                regions=regions,
            )

        def write(answer: Answer, request: InferRequest) -> _Written:
            head = name_release(answer.release, answer.blob)
            if request.id is not None:
                head["id"] = request.id
            return write_answer(
                head,
                answer.outputs,
                request.outputs,
                places=request.places,
                regions=regions,
            )

        return _tensors(*await self._service.infer(call, read, write))

    async def _read(
        self, asked: _Asked, largest: int, head_bytes: int
    ) -> Body | Fault | None:
        return await read_body(
            self._service,
            asked.headers,
            asked.receive,
            read_into=asked.read_into,
            largest=largest,
            head_bytes=head_bytes,
        )

    # ----------------------------------------------------------------- commands

    async def _command(self, asked: _Asked) -> _Reply | None:
        body = await self._read(asked, LARGEST_COMMAND_BYTES, 0)
        if not isinstance(body, Body):
            return _turned_away(body)
        self._service.release(len(body))
        service, name = self._service, asked.route.name
        kind = asked.route.kind
        if kind == "index":
            command = _read_command(body, _Command)
            index = service.index()
            if command.is_ready:
                index = [entry for entry in index if entry["state"] == "READY"]
            return _Reply(body=_encode(index))
        if kind == "load":
            await service.load(name, _read_command(body, _Command).parameters)
        elif kind == "unload":
            service.unload(name)
        elif kind == "region_unregister":
            service.regions_of(is_local=asked.is_local).unregister(name)
        elif kind == "region_register":
            size = _read_command(body, _Size)
            service.regions_of(is_local=asked.is_local).register(
                Region(
                    name=name,
                    key=size.key,
                    offset=size.offset,
                    size_bytes=size.size_bytes,
                )
            )
        elif kind == "cuda_region_register":
            raise DataError(
                "CUDA shared memory is not offered", hint="Use system shared memory."
            )
        return _Reply()


@lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local(scope: Scope) -> bool:
    """Whether the other end is on this machine; one of a Unix socket has no name."""
    client = scope.get("client")
    return client is not None and _is_loopback(client[0])


def _read_head_length(given: bytes | None) -> int | None:
    if given is None:
        return None
    if not given.isdigit() or len(given) > 19:
        raise DataError(
            f"Inference-Header-Content-Length is {given[:80]!r}, expected a number",
            hint="It is the length of the JSON before the tensors' bytes.",
        )
    return int(given)


def _read_timeout_ms(headers: Headers) -> float | None:
    given = headers.get(_TIMEOUT)
    if given is None:
        return None
    try:
        return float(given[:80])
    except ValueError:
        return -1.0


def _read_priority(headers: Headers) -> int:
    given = headers.get(_PRIORITY)
    if given is None:
        return 0
    digits = given.removeprefix(b"-")
    if digits.isdigit() and len(digits) < 4 and int(digits) <= _MOST_PRIORITY:
        return int(given)
    raise DataError(
        f"Skerry-Priority is {given[:80]!r}, expected a whole number from "
        f"-{_MOST_PRIORITY} to {_MOST_PRIORITY}",
        hint="0 is usual, higher goes first.",
    )


def _tensors(head: bytes, tail: list[memoryview]) -> _Reply:
    if not tail:
        return _Reply(body=head)
    headers = ((_HEAD_LENGTH, b"%d" % len(head)),)
    kind = b"application/octet-stream"
    if sum(piece.nbytes for piece in tail) <= AT_ONCE_BYTES:
        body = b"".join([head, *tail])
        return _Reply(body=body, content_type=kind, headers=headers)
    return _Reply(body=head, tail=tuple(tail), content_type=kind, headers=headers)


CommandT = TypeVar("CommandT", _Size, _Command)


def _read_command(body: Body, kind: type[CommandT]) -> CommandT:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(
            f"the body cannot be read: {error}",
            hint="Send the JSON object that the protocol says, or nothing.",
        ) from error


def _show(region: Region) -> dict[str, Any]:
    return {
        "name": region.name,
        "key": region.key,
        "offset": region.offset,
        "byte_size": region.size_bytes,
    }


def _failed(error: SkerryError) -> _Reply:
    status, _ = status_of(error)
    if status == 500:
        log.error("serve.failed", extra={"what": error.what, "code": error.code})
    body = _encode({"error": error.what, "code": error.code, "hint": error.hint})
    seconds = retry_after_s(error)
    headers = ((b"retry-after", b"%d" % seconds),) if seconds is not None else ()
    return _Reply(status=status, body=body, headers=headers)


def _refused(
    status: int, what: str, hint: str, *headers: tuple[bytes, bytes]
) -> _Reply:
    body = _encode({"error": what, "code": "UsageError", "hint": hint})
    return _Reply(status=status, body=body, headers=headers)


def _turned_away(fault: Fault | None) -> _Reply | None:
    """The answer to a body that was not taken, whose rest nobody reads."""
    if fault is None:
        return None
    close = (b"connection", b"close")
    return _refused(fault.status, fault.what, fault.hint, close)


async def _packed(reply: _Reply, headers: Headers) -> _Reply:
    encoding = wanted_encoding(headers)
    if encoding is None:
        return reply
    return _Reply(
        status=reply.status,
        body=await pack(b"".join([reply.body, *reply.tail]), encoding),
        content_type=reply.content_type,
        headers=(*reply.headers, (b"content-encoding", encoding)),
    )


async def _send(reply: _Reply, send: Send, *, with_body: bool) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.content_type),
                (b"content-length", b"%d" % reply.size_bytes),
                *reply.headers,
            ],
        }
    )
    if not with_body:
        await send({"type": "http.response.body", "body": b""})
        return
    left = len(reply.tail)
    for piece in (reply.body, *reply.tail):
        body = {"type": "http.response.body", "body": piece, "more_body": left > 0}
        await send(body)
        left -= 1


async def _live(receive: Receive, send: Send) -> None:
    """Answer the server's questions at its start and at its end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
