"""The gateway's end of a channel: one inference at a time in a worker process."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np

from skerry.core.errors import DataError, LateError, RuntimeFailure, WorkerLostError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.edge.workers import messages
from skerry.edge.workers.frames import (
    LARGEST_FRAME_BYTES,
    Kind,
    Layout,
    read_frame,
    read_size,
    size_bytes,
    views,
    write_frame,
    write_size,
)
from skerry.edge.workers.messages import Loaded
from skerry.edge.workers.segments import Segment

LARGEST_BYTES = 1 << 30
"""The largest sum of inputs, and of outputs, of one inference."""

AT_ONCE_BYTES = 4 << 20
"""The largest inputs, or outputs, that are copied on an event loop."""

_FREE_BYTES = 65_536
"""The first room for tensors whose size the signature leaves open."""


class Channel:
    """One socket and two segments, for one thread at a time.

    What the worker answers is checked before it is used; a worker that answers nonsense
    counts as lost. Both sides remember the last frame of each kind: while shapes stay
    the same, an inference costs two copies, one send and one receive.

    Args:
        loaded: What the model takes and gives.
        limit_s: The longest that one inference may take.

    Attributes:
        theirs: The worker's end, to be sent to it and then closed.
        told: Which event loop's replies are told of what comes on it.

    Raises:
        OSError: There is no memory, or no descriptor, left.
    """

    def __init__(self, loaded: Loaded, *, limit_s: float) -> None:
        self._loaded = loaded
        self._names = [spec.name for spec in loaded.outputs]
        self._dtypes = [np.dtype(spec.dtype) for spec in loaded.inputs]
        with contextlib.ExitStack() as made:
            self._inputs = Segment.create(_first_bytes(loaded.inputs))
            made.callback(self._inputs.close)
            self._outputs = Segment.create(_first_bytes(loaded.outputs))
            made.callback(self._outputs.close)
            self._socket, self.theirs = socket.socketpair(
                socket.AF_UNIX, socket.SOCK_SEQPACKET
            )
            made.pop_all()
        # The kernel's own time limit: one system call an inference less than poll.
        whole_s = int(limit_s)
        limit = struct.pack("@ll", whole_s, int((limit_s - whole_s) * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._shapes: list[tuple[int, ...]] = []
        self._frame = self._reply = b""
        self._into: list[Array] = []
        self._from: list[Array] = []
        self._heard: bytes | None = None
        self.told: object = None

    def descriptors(self) -> list[int]:
        """What the worker needs: its socket, the inputs, the outputs."""
        return [self.theirs.fileno(), self._inputs.fd, self._outputs.fd]

    def fileno(self) -> int:
        """What becomes readable when a reply comes, or the worker goes."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give everything back; in the thread that uses it, or when none does."""
        self._into = self._from = []
        self._socket.close()
        self.theirs.close()
        self._inputs.close()
        self._outputs.close()

    def run(self, inputs: Tensors, *, times: int = 1) -> dict[str, Array]:
        """Run one inference on inputs that fit the loaded, or the same many times.

        Raises:
            WorkerLostError: The worker is gone, or answers nonsense.
            LateError: It did not answer within the limit.
            DataError, RuntimeFailure: As the worker's session said.
        """
        self.start(inputs, times=times)
        return self.finish()

    def start(self, inputs: Tensors, *, times: int = 1) -> None:
        """Copy inputs and have them run, without waiting for the worker.

        Raises:
            WorkerLostError: The worker is gone.
            DataError, RuntimeFailure: There is no room for them.
        """
        arrays = [inputs[spec.name] for spec in self._loaded.inputs]
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes or not self._frame:
            self._lay_out(shapes)
        for view, array in zip(self._into, arrays, strict=True):
            view[...] = array
        if times > 1:
            self._send(write_size(Kind.REPEAT, times))
        self._send(self._frame)

    def hear(self) -> bool | None:
        """Look whether what was started has been answered.

        Returns:
            Whether `finish` takes neither waiting nor long; None: no answer yet.
        """
        try:
            self._heard = self._socket.recv(LARGEST_FRAME_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            self._heard = b""
        if not self._heard or self._heard[0] != Kind.DONE:
            return False
        if self._heard != self._reply:
            try:
                self._learn(self._heard)
            except WorkerLostError:
                return False
        return sum(view.nbytes for view in self._from) <= AT_ONCE_BYTES

    def finish(self) -> dict[str, Array]:
        """Wait for the outputs of what was started, and copy them.

        Raises:
            SkerryError: As `run`.
        """
        reply, self._heard = self._heard, None
        if reply is None:
            reply = self._receive()
        elif not reply:
            _lose("died")
        if reply != self._reply:
            self._learn(reply)
        outputs = [view.copy() for view in self._from]
        return dict(zip(self._names, outputs, strict=True))

    def _lay_out(self, shapes: list[tuple[int, ...]]) -> None:
        """Find a place for inputs of new shapes, in a larger segment if need be."""
        layouts: list[Layout] = list(zip(self._dtypes, shapes, strict=True))
        frame = write_frame(Kind.RUN, layouts)
        needed_bytes = size_bytes(layouts)
        self._frame, self._into = b"", []
        if needed_bytes > self._inputs.size_bytes:
            self._inputs = self._renew(self._inputs, Kind.INPUTS, needed_bytes)
        self._into = views(layouts, self._inputs.memory)
        self._frame, self._shapes = frame, shapes

    def _learn(self, reply: bytes) -> None:
        """Understand a reply that is not the one of last time."""
        with _distrust():
            needed_bytes = read_size(reply) if reply[0] == Kind.LARGER else 0
        if needed_bytes:
            reply = self._fetch(needed_bytes)
        if reply[0] == Kind.FAILED:
            with _distrust():
                failed = messages.failed(reply[1:])
            raise messages.read_error(failed)
        if reply[0] != Kind.DONE:
            _lose(f"answered with a frame of kind {reply[0]}")
        with _distrust():
            layouts = read_frame(
                reply, count=len(self._names), room_bytes=self._outputs.size_bytes
            )
        self._from = views(layouts, self._outputs.memory)
        self._reply = reply

    def _fetch(self, needed_bytes: int) -> bytes:
        if needed_bytes <= self._outputs.size_bytes:
            _lose("asked for room that it has")
        self._reply, self._from = b"", []
        self._outputs = self._renew(self._outputs, Kind.OUTPUTS, needed_bytes)
        self._send(bytes((Kind.FETCH,)))
        return self._receive()

    def _renew(self, old: Segment, kind: Kind, needed_bytes: int) -> Segment:
        if needed_bytes > LARGEST_BYTES:
            error = DataError if kind == Kind.INPUTS else RuntimeFailure
            raise error(
                f"the {kind.name.lower()} take {needed_bytes} bytes, expected at most "
                f"{LARGEST_BYTES}",
                hint="Ask for a smaller batch.",
            )
        # Doubled, so that sizes that grow step by step do not bring one each.
        try:
            new = Segment.create(1 << (needed_bytes - 1).bit_length())
        except OSError as error:
            raise RuntimeFailure(
                f"there is no shared memory of {needed_bytes} bytes: {error.strerror}",
                hint="Ask for a smaller batch.",
            ) from error
        try:
            self._send(bytes((kind,)))
            socket.send_fds(self._socket, [b"."], [new.fd])
        except OSError as error:
            new.close()
            _lose(str(error), error)
        except WorkerLostError:
            new.close()
            raise
        old.close()
        return new

    def _receive(self) -> bytes:
        try:
            reply = self._socket.recv(LARGEST_FRAME_BYTES)
        except BlockingIOError:
            raise LateError(
                "the worker process did not answer in time",
                hint="Ask for less at once, or allow more time.",
            ) from None
        except OSError as error:
            _lose("died", error)
        if not reply:
            _lose("died")
        return reply

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except OSError as error:
            _lose("died", error)


@contextlib.contextmanager
def _distrust() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        _lose(f"answered nonsense: {error}", error)


def _first_bytes(specs: Sequence[TensorSpec]) -> int:
    """Room for tensors of the signature; for those of free sizes, some."""
    known: list[Layout] = []
    free_bytes = 0
    for spec in specs:
        sizes = [size for size in spec.shape if isinstance(size, int)]
        if len(sizes) == len(spec.shape):
            known.append((np.dtype(spec.dtype), tuple(sizes)))
        else:
            free_bytes += _FREE_BYTES
    return min(size_bytes(known) + free_bytes, LARGEST_BYTES)


def _lose(why: str, error: Exception | None = None) -> NoReturn:
    raise WorkerLostError(
        f"the worker process {why}", hint="Ask again: another takes its place."
    ) from error
