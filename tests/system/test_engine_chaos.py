"""Chaos: whatever breaks, each request gets one answer, right for what it names.

`make test` runs the short forms, `make soak` those of minutes with several seeds.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gated import until as until_so
from tests.storm.held import Held, look, pss_bytes, until
from tests.storm.storm import CLIENTS, Storm, Story

REPOSITORY = Path(__file__).parents[2]
SOAK_S = 120.0
SHORT_S = 12.0

SHORT = pytest.mark.system
LONG = (pytest.mark.soak, pytest.mark.timeout(1800))


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What the workers of a test have in their environment, and nobody else."""
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}:{REPOSITORY / 'src'}:{tmp_path}")
    logging.getLogger("skerry").setLevel(logging.CRITICAL)  # a storm has much to tell
    yield str(tmp_path)
    logging.getLogger("skerry").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("seed", "duration_s"),
    [
        pytest.param(20, SHORT_S, marks=SHORT),
        *(pytest.param(seed, SOAK_S, marks=LONG) for seed in range(1, 6)),
    ],
)
def test_chaos(seed: int, duration_s: float, tmp_path: Path, mark: str) -> None:
    """Swaps, kills, hangs, corrupt releases and overload: no answer lost or wrong."""
    empty = look(mark)
    held: list[Held] = []
    storm = Storm(tmp_path, seed)

    async def settled() -> None:
        # A spare each runtime, a worker each name, and nobody more.
        await asyncio.to_thread(
            until,
            lambda: len(look(mark).workers) == 5,
            lambda: f"seed {seed}: {look(mark)}",
        )
        held.append(look(mark))

    try:
        asyncio.run(storm.rage(duration_s, settled=settled))
    finally:
        storm.close()
    ledger, counts = storm.ledger, storm.ledger.counts
    told = f"seed {seed}, {duration_s:g} s: {len(storm.log)} faults, {ledger.summary()}"
    print(told)  # noqa: T201 (the closing line)
    story = "\n".join([told, *ledger.wrong[:20], "faults:", *storm.log])
    assert not ledger.wrong, story
    answered = sum(count for key, count in counts.items() if key.isdigit())
    answered -= counts["409"]
    assert answered + counts["left"] == counts["sent"], story
    for key in ("200", "429", "504", "refused", "swaps"):
        assert counts[key] > 0, f"no {key}: {story}"
    until(lambda: look(mark) == empty, lambda: f"{story}\n{empty}\n{look(mark)}")


def play(storm: Storm, story: Story) -> None:
    """Play a story under load; not one request may fail."""
    try:
        asyncio.run(storm.steadily(story))
    finally:
        storm.close()
    ledger = storm.ledger
    print(ledger.summary())  # noqa: T201 (the closing line)
    assert not ledger.wrong, "\n".join([ledger.summary(), *ledger.wrong[:20]])
    assert ledger.counts["200"] == ledger.counts["sent"], ledger.summary()


@pytest.mark.parametrize(
    "swaps", [pytest.param(30, marks=SHORT), pytest.param(300, marks=LONG)]
)
def test_swaps_leave_nothing_behind(swaps: int, tmp_path: Path, mark: str) -> None:
    """Memory of the whole tree and descriptors stay where they were after the first."""
    storm = Storm(tmp_path, 7, names=("native-swapped",))
    held: list[tuple[int, Held]] = []

    async def measure() -> None:
        storm.engine.settle("native-swapped")
        await asyncio.sleep(0.3)  # requests on each of the new worker's channels

        def is_calm() -> bool:
            now = look(mark)
            return len(now.workers) == 2 and not any(
                name.startswith(("skerry-check", "Thread")) for name in now.threads
            )

        await asyncio.to_thread(until, is_calm, lambda: str(look(mark)))
        gc.collect()
        now = look(mark)
        held.append((pss_bytes((os.getpid(), *now.workers)), now))

    async def story() -> None:
        for number in range(swaps + 10):
            if number == 10:  # the first ones fill caches
                await measure()
            await storm.switch(storm.shelf.good("native-swapped"))
            if number % 3 == 0:
                storm.engine.roll_back("native-swapped")
        await measure()

    play(storm, story)
    (before_bytes, before), (after_bytes, after) = held
    told = (
        f"{swaps} swaps: {before_bytes / 1e6:.1f} MB, then {after_bytes / 1e6:.1f} MB"
    )
    print(told)  # noqa: T201
    assert after_bytes <= before_bytes * 1.02, told
    # Each worker may have one channel more than before, of five descriptors.
    assert len(after.descriptors) <= len(before.descriptors) + 5
    assert len(after.threads) <= len(before.threads) + 1


@pytest.mark.parametrize(
    "kills", [pytest.param(10, marks=SHORT), pytest.param(100, marks=LONG)]
)
@pytest.mark.usefixtures("mark")
def test_kills_lose_no_request(kills: int, tmp_path: Path) -> None:
    """Each is answered in time, by the worker that took the place of the dead one."""
    storm = Storm(tmp_path, 8, names=("native-killed",))

    async def story() -> None:
        ledger = storm.ledger
        for _ in range(kills):
            await until_so(lambda: storm.worker("native-killed"))
            os.kill(storm.worker("native-killed") or 0, signal.SIGKILL)
            # No request must meet two kills.
            wanted = ledger.counts["200"] + 2 * CLIENTS
            await until_so(
                lambda wanted=wanted: ledger.counts["200"] >= wanted or ledger.wrong
            )

    play(storm, story)


@pytest.mark.parametrize(
    "swaps", [pytest.param(2, marks=SHORT), pytest.param(20, marks=LONG)]
)
@pytest.mark.usefixtures("mark")
def test_slow_loads_hold_nobody_up(swaps: int, tmp_path: Path) -> None:
    """Loads of three seconds under steady requests: none fails, each is right."""
    storm = Storm(tmp_path, 9, names=("slow",), load_s=3.0)

    async def story() -> None:
        for _ in range(swaps):
            await storm.switch(storm.shelf.good("slow"))

    play(storm, story)
    assert storm.ledger.gap_worst_s < 2.5, storm.ledger.summary()
