from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import RuntimeFailure, WorkerLostError
from skerry.core.seams import Array, Tensors
from skerry.edge.workers import channel as channels
from skerry.edge.workers.channel import Channel
from skerry.edge.workers.frames import Kind, write_frame, write_size
from skerry.edge.workers.replies import Replies, StartedRun
from tests.unit.edge.workers.test_channel import ONE, channel_to, channel_with, double

F32, I64 = np.dtype("float32"), np.dtype("int64")


async def _start(channel: Channel, inputs: Tensors) -> tuple[StartedRun, bool]:
    """Start a run, and wait until the loop has heard of it."""
    heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    channel.start(inputs)
    started = StartedRun(
        channel, channel.finish, heard.set_result, replies=Replies.of_this_loop()
    )
    async with asyncio.timeout(60):
        return started, await heard


def _rows(n: int) -> dict[str, Array]:
    return {"x": np.full((n, 4), n, np.float32)}


def test_a_reply_is_heard_and_its_outputs_are_there() -> None:
    """Also where shapes change, and where threads use the channel in between."""

    async def story(channel: Channel) -> None:
        for rows in (1, 2, 2, 300):
            started, is_ready = await _start(channel, _rows(rows))
            assert is_ready
            assert started.finish()["y"].tolist() == [[2 * rows] * 4] * rows
            outputs = await asyncio.to_thread(channel.run, _rows(5))
            assert outputs["y"].shape == (5, 4)

    with channel_to(double) as channel:
        asyncio.run(story(channel))


def test_each_event_loop_hears_for_itself() -> None:
    """A channel may be used by one after another."""
    with channel_to(double) as channel:
        for _ in range(3):
            started, is_ready = asyncio.run(_start(channel, ONE))
            assert is_ready
            assert started.finish()["z"].tolist() == [1, 4]


def test_outputs_that_do_not_fit_are_for_a_thread() -> None:
    """It asks for a larger segment, and waits for it to be filled."""

    async def story(channel: Channel) -> None:
        started, is_ready = await _start(channel, _rows(70_000))
        assert not is_ready
        outputs = await asyncio.to_thread(started.finish)
        assert outputs["y"].shape == (70_000, 4)

    with channel_to(double) as channel:
        asyncio.run(story(channel))


def test_large_outputs_are_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """To copy them would keep the event loop from others."""
    monkeypatch.setattr(channels, "AT_ONCE_BYTES", 31)

    async def story(channel: Channel) -> None:
        for _ in range(2):
            started, is_ready = await _start(channel, ONE)
            assert not is_ready
            assert (await asyncio.to_thread(started.finish))["y"].shape == (1, 4)

    with channel_to(double) as channel:
        asyncio.run(story(channel))


def test_an_error_is_for_a_thread() -> None:
    """It raises what the worker said, and the channel can be used again."""

    def fail_once(inputs: Tensors) -> dict[str, Array]:
        if inputs["x"].shape[0] == 2:
            raise RuntimeFailure("it broke", hint="Mend it.")
        return double(inputs)

    async def story(channel: Channel) -> None:
        started, is_ready = await _start(channel, _rows(2))
        assert not is_ready
        with pytest.raises(RuntimeFailure, match="it broke"):
            started.finish()
        started, is_ready = await _start(channel, ONE)
        assert is_ready
        started.finish()

    with channel_to(fail_once) as channel:
        asyncio.run(story(channel))


@pytest.mark.parametrize(
    "reply",
    [
        b"\0",
        bytes((Kind.FAILED,)),
        bytes((Kind.DONE,)),
        write_size(Kind.LARGER, 10),
        write_frame(Kind.DONE, [(F32, (1 << 20, 1 << 20)), (I64, (2,))]),
    ],
)
def test_nonsense_harms_no_event_loop(reply: bytes) -> None:
    """Whoever finishes it learns that the worker is lost."""

    async def story(channel: Channel) -> None:
        started, is_ready = await _start(channel, ONE)
        assert not is_ready
        with pytest.raises(WorkerLostError):
            started.finish()

    with channel_with(reply) as channel:
        asyncio.run(story(channel))


def test_the_end_of_a_worker_is_heard() -> None:
    """While it is at work."""

    async def story(channel: Channel) -> None:
        heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        channel.start(ONE)
        started = StartedRun(
            channel, channel.finish, heard.set_result, replies=Replies.of_this_loop()
        )
        channel.theirs.close()
        assert await heard is False
        with pytest.raises(WorkerLostError):
            started.finish()
        with pytest.raises(WorkerLostError):
            channel.start(ONE)

    with channel_with() as channel:
        asyncio.run(story(channel))


def test_who_leaves_hears_no_more() -> None:
    """The reply is for the thread that finishes it."""

    async def story(channel: Channel) -> None:
        told: list[bool] = []
        channel.start(ONE)
        started = StartedRun(
            channel, channel.finish, told.append, replies=Replies.of_this_loop()
        )
        started.leave()
        assert (await asyncio.to_thread(started.finish))["y"].tolist() == [[2] * 4]
        await asyncio.sleep(0.01)
        assert told == []

    with channel_to(double) as channel:
        asyncio.run(story(channel))


def test_a_number_that_is_used_again_is_another_channel() -> None:
    """A thread may close one at any time; nothing is left of it, on any loop."""

    async def story(ask: Callable[[], Awaitable[int]]) -> None:
        numbers = {await ask() for _ in range(3)}
        assert len(numbers) == 1

    async def ask() -> int:
        with channel_to(double) as channel:
            started, is_ready = await _start(channel, ONE)
            assert is_ready
            started.finish()
            return channel.fileno()

    gc.collect()
    before = _descriptors()
    for _ in range(3):
        asyncio.run(story(ask))
    gc.collect()
    assert _descriptors() == before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_channel_may_go_from_loop_to_loop() -> None:
    """And back: each hears of it once, and only while it waits."""
    with channel_to(double) as channel:
        one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
        try:
            for loop in (one, other, one, other):
                started, is_ready = loop.run_until_complete(_start(channel, ONE))
                assert is_ready
                started.finish()
        finally:
            one.close()
            other.close()
