"""The worker's end of a channel: take inputs, run them, lay out the outputs."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from skerry.core.errors import RuntimeFailure
from skerry.core.seams import Array, Session
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
from skerry.edge.workers.segments import Segment

log = logging.getLogger(__name__)


class Serving:
    """Answers what comes over one channel, until it is closed.

    Args:
        session: The model.
        peer: The channel's socket.
        inputs: The segment that inputs lie in.
        outputs: The segment that outputs are put into.
        title: What the model is called in messages.
    """

    def __init__(
        self,
        session: Session,
        peer: socket.socket,
        inputs: Segment,
        outputs: Segment,
        *,
        title: str,
    ) -> None:
        self._session = session
        self._peer = peer
        self._inputs = inputs
        self._outputs = outputs
        self._title = title
        self._times = 1
        self._names = [spec.name for spec in session.outputs]
        self._frame = self._reply = b""
        self._arrays: dict[str, Array] = {}
        self._layouts: list[Layout] = []
        self._into: list[Array] = []
        self._results: list[Array] = []

    def run(self) -> None:
        """Answer until the other side closes the channel, or breaks the rules."""
        with suppress(ConnectionError):
            while frame := self._peer.recv(LARGEST_FRAME_BYTES):
                reply = self._answer(frame)
                if reply:
                    self._peer.send(reply)

    def _answer(self, frame: bytes) -> bytes:
        if frame[0] == Kind.INPUTS:
            self._frame, self._arrays = b"", {}
            self._inputs = self._renew(self._inputs)
            return b""
        if frame[0] == Kind.OUTPUTS:
            self._layouts, self._into = [], []
            self._outputs = self._renew(self._outputs)
            return b""
        if frame[0] == Kind.REPEAT:
            return self._guard(self._note, frame)
        return self._guard(
            self._fetch if frame[0] == Kind.FETCH else self._infer, frame
        )

    def _note(self, frame: bytes) -> bytes:
        """How often to run what comes next."""
        self._times = read_size(frame)
        return b""

    def _guard(self, step: Callable[[bytes], bytes], frame: bytes) -> bytes:
        try:
            return step(frame)
        except Exception as error:
            self._results = []
            failed = messages.write_error(error, f"{self._title} cannot be run")
            if failed.what.startswith(f"{self._title} cannot be run: "):
                log.exception("inference.failed")
            return bytes((Kind.FAILED,)) + messages.write_message(failed)

    def _infer(self, frame: bytes) -> bytes:
        times, self._times = self._times, 1
        if frame != self._frame:
            self._read(frame)
        for _ in range(times - 1):
            self._session.run(self._arrays)
        outputs = self._session.run(self._arrays)
        self._results = [self._output(outputs, name) for name in self._names]
        return self._lay_out()

    def _read(self, frame: bytes) -> None:
        specs = self._session.inputs
        layouts = read_frame(
            frame, count=len(specs), room_bytes=self._inputs.size_bytes
        )
        arrays = views(layouts, self._inputs.memory)
        names = [spec.name for spec in specs]
        self._arrays = dict(zip(names, arrays, strict=True))
        self._frame = frame

    def _output(self, outputs: dict[str, Array], name: str) -> Array:
        if name not in outputs:
            raise RuntimeFailure(
                f"{self._title} gives no output {name!r}",
                hint="Its signature is not that of the file: export it again.",
            )
        return np.asarray(outputs[name])

    def _lay_out(self) -> bytes:
        results = self._results
        layouts: list[Layout] = [(result.dtype, result.shape) for result in results]
        if layouts != self._layouts or not self._into:
            reply = write_frame(Kind.DONE, layouts)
            needed_bytes = size_bytes(layouts)
            if needed_bytes > self._outputs.size_bytes:
                return write_size(Kind.LARGER, needed_bytes)
            self._into = views(layouts, self._outputs.memory)
            self._layouts, self._reply = layouts, reply
        for view, result in zip(self._into, results, strict=True):
            view[...] = result
        self._results = []
        return self._reply

    def _fetch(self, frame: bytes) -> bytes:
        del frame
        return self._lay_out()

    def _renew(self, old: Segment) -> Segment:
        _, fds, _, _ = socket.recv_fds(self._peer, 1, 1)
        old.close()
        return Segment(fds[0])
