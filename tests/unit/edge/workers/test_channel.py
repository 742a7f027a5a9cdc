from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import (
    DataError,
    LateError,
    ModelError,
    RuntimeFailure,
    SkerryError,
    WorkerLostError,
)
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.seams import Array, Tensors
from skerry.edge.workers.channel import LARGEST_BYTES, Channel
from skerry.edge.workers.frames import Kind, write_frame, write_size
from skerry.edge.workers.messages import Failed, Loaded, write_message
from skerry.edge.workers.segments import Segment
from skerry.edge.workers.serving import Serving
from skerry.runtimes.null import NullSession

X = TensorSpec(name="x", dtype="float32", shape=("N", 4))
Y = TensorSpec(name="y", dtype="float32", shape=("N", 4))
Z = TensorSpec(name="z", dtype="int64", shape=(2,))
LOADED = Loaded(inputs=(X,), outputs=(Y, Z))
MODEL = Model(
    path=Path("m.onnx"),
    format=ModelFormat.ONNX,
    inputs=(X,),
    outputs=(Y, Z),
    sha256="",
    size_bytes=1,
)
ONE = {"x": np.ones((1, 4), np.float32)}
Answer = Callable[[Tensors], dict[str, Array]]


def double(inputs: Tensors) -> dict[str, Array]:
    """Twice x, and its shape."""
    return {"z": np.array(inputs["x"].shape), "y": inputs["x"] * 2}


@contextmanager
def channel_to(answer: Answer, *, limit_s: float = 60) -> Iterator[Channel]:
    """A channel whose other end is served by a thread of this process."""
    channel = Channel(LOADED, limit_s=limit_s)
    peer = socket.socket(fileno=os.dup(channel.theirs.fileno()))
    _, inputs, outputs = channel.descriptors()
    serving = Serving(
        NullSession(MODEL, answer),
        peer,
        Segment(os.dup(inputs)),
        Segment(os.dup(outputs)),
        title="m.onnx",
    )
    channel.theirs.close()
    thread = threading.Thread(target=serving.run)
    thread.start()
    try:
        yield channel
    finally:
        channel.close()
        thread.join()
        peer.close()
        serving._inputs.close()
        serving._outputs.close()


@contextmanager
def channel_with(*replies: bytes) -> Iterator[Channel]:
    """A channel whose other end says what it likes."""
    channel = Channel(LOADED, limit_s=60)
    for reply in replies:
        channel.theirs.send(reply)
    try:
        yield channel
    finally:
        channel.close()


def test_outputs_are_the_callers_own() -> None:
    """The next inference does not write into them."""
    with channel_to(double) as channel:
        first = channel.run(ONE)
        second = channel.run({"x": ONE["x"] * 3})
    assert first["y"].tolist() == [[2] * 4]
    assert second["y"].tolist() == [[6] * 4]
    assert list(first) == ["y", "z"]


def test_shapes_may_change_with_each_request() -> None:
    """Segments grow on both sides, and shrinking costs nothing."""
    with channel_to(double) as channel:
        for rows in (1, 70_000, 3, 200_000, 200_000, 0, 1):
            x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
            outputs = channel.run({"x": x})
            np.testing.assert_array_equal(outputs["y"], x * 2)
            assert outputs["z"].tolist() == [rows, 4]


@pytest.mark.parametrize("error", [ModelError("w", hint="h"), KeyError("secret")])
def test_an_error_leaves_the_channel_usable(error: Exception) -> None:
    """The next request is answered."""
    waiting = [error]

    def answer(inputs: Tensors) -> dict[str, Array]:
        if waiting:
            raise waiting.pop()
        return double(inputs)

    with channel_to(answer) as channel:
        with pytest.raises(ModelError) as caught:
            channel.run(ONE)
        assert "secret" not in str(caught.value)
        assert channel.run(ONE)["y"].tolist() == [[2] * 4]


def test_a_session_that_forgets_an_output() -> None:
    """The one who asked hears which."""
    with (
        channel_to(lambda inputs: {"y": inputs["x"]}) as channel,
        pytest.raises(RuntimeFailure, match="no output 'z'"),
    ):
        channel.run(ONE)


def test_there_is_a_time_limit() -> None:
    """A worker that says nothing does not hold its caller for ever."""
    with channel_with() as channel:
        channel.close()
    channel = Channel(LOADED, limit_s=0.05)
    with pytest.raises(LateError):
        channel.run(ONE)
    channel.close()


F32, I64 = np.dtype("float32"), np.dtype("int64")


@pytest.mark.parametrize(
    "reply",
    [
        b"\0",
        b"\xff" * 40,
        bytes((Kind.RUN,)),
        bytes((Kind.FAILED,)),
        bytes((Kind.LARGER,)),
        write_size(Kind.LARGER, 10),
        write_frame(Kind.DONE, [(F32, (1, 4))]),
        write_frame(Kind.DONE, [(F32, (1 << 20, 1 << 20)), (I64, (2,))]),
    ],
)
def test_nonsense_is_not_believed(reply: bytes) -> None:
    """Whoever says it counts as lost."""
    with channel_with(reply) as channel, pytest.raises(WorkerLostError):
        channel.run(ONE)


def test_a_worker_cannot_ask_for_all_memory() -> None:
    """There is a largest answer; asking for more fails the request."""
    with (
        channel_with(write_size(Kind.LARGER, LARGEST_BYTES + 1)) as channel,
        pytest.raises(RuntimeFailure, match=f"expected at most {LARGEST_BYTES}"),
    ):
        channel.run(ONE)


def test_a_worker_that_asks_for_room_twice_is_lost() -> None:
    """Once it has the room that it wanted, it must answer."""
    larger = [write_size(Kind.LARGER, size) for size in (1 << 20, 1 << 22)]
    with channel_with(*larger) as channel, pytest.raises(WorkerLostError, match="kind"):
        channel.run(ONE)


def test_a_request_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger inputs are the caller's fault."""
    monkeypatch.setattr("skerry.edge.workers.channel.LARGEST_BYTES", 1 << 20)
    x = np.zeros((1 << 17, 4), np.float32)
    with channel_to(double) as channel:
        with pytest.raises(DataError, match="expected at most"):
            channel.run({"x": x})
        assert channel.run(ONE)["y"].shape == (1, 4)


def test_a_closed_end_is_a_lost_worker() -> None:
    """Before the request, and instead of the answer."""
    with channel_with() as channel:
        channel.theirs.close()
        with pytest.raises(WorkerLostError):
            channel.run(ONE)
    with channel_with() as channel:

        def leave() -> None:
            channel.theirs.recv(100)
            channel.theirs.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=leave)
        thread.start()
        with pytest.raises(WorkerLostError):
            channel.run(ONE)
        thread.join()


def test_a_failure_may_be_of_any_kind() -> None:
    """An unknown one is the runtime's."""
    failed = write_message(Failed(kind="Nonsense", what="w", hint="h"))
    with (
        channel_with(bytes((Kind.FAILED,)) + failed) as channel,
        pytest.raises(SkerryError, match="w") as caught,
    ):
        channel.run(ONE)
    assert type(caught.value) is RuntimeFailure


def test_an_inference_may_be_repeated() -> None:
    """So many times for one question; the next is run once again."""
    seen: list[float] = []

    def answer(inputs: Tensors) -> dict[str, Array]:
        seen.append(float(inputs["x"][0, 0]))
        return double(inputs)

    with channel_to(answer) as channel:
        assert channel.run(ONE, times=5)["y"].tolist() == [[2] * 4]
        channel.run({"x": ONE["x"] * 3})
    assert seen == [1] * 5 + [3]
