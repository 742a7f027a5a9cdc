"""What the hub offers: waited for a while, and taken where it can do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from skerry.core.clock import FakeClock
from skerry.core.documents import Json
from skerry.core.errors import LinkError
from skerry.core.release import Blob
from skerry.edge.offers import PATIENCE_S, Offers
from skerry.evolve.ways import LEAST_BYTES, Hop, Way

OLD, GOAL = "a" * 64, Blob(sha256="b" * 64, size_bytes=LEAST_BYTES)
DIRECT = Hop(origin=OLD, result=GOAL, delta=Blob(sha256="c" * 64, size_bytes=9))
WAY = [msgspec.to_builtins(DIRECT)]


class Hub:
    """Gives one answer after the other, and the last one for ever."""

    def __init__(self, *answers: Mapping[str, Any] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def get(self, path: str) -> Mapping[str, Json]:
        self.asked.append(path)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, Exception):
            raise said
        return said


def find(hub: Hub, *, goal: Blob = GOAL, is_signed: bool = True) -> tuple[Way, float]:
    """The way, and how long it was waited for."""
    clock = FakeClock()

    async def signed(sha256: str) -> Blob | None:
        assert sha256 == goal.sha256
        return goal if is_signed else None

    async def run() -> Way:
        offers = Offers(hub.get, clock=clock, rng=np.random.default_rng(1))
        finding = asyncio.create_task(offers.find(OLD, goal, signed))
        while not finding.done():
            await asyncio.sleep(0)
            if (wake_s := clock.next_wake_s()) is not None:
                clock.advance(wall_s=wake_s - clock.wall_s())
        return await finding

    return asyncio.run(run()), clock.wall_s()


def test_a_way_is_taken_at_once() -> None:
    """By the hashes of what is here and what is wanted."""
    hub = Hub({"way": WAY, "wait_s": None})
    assert find(hub) == ((DIRECT,), 0.0)
    assert hub.asked == [f"/v1/deltas/{OLD}/{GOAL.sha256}"]


def test_one_that_is_being_made_is_waited_for() -> None:
    """As long as the hub says, and somewhat more."""
    way, waited_s = find(Hub({"wait_s": 4}, {"wait_s": 2}, {"way": WAY}))
    assert way == (DIRECT,)
    assert 6 <= waited_s <= 9


def test_patience_ends() -> None:
    """Then what there is is taken; where it would end before, nothing is waited."""
    way, waited_s = find(Hub({"wait_s": 5}))
    assert way == ()
    assert PATIENCE_S / 2 < waited_s <= PATIENCE_S
    assert find(Hub({"way": WAY, "wait_s": 2 * PATIENCE_S})) == ((DIRECT,), 0.0)


def test_without_an_answer_the_model_goes_in_full() -> None:
    """A hub that cannot be reached, or says nonsense; small models ask nobody."""
    assert find(Hub(LinkError("gone", hint="")))[0] == ()
    assert find(Hub({"way": "nonsense"}))[0] == ()
    hub = Hub({"way": WAY})
    small = Blob(sha256="b" * 64, size_bytes=LEAST_BYTES - 1)
    assert find(hub, goal=small)[0] == ()
    assert not hub.asked


def test_a_way_to_what_nobody_signed_is_refused() -> None:
    """Whatever it says that it gives."""
    assert find(Hub({"way": WAY}), is_signed=False)[0] == ()
