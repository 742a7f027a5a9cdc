"""Clients of the services: as little of their own as can be, and every answer checked.

A request is bytes that were put together before; a client is a thread with one
connection that it keeps.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer over HTTP; a status of 0 is none.

    Attributes:
        status: Of HTTP.
        head_bytes: How long the JSON before the tensors is, where there are some.
        body: What came.
    """

    status: int = 0
    head_bytes: int = 0
    body: bytes = b""


Check = Callable[[int, Reply], str]
"""Says what is wrong with the answer to a request of some number; empty: nothing."""


class Connection:
    """One connection of HTTP/1.1 that is kept; a lost one is made again.

    Args:
        address: The URL of the service.
        timeout_s: How long an answer may take.
    """

    def __init__(self, address: str, timeout_s: float = 30.0) -> None:
        parts = urlsplit(address)
        self._place = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, request: bytes) -> Reply:
        """Send a request and wait for the answer; any failure is a status of 0."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._place, self._timeout_s)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            return self._read(self._socket)
        except (OSError, ValueError) as error:
            self.close()
            return Reply(body=str(error).encode())

    def _read(self, peer: socket.socket) -> Reply:
        got = bytearray()
        while (end := got.find(_HEAD_END)) < 0:
            piece = peer.recv(_CHUNK_BYTES)
            if not piece:
                raise ConnectionResetError("the service closed the connection")
            got += piece
        lines = bytes(got[:end]).lower().split(b"\r\n")
        fields = dict(line.partition(b":")[::2] for line in lines[1:])
        body = got[end + len(_HEAD_END) :]
        length = int(fields.get(b"content-length", b"0"))
        while len(body) < length:
            piece = peer.recv(length - len(body))
            if not piece:
                raise ConnectionResetError("the service closed the connection")
            body += piece
        if fields.get(b"connection", b"").strip() == b"close":
            self.close()
        return Reply(
            status=int(lines[0].split()[1]),
            head_bytes=int(fields.get(b"inference-header-content-length", b"0")),
            body=bytes(body),
        )


def post(path: str, body: bytes, headers: Sequence[str] = ()) -> bytes:
    """Put a request together."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + _HEAD_END + body


def get(path: str) -> bytes:
    """Put a request without a body together."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of requests.

    Attributes:
        ended_s: When each good answer came, on `time.perf_counter`.
        took_ms: How long each took.
        faults: What was wrong with the others.
    """

    ended_s: list[float] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """How many were asked."""
        return len(self.ended_s) + len(self.faults)

    def note(self, began_s: float, fault: str) -> None:
        """Take in what came of one request; it has just ended."""
        now_s = time.perf_counter()
        if fault:
            self.faults.append(fault)
        else:
            self.ended_s.append(now_s)
            self.took_ms.append((now_s - began_s) * 1000)


def ask_for(
    address: str,
    requests: Sequence[bytes],
    check: Check,
    *,
    clients: int,
    seconds: float,
) -> Tally:
    """Let clients ask, each one request after the other, for some time.

    All of them have ended when this returns.
    """
    tally = Tally()
    until_s = time.perf_counter() + seconds

    def run(place: int) -> None:
        with Connection(address) as connection:
            number = place
            while (began_s := time.perf_counter()) < until_s:
                index = number % len(requests)
                reply = connection.ask(requests[index])
                tally.note(began_s, check(index, reply))
                number += clients

    threads = [
        threading.Thread(target=run, args=(place,), daemon=True)
        for place in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


class Stream:
    """Requests at a steady rate, whatever the answers do, until it is stopped.

    Each is due at its own time; as many clients as are needed send them, so that one
    slow answer holds up no other request.

    Args:
        address: The service.
        requests: What is asked, in turns.
        check: What is wrong with an answer.
        rate_hz: How many a second.
        clients: How many may be under way at once.
    """

    def __init__(
        self,
        address: str,
        requests: Sequence[bytes],
        check: Check,
        *,
        rate_hz: float,
        clients: int = 16,
    ) -> None:
        self.tally = Tally()
        self._address = address
        self._requests = requests
        self._check = check
        self._pause_s = 1 / rate_hz
        self._next = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._began_s = time.perf_counter()
        self._threads = [
            threading.Thread(target=self._run, daemon=True) for _ in range(clients)
        ]

    def __enter__(self) -> Self:
        self._began_s = time.perf_counter()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with Connection(self._address) as connection:
            while True:
                with self._lock:
                    number, self._next = self._next, self._next + 1
                due_s = self._began_s + number * self._pause_s
                if self._stopping.wait(max(0.0, due_s - time.perf_counter())):
                    return
                index = number % len(self._requests)
                began_s = time.perf_counter()
                reply = connection.ask(self._requests[index])
                self.tally.note(began_s, self._check(index, reply))
