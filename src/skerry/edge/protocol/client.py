"""A client for programs on the gateway itself: a Unix socket and shared memory."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from skerry.core import errors
from skerry.core.errors import DataError, LinkError, SkerryError, StateError
from skerry.core.seams import Array, Tensors
from skerry.edge.protocol.datatypes import (
    DATATYPES,
    datatype_of,
    read_tensor,
    write_tensor,
)
from skerry.edge.protocol.packets import (
    LARGEST_PACKET_BYTES,
    PROTOCOL,
    Hello,
    Refusal,
)

SLOT_BYTES = 4 << 20
"""How much memory is shared, unless told otherwise: of a request, or of an answer."""

_GRACE_S = 1.0
_DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}
_encode = msgspec.json.Encoder().encode


class _Parameters(msgspec.Struct, frozen=True):
    release: str = ""
    blob: str = ""
    size_bytes: int = msgspec.field(default=0, name="binary_data_size")


class _Output(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters = _Parameters()


class _Told(msgspec.Struct, frozen=True):
    outputs: list[_Output] = []
    parameters: _Parameters = _Parameters()
    error: str = ""
    code: str = ""
    hint: str = ""


_read_told = msgspec.json.Decoder(_Told).decode


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalAnswer:
    """What a release answered.

    Attributes:
        release: Which one, `NAME/VERSION`.
        blob: The SHA-256 of its model file.
        outputs: One array an output, by name; the caller's own.
    """

    release: str
    blob: str
    outputs: dict[str, Array]


class LocalClient:
    """Asks a service on this machine; one request at a time, from one thread at once.

    Args:
        path: The service's socket.
        slot_bytes: How much memory to share: the largest request or answer.
        timeout_s: How long the service may take for an answer that has no deadline.

    Raises:
        LinkError: Nobody listens there, or it did not answer.
        DataError: The slot is larger than the service gives.

    Example:
        ```python
        with LocalClient(Path("skerry-gateway/local.sock")) as client:
            answer = client.infer("meter", {"x": picture}, timeout_s=0.5)
        print(answer.release, answer.outputs["y"])
        ```
    """

    def __init__(
        self, path: Path, *, slot_bytes: int = SLOT_BYTES, timeout_s: float = 10.0
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._slot: memoryview | None = None
        try:
            self._socket.settimeout(timeout_s)
            self._socket.connect(str(path))
            self._slot = self._greet(slot_bytes)
        except OSError as error:
            self.close()
            raise self._lost(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
        self._slot = None

    def infer(
        self,
        name: str,
        inputs: Tensors,
        *,
        version: int | None = None,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> LocalAnswer:
        """Run one inference.

        Args:
            name: The release's name.
            inputs: One array an input, of its dtype and a shape that it accepts.
            version: One that is loaded; None: whichever the routing says.
            outputs: Which to answer with; none names all of them.
            timeout_s: After how long the answer is of no more use.
            priority: Higher goes first.

        Raises:
            SkerryError: What the service raised: see `InferenceService.infer`.
            DataError: The inputs do not fit into the slot.
            LinkError: The service has gone; the connection is closed.
        """
        slot = self._slot
        if slot is None:
            raise LinkError(
                f"the connection to {self._path} is closed", hint="Connect again."
            )
        asked: dict[str, Any] = {
            "model_name": name,
            "model_version": "" if version is None else str(version),
            "priority": priority,
            "inputs": _put(inputs, slot),
        }
        if outputs:
            asked["outputs"] = [{"name": each} for each in outputs]
        if timeout_s is not None:
            asked["parameters"] = {"timeout_ms": timeout_s * 1000}
        told = _read_told(self._exchange(_encode(asked), timeout_s))
        if told.error:
            raise _error_of(told.error, told.code, told.hint)
        return LocalAnswer(
            release=told.parameters.release,
            blob=told.parameters.blob,
            outputs=_take(told.outputs, slot),
        )

    def _exchange(self, packet: bytes, timeout_s: float | None) -> bytes:
        if len(packet) > LARGEST_PACKET_BYTES:
            raise DataError(
                f"the request's JSON has {len(packet)} bytes, expected at most "
                f"{LARGEST_PACKET_BYTES}",
                hint="Use shorter names.",
            )
        wait_s = self._timeout_s if timeout_s is None else max(timeout_s, 0) + _GRACE_S
        try:
            self._socket.settimeout(wait_s)
            self._socket.send(packet)
            told = self._socket.recv(LARGEST_PACKET_BYTES)
        except OSError as error:
            self.close()  # an answer that comes later would be taken for the next
            raise self._lost(error) from error
        if not told:
            self.close()
            raise self._lost(ConnectionResetError("the service has gone"))
        return told

    def _greet(self, slot_bytes: int) -> memoryview:
        self._socket.send(_encode(Hello(protocol=PROTOCOL, slot_bytes=slot_bytes)))
        told, descriptors, _, _ = socket.recv_fds(
            self._socket, LARGEST_PACKET_BYTES, maxfds=1
        )
        if not told:
            raise ConnectionResetError("the service takes no more clients")
        if not descriptors:
            refusal = msgspec.json.decode(told, type=Refusal)
            raise _error_of(refusal.error, refusal.code, refusal.hint)
        try:
            return memoryview(mmap.mmap(descriptors[0], slot_bytes))
        finally:
            os.close(descriptors[0])

    def _lost(self, error: OSError) -> LinkError:
        return LinkError(
            f"the service at {self._path} does not answer: {error.strerror or error}",
            hint="Is it running, as the same user?",
        )


def _put(inputs: Tensors, slot: memoryview) -> list[Mapping[str, Any]]:
    """Write the inputs into the slot, one after the other, and describe them."""
    described: list[Mapping[str, Any]] = []
    at = 0
    for name, array in inputs.items():
        if array.dtype.name not in DATATYPES:
            raise DataError(
                f"input {name!r} is {array.dtype}, which is not carried",
                hint=f"Carried are {', '.join(DATATYPES)}.",
            )
        content = write_tensor(array)
        end = at + content.nbytes
        if end > len(slot):
            raise DataError(
                f"the inputs have more than {len(slot)} bytes, the slot's",
                hint="Connect with a larger slot_bytes.",
            )
        slot[at:end] = content
        described.append(
            {
                "name": name,
                "datatype": datatype_of(array.dtype),
                "shape": array.shape,
                "parameters": {"binary_data_size": content.nbytes},
            }
        )
        at = end
    return described


def _take(described: Sequence[_Output], slot: memoryview) -> dict[str, Array]:
    """Read the outputs from the slot; they are copied, for it is used again."""
    outputs: dict[str, Array] = {}
    at = 0
    for each in described:
        end = at + each.parameters.size_bytes
        dtype = np.dtype(_DTYPES[each.datatype])
        view = read_tensor(slot[at:end], dtype, each.shape, name=each.name)
        outputs[each.name] = view.copy()
        at = end
    return outputs


def _error_of(what: str, code: str, hint: str) -> SkerryError:
    """The error of the tree that the service named."""
    kind = getattr(errors, code, StateError)
    if kind is errors.MissingExtraError or not (
        isinstance(kind, type) and issubclass(kind, SkerryError)
    ):
        kind = StateError
    return kind(what, hint=hint)
