"""Nothing that a worker says harms the gateway; nothing said to one makes it crash."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import DataError, SkerryError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.edge.workers import messages
from skerry.edge.workers.channel import Channel
from skerry.edge.workers.frames import (
    DTYPES,
    Kind,
    Layout,
    read_frame,
    size_bytes,
    views,
    write_frame,
    write_size,
)
from skerry.edge.workers.messages import Failed, Loaded, Ready, write_message
from skerry.edge.workers.segments import Segment
from skerry.edge.workers.serving import Serving
from skerry.runtimes.null import NullSession

SPEC = TensorSpec(name="x", dtype="float32", shape=("N", 4))
LAYOUTS = st.lists(
    st.tuples(
        st.sampled_from(DTYPES),
        st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=4).map(tuple),
    ),
    max_size=3,
)
KINDS = st.sampled_from(sorted(Kind))
FRAMES = st.one_of(
    st.binary(min_size=1, max_size=60),
    st.builds(lambda kind, rest: bytes((kind,)) + rest, KINDS, st.binary(max_size=60)),
    st.builds(write_frame, KINDS, LAYOUTS),
)
REPEAT = write_size(Kind.REPEAT, 2)
SAID = [
    write_message(Loaded(inputs=(SPEC,), outputs=())),
    write_message(Failed(kind="DataError", what="w", hint="h")),
    write_message(Ready(version="1")),
]


@given(frame=FRAMES, count=st.integers(0, 3), room_bytes=st.integers(0, 9000))
def test_a_frame_is_refused_or_fits(frame: bytes, count: int, room_bytes: int) -> None:
    """Whatever is accepted can be read and written without leaving the segment."""
    try:
        layouts = read_frame(frame, count=count, room_bytes=room_bytes)
    except DataError:
        return
    assert len(layouts) == count
    assert size_bytes(layouts) <= room_bytes
    segment = Segment.create(room_bytes)
    for array in views(layouts, segment.memory):
        array[...] = 1
    segment.close()


@given(LAYOUTS)
def test_a_frame_comes_back(layouts: list[Layout]) -> None:
    """Of shapes that can be: the same layouts."""
    layouts = [(dtype, tuple(size % 7 for size in shape)) for dtype, shape in layouts]
    frame = write_frame(Kind.DONE, layouts)
    assert read_frame(frame, count=len(layouts), room_bytes=1 << 20) == tuple(layouts)


@settings(max_examples=200)
@given(replies=st.lists(FRAMES, min_size=1, max_size=3))
def test_the_gateway_survives_any_reply(replies: list[bytes]) -> None:
    """It answers or raises an error of ours."""
    channel = Channel(Loaded(inputs=(SPEC,), outputs=(SPEC,)), limit_s=0.01)
    try:
        for reply in replies:
            channel.theirs.send(reply)
        with suppress(SkerryError):
            outputs = channel.run({"x": np.ones((1, 4), np.float32)})
            assert outputs["x"].nbytes <= channel._outputs.size_bytes
    finally:
        channel.close()


@settings(max_examples=200)
@given(frames=st.lists(FRAMES, min_size=1, max_size=3))
def test_a_worker_survives_any_frame(frames: list[bytes]) -> None:
    """It answers each, and goes on; only a promise of memory must be kept.

    How often to run what comes next is not answered, and may be for ever.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    inputs, outputs = Segment.create(4096), Segment.create(4096)
    model = Model(
        path=Path("m.onnx"),
        format=ModelFormat.ONNX,
        inputs=(SPEC,),
        outputs=(SPEC,),
        sha256="",
        size_bytes=1,
    )
    serving = Serving(NullSession(model, None), theirs, inputs, outputs, title="m")
    sent = [
        frame
        for frame in frames
        if frame[0] not in {Kind.INPUTS, Kind.OUTPUTS}
        and not (frame[0] == Kind.REPEAT and len(frame) == len(REPEAT))
    ]
    for frame in sent:
        ours.send(frame)
    ours.shutdown(socket.SHUT_WR)
    serving.run()
    replies = [ours.recv(70_000) for _ in sent]
    assert all(r[0] in {Kind.DONE, Kind.LARGER, Kind.FAILED} for r in replies)
    for closed in (ours, theirs, inputs, outputs):
        closed.close()


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A message with one byte changed."""
    content = bytearray(draw(st.sampled_from(SAID)))
    content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


@given(content=st.binary(max_size=80) | spoilt())
def test_messages_are_understood_or_refused(content: bytes) -> None:
    """By each of those who read any."""
    for read in (
        *(messages.from_spare, messages.from_worker),
        *(messages.to_worker, messages.failed),
    ):
        with suppress(DataError):
            read(content)
