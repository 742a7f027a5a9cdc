"""The demo's load: steady requests to every gateway, each answer looked at.

An answer names the release and the blob that computed it; it is right when it equals
what that release's own model file gave on this machine before. Which release a request
should meet is nobody's to say: during a swap both are right, each with its own output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from skerry.app.demo.infer import Answer, Floats
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import DataError, LinkError

TOLERANCE = 1e-3
"""Largest difference of a logit that counts as the same: one runtime, one file."""

LATEST_S = 1.0
"""A worker that is later than this skips ahead instead of catching up."""

Outcome = Literal["ok", "failed", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Pictures that the load shows, and what they show.

    Attributes:
        name: What it is called, such as `clear`.
        pictures: float32 `[n, 1, 28, 28]`, 0–1.
        labels: int64 `[n]`.
    """

    name: str
    pictures: Floats
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One request and what became of it.

    Attributes:
        at_s: When it was sent, seconds since the load began.
        gateway: Who was asked.
        scene: What was shown.
        index: Which picture of the scene.
        outcome: `wrong` is an answer that is not its release's own.
        latency_ms: Until the answer was read.
        release: `NAME/VERSION` of what answered, or empty.
        is_right: Whether the digit was read right; None where nothing was read.
        is_steady: Whether it belongs to the steady load, not to a measurement.
        what: Why it failed or is wrong, or empty.
    """

    at_s: float
    gateway: str
    scene: str
    index: int
    outcome: Outcome
    latency_ms: float
    release: str = ""
    is_right: bool | None = None
    is_steady: bool = True
    what: str = ""


class Expected:
    """What each release gives for each picture, computed before it was released."""

    def __init__(self) -> None:
        self._blobs: dict[str, str] = {}
        self._outputs: dict[tuple[str, str], Floats] = {}

    def learn(self, release: str, blob: str, scene: str, outputs: Floats) -> None:
        """Keep what a release gives for a scene.

        Args:
            release: `NAME/VERSION`.
            blob: SHA-256 of its model file.
            scene: The scene's name.
            outputs: float32 `[n, k]`, a row a picture.
        """
        self._blobs[release] = blob
        self._outputs[release, scene] = outputs

    def fault(self, answer: Answer, scene: str, index: int) -> str:
        """Say what is wrong with an answer, or nothing."""
        blob = self._blobs.get(answer.release)
        if blob is None:
            return f"{answer.release!r} was never released"
        if answer.blob != blob:
            return f"{answer.release} answered from the blob {answer.blob[:12]}"
        expected = self._outputs[answer.release, scene][index]
        if expected.shape != answer.outputs.shape:
            return f"{answer.release} gave {answer.outputs.shape} outputs"
        apart = float(np.abs(expected - answer.outputs).max())
        return "" if apart <= TOLERANCE else f"{answer.release} is {apart:.3g} off"

    def disagreement(self, one: str, other: str, scene: str) -> float:
        """Fraction of a scene's pictures that two releases read differently."""
        rows = (self._outputs[one, scene], self._outputs[other, scene])
        first, second = (row.argmax(axis=1) for row in rows)
        return float((first != second).mean())


class Infers(Protocol):
    """A connection that the load can use."""

    async def infer(self, name: str, array: Floats) -> Answer:
        """Ask for one inference."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


class Load:
    """Steady requests, at the same rate to each gateway.

    Args:
        expected: What the answers must be.
        scene: What is shown at first.
        input_name: The model's input.
        rate_per_s: Requests a second to each gateway.
        clock: What paces it.
    """

    def __init__(
        self,
        expected: Expected,
        scene: Scene,
        *,
        input_name: str,
        rate_per_s: float,
        clock: Clock | None = None,
    ) -> None:
        self.replies: list[Reply] = []
        self._expected = expected
        self._scene = scene
        self._input = input_name
        self._interval_s = 1 / rate_per_s
        self._clock = clock or SystemClock()
        self._started_s = self._clock.wall_s()
        self._numbers = count()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def now_s(self) -> float:
        """Seconds since the load began."""
        return self._clock.wall_s() - self._started_s

    def show(self, scene: Scene) -> None:
        """Show another scene from the next request on."""
        self._scene = scene

    def begin(self, gateway: str, client: Infers) -> None:
        """Begin to ask a gateway."""
        self._tasks[gateway] = asyncio.create_task(self._ask_on(gateway, client))

    async def hold(self, gateway: str) -> None:
        """Ask it no more; a request under way is waited for."""
        task = self._tasks.pop(gateway)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def stop(self) -> None:
        """Ask nobody any more."""
        for gateway in list(self._tasks):
            await self.hold(gateway)

    async def ask(
        self,
        gateway: str,
        client: Infers,
        scene: Scene,
        index: int,
        *,
        is_steady: bool = False,
    ) -> Reply:
        """Send one request, and keep and return what became of it."""
        started_s = self._clock.wall_s()
        try:
            answer = await client.infer(self._input, scene.pictures[index : index + 1])
            what = self._expected.fault(answer, scene.name, index)
            outcome: Outcome = "wrong" if what else "ok"
            release = answer.release
            is_right = int(answer.outputs.argmax()) == int(scene.labels[index])
        except (LinkError, DataError) as error:
            outcome, what, release, is_right = "failed", error.what, "", None
        reply = Reply(
            at_s=started_s - self._started_s,
            gateway=gateway,
            scene=scene.name,
            index=index,
            outcome=outcome,
            latency_ms=(self._clock.wall_s() - started_s) * 1000,
            release=release,
            is_right=is_right,
            is_steady=is_steady,
            what=what,
        )
        self.replies.append(reply)
        return reply

    async def _ask_on(self, gateway: str, client: Infers) -> None:
        due_s = self._clock.wall_s()
        try:
            while True:
                scene = self._scene
                # A request under way is finished even when the load is held.
                index = next(self._numbers) % len(scene)
                await _finish(self.ask(gateway, client, scene, index, is_steady=True))
                due_s += self._interval_s
                now_s = self._clock.wall_s()
                due_s = max(due_s, now_s - LATEST_S)
                await self._clock.sleep(max(0.0, due_s - now_s))
        finally:
            client.close()


async def _finish(work: Coroutine[object, object, object]) -> None:
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def ask_all(
    load: Load, clients: Mapping[str, Infers], scene: Scene
) -> tuple[Reply, ...]:
    """Show a whole scene once, shared out over the gateways.

    Args:
        load: It keeps the replies with its own.
        clients: Connections by gateway.
        scene: What is shown.

    Returns:
        A reply a picture.
    """
    share = len(clients)

    async def ask_share(first: int, gateway: str, client: Infers) -> list[Reply]:
        try:
            return [
                await load.ask(gateway, client, scene, index)
                for index in range(first, len(scene), share)
            ]
        finally:
            client.close()

    shares = await asyncio.gather(
        *(ask_share(i, name, clients[name]) for i, name in enumerate(clients))
    )
    return tuple(reply for replies in shares for reply in replies)
