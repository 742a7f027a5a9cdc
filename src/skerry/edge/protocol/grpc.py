"""The only door to grpc: the protocol's gRPC service, beside the one over HTTP."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from skerry.core.errors import DataError, MissingExtraError, SkerryError, StateError
from skerry.core.seams import Tensors
from skerry.edge.engine import Answer
from skerry.edge.installed import Installed
from skerry.edge.protocol import grpc_messages as messages
from skerry.edge.protocol.datatypes import DATATYPES, datatype_of, write_tensor
from skerry.edge.protocol.grpc_tensors import encode_infer, read_infer, write_infer
from skerry.edge.protocol.protobuf import (
    Message,
    Values,
    decode_message,
    encode_message,
)
from skerry.edge.protocol.regions import Region, Regions
from skerry.edge.protocol.service import (
    LONGEST_TIMEOUT_MS,
    Call,
    InferenceService,
    read_version,
    retry_after_s,
    status_of,
)
from skerry.edge.protocol.tensors import InferRequest

try:
    import grpc
    from grpc import aio
except ImportError as error:
    raise MissingExtraError("grpcio", extra="grpc") from error

log = logging.getLogger(__name__)

MOST_CALLS = 1024
"""Most calls at once; beyond these one is turned away."""

_STOP_S = 5.0
_LOCAL_PEERS = ("ipv4:127.", "ipv6:[::1]:", "ipv6:%5B::1%5D:", "unix:")
Context = Any
_Answer = Callable[[Values, bool], Awaitable[Values]]


@contextlib.asynccontextmanager
async def serve_grpc(
    service: InferenceService,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    stop_s: float = _STOP_S,
) -> AsyncIterator[str]:
    """Serve over gRPC, without encryption, for as long as the context is open.

    Args:
        service: What answers.
        host: Where to listen; only this machine unless told otherwise.
        port: The port, or 0 for any free one.
        stop_s: How long calls in flight may take once the context is left.

    Yields:
        The address, `HOST:PORT`.

    Raises:
        StateError: The port is in use or not permitted.
    """
    server = aio.server(
        options=(
            ("grpc.max_receive_message_length", service.largest_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ),
        maximum_concurrent_rpcs=MOST_CALLS,
    )
    server.add_generic_rpc_handlers((_Face(service).routes(),))
    shown = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{shown}:{port}")
        await server.start()
    except RuntimeError as error:
        await server.stop(0)
        raise StateError(
            f"{shown}:{port} cannot be listened on",
            hint="Choose another port; 0 is any free one.",
        ) from error
    try:
        yield f"{shown}:{bound}"
    finally:
        await server.stop(stop_s)


class _Face:
    """The service, as gRPC shows it."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    def routes(self) -> Any:
        """Each method by its name."""
        service = self._service
        m = messages
        told: dict[str, tuple[Message, Message, _Answer]] = {
            "ServerLive": (m.EMPTY, m.LIVE, _tell(lambda _: {"live": True})),
            "ServerReady": (
                m.EMPTY,
                m.READY,
                _tell(lambda _: {"ready": service.is_ready}),
            ),
            "ServerMetadata": (
                m.EMPTY,
                m.SERVER,
                _tell(lambda _: service.describe_server()),
            ),
            "ModelReady": (m.NAMED, m.READY, _tell(self._model_ready)),
            "ModelMetadata": (
                m.NAMED,
                m.MODEL,
                _tell(lambda asked: service.describe_model(*_which(asked))),
            ),
            "ModelConfig": (m.NAMED, m.CONFIG, _tell(self._configure)),
            "ModelStatistics": (
                m.NAMED,
                m.STATISTICS,
                _tell(lambda asked: service.count_model(*_which(asked))),
            ),
            "RepositoryIndex": (m.INDEX_REQUEST, m.INDEX, _tell(self._index)),
            "RepositoryModelLoad": (m.LOAD_REQUEST, m.EMPTY, self._load),
            "RepositoryModelUnload": (
                m.LOAD_REQUEST,
                m.EMPTY,
                _tell(lambda asked: service.unload(asked.get("model_name", ""))),
            ),
            "SystemSharedMemoryStatus": (m.NAMED, m.REGIONS, self._regions),
            "SystemSharedMemoryRegister": (m.REGION, m.EMPTY, self._register),
            "SystemSharedMemoryUnregister": (m.NAMED, m.EMPTY, self._unregister),
            # There is no CUDA shared memory here: none is registered, none forgotten.
            "CudaSharedMemoryStatus": (m.NAMED, m.REGIONS, _tell(lambda _: {})),
            "CudaSharedMemoryUnregister": (m.NAMED, m.EMPTY, _tell(lambda _: {})),
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name, *rest))
            for name, rest in told.items()
        }
        methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer)
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream
        )
        return grpc.method_handlers_generic_handler(messages.SERVICE, methods)

    # ---------------------------------------------------------------- inference

    async def _infer(self, content: bytes, context: Context) -> bytes:
        async def answer() -> bytes:
            with self._service.holding(len(content)):
                return encode_infer(await self._ask(content, context))

        return await self._guard(context, answer)

    async def _stream(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        """Answer a stream's requests one after the other; one's fault ends none."""
        await self._check(context)
        async for content in requests:
            try:
                with self._service.holding(len(content)):
                    told: Values = {"infer_response": await self._ask(content, context)}
            except SkerryError as error:
                told = {"error_message": error.what, "infer_response": {}}
            yield encode_message(told, messages.STREAM_RESPONSE)

    async def _ask(self, content: bytes, context: Context) -> Values:
        message = decode_message(content, messages.INFER_REQUEST)
        call = Call(
            name=message.get("model_name", ""),
            version=read_version(message.get("model_version", "")),
            size_bytes=len(content),
            timeout_ms=_timeout_ms(context),
            is_local=_is_local(context),
        )

        def read(installed: Installed, regions: Regions | None) -> InferRequest:
            return read_infer(message, installed, regions)

        def write(answer: Answer, request: InferRequest) -> Values:
            return write_infer(answer, request, self._service.regions_for(call))

        return await self._service.infer(call, read, write)

    # ----------------------------------------------------------------- commands

    def _model_ready(self, asked: Values) -> Values:
        self._service.find(*_which(asked))
        return {"ready": True}

    def _configure(self, asked: Values) -> Values:
        config = self._service.configure_model(*_which(asked))
        for tensor in (*config["input"], *config["output"]):
            kind = tensor["data_type"].removeprefix("TYPE_")
            tensor["type"] = messages.TYPE_NUMBERS.get(kind, 0)
        return {"config": config}

    def _index(self, asked: Values) -> Values:
        index = self._service.index()
        only = {"READY"} if asked.get("ready") else {"READY", "UNAVAILABLE"}
        return {"models": [entry for entry in index if entry["state"] in only]}

    async def _load(self, asked: Values, is_local: bool) -> Values:  # noqa: FBT001
        del is_local
        name, parameters = asked.get("model_name", ""), asked.get("parameters", {})
        await self._service.load(name, parameters)
        return {}

    async def _regions(self, asked: Values, is_local: bool) -> Values:  # noqa: FBT001
        regions = self._service.regions_of(is_local=is_local)
        return {
            "regions": {
                region.name: {
                    "name": region.name,
                    "key": region.key,
                    "offset": region.offset,
                    "byte_size": region.size_bytes,
                }
                for region in regions.status(asked.get("name", ""))
            }
        }

    async def _register(self, asked: Values, is_local: bool) -> Values:  # noqa: FBT001
        region = Region(
            name=asked.get("name", ""),
            key=asked.get("key", ""),
            offset=asked.get("offset", 0),
            size_bytes=asked.get("byte_size", 0),
        )
        self._service.regions_of(is_local=is_local).register(region)
        return {}

    async def _unregister(
        self,
        asked: Values,
        is_local: bool,  # noqa: FBT001
    ) -> Values:
        regions = self._service.regions_of(is_local=is_local)
        regions.unregister(asked.get("name", ""))
        return {}

    # ---------------------------------------------------------------- transport

    def _unary(
        self, name: str, request: Message, response: Message, answer: _Answer
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def unary(content: bytes, context: Context) -> bytes:
            async def reply() -> bytes:
                asked = decode_message(content, request)
                told = await answer(asked, _is_local(context))
                return encode_message(told, response)

            return await self._guard(context, reply, is_open=name == "ServerLive")

        return unary

    async def _guard(
        self,
        context: Context,
        answer: Callable[[], Awaitable[bytes]],
        *,
        is_open: bool = False,
    ) -> bytes:
        """Answer, or end the call with the error's status."""
        if not is_open:
            await self._check(context)
        try:
            return await answer()
        except SkerryError as error:
            _, code = status_of(error)
            if code == "INTERNAL":
                what = {"what": error.what, "code": error.code}
                log.error("serve.failed", extra=what)  # noqa: TRY400 (no fault of ours)
            told = [("skerry-code", error.code)]
            seconds = retry_after_s(error)
            if seconds is not None:
                told.append(("retry-after", str(seconds)))
            await context.abort(grpc.StatusCode[code], error.what, tuple(told))
        except Exception:
            log.exception("serve.failed")
            await context.abort(grpc.StatusCode.INTERNAL, "the gateway failed")
        raise DataError("the call has ended", hint="Ask again.")  # abort never returns

    async def _check(self, context: Context) -> None:
        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        given = shown if isinstance(shown, bytes) else shown.encode()
        if not self._service.may_pass(given):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "the bearer token is missing or wrong",
            )


class GrpcClient:
    """Sends requests that are written already, to see what becomes of them.

    Args:
        address: `HOST:PORT`.
        token: What to show, or None.
    """

    def __init__(self, address: str, *, token: str | None = None) -> None:
        self._channel = aio.insecure_channel(address)
        self._infer = self._channel.unary_unary(f"/{messages.SERVICE}/ModelInfer")
        self._metadata = (
            () if token is None else (("authorization", f"Bearer {token}"),)
        )

    async def ask(self, request: bytes, *, timeout_s: float) -> str:
        """Send one request.

        Returns:
            The kind of failure in one word; nothing where it was answered.
        """
        try:
            await self._infer(request, timeout=timeout_s, metadata=self._metadata)
        except aio.AioRpcError as error:
            told = dict(error.trailing_metadata() or ())
            code = told.get("skerry-code") or error.code().name
            return code.decode() if isinstance(code, bytes) else str(code)
        return ""

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()


def write_request(name: str, inputs: Tensors, *, timeout_ms: float) -> bytes:
    """Write a `ModelInferRequest` with tensors as raw bytes.

    Raises:
        DataError: An array is of a type that is not carried.
    """
    for key, array in inputs.items():
        if array.dtype.name not in DATATYPES:
            raise DataError(
                f"input {key!r} is {array.dtype}, which is not carried",
                hint=f"Carried are {', '.join(DATATYPES)}.",
            )
    values = {
        "model_name": name,
        "parameters": {"timeout_ms": {"double_param": timeout_ms}},
        "inputs": [
            {
                "name": key,
                "datatype": datatype_of(array.dtype),
                "shape": array.shape,
            }
            for key, array in inputs.items()
        ],
        "raw_input_contents": [bytes(write_tensor(each)) for each in inputs.values()],
    }
    return encode_message(values, messages.INFER_REQUEST)


def _tell(answer: Callable[[Values], Values | None]) -> _Answer:
    """Make a method of what answers at once, whoever asks."""

    async def told(asked: Values, is_local: bool) -> Values:  # noqa: FBT001
        del is_local
        return answer(asked) or {}

    return told


def _which(asked: Values) -> tuple[str, int | None]:
    return asked.get("name", ""), read_version(asked.get("version", ""))


def _is_local(context: Context) -> bool:
    return str(context.peer()).startswith(_LOCAL_PEERS)


def _timeout_ms(context: Context) -> float | None:
    """What is left until the client gives up, or None where it never does."""
    left_s = context.time_remaining()
    if left_s is None:
        return None
    return float(min(max(left_s * 1000, 0.001), LONGEST_TIMEOUT_MS))
