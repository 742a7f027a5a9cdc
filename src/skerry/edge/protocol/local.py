"""The service for programs on this machine: a Unix socket and memory that is shared.

A request costs a few microseconds for its packet, and nothing for its tensors: the
model reads them where the client has written them. Only programs of the same user can
connect (the socket's file has mode 0600, and the other end is asked who it is), so no
token is asked for. Each connection has one slot and one request at a time.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import logging
import mmap
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from skerry.core.errors import DataError, SkerryError, StateError, UsageError
from skerry.edge.engine import Answer
from skerry.edge.installed import Installed
from skerry.edge.protocol.packets import (
    LARGEST_PACKET_BYTES,
    PROTOCOL,
    Hello,
    Refusal,
    Welcome,
)
from skerry.edge.protocol.regions import Regions
from skerry.edge.protocol.service import (
    Call,
    InferenceService,
    name_release,
    read_version,
)
from skerry.edge.protocol.tensors import InferRequest, decode_request, write_answer

log = logging.getLogger(__name__)

MOST_CLIENTS = 64
"""Most connections at once; a further one is closed."""

_LONGEST_PATH = 107
_CREDENTIALS = struct.Struct("3i")
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_HELLO_S = 5.0
_read_hello = msgspec.json.Decoder(Hello).decode
_encode = msgspec.json.Encoder().encode


class _Which(msgspec.Struct, frozen=True):
    model_name: str
    model_version: str = ""
    priority: int = 0


_read_which = msgspec.json.Decoder(_Which).decode


@contextlib.asynccontextmanager
async def serve_local(
    service: InferenceService, path: Path, *, most_clients: int = MOST_CLIENTS
) -> AsyncIterator[Path]:
    """Serve programs of this user for as long as the context is open.

    Args:
        service: What answers.
        path: The socket's file; one that nobody listens at any more is replaced.
        most_clients: Most connections at once.

    Yields:
        The socket's file.

    Raises:
        UsageError: The path is too long, or something else lies there.
        StateError: Another service listens there, or it is not permitted.
    """
    listener = _listen(path)
    door = _Door(service, listener, most_clients)
    try:
        yield path
    finally:
        door.close()
        _remove(path)


class _Door:
    """Takes connections."""

    def __init__(
        self, service: InferenceService, listener: socket.socket, most_clients: int
    ) -> None:
        self._service = service
        self._listener = listener
        self._most_clients = most_clients
        self._clients: set[_Client] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Take no more, and close those that there are."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for client in tuple(self._clients):
            client.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the client has gone again, or there are no descriptors left
            return
        if len(self._clients) >= self._most_clients or not _is_own(connection):
            connection.close()
            return
        connection.settimeout(0)
        self._clients.add(_Client(self._service, connection, self._clients))


class _Client:
    """One connection and its slot."""

    def __init__(
        self,
        service: InferenceService,
        connection: socket.socket,
        clients: set[_Client],
    ) -> None:
        self._service = service
        self._connection = connection
        self._clients = clients
        self._slot: memoryview | None = None
        self._answering: Coroutine[Any, Any, None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection, self._receive)
        self._patience = self._loop.call_later(_HELLO_S, self.close)

    def close(self) -> None:
        """End the connection; memory goes with the last tensor that views it."""
        self._patience.cancel()
        if self in self._clients:
            self._clients.discard(self)
            self._loop.remove_reader(self._connection)
            self._connection.close()
            self._slot = None

    def _receive(self) -> None:
        try:
            packet = self._connection.recv(LARGEST_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet or self._answering is not None:
            self.close()
        elif self._slot is None:
            self._greet(packet)
        else:
            self._answering = self._answer(packet, self._slot)
            self._go_on()

    def _go_on(self, _: object = None) -> None:
        """Run what answers until it waits again.

        A task would do the same, but begin one round of the event loop later: of so
        short a request that is a fifth.
        """
        if self._answering is None:
            return
        try:
            awaited = self._answering.send(None)
        except StopIteration:
            self._answering = None
        else:
            awaited.add_done_callback(self._go_on)

    def _greet(self, packet: bytes) -> None:
        try:
            hello = _read_hello(packet)
            size_bytes = hello.slot_bytes
            largest = self._service.largest_body_bytes
            if hello.protocol != PROTOCOL or not 0 < size_bytes <= largest:
                raise DataError(
                    f"a slot of {size_bytes} bytes and protocol {hello.protocol} are "
                    f"asked for, expected at most {largest} bytes and {PROTOCOL}",
                    hint="Ask for less, or use the client of the service's version.",
                )
            descriptor = _make_slot(size_bytes)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._send(_refuse(DataError(f"no hello: {error}", hint="Say hello.")))
            return
        except SkerryError as error:
            self._send(_refuse(error))
            return
        try:
            self._slot = memoryview(mmap.mmap(descriptor, size_bytes))
            rights = array.array("i", [descriptor])
            welcome = _encode(Welcome(slot_bytes=size_bytes))
            self._connection.sendmsg(
                [welcome], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            )
            self._patience.cancel()
        except OSError:
            self.close()
        finally:
            os.close(descriptor)

    async def _answer(self, packet: bytes, slot: memoryview) -> None:
        try:
            told = await self._infer(packet, slot)
        except SkerryError as error:
            told = _refuse(error)
        except Exception:
            log.exception("local.failed")
            failure = StateError("the service failed", hint="Its log says why.")
            told = _refuse(failure)
        self._send(told)

    async def _infer(self, packet: bytes, slot: memoryview) -> bytes:
        try:
            which = _read_which(packet)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise DataError(
                f"the packet is not a request: {error}", hint="Name a model."
            ) from error
        call = Call(
            name=which.model_name,
            version=read_version(which.model_version),
            size_bytes=len(packet),
            priority=which.priority,
            is_local=True,
        )

        def read(installed: Installed, regions: Regions | None) -> InferRequest:
            return decode_request(
                packet,
                head_bytes=None,
                inputs=installed.inputs,
                outputs=installed.outputs,
                regions=regions,
                tail=slot,
            )

        def write(answer: Answer, request: InferRequest) -> bytes:
            head = name_release(answer.release, answer.blob)
            asked = dict.fromkeys(request.outputs, True)
            told, tail = write_answer(head, answer.outputs, asked)
            _fill(slot, tail)
            if len(told) > LARGEST_PACKET_BYTES:
                raise DataError(
                    f"the answer's JSON has {len(told)} bytes, expected at most "
                    f"{LARGEST_PACKET_BYTES}",
                    hint="Ask for fewer outputs.",
                )
            return told

        return await self._service.infer(call, read, write)

    def _send(self, packet: bytes) -> None:
        if self not in self._clients:
            return
        try:
            self._connection.send(packet)
        except OSError:  # it has gone, or does not read its answers
            self.close()


def _fill(slot: memoryview, pieces: list[memoryview]) -> None:
    size_bytes = sum(piece.nbytes for piece in pieces)
    if size_bytes > len(slot):
        raise DataError(
            f"the outputs have {size_bytes} bytes, the slot has {len(slot)}",
            hint="Connect with a larger slot.",
        )
    at = 0
    for piece in pieces:
        slot[at : at + piece.nbytes] = piece
        at += piece.nbytes


def _refuse(error: SkerryError) -> bytes:
    return _encode(Refusal(error=error.what, code=error.code, hint=error.hint))


def _make_slot(size_bytes: int) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        descriptor = os.memfd_create("skerry-slot", flags)
    except OSError as error:
        raise StateError(
            f"no slot can be made: {error.strerror}", hint="Ask again later."
        ) from error
    os.ftruncate(descriptor, size_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def _is_own(connection: socket.socket) -> bool:
    """Whether the program at the other end is of this user (SO_PEERCRED, unix(7))."""
    told = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _, user, _ = _CREDENTIALS.unpack(told)
    return bool(user == os.geteuid())


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UsageError(
            f"{path} has more than {_LONGEST_PATH} bytes, too many for a socket",
            hint="Choose a shorter path.",
        )
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        _make_way(path)
        listener.bind(str(path))
        path.chmod(0o600)  # nobody can connect before it listens
        listener.listen(MOST_CLIENTS)
    except OSError as error:
        listener.close()
        raise StateError(
            f"{path} cannot be listened at: {error.strerror or error}",
            hint="Choose another path.",
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _make_way(path: Path) -> None:
    """Remove a socket that nobody listens at any more."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(
                f"{path} is there and is no socket", hint="Choose another path."
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as trial:
        try:
            trial.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise StateError(
        f"another service listens at {path}", hint="Stop it, or choose another path."
    )
