"""The load: steady, and every answer is held against its release's own output."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from skerry.app.demo.infer import Answer, Floats
from skerry.app.demo.load import Expected, Load, Scene, ask_all
from skerry.core.clock import FakeClock
from skerry.core.errors import LinkError

ONE, TWO = "meter/1", "meter/2"
BLOBS = {ONE: "a" * 64, TWO: "b" * 64}
OUTPUTS = {
    ONE: np.array([[1, 0], [0, 1], [1, 0]], np.float32),
    TWO: np.array([[1, 0], [1, 0], [1, 0]], np.float32),
}
SCENE = Scene(
    name="day",
    pictures=np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1),
    labels=np.array([0, 1, 1]),
)


def make_expected() -> Expected:
    """Two releases and what they give."""
    expected = Expected()
    for release, outputs in OUTPUTS.items():
        expected.learn(release, BLOBS[release], SCENE.name, outputs)
    return expected


class FakeGateway:
    """Answers from a release; `fault` says what is wrong with the answers."""

    def __init__(self, release: str = ONE, fault: str = "") -> None:
        """Serve a release."""
        self.release = release
        self.fault = fault
        self.asked = 0
        self.closed = 0

    async def infer(self, name: str, array: Floats) -> Answer:
        """Answer, or not."""
        assert name == "picture"
        self.asked += 1
        if self.fault == "gone":
            raise LinkError("connection refused", hint="Is it running?")
        await asyncio.sleep(0)
        outputs = OUTPUTS[self.release][int(array[0, 0, 0, 0])]
        return Answer(
            release="other/1" if self.fault == "unknown" else self.release,
            blob=BLOBS[TWO] if self.fault == "blob" else BLOBS[self.release],
            outputs=outputs + 0.5 if self.fault == "off" else outputs,
        )

    def close(self) -> None:
        """Note that the connection was dropped."""
        self.closed += 1


def make_load(clock: FakeClock) -> Load:
    """Ten requests a second."""
    return Load(
        make_expected(), SCENE, input_name="picture", rate_per_s=10, clock=clock
    )


async def let_run(clock: FakeClock, seconds: float) -> None:
    """Let time pass in small steps, and everybody act in between."""
    for _ in range(round(seconds * 20)):
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance(wall_s=0.05)


def test_requests_come_at_their_rate_until_held() -> None:
    """Ten a second; after `hold` none, and the connection is dropped."""

    async def case() -> None:
        clock, gateway = FakeClock(), FakeGateway()
        load = make_load(clock)
        load.begin("g", gateway)
        await let_run(clock, 2.0)
        assert 19 <= gateway.asked <= 22
        await load.hold("g")
        asked = gateway.asked
        await let_run(clock, 1.0)
        assert gateway.asked == asked == len(load.replies)
        assert gateway.closed == 1
        assert {reply.outcome for reply in load.replies} == {"ok"}
        assert all(reply.is_steady for reply in load.replies)

    asyncio.run(case())


def test_either_release_is_right_with_its_own_output() -> None:
    """During a swap answers come from both; what matters is that each is its own."""

    async def case() -> None:
        clock, gateway = FakeClock(), FakeGateway()
        load = make_load(clock)
        load.begin("g", gateway)
        await let_run(clock, 1.0)
        gateway.release = TWO
        await let_run(clock, 1.0)
        await load.stop()
        assert {reply.release for reply in load.replies} == {ONE, TWO}
        assert {reply.outcome for reply in load.replies} == {"ok"}
        digits = {(r.release, r.index): r.is_right for r in load.replies}
        assert digits[ONE, 1] is True
        assert digits[TWO, 1] is False

    asyncio.run(case())


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("gone", "failed", "refused"),
        ("unknown", "wrong", "never released"),
        ("blob", "wrong", "from the blob bbbb"),
        ("off", "wrong", "0.5 off"),
    ],
)
def test_what_is_not_right_is_told(fault: str, outcome: str, words: str) -> None:
    """No answer; a release, a blob or an output that cannot be."""

    async def case() -> None:
        load = make_load(FakeClock())
        reply = await load.ask("g", FakeGateway(fault=fault), SCENE, 0)
        assert (reply.outcome, load.replies) == (outcome, [reply])
        assert words in reply.what
        assert (reply.is_right is None) == (outcome == "failed")

    asyncio.run(case())


def test_a_scene_is_shared_out_once() -> None:
    """Each picture is asked exactly once, and is no part of the steady load."""

    async def case() -> None:
        load = make_load(FakeClock())
        clients = {"a": FakeGateway(), "b": FakeGateway(TWO)}
        replies = await ask_all(load, clients, SCENE)
        assert sorted(reply.index for reply in replies) == [0, 1, 2]
        assert {r.gateway: r.release for r in replies} == {"a": ONE, "b": TWO}
        assert not any(reply.is_steady for reply in load.replies)
        assert [client.closed for client in clients.values()] == [1, 1]

    asyncio.run(case())


def test_disagreement_is_the_share_of_other_digits() -> None:
    """One picture of three is read differently."""
    assert make_expected().disagreement(ONE, TWO, SCENE.name) == pytest.approx(1 / 3)


def test_whoever_is_late_skips_ahead() -> None:
    """A machine that slept is not punished with a burst."""

    async def case() -> None:
        clock, gateway = FakeClock(), FakeGateway()
        load = make_load(clock)
        load.begin("g", gateway)
        await let_run(clock, 0.5)
        asked = gateway.asked
        clock.advance(wall_s=60)
        await let_run(clock, 0.5)
        assert gateway.asked - asked < 20
        await load.stop()

    asyncio.run(case())
