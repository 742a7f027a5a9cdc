"""Ask a server by the Open Inference Protocol, version 2, over one kept connection.

Tensors go and come as raw bytes after a JSON header (the protocol's "Binary tensor data
extension"); a server that answers with JSON tensors is understood, too.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np

from skerry.core import errors
from skerry.core.errors import (
    DataError,
    LinkError,
    ModelError,
    SkerryError,
    StateError,
    UsageError,
)
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.edge.protocol.datatypes import (
    DATATYPES,
    datatype_of,
    read_tensor,
    write_tensor,
)

LARGEST_HEAD_BYTES = 64 << 10
LARGEST_ANSWER_BYTES = 1 << 28
MOST_ELEMENTS = 1 << 28
TIMEOUT_S = 30.0
SHOWN = 200
"""Most characters that an error shows of what a server wrote."""

_DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
_NOT_OURS = "Is it a server of the Open Inference Protocol, such as skerry serve?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back.

    Attributes:
        status: Of HTTP.
        headers: By name, in lower case.
        body: All of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model, as its server tells of it.

    Attributes:
        name: Its name.
        inputs: What it takes; None stands for a size that is left open.
        outputs: What it gives.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, written before it is timed."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """A kept HTTP/1.1 connection, opened with the first request; one at a time.

    Args:
        url: Of the server's root, `http://…` or `https://…`.
        token: What to show it, or None.
        largest_answer_bytes: Most bytes of an answer.

    Raises:
        UsageError: The URL is none.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        largest_answer_bytes: int = LARGEST_ANSWER_BYTES,
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _no_url(url) from error
        if parts.scheme not in {"http", "https"} or not host:
            raise _no_url(url)
        is_safe = parts.scheme == "https"
        usual = 443 if is_safe else 80
        self.host, self.port = host, port or usual
        self._shown = f"[{host}]" if ":" in host else host
        if self.port != usual:  # RFC 9110, section 7.2
            self._shown += f":{self.port}"
        self._ssl = ssl.create_default_context() if is_safe else None
        self._root = parts.path.rstrip("/")
        self._token = token
        self._largest_answer_bytes = largest_answer_bytes
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, request: Request, *, method: str = "POST", timeout_s: float = TIMEOUT_S
    ) -> Reply:
        """Send one request and read its answer, whatever its status.

        Raises:
            LinkError: No connection, or no answer in time.
            DataError: The answer is none of HTTP's, or too large.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, request)
        except (
            OSError,  # ssl.SSLError and TimeoutError are such
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
        ) as error:
            self.close()
            said = "it closed the connection"
            if isinstance(error, OSError):
                said = str(error) or f"nothing within {timeout_s:g} s"
            raise LinkError(
                f"no answer from {self.host}:{self.port}: {said}",
                hint="Is the server running?",
            ) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, method: str, request: Request) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                self.host, self.port, ssl=self._ssl, limit=LARGEST_HEAD_BYTES
            )
        reader, writer = self._streams
        headers = {
            "Host": self._shown,
            "Content-Length": str(len(request.body)),
            **request.headers,
        }
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        head = f"{method} {self._root}{request.path} HTTP/1.1\r\n{lines}\r\n"
        writer.write(head.encode("latin-1", "replace") + request.body)
        await writer.drain()
        status, told = read_head(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(
            _length(told, largest_bytes=self._largest_answer_bytes)
        )
        if told.get("connection", "").lower() == "close":
            self.close()
        return Reply(status=status, headers=told, body=body)


def read_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Read the status and the headers of an HTTP answer.

    Raises:
        DataError: It is not one.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    is_http = len(words) > 1 and words[0].startswith("HTTP/1.")
    if not is_http or not (words[1].isascii() and words[1].isdigit()):
        raise DataError(f"{first[:SHOWN]!r} is no HTTP answer", hint=_NOT_OURS)
    pairs = (line.partition(":") for line in lines if ":" in line)
    return int(words[1][:3]), {
        name.strip().lower(): value.strip() for name, _, value in pairs
    }


def error_of(reply: Reply) -> SkerryError:
    """The error of the tree that an answer of another status than 200 tells of."""
    who = f"the server answered with status {reply.status}"
    return error_of_words(reply.body, who=who, is_ours=400 <= reply.status < 500)


def error_of_words(content: bytes, *, who: str, is_ours: bool = False) -> SkerryError:
    """The error of the tree that some JSON tells of.

    Args:
        content: `{"error", "code", "hint"}` as a server writes it, or `{"error":
            {"code", "what", "hint"}}` as a command does.
        who: Who says it, for what is no such JSON.
        is_ours: Whether it is then the request that is wrong.
    """
    fields = _object(content)
    if isinstance(fields.get("error"), dict):
        fields = {**fields["error"], "error": fields["error"].get("what")}
    what, code, hint = (str(fields.get(key) or "") for key in ("error", "code", "hint"))
    kind: object = getattr(errors, code, None)
    if isinstance(kind, type) and issubclass(
        kind, UsageError | ModelError | StateError
    ):
        return kind(what, hint=hint)
    what = f"{who}: {what or content[:SHOWN].decode('utf-8', 'replace')}"
    found = UsageError if is_ours else StateError
    return found(what, hint=hint or _NOT_OURS)


def failure_of(reply: Reply) -> str:
    """One word for an answer of another status than 200: the kind of its error."""
    code = _object(reply.body).get("code")
    return code if isinstance(code, str) and code else f"status {reply.status}"


def _object(content: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


async def ask_json(
    connection: Connection, path: str, *, method: str = "GET"
) -> dict[str, Any] | list[Any]:
    """Ask for something that is told in JSON.

    Raises:
        SkerryError: What the server refused with.
        LinkError: There is no answer.
        DataError: The answer is no JSON.
    """
    reply = await connection.ask(
        Request(path=path, headers={}, body=b""), method=method
    )
    if reply.status != 200:
        raise error_of(reply)
    try:
        told = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _nonsense(f"{path} was answered with no JSON: {error}") from error
    if not isinstance(told, dict | list):
        raise _nonsense(f"{path} was answered with {str(told)[:SHOWN]!r}")
    return told


async def choose_model(connection: Connection, name: str = "") -> str:
    """The model that is to be asked: as named, or the only one that serves.

    Raises:
        UsageError: Several serve, or none.
        The errors of `ask_json`.
    """
    if name:
        return name
    told = await ask_json(connection, "/v2/repository/index", method="POST")
    if not isinstance(told, list):
        raise _nonsense("the index of models is no list")
    names = sorted(
        {
            str(each.get("name"))
            for each in told
            if isinstance(each, dict) and each.get("state") == "READY"
        }
    )
    if len(names) != 1:
        raise UsageError(
            f"{len(names)} models are served there",
            hint=f"Name one: --model {' or '.join(names[:8]) or 'NAME'}",
        )
    return names[0]


async def describe_model(
    connection: Connection, name: str, version: int | None = None
) -> Described:
    """Ask what a model takes and gives.

    Raises:
        The errors of `ask_json`.
    """
    told = await ask_json(connection, model_path(name, version))
    if not isinstance(told, dict):
        raise _nonsense(f"the metadata of {name!r} is no object")
    return Described(
        name=name,
        inputs=read_specs(told.get("inputs")),
        outputs=read_specs(told.get("outputs")),
    )


def model_path(name: str, version: int | None = None, verb: str = "") -> str:
    """The path of a model, or of what is asked of it."""
    parts = ["/v2/models", quote(name, safe="")]
    parts += ["versions", str(version)] if version is not None else []
    return "/".join([*parts, verb] if verb else parts)


def infer_request(
    name: str,
    inputs: Tensors,
    *,
    version: int | None = None,
    timeout_ms: float | None = None,
) -> Request:
    """Write a request with tensors as bytes.

    Raises:
        DataError: An array is of a type that is not carried.
    """
    described, contents = [], []
    for key, array in inputs.items():
        if array.dtype.name not in DATATYPES:
            raise DataError(
                f"the input {key!r} is {array.dtype}, which is not carried",
                hint=f"Carried are {', '.join(DATATYPES)}.",
            )
        content = bytes(write_tensor(array))
        contents.append(content)
        described.append(
            {
                "name": key,
                "shape": array.shape,
                "datatype": datatype_of(array.dtype),
                "parameters": {"binary_data_size": len(content)},
            }
        )
    parameters: dict[str, Any] = {"binary_data_output": True}
    if timeout_ms is not None:
        parameters["timeout_ms"] = timeout_ms
    header = msgspec.json.encode({"inputs": described, "parameters": parameters})
    return Request(
        path=model_path(name, version, "infer"),
        headers={
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(header)),
        },
        body=b"".join([header, *contents]),
    )


def predict_request(
    name: str,
    content: bytes,
    media_type: str,
    *,
    version: int | None = None,
    timeout_ms: float | None = None,
) -> Request:
    """Write a request with a picture, a recording or a window."""
    headers = {"Content-Type": media_type}
    if timeout_ms is not None:
        headers["Skerry-Timeout-Ms"] = f"{timeout_ms:g}"
    path = model_path(name, version, "predict")
    return Request(path=path, headers=headers, body=content)


def read_outputs(reply: Reply) -> tuple[str, dict[str, Array]]:
    """Read the answer to tensors: which release gave it, and what.

    Raises:
        DataError: It is none of the protocol.
    """
    length = reply.headers.get("inference-header-content-length", str(len(reply.body)))
    size = int(length) if length.isascii() and length.isdigit() else 0
    try:
        told = msgspec.json.decode(reply.body[:size])
        parameters = told.get("parameters") or {}
        who = f"{told.get('model_name')}/{told.get('model_version')}"
        release = str(parameters.get("release") or who)
        outputs, at = {}, size
        for tensor in told["outputs"]:
            array, at = _read_output(tensor, reply.body, at)
            outputs[str(tensor["name"])] = array
    except (
        msgspec.DecodeError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise _nonsense(f"the answer cannot be read: {error!r:.200}") from error
    return release, outputs


def _read_output(tensor: Mapping[str, Any], body: bytes, at: int) -> tuple[Array, int]:
    datatype, shape = str(tensor["datatype"]), [int(n) for n in tensor["shape"]]
    dtype = np.dtype(_DTYPES[datatype])
    told = (tensor.get("parameters") or {}).get("binary_data_size")
    if told is None:
        return np.array(tensor["data"], dtype).reshape(shape), at
    end = at + int(told)
    if min([0, *shape]) < 0 or not at <= end <= len(body):
        raise _nonsense(f"the output {str(tensor['name'])[:SHOWN]!r} is cut off")
    piece = memoryview(body)[at:end]
    return read_tensor(piece, dtype, shape, name=str(tensor["name"])), end


def read_specs(told: object) -> tuple[TensorSpec, ...]:
    """Read the inputs or outputs of metadata.

    Raises:
        DataError: They are none.
    """
    specs = []
    try:
        for each in told if isinstance(told, list) else []:
            sizes = [int(size) for size in each["shape"]]
            specs.append(
                TensorSpec(
                    name=str(each["name"]),
                    dtype=_DTYPES.get(str(each["datatype"]), str(each["datatype"])),
                    shape=tuple(size if size >= 0 else None for size in sizes),
                )
            )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _nonsense(f"the metadata cannot be read: {error!r:.200}") from error
    if not specs or any(_elements(spec) > MOST_ELEMENTS for spec in specs):
        raise _nonsense("the metadata names no tensors, or absurd ones")
    return tuple(specs)


def _elements(spec: TensorSpec) -> int:
    return math.prod(size for size in spec.shape if isinstance(size, int))


def _length(headers: Mapping[str, str], *, largest_bytes: int) -> int:
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise _nonsense(f"the answer has a content-length of {text[:SHOWN]!r}")
    if int(text) > largest_bytes:
        raise _nonsense(f"the answer has {int(text)} bytes")
    return int(text)


def _nonsense(what: str) -> DataError:
    return DataError(what, hint=_NOT_OURS)


def _no_url(url: str) -> UsageError:
    return UsageError(
        f"{url[:SHOWN]!r} is no URL of a server", hint="Write http://HOST:PORT"
    )
