from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.core.budget import Budget
from skerry.core.clock import SystemClock
from skerry.core.errors import LateError, RefusedError
from skerry.edge.engine import Engine
from skerry.edge.workers import IsolatedRuntimes, Limits, WorkerPool
from tests.serving import golden_bytes, install
from tests.unruly import x_for

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).parents[2]
OK = np.full((1, 4), -1, np.float32)
GOLDEN = golden_bytes(2, x=OK)


def _run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[Engine], Awaitable[None]],
    *,
    threads: int = 1,
) -> None:
    """Play a story with an engine of two names, each in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    pool = WorkerPool(
        places={"unruly": "tests.unruly:UnrulyRuntime"},
        limits=Limits(memory_bytes=400_000_000, load_s=60, run_s=60),
    )
    engine = Engine(
        clock=SystemClock(),
        runtimes=IsolatedRuntimes(pool),
        cpus=2,
        threads=threads,
    )

    async def whole() -> None:
        for name in ("meter", "other"):
            installed = install(folder, name=name, golden=GOLDEN, runtime="unruly")
            engine.switch(await asyncio.to_thread(engine.prepare, installed))
        await story(engine)

    try:
        asyncio.run(whole())
    finally:
        engine.close()
        pool.close()


def test_a_hung_inference_costs_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is late; what waits behind it and beside it is answered, by a new worker."""

    async def story(engine: Engine) -> None:
        hung = asyncio.create_task(engine.infer("meter", x_for("hang"), deadline_s=0.5))
        await asyncio.sleep(0.1)
        behind = asyncio.create_task(engine.infer("meter", {"x": OK}, deadline_s=30))
        while not hung.done():
            answer = await engine.infer("other", {"x": OK}, deadline_s=30)
            np.testing.assert_array_equal(answer.outputs["y"], OK * 2)
            await asyncio.sleep(0.01)
        with pytest.raises(LateError):
            await hung
        np.testing.assert_array_equal((await behind).outputs["y"], OK * 2)
        figures = engine.figures("meter")
        assert (figures.late, figures.failed, figures.interrupted) == (1, 1, 1)
        assert figures.requests == 2

    _run(tmp_path, monkeypatch, story)


def test_of_two_that_hang_each_ends_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that began later is due first: it does not hang on in the next worker."""

    async def story(engine: Engine) -> None:
        def running() -> int:
            return engine.figures("meter").running

        asked = [
            asyncio.create_task(
                engine.infer("meter", x_for("hang"), deadline_s=deadline_s)
            )
            for deadline_s in (25, 0.5)
        ]
        with pytest.raises(LateError):
            await asked[1]
        assert not asked[0].done()
        async with asyncio.timeout(15):
            while running() > 1:  # noqa: ASYNC110 (no event tells it)
                await asyncio.sleep(0.01)
        answer = await engine.infer("meter", {"x": OK}, deadline_s=30)
        np.testing.assert_array_equal(answer.outputs["y"], OK * 2)
        asked[0].cancel()

    _run(tmp_path, monkeypatch, story, threads=2)


def test_a_hang_on_probation_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three requests that hang are enough; the one before answers the next."""

    async def story(engine: Engine) -> None:
        second = install(tmp_path, 2, golden=GOLDEN, runtime="unruly")
        engine.switch(await asyncio.to_thread(engine.prepare, second))
        watching = asyncio.create_task(engine.watch("meter", probation_s=60))
        for _ in range(3):
            with pytest.raises(LateError):
                await engine.infer("meter", x_for("hang"), deadline_s=0.3)
        assert await watching == "rolled-back"
        answer = await engine.infer("meter", {"x": OK}, deadline_s=30)
        assert answer.release.version == 1

    _run(tmp_path, monkeypatch, story)


def test_the_budget_for_memory_holds_for_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this process takes is not looked at."""

    async def story(engine: Engine) -> None:
        for version, allowed_bytes in ((2, 1 << 16), (3, 300_000_000)):
            installed = install(
                tmp_path,
                version,
                golden=GOLDEN,
                runtime="unruly",
                budget=Budget(memory_bytes=allowed_bytes),
            )
            preparing = asyncio.to_thread(engine.prepare, installed)
            if version == 2:
                with pytest.raises(RefusedError, match="bytes of memory here"):
                    await preparing
            else:
                prepared = await preparing
                taken_bytes = prepared.findings.memory_bytes
                prepared.close()
                assert taken_bytes is not None
                assert 1 << 16 < taken_bytes < allowed_bytes

    _run(tmp_path, monkeypatch, story)
